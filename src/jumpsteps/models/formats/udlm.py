"""Published UDLM (Schiff et al. 2024) and Duo (Sahoo et al. 2025) checkpoints: diffusion with the uniform kernel.

A folder is that of MDLM (``models.mdlm``) with ``model_type`` "udlm" or "DUO". The kernel is uniform over all ``vocab_size``
symbols, those that a tokenizer calls special included (MASK of BERT for LM1B, one symbol added to GPT-2's for Duo); the noise is
log-linear with eps = 1e-3, and the network is told sigma-bar(t). Sequences are token ids; text needs the tokenizer.

The softmax of the output is the leave-one-out posterior, not p(x0 | x_t): see ``LeaveOneOutReverse``.

A distilled Duo model has the same layout and is read the same way, but was trained with another loss.
"""

from pathlib import Path
from typing import Any

import torch

from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse
from jumpsteps.models.formats.mdlm import read_backbone
from jumpsteps.models.loaded import LoadedModel, file_hash
from jumpsteps.models.networks.dit import PosteriorNetwork
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform

__all__ = ["is_udlm", "load_udlm"]

EXPECTED: dict[str, tuple[bool, str]] = {
    "cfg": (False, "a network that is told a class"),
    "causal": (False, "an autoregressive network"),
    "time_conditioning": (True, "a network that is not told the time"),
}
"""Switches of the config, what they must be where they are given, and what they make of the network otherwise."""


def is_udlm(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a UDLM or a Duo checkpoint."""
    return config.get("model_type") in ("udlm", "DUO", "duo")


def load_udlm(folder: Path, config: dict[str, Any], name: str, device: torch.device) -> LoadedModel:
    """Read a UDLM or Duo checkpoint folder.

    Raises:
        ValueError: a network of another kind, a config without the sizes, or weights that are missing, damaged or do not fit.
    """
    for key, (expected, otherwise) in EXPECTED.items():
        if config.get(key, expected) is not expected:
            raise ValueError(
                f"{folder / 'config.json'}: {key} is {config[key]!r}; {otherwise} is not supported"
            )
    network, length, path = read_backbone(folder, config)
    forward = Uniform(vocab_size=network.config.vocab_size, noise=LogLinear())
    model = PosteriorNetwork(network, forward).to(device).eval()
    return LoadedModel(name, LeaveOneOutReverse(forward, model), length, file_hash(path), None)
