"""Published GIDD checkpoints (von Rütte et al. 2025) that were trained with masking noise only.

A folder holds ``config.json`` (``model_type`` "dit", ``vocab_size``, ``max_seq_len``,
``hidden_size``, ``timestep_cond_dim``, ``num_hidden_layers``, ``num_attention_heads``,
``p_uniform``, ``t_eps``) and ``model.safetensors`` or ``pytorch_model.bin``. The weights have the
names of ``networks.dit``, except that rotary positions are stored as tables. MASK is the last
symbol.

GIDD mixes masking and uniform noise in proportions that change with time (Sec. 4). Its rate
matrices at different times are then not multiples of one matrix, as a ``ForwardProcess`` requires.
With ``p_uniform`` = 0 the noise is masking only, with alpha_t = 1 - t, trained on
[t_eps, 1 - t_eps]. This is the absorbing kernel with log-linear noise and eps = t_eps. The network
is conditioned on the masked share 1 - alpha_t.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.formats.mdlm import positive_integer, read_sizes
from jumpsteps.models.formats.sedd import weights_file
from jumpsteps.models.loaded import LoadedModel, file_hash
from jumpsteps.models.networks.dit import DiT, PosteriorNetwork, Rotary
from jumpsteps.models.unread import parameters_on, read_weights, settled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear, Time

__all__ = ["is_gidd", "load_gidd"]

SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "n_blocks": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "cond_dim": "timestep_cond_dim",
}
"""Field of ``DiTConfig`` -> key of ``config.json``."""


class TabulatedRotary(Rotary):
    """Rotary positions from tables of cos and sin, [1, L, 3, 1, head dim].

    Axis 2 is q, k and v, of which v is not rotated. Both halves of a head have the same angles.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim)
        del self.inv_freq
        self.register_buffer("cos_cached", torch.empty(1, length, 3, 1, dim))
        self.register_buffer("sin_cached", torch.empty(1, length, 3, 1, dim))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin, float32 [L, head dim / 2].

        Raises:
            ValueError: the sequence is longer than the tables.
        """
        longest = self.get_buffer("cos_cached").shape[1]
        if length > longest:
            raise ValueError(
                f"this GIDD model takes sequences of at most {longest} sites, got {length}"
            )
        cos, sin = (
            self.get_buffer(name)[0, :length, 0, 0].float() for name in ("cos_cached", "sin_cached")
        )
        half = cos.shape[-1] // 2
        return cos[:, :half], sin[:, :half]


class MaskedShareNetwork(PosteriorNetwork):
    """A ``PosteriorNetwork`` that is conditioned on the masked share 1 - alpha_t."""

    def level(self, x: Tensor, t: Time) -> Tensor:
        return (1 - self.noise.alpha(t)).to(x.device, torch.float32).reshape(-1)


def is_gidd(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a GIDD checkpoint."""
    return config.get("model_type") == "dit" and "p_uniform" in config


def load_gidd(folder: Path, config: dict[str, Any], name: str, device: torch.device) -> LoadedModel:
    """Read a GIDD checkpoint folder.

    Raises:
        ValueError: uniform noise in the forward process, a config without the sizes, or weights
            that are missing, damaged or of another layout.
    """
    where = folder / "config.json"
    if config["p_uniform"] != 0:
        raise ValueError(
            f"{where}: p_uniform is {config['p_uniform']!r}; GIDD's mixture of masking and uniform "
            "noise is not one of the kernels here, use a GIDD model with p_uniform 0"
        )
    eps, length = config.get("t_eps"), positive_integer(config, "max_seq_len", where)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(
            f"{where}: t_eps must lie between 0 and 1, got {eps!r}; "
            "the config is damaged, or another model's"
        )
    sizes = read_sizes(config, SIZES, where)
    forward = Absorbing(vocab_size=sizes.vocab_size, noise=LogLinear(eps))
    with parameters_on(device):
        network = DiT(sizes)
    network.rotary_emb = TabulatedRotary(sizes.hidden_size // sizes.n_heads, length)
    path = weights_file(folder)
    read_parts = read_weights(network, path, device)
    model = MaskedShareNetwork(network, forward)
    settled(model, device)
    reverse = PosteriorReverse(forward, model)
    return LoadedModel(name, reverse, length, file_hash(path), None, read_parts=read_parts)
