r"""Markov chains: exact posteriors of sequences of any length, by forward-backward.

For data :math:`p(x_0) = \pi(x_0^1) \prod_l P(x_0^l, x_0^{l+1})` and sites that are corrupted
independently, the posterior of a site is

.. math:: p(x_0^l \mid x_t) \propto a^l(x_0^l) \, e^l(x_0^l) \, b^l(x_0^l), \quad
          e^l = q_{t|0}(x_t^l \mid \cdot),

with :math:`a^{l+1} \propto (a^l e^l) P` from the left and :math:`b^{l-1} \propto P (b^l e^l)` from
the right. One pass of length L makes both, for every kernel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["MarkovChain"]


def pad_states(weights: Tensor, forward: ForwardProcess) -> Tensor:
    """[..., N] over data symbols to [..., V] over states: zero at MASK, which must be the last
    state.
    """
    missing = forward.vocab_size - weights.shape[-1]
    masks = forward.vocab_size - forward.mask_id if isinstance(forward, Absorbing) else 0
    if missing != masks or missing > 1:
        raise ValueError(
            f"{weights.shape[-1]} data symbols do not fit the {forward.name} kernel with "
            f"{forward.vocab_size} states; the absorbing kernel has one state more than data has "
            "symbols, MASK, and it is the last"
        )
    return torch.nn.functional.pad(weights, (0, missing))


@kinds_checked()
@dataclass(frozen=True)
class MarkovChain:
    """The exact posterior of a Markov chain: a ``Model`` for ``PosteriorReverse``.

    Attributes:
        forward: the forward process that made the noise.
        initial: distribution of the first symbol, float64 [N].
        transition: row-stochastic, float64 [N, N].
        smoothing: weight of the uniform distribution mixed into each row of ``transition``, so that
            states which the chain cannot produce (a sampler's own mistakes) still have a posterior.

    Raises:
        ValueError: rows that do not sum to one, or a size that is not the kernel's.
    """

    forward: ForwardProcess
    initial: Tensor
    transition: Tensor
    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        pad_states(self.initial, self.forward)
        if (
            not (self.transition.sum(-1) - 1).abs().max() < 1e-9
            or not abs(float(self.initial.sum()) - 1) < 1e-9
        ):
            raise ValueError("initial and every row of transition must sum to one")

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """log p(x0^l | x_t), float64 [B, L, V] or [K, V]."""
        n = len(self.initial)
        times = t[:, None] if isinstance(t, Tensor) and t.ndim else t
        evidence = self.forward.likelihood(x, times)[..., :n]
        posterior = self.smooth(evidence / evidence.amax(-1, keepdim=True))
        chosen = posterior if where is None else posterior[where]
        return pad_states(chosen, self.forward).log()

    def smooth(self, evidence: Tensor) -> Tensor:
        """p(x0^l | evidence), float64 [B, L, N], from e^l [B, L, N]; both directions in one
        pass.
        """
        batch, length, n = evidence.shape
        mixed = (1 - self.smoothing) * self.transition + self.smoothing / n
        steps = torch.stack([mixed, mixed.T]).to(evidence)
        both = torch.stack([evidence, evidence.flip(1)]).permute(2, 0, 1, 3).contiguous()
        message = torch.stack(
            [self.initial.to(evidence), torch.ones_like(self.initial).to(evidence)]
        )
        message = message[:, None].expand(2, batch, n).contiguous()
        messages = torch.empty(length, 2, batch, n, dtype=evidence.dtype, device=evidence.device)
        for site in range(length):
            messages[site] = message
            message = torch.bmm(message * both[site], steps)
            message /= message.sum(-1, keepdim=True)
        before, after = messages[:, 0], messages[:, 1].flip(0)
        posterior = (before * after).permute(1, 0, 2) * evidence
        return posterior / posterior.sum(-1, keepdim=True)
