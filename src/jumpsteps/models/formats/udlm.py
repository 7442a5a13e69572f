"""Published UDLM (Schiff et al. 2024) and Duo (Sahoo et al. 2025) checkpoints: the uniform kernel.

A folder has MDLM's layout (``formats.mdlm``) with ``model_type`` "udlm" or "DUO". The kernel is
uniform over all ``vocab_size`` symbols. These include the tokenizer's special symbols: MASK of BERT
for LM1B, and one symbol added to GPT-2's for Duo. The noise is log-linear with eps = 1e-3, and the
network is conditioned on sigma-bar(t). Sequences are token ids; text needs the tokenizer.

The softmax of the output is the leave-one-out posterior p(x_0^l | x_t^{-l}), not p(x_0^l | x_t):
see ``LeaveOneOutReverse``.

Distilled Duo models have the same layout and are read the same way. Their training loss differs.
"""

from pathlib import Path
from typing import Any

import torch

from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse
from jumpsteps.models.formats.mdlm import load_backbone
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.models.networks.dit import DiT, PosteriorNetwork
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform

__all__ = ["is_udlm", "load_udlm"]

EXPECTED: dict[str, tuple[bool, str]] = {
    "cfg": (False, "a network that is conditioned on a class"),
    "causal": (False, "an autoregressive network"),
    "time_conditioning": (True, "a network that is not conditioned on time"),
}
"""Switch of the config -> required (and default) value, and the network that it otherwise means."""


def is_udlm(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a UDLM or a Duo checkpoint."""
    return config.get("model_type") in ("udlm", "DUO", "duo")


def load_udlm(folder: Path, config: dict[str, Any], name: str, device: torch.device) -> LoadedModel:
    """Read a UDLM or Duo checkpoint folder.

    Raises:
        ValueError: a network of another kind, a config without the sizes, or weights that are
            missing, damaged or of another layout.
    """
    for key, (expected, otherwise) in EXPECTED.items():
        if config.get(key, expected) is not expected:
            raise ValueError(
                f"{folder / 'config.json'}: {key} is {config[key]!r}; {otherwise} is not supported"
            )
    return load_backbone(folder, config, name, device, uniform_reverse)


def uniform_reverse(network: DiT) -> LeaveOneOutReverse:
    forward = Uniform(vocab_size=network.config.vocab_size, noise=LogLinear())
    return LeaveOneOutReverse(forward, PosteriorNetwork(network, forward).eval())
