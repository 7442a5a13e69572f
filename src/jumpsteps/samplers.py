r"""Samplers: one leap of the reverse process, from time t down to s.

A sampler is a frozen object with ``init`` and ``step``; the loop is in ``simulate``. It asks a ``ReverseProcess`` for the law
of single sites and moves all sites at once, as if they were independent given x_t.

Shapes: x int64 [B, L]; times are numbers with 0 <= s < t <= 1.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from jumpsteps.random import categorical
from jumpsteps.reverse import ReverseProcess

__all__ = ["Euler", "Info", "Sampler", "Tweedie"]


@dataclass(frozen=True)
class Info:
    """What a leap did.

    Attributes:
        clipped: int64 [B], sites whose probability of leaving exceeded 1 and was cut to 1.
    """

    clipped: Tensor


class Sampler(Protocol):
    """``init`` makes the sampler's state before the first leap, ``step`` makes a leap."""

    name: ClassVar[str]
    calls_per_leap: ClassVar[int]

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any: ...

    def step(
        self, reverse: ReverseProcess, x: Tensor, t: float, s: float, state: Any, *, generator: torch.Generator
    ) -> tuple[Tensor, Any, Info]: ...


@dataclass(frozen=True)
class Tweedie:
    r"""Tweedie tau-leaping: each site is drawn from its exact conditional at s, given all of x_t.

    .. math:: p(x_s^l = y \mid x_t) \propto q_{t|s}(x_t^l \mid y)\, (w^l q_{s|0})(y),

    w the leave-one-out posterior. The only error of a leap is the dependence between sites given x_t.
    For the absorbing kernel: reveal with probability (alpha(s) - alpha(t)) / (1 - alpha(t)), symbol from p(x0 | x_t); which
    sites are revealed is drawn first, and the model's head runs on those alone.

    Source: Lou, Meng, Ermon (2024), Eq. 19; Sun et al. (2023). Kernels: all. Schedule: times. Calls per leap: 1.
    """

    name: ClassVar[str] = "tweedie"
    calls_per_leap: ClassVar[int] = 1

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> None:
        return None

    def step(
        self, reverse: ReverseProcess, x: Tensor, t: float, s: float, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        moving = reverse.forward.draw_moving(x, t, s, generator=generator)
        w = reverse.leave_one_out(x, t, where=moving)
        y = categorical(reverse.forward.bridge(w, x[moving], t, s), generator=generator)
        return x.masked_scatter(moving, y), state, Info(clipped=torch.zeros_like(x[:, 0]))


@dataclass(frozen=True)
class Euler:
    r"""Euler leap: the rates at t, frozen, and at most one jump for each site.

    .. math:: p(x_s^l = y \mid x_t) = (t - s)\, \hat R_t(x_t \to y), \quad y \ne x_t^l.

    Where the probability of leaving exceeds 1 it is scaled down to 1 and counted in ``Info.clipped``. Rates cannot carry a site
    to t = 0 for sure, so the leap that ends there is Tweedie's; it costs one call like any other.

    Source: Lou, Meng, Ermon (2024), Eq. 17; Gillespie (2001). Kernels: all. Schedule: times. Calls per leap: 1.
    """

    name: ClassVar[str] = "euler"
    calls_per_leap: ClassVar[int] = 1

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> None:
        return None

    def step(
        self, reverse: ReverseProcess, x: Tensor, t: float, s: float, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        if s == 0:
            return Tweedie().step(reverse, x, t, s, state, generator=generator)
        movable = reverse.forward.movable(x)
        leave = (t - s) * reverse.rates(x, t, where=movable).to(torch.float64)
        total = leave.sum(-1, keepdim=True)
        law = leave / total.clamp_min(1)
        law = law.scatter(-1, x[movable][:, None], (1 - total).clamp_min(0))
        new = x.masked_scatter(movable, categorical(law, generator=generator))
        clipped = torch.zeros_like(x).masked_scatter(movable, (total[:, 0] > 1).to(x.dtype))
        return new, state, Info(clipped=clipped.sum(-1))
