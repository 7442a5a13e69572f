r"""Published UDLM (Schiff et al. 2024) and Duo (Sahoo et al. 2025) checkpoints: diffusion with the uniform kernel.

A folder is that of MDLM (``models.mdlm``) with ``model_type`` "udlm" or "DUO". The kernel is uniform over all ``vocab_size``
symbols, those that a tokenizer calls special included (MASK of BERT for LM1B, one symbol added to GPT-2's for Duo); the noise is
log-linear with eps = 1e-3, and the network is told sigma-bar(t). Sequences are token ids; text needs the tokenizer.

What the output means. These models are trained and sampled by putting x_theta, the softmax of the output, in the place of x0:

.. math:: q(x_s \mid x_t, x_\theta) = q_{t|s}(x_t \mid x_s) \frac{(x_\theta q_{s|0})(x_s)}{(x_\theta q_{t|0})(x_t)}, \quad s < t

(D3PM does the same with any kernel: Austin et al. 2021, Eq. 4). The loss is E KL(q(x_s | x_t, x0) || q(x_s | x_t, x_theta)), or its
limit s -> t. Given x_t the law of x_s that minimises it is the mean of q(x_s | x_t, x0) over p(x0^l | x_t), that is p(x_s^l | x_t).
With w the leave-one-out posterior, p(x0^l | x_t) is q_{t|0}(x_t^l | x0^l) w(x0^l) / (w q_{t|0})(x_t^l), so that this mean is

.. math:: \sum_{x_0} p(x_0 \mid x_t) \, q_{t|s}(x_t \mid x_s) \frac{q_{s|0}(x_s \mid x_0)}{q_{t|0}(x_t \mid x_0)}
          = q_{t|s}(x_t \mid x_s) \frac{(w q_{s|0})(x_s)}{(w q_{t|0})(x_t)} :

the formula is exact for x_theta = w, and for no other law, because x_theta q_{s|0} determines x_theta. The trained softmax is w and
not p(x0 | x_t), which would count the site's own symbol twice; ``PosteriorFromLeaveOneOut`` turns w into what ``PosteriorReverse``
takes.

A distilled Duo model has the same layout and is read the same way, but was trained with another loss.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jumpsteps.forward import ForwardProcess, Uniform
from jumpsteps.models.dit import PosteriorNetwork
from jumpsteps.models.loaded import LoadedModel, file_hash
from jumpsteps.models.mdlm import read_backbone
from jumpsteps.noise import LogLinear, Time
from jumpsteps.reverse import Model, PosteriorReverse, Remembered, remember, time_of_sites

__all__ = ["PosteriorFromLeaveOneOut", "is_udlm", "load_udlm"]

EXPECTED: dict[str, tuple[bool, str]] = {
    "cfg": (False, "a network that is told a class"),
    "causal": (False, "an autoregressive network"),
    "time_conditioning": (True, "a network that is not told the time"),
}
"""Switches of the config, what they must be where they are given, and what they make of the network otherwise."""


class PosteriorFromLeaveOneOut(nn.Module):
    """A model of the leave-one-out posterior, log w, as one of the posterior: log p(x0 | x_t) = log w + log q_{t|0}(x_t | x0).

    A ``Model`` for ``PosteriorReverse``; its output is not normalised.

    Args:
        model: x int64 [B, L], a time and ``where`` to log w [B, L, V] or [K, V], normalised or not.
        forward_process: the kernel that the model was trained with.
    """

    def __init__(self, model: Model, forward_process: ForwardProcess) -> None:
        super().__init__()
        self.model, self.forward_process = model, forward_process

    def forward(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """Log-probabilities but for a constant of each site, [B, L, V] or [K, V]."""
        sites = x if where is None else x[where]
        return self.with_own_symbol(self.model(x, t, where), sites, time_of_sites(t, x, where))

    def remember(self, x: Tensor, t: float, where: Tensor) -> Remembered:
        """What ``model`` remembers; the site's own symbol is counted when a site is read."""
        kept = remember(self.model, x, t, where)
        return Remembered(kept.rows, where, lambda rows, tokens: self.with_own_symbol(kept.read(rows, tokens), tokens, t))

    def with_own_symbol(self, log_w: Tensor, tokens: Tensor, t: Time) -> Tensor:
        evidence = self.forward_process.log_likelihood(tokens, t)
        return log_w + evidence.to(torch.promote_types(log_w.dtype, torch.float32))


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
            raise ValueError(f"{folder / 'config.json'}: {key} is {config[key]!r}; {otherwise} is not supported")
    network, length, path = read_backbone(folder, config)
    forward = Uniform(vocab_size=network.config.vocab_size, noise=LogLinear())
    model = PosteriorFromLeaveOneOut(PosteriorNetwork(network, forward), forward).to(device).eval()
    return LoadedModel(name, PosteriorReverse(forward, model), length, file_hash(path), None)
