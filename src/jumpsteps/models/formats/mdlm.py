"""Published MDLM checkpoints (Sahoo et al. 2024): a folder with ``config.json`` and the weights.

The config is that of the Hugging Face hub: ``model_type`` "mdlm", ``vocab_size``, ``model_length``,
``hidden_dim``, ``cond_dim``, ``n_blocks``, ``n_heads``, ``time_conditioning``. Weights are in
``model.safetensors`` or ``pytorch_model.bin``, with the names of ``networks.dit`` under
``backbone.``. The network is SEDD's; its output is read as logits of p(x_0 | x_t) without MASK.

The config names neither MASK nor the noise schedule. MASK is taken to be the last symbol, and the
noise to be log-linear. This holds for models whose tokenizer has no MASK of its own, such as that
of GPT-2 (50,257 tokens, so MASK is 50257). Models whose tokenizer has one (BERT's, for LM1B)
cannot be read.
Sequences are token ids; text needs the tokenizer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.formats.sedd import weights_file
from jumpsteps.models.loaded import LoadedModel, file_hash
from jumpsteps.models.networks.dit import DiT, DiTConfig, PosteriorNetwork, noise_level
from jumpsteps.models.unread import parameters_on, read_weights, settled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear, Time

__all__ = ["is_mdlm", "load_backbone", "load_mdlm", "positive_integer", "read_sizes"]

SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_dim",
    "n_blocks": "n_blocks",
    "n_heads": "n_heads",
    "cond_dim": "cond_dim",
}
"""Field of ``DiTConfig`` -> key of ``config.json``."""


class TimeConditionedPosteriorNetwork(PosteriorNetwork):
    """A ``PosteriorNetwork`` conditioned on sigma-bar(t): ``time_conditioning`` in the config."""

    def level(self, x: Tensor, t: Time) -> Tensor:
        return noise_level(self.noise, x, t)


def is_mdlm(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of an MDLM checkpoint."""
    return config.get("model_type") == "mdlm"


def load_mdlm(folder: Path, config: dict[str, Any], name: str, device: torch.device) -> LoadedModel:
    """Read an MDLM checkpoint folder.

    Raises:
        ValueError: a config without the sizes, or weights that are missing, damaged or of another
            layout.
    """
    conditioned = config.get("time_conditioning", False)
    wrapper = TimeConditionedPosteriorNetwork if conditioned else PosteriorNetwork

    def reverse_of(network: DiT) -> PosteriorReverse:
        forward = Absorbing(vocab_size=network.config.vocab_size, noise=LogLinear())
        return PosteriorReverse(forward, wrapper(network, forward).eval())

    return load_backbone(folder, config, name, device, reverse_of)


def load_backbone(
    folder: Path,
    config: dict[str, Any],
    name: str,
    device: torch.device,
    reverse_of: Callable[[DiT], ReverseProcess],
) -> LoadedModel:
    """Read a folder in MDLM's layout; ``reverse_of`` gives the reverse process of its network.

    Raises:
        ValueError: as ``load_mdlm``.
    """
    where = folder / "config.json"
    with parameters_on(device):
        network = DiT(read_sizes(config, SIZES, where))
    length, path = positive_integer(config, "model_length", where), weights_file(folder)
    read_parts = read_weights(nn.ModuleDict({"backbone": network}), path, device)
    settled(network, device)
    reverse = reverse_of(network)
    return LoadedModel(name, reverse, length, file_hash(path), None, read_parts=read_parts)


def read_sizes(config: dict[str, Any], names: dict[str, str], path: Path) -> DiTConfig:
    """A ``DiTConfig`` from the config at ``path``; ``names`` maps fields to keys."""
    return DiTConfig(**{field: positive_integer(config, key, path) for field, key in names.items()})


def positive_integer(config: dict[str, Any], key: str, path: Path) -> int:
    """A value of the config at ``path``, checked."""
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{path}: {key} must be a positive integer, got {value!r}; "
            "the config is damaged, or another model's"
        )
    return value
