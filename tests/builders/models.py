"""Models whose answers are known: read off an enumerated distribution."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.denoiser.model import Model
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time
from jumpsteps.process.rate_matrix import MatrixKernel


def prior_distribution(model: Enumerable) -> Tensor:
    """The distribution [S] of the state that a run from noise starts from.

    All MASK, uniform, or the stationary distribution of a rate matrix.
    """
    forward = model.forward
    if isinstance(forward, MatrixKernel):
        return model.product(forward.stationary().expand(model.table.ndim, -1))
    site = torch.full((forward.vocab_size,), 1 / forward.vocab_size, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        site = torch.zeros_like(site)
        site[forward.mask_id] = 1
    return model.product(site.expand(model.table.ndim, -1))


@dataclass(frozen=True)
class ExactLogScore:
    """log p_t(y) / p_t(x), read off the enumerated p_t.

    A ``Model`` for ``LogScoreReverse`` that does not go through the posterior.
    """

    truth: Enumerable

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        v, length = self.truth.forward.vocab_size, self.truth.table.ndim
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        here = self.truth.index(x)
        stride = v ** torch.arange(length - 1, -1, -1)
        there = here[:, None, None] + stride[:, None] * (torch.arange(v) - x[..., None])
        out = torch.empty(*x.shape, v, dtype=torch.float64)
        for time in times.unique().tolist():
            rows = times == time
            log_p = self.truth.marginal(time).log()
            out[rows] = log_p[there[rows]] - log_p[here[rows]][:, None, None]
        return out if where is None else out[where]


class Tabulated:
    """A model of few states, called once for each state and looked up for each sequence.

    Big batches cost little.
    """

    def __init__(self, model: Model, truth: Enumerable) -> None:
        self.model, self.truth = model, truth

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        rows = self.model(self.truth.states, t)
        states = self.truth.index(x)
        if where is None:
            return rows[states]
        sequence, site = where.nonzero(as_tuple=True)
        return rows[states[sequence], site]


@dataclass(frozen=True)
class TwoSites:
    """The posterior of a table of two sites by Bayes' rule, a ``Model``.

    Each sequence has its own time, without a loop over times.
    """

    truth: Enumerable

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64)
        likelihood = self.truth.forward.likelihood(x, times[:, None] if times.ndim else times)
        n = self.truth.table.shape[0]
        joint = self.truth.table * likelihood[:, 0, :n, None] * likelihood[:, 1, None, :n]
        sites = torch.stack([joint.sum(2), joint.sum(1)], 1)
        out = torch.nn.functional.pad(sites, (0, self.truth.forward.vocab_size - n)).log()
        return out if where is None else out[where]


@dataclass(frozen=True)
class WrongNetwork:
    """A network that nobody trained: ``trust`` times the true log posterior, plus random logits.

    The logits differ from state to state and drift with time, so they belong to no distribution.
    """

    truth: Enumerable
    seed: int
    trust: float = 0.5

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        v, length = self.truth.forward.vocab_size, self.truth.table.ndim
        generator = torch.Generator().manual_seed(self.seed)
        size = (2, len(self.truth.states), length, v)
        still, drift = torch.randn(size, generator=generator, dtype=torch.float64)
        times = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1, 1)
        state = self.truth.index(x)
        out = 1.5 * still[state] + torch.sin(5 * times) * drift[state]
        if self.trust:
            # Posteriors of masked sites do not depend on the time, which may be one per sequence.
            time = 0.5 if isinstance(self.truth.forward, Absorbing) else t
            out = out + self.trust * Tabulated(self.truth, self.truth)(x, time).clamp_min(-30)
        return out if where is None else out[where]
