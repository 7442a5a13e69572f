r"""KLASS: sites whose distribution is certain and has come to rest are revealed together.

At a masked site let :math:`p_k^l` be the model's distribution of x_0 at call k. The site is stable
at call k if

.. math:: \max_v p_k^l(v) \ge c \quad \text{and} \quad
          \mathrm{KL}(p_j^l \,\|\, p_{j-1}^l) \le \delta \text{ for the last } h \text{ calls } j.

All stable sites are revealed, or the most certain one if none is stable.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import Generator, at_sites
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Info, Sampler, nothing_clipped
from jumpsteps.sampling.parallel_decoding import time_of_masked
from jumpsteps.schedules.schedule import Step

__all__ = ["KLASS"]


class Memory(NamedTuple):
    """What a run remembers from call to call.

    Attributes:
        start: number of masked sites at the start, int64 [B].
        masked: bool [B, L], the sites at which the last call was read.
        last: their distributions, float64 [K, V]; None before the first call.
        rest: int64 [B, L], for how many calls the divergence has been small.
    """

    start: Tensor
    masked: Tensor
    last: Tensor | None
    rest: Tensor


@kinds_checked()
@dataclass(frozen=True)
class KLASS(Sampler):
    """KL-adaptive stability sampling: each call reveals the sites that are certain and at rest.

    With ``history=0`` the divergence does not count, which is decoding by a threshold on the
    confidence (Wu et al. 2025, arXiv 2505.22618). Symbols are drawn from the model's distribution,
    where the paper takes the likeliest one for reasoning tasks. The choice of sites depends on
    revealed symbols only, so with one site for each call the distribution is exact.

    A run keeps the distributions of one call, B L V numbers.

    Source: Kim et al. (2025), arXiv 2511.05664. Kernel: absorbing. Schedule: none; calls vary.

    Attributes:
        confidence: c, the least probability of the likeliest symbol, in [0, 1].
        divergence: delta, the largest divergence from the call before, nats, 0 or more.
        history: h, the number of calls in which the divergence must have been small, 0 or more.
    """

    confidence: float = 0.9
    divergence: float = 0.01
    history: int = 2
    name = "klass"
    kernels = ("absorbing",)
    takes = None
    order = "exact for a long history"
    source = "Kim et al. 2025"

    @property
    def calls_in_words(self) -> str:
        return "chosen by the model"

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is a probability in [0, 1], got {self.confidence}")
        if not 0 <= self.divergence < math.inf:
            raise ValueError(f"divergence must be zero or more nats, got {self.divergence}")
        if self.history < 0:
            raise ValueError(f"history is a number of calls, zero or more, got {self.history}")

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Memory:
        masked = reverse.forward.movable(x)
        return Memory(masked.sum(-1), masked, None, torch.zeros_like(x))

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Memory,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Memory, Info]:
        masked = reverse.forward.movable(x)
        rows = masked.any(-1).nonzero()[:, 0]
        if len(rows):
            time = time_of_masked(reverse, masked, state.start)
            w = reverse.at_rows(rows).leave_one_out(x[rows], time[rows], where=masked[rows])
            w = w.to(torch.float64)
            state = self.remember(state, masked, w)
            moving = self.choose(w, masked, state.rest)
            drawn = categorical(w[moving[masked]], generator=at_sites(generator, moving))
            x = x.masked_scatter(moving, drawn)
        time = time_of_masked(reverse, reverse.forward.movable(x), state.start)
        return x, state, Info(nothing_clipped(x).clipped, time)

    def remember(self, state: Memory, masked: Tensor, w: Tensor) -> Memory:
        """The memory after a call that gave w [K, V] at the masked sites.

        Sites that are masked now were masked at the call before.
        """
        rest = torch.zeros_like(state.rest)
        if state.last is not None:
            before = state.last[masked[state.masked]]
            change = (torch.xlogy(w, w) - torch.xlogy(w, before)).sum(-1)
            still = change <= self.divergence
            rest[masked] = torch.where(still, state.rest[masked] + 1, 0)
        return Memory(state.start, masked, w, rest)

    def choose(self, w: Tensor, masked: Tensor, rest: Tensor) -> Tensor:
        """bool [B, L]: the sites to reveal."""
        confidence = torch.full(masked.shape, -1.0, dtype=torch.float64, device=w.device)
        confidence[masked] = w.max(-1).values
        stable = masked & (confidence >= self.confidence) & (rest >= self.history)
        first = torch.zeros_like(masked).scatter(-1, confidence.argmax(-1, keepdim=True), True)
        return torch.where(stable.any(-1, keepdim=True), stable, first & masked)
