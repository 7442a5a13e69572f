r"""Samplers: one leap of the reverse process, from time t down to s.

A sampler is a frozen object with ``step``; the loop is in ``simulate``. It asks a ``ReverseProcess`` for the law of single
sites, or for its jump rates, and moves all sites at once, as if they were independent given x_t. Here are the samplers that serve
every kernel and follow a ``TimeSchedule``; ``masked_samplers`` has those of the absorbing kernel, ``gillespie`` the exact ones.

Shapes: x int64 [B, L]; times are numbers with 0 <= s < t <= 1; K sites are selected from x; rates are in 1/time.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical, poisson
from jumpsteps.core.site_mask import selected
from jumpsteps.denoiser.chunks import by_blocks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.schedules.schedule import JumpSchedule, Leap, TimeSchedule

__all__ = [
    "Euler",
    "Info",
    "PredictorCorrector",
    "Sampler",
    "TauLeaping",
    "ThetaRK2",
    "ThetaTrapezoidal",
    "Tweedie",
]


@dataclass(frozen=True)
class Info:
    """What a step did.

    Attributes:
        clipped: int64 [B], sites at which a probability exceeded 1, or an extrapolated rate was negative, and was cut off.
        time: the time reached, where it is not the leap's s: float64 [B], for samplers that choose their own times.
    """

    clipped: Tensor
    time: Tensor | None = None


def nothing_clipped(x: Tensor) -> Info:
    return Info(clipped=torch.zeros_like(x[:, 0]))


class Sampler(ABC):
    """One leap at a time.

    Attributes:
        name: e.g. "tweedie".
        kernels: names of the kernels it serves; None for all.
        takes: the kind of schedule it follows; None for a sampler that chooses its own leaps.
    """

    kernels: ClassVar[tuple[str, ...] | None] = None
    takes: ClassVar[type[TimeSchedule] | type[JumpSchedule] | None] = TimeSchedule

    @property
    @abstractmethod
    def name(self) -> str:
        """A class attribute, or a property where it depends on the settings."""

    @property
    def calls_per_leap(self) -> int | None:
        """Model calls of one leap; None for a sampler that chooses its own leaps."""
        return None if self.takes is None else 1

    def calls(self, leaps: int) -> int | None:
        """Model calls of a run of this many leaps that ends at t = 0, at most; None where it varies."""
        return None if self.calls_per_leap is None else leaps * self.calls_per_leap

    def leaps(self, nfe: int) -> int:
        """The most leaps that ``nfe`` model calls allow.

        Raises:
            ValueError: not even one leap, or a sampler that chooses its own leaps.
        """
        if self.calls_per_leap is None:
            raise ValueError(f"sampler {self.name} chooses its own leaps, so it has no schedule and no number of steps")
        leaps = nfe // self.calls_per_leap
        while (self.calls(leaps + 1) or 0) <= nfe:
            leaps += 1
        if leaps < 1:
            raise ValueError(f"one leap of {self.name} takes {self.calls(1)} model calls, got NFE {nfe}; raise it")
        return leaps

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any:
        """The sampler's state before the first leap."""
        return None

    @abstractmethod
    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: Any, *, generator: torch.Generator
    ) -> tuple[Tensor, Any, Info]:
        """The new x, the new state, and what happened."""

    def check(self, forward: ForwardProcess) -> None:
        """Raises ValueError for a kernel that the sampler does not serve."""
        if self.kernels is not None and forward.name not in self.kernels:
            raise ValueError(
                f"sampler {self.name} serves the {' and '.join(self.kernels)} kernel, this model has the {forward.name} kernel; "
                "use tweedie, which serves all"
            )


@dataclass(frozen=True)
class Tweedie(Sampler):
    r"""Tweedie tau-leaping: each site is drawn from its exact conditional at s, given all of x_t.

    .. math:: p(x_s^l = y \mid x_t) \propto q_{t|s}(x_t^l \mid y)\, (w^l q_{s|0})(y),

    w the leave-one-out posterior. The only error of a leap is the dependence between sites given x_t.
    For the absorbing kernel: reveal with probability (alpha(s) - alpha(t)) / (1 - alpha(t)), symbol from p(x0 | x_t); which
    sites are revealed is drawn first, and the model's head runs on those alone.

    Source: Lou, Meng, Ermon (2024), Eq. 19; Sun et al. (2023). Kernels: all. Schedule: times. Calls per leap: 1.
    """

    name = "tweedie"

    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        moving = reverse.forward.draw_moving(x, leap.t, leap.s, generator=generator)

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            w = reverse.leave_one_out(x, leap.t, where=where)
            return categorical(reverse.forward.bridge(w, sites, leap.t, leap.s), generator=generator)

        return x.masked_scatter(moving, by_blocks(reverse, x, leap.t, moving, draw)), None, nothing_clipped(x)


def denoise(reverse: ReverseProcess, x: Tensor, t: float, generator: torch.Generator) -> Tensor:
    """The leap from t to 0: rates cannot carry a site to t = 0 for sure, so every sampler's last leap is Tweedie's."""
    return Tweedie().step(reverse, x, Leap(t, 0.0), None, generator=generator)[0]


def first_jump(rates: Tensor, x: Tensor, h: float, *, generator: torch.Generator) -> Tensor:
    """The first jump, if any, within a duration h of constant rates [K, V] out of x [K]: the state after it."""
    total = rates.sum(-1, keepdim=True)
    stay = torch.exp(-h * total)
    law = (1 - stay) * rates / total.masked_fill(total == 0, 1)
    return categorical(law.scatter(-1, x[:, None], stay), generator=generator)


@dataclass(frozen=True)
class Euler(Sampler):
    r"""Euler leap: the rates at t, frozen, and at most one jump for each site.

    .. math:: p(x_s^l = y \mid x_t) = (t - s)\, \hat R_t(x_t \to y), \quad y \ne x_t^l.

    Where the probability of leaving exceeds 1 it is scaled down to 1 and counted in ``Info.clipped``. The leap to t = 0 is
    Tweedie's.

    Source: Lou, Meng, Ermon (2024), Eq. 17; Gillespie (2001). Kernels: all. Schedule: times. Calls per leap: 1.
    """

    name = "euler"

    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        if leap.s == 0:
            return denoise(reverse, x, leap.t, generator), None, nothing_clipped(x)
        movable = reverse.forward.movable(x)

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            leave = (leap.t - leap.s) * reverse.rates(x, leap.t, where=where).to(torch.float64)
            total = leave.sum(-1, keepdim=True)
            law = (leave / total.clamp_min(1)).scatter(-1, sites[:, None], (1 - total).clamp_min(0))
            return torch.stack([categorical(law, generator=generator), total[:, 0] > 1], 1)

        y, clipped = by_blocks(reverse, x, leap.t, movable, draw).unbind(1)
        return x.masked_scatter(movable, y), None, Info(clipped=count_sites(x, movable, clipped))


def count_sites(x: Tensor, where: Tensor, flagged: Tensor) -> Tensor:
    """How many of the selected sites are flagged, int64 [B]; flagged [K], bool or 0 and 1."""
    return torch.zeros_like(x).masked_scatter(where, flagged.to(x.dtype)).sum(-1)


@dataclass(frozen=True)
class TauLeaping(Sampler):
    r"""tau-leaping: the rates at t, frozen, and a Poisson number of jumps to each symbol.

    .. math:: N_y \sim \mathrm{Poisson}((t - s)\, \hat R_t(x_t \to y))

    Symbols that are categories: a site moves if it has exactly one jump. Symbols that are numbers (``ordinal``): the jumps are
    added up, x + sum N_y (y - x), and clamped to 0..V-1. The leap to t = 0 is Tweedie's.

    Source: Campbell et al. (2022), Sec. 4.2 and App. H; Gillespie (2001). Kernels: all; ordinal: all but absorbing, whose MASK is
    no number. Schedule: times. Calls per leap: 1.
    """

    ordinal: bool = False

    @property
    def name(self) -> str:
        return "tau-leaping-ordinal" if self.ordinal else "tau-leaping"

    def check(self, forward: ForwardProcess) -> None:
        if self.ordinal and forward.name == "absorbing":
            raise ValueError("ordinal tau-leaping adds symbols up, and the absorbing kernel's MASK is no number; use tau-leaping")

    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        if leap.s == 0:
            return denoise(reverse, x, leap.t, generator), None, nothing_clipped(x)
        movable = reverse.forward.movable(x)
        jump = self.add_jumps if self.ordinal else self.single_jumps

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            mean = (leap.t - leap.s) * reverse.rates(x, leap.t, where=where).to(torch.float64)
            return jump(mean, sites, generator)

        return x.masked_scatter(movable, by_blocks(reverse, x, leap.t, movable, draw)), None, nothing_clipped(x)

    def single_jumps(self, mean: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """The sum of Poisson numbers is Poisson, and its one jump goes where the rates say: no number for each symbol is needed."""
        jumps = poisson(mean.sum(-1), generator=generator)
        once = jumps == 1
        return x.masked_scatter(once, categorical(mean[once], generator=generator))

    def add_jumps(self, mean: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        jumps = poisson(mean, generator=generator)
        distance = torch.arange(mean.shape[-1], device=x.device) - x[:, None]
        return (x + (jumps * distance).sum(-1)).clamp(0, mean.shape[-1] - 1)


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    r"""After each leap, jumps that leave p_s as it is: reverse and forward rates together, :math:`\hat R_s + R_s`.

    A correction lasts ``size`` times the leap that it follows and makes at most one jump for each site. There is none after the
    leap to t = 0, where the reverse rates are not defined.

    Source: Campbell et al. (2022), Sec. 4.4. Kernels, schedule: the predictor's. Calls per leap: the predictor's + corrections, but
    for the last leap.

    Attributes:
        predictor: any sampler that follows times.
        corrections: after each leap.
        size: duration of a correction over that of the leap.
    """

    predictor: Sampler = Tweedie()
    corrections: int = 1
    size: float = 0.5

    def __post_init__(self) -> None:
        if self.predictor.takes is not TimeSchedule or self.predictor.calls_per_leap is None:
            raise ValueError(f"a corrector needs a predictor that follows a time schedule, {self.predictor.name} does not")
        if self.corrections != int(self.corrections) or self.corrections < 1 or not 0 < self.size < math.inf:
            raise ValueError(f"corrections must be 1 or more and size positive and finite, got {self.corrections} and {self.size}")

    @property
    def name(self) -> str:
        return f"{self.predictor.name}-corrected"

    @property
    def calls_per_leap(self) -> int | None:
        return (self.predictor.calls_per_leap or 0) + self.corrections

    def calls(self, leaps: int) -> int:
        return (self.predictor.calls(leaps) or 0) + (leaps - 1) * self.corrections

    def check(self, forward: ForwardProcess) -> None:
        self.predictor.check(forward)

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any:
        return self.predictor.init(reverse, x, t)

    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: Any, *, generator: torch.Generator
    ) -> tuple[Tensor, Any, Info]:
        x, state, info = self.predictor.step(reverse, x, leap, state, generator=generator)
        if leap.s > 0:
            for _ in range(self.corrections):
                x = self.correct(reverse, x, leap.s, self.size * (leap.t - leap.s), generator)
        return x, state, info

    def correct(self, reverse: ReverseProcess, x: Tensor, s: float, h: float, generator: torch.Generator) -> Tensor:
        forward, movable = reverse.forward, reverse.forward.movable(x)
        rates = forward.noise.rate(s).to(x.device) * forward.rates_from(x)
        rates[movable] += reverse.rates(x, s, where=movable).to(torch.float64)
        return first_jump(rates.flatten(0, 1), x.flatten(), h, generator=generator).reshape(x.shape)


@dataclass(frozen=True)
class TwoStages(Sampler):
    """A trial stage of theta of the leap with the rates mu at t, then a second one with rates mixed from both ends of the trial.

    Within a stage a site makes its first jump only. The leap to t = 0 keeps the trial and ends as Tweedie's.

    Attributes:
        theta: share of the trial stage, between 0 and 1.
    """

    theta: float = 0.5
    keeps_trial: ClassVar[bool]

    def __post_init__(self) -> None:
        if not 0 < self.theta < 1:
            raise ValueError(f"theta must lie between 0 and 1, got {self.theta}")

    @property
    def calls_per_leap(self) -> int | None:
        return 2

    @abstractmethod
    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        """Rates of the second stage, [B, L, V]; stayed is bool [B, L, 1]: sites that did not jump in the trial."""

    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: None, *, generator: torch.Generator
    ) -> tuple[Tensor, None, Info]:
        middle = leap.t - self.theta * (leap.t - leap.s)
        mu, movable = all_rates(reverse, x, leap.t)
        trial = x.masked_scatter(movable, first_jump(mu[movable], x[movable], leap.t - middle, generator=generator))
        if leap.s == 0:
            return denoise(reverse, trial, middle, generator), None, nothing_clipped(x)
        after, _ = all_rates(reverse, trial, middle)
        start, h = (trial, middle - leap.s) if self.keeps_trial else (x, leap.t - leap.s)
        movable = reverse.forward.movable(start)
        rates = self.mix(mu, after, (trial == x)[..., None])[movable]
        y = first_jump(rates.clamp_min(0), start[movable], h, generator=generator)
        return start.masked_scatter(movable, y), None, Info(clipped=count_sites(x, movable, (rates < 0).any(-1)))


@dataclass(frozen=True)
class ThetaTrapezoidal(TwoStages):
    r"""Two stages: theta of the leap with the rates at t, the rest with rates extrapolated from both times.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : (1 - \theta) h \text{ from } x^* \text{ with } [a_1 \mu^* - a_2 \mu]_+,

    :math:`a_1 = 1 / (2 \theta (1 - \theta)), a_2 = ((1 - \theta)^2 + \theta^2) a_1`, and :math:`\mu^*` the rates at x* and the time
    between. Where a site jumped in the first stage nothing is subtracted: the probability of a second jump is then right to second
    order, which the paper's Poisson jumps get from adding symbols up, and categories cannot be added. Sites with a negative
    extrapolated rate are counted in ``Info.clipped``; the cut is what keeps the measured order below 2, because one jump elsewhere
    can change a rate by more than the extrapolation allows.

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 2. Kernels: all. Schedule: times. Calls per leap: 2.
    """

    name = "theta-trapezoidal"
    keeps_trial = True

    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        a1 = 0.5 / (self.theta * (1 - self.theta))
        a2 = ((1 - self.theta) ** 2 + self.theta**2) * a1
        return a1 * after - a2 * mu * stayed


@dataclass(frozen=True)
class ThetaRK2(TwoStages):
    r"""A trial stage of theta of the leap, then the whole leap from x_t with rates mixed from both.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : h \text{ from } x_t \text{ with } [(1 - 1/(2\theta)) \mu + \mu^* / (2\theta)]_+

    Sites that jumped in the trial stage use mu. The trial's jumps are forgotten, so that two sites of one leap are drawn without
    regard for each other, as in Euler's: of first order whatever theta is. (Kept, they would make it ``ThetaTrapezoidal``.)

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 1. Kernels: all. Schedule: times. Calls per leap: 2.
    """

    name = "theta-rk2"
    keeps_trial = False

    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        return torch.where(stayed, (1 - 0.5 / self.theta) * mu + 0.5 / self.theta * after, mu)


def all_rates(reverse: ReverseProcess, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Reverse rates at all sites, float64 [B, L, V], zero where nothing can move; and which sites can, bool [B, L]."""
    movable = reverse.forward.movable(x)
    some = reverse.rates(x, t, where=movable).to(torch.float64)
    rates = torch.zeros(*x.shape, reverse.forward.vocab_size, dtype=torch.float64, device=x.device)
    rates[movable] = some
    return rates, movable
