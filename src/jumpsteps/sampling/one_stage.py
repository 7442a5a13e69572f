r"""Samplers: one step of the reverse process, from time t down to s.

A sampler is a frozen object with ``step``; the loop is in ``simulate``. It asks a ``ReverseProcess`` for the distribution of single
sites, or for its jump rates, and moves all sites at once, as if they were independent given x_t. Here are the samplers that serve
every kernel and follow a ``TimeSchedule``; ``masked_samplers`` has those of the absorbing kernel, ``gillespie`` the exact ones.

Shapes: x int64 [B, L]; times are numbers with 0 <= s < t <= 1; K sites are selected from x; rates are in 1/time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical, poisson
from jumpsteps.core.site_mask import selected
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Held, Info, Sampler, count_sites, nothing_clipped
from jumpsteps.schedules.schedule import Step

__all__ = ["Euler", "TauLeaping", "Tweedie"]


@dataclass(frozen=True)
class Tweedie(Sampler):
    r"""Tweedie tau-leaping: each site is drawn from its exact conditional at s, given all of x_t.

    .. math:: p(x_s^l = y \mid x_t) \propto q_{t|s}(x_t^l \mid y)\, (w^l q_{s|0})(y),

    w the leave-one-out posterior. The only error of a step is the dependence between sites given x_t.
    For the absorbing kernel: reveal with probability (alpha(s) - alpha(t)) / (1 - alpha(t)), symbol from p(x0 | x_t); which
    sites are revealed is drawn first, and the model's head runs on those alone.

    Source: Lou, Meng, Ermon (2024), Eq. 19; Sun et al. (2023). Kernels: all. Schedule: times. Calls per step: 1.
    """

    name = "tweedie"
    holds = Held.CONTEXT

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        moving = reverse.forward.draw_moving(x, step.t, step.s, generator=generator)

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            w = reverse.leave_one_out(x, step.t, where=where)
            return categorical(
                reverse.forward.bridge(w, sites, step.t, step.s), generator=generator
            )

        return (
            x.masked_scatter(moving, in_chunks(reverse, x, step.t, moving, draw)),
            None,
            nothing_clipped(x),
        )


def denoise(reverse: ReverseProcess, x: Tensor, t: float, generator: torch.Generator) -> Tensor:
    """The step from t to 0: rates cannot carry a site to t = 0 for sure, so every sampler's last step is Tweedie's."""
    return Tweedie().step(reverse, x, Step(t, 0.0), None, generator=generator)[0]


def first_jump(rates: Tensor, x: Tensor, h: float, *, generator: torch.Generator) -> Tensor:
    """The first jump, if any, within a duration h of constant rates [K, V] out of x [K]: the state after it."""
    total = rates.sum(-1, keepdim=True)
    stay = torch.exp(-h * total)
    probs = (1 - stay) * rates / total.masked_fill(total == 0, 1)
    return categorical(probs.scatter(-1, x[:, None], stay), generator=generator)


@dataclass(frozen=True)
class Euler(Sampler):
    r"""Euler step: the rates at t, frozen, and at most one jump for each site.

    .. math:: p(x_s^l = y \mid x_t) = (t - s)\, \hat R_t(x_t \to y), \quad y \ne x_t^l.

    Where the probability of leaving exceeds 1 it is scaled down to 1 and counted in ``Info.clipped``. The step to t = 0 is
    Tweedie's.

    Source: Lou, Meng, Ermon (2024), Eq. 17; Gillespie (2001). Kernels: all. Schedule: times. Calls per step: 1.
    """

    name = "euler"
    holds = Held.FIRST_JUMP

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        if step.s == 0:
            return denoise(reverse, x, step.t, generator), None, nothing_clipped(x)
        movable = reverse.forward.movable(x)

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            leave = (step.t - step.s) * reverse.rates(x, step.t, where=where).to(torch.float64)
            total = leave.sum(-1, keepdim=True)
            probs = (leave / total.clamp_min(1)).scatter(
                -1, sites[:, None], (1 - total).clamp_min(0)
            )
            return torch.stack([categorical(probs, generator=generator), total[:, 0] > 1], 1)

        y, clipped = in_chunks(reverse, x, step.t, movable, draw).unbind(1)
        return x.masked_scatter(movable, y), None, Info(clipped=count_sites(x, movable, clipped))


@dataclass(frozen=True)
class TauLeaping(Sampler):
    r"""tau-leaping: the rates at t, frozen, and a Poisson number of jumps to each symbol.

    .. math:: N_y \sim \mathrm{Poisson}((t - s)\, \hat R_t(x_t \to y))

    Symbols that are categories: a site moves if it has exactly one jump. Symbols that are numbers (``ordinal``): the jumps are
    added up, x + sum N_y (y - x), and clamped to 0..V-1. The step to t = 0 is Tweedie's.

    Source: Campbell et al. (2022), Sec. 4.2 and App. H; Gillespie (2001). Kernels: all; ordinal: all but absorbing, whose MASK is
    no number. Schedule: times. Calls per step: 1.
    """

    ordinal: bool = False
    holds = Held.RATES

    @property
    def name(self) -> str:
        return "tau-leaping-ordinal" if self.ordinal else "tau-leaping"

    def check(self, forward: ForwardProcess) -> None:
        if self.ordinal and forward.name == "absorbing":
            raise ValueError(
                "ordinal tau-leaping adds symbols up, and the absorbing kernel's MASK is no number; use tau-leaping"
            )

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        if step.s == 0:
            return denoise(reverse, x, step.t, generator), None, nothing_clipped(x)
        movable = reverse.forward.movable(x)
        jump = self.add_jumps if self.ordinal else self.single_jumps

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            sites = selected(x, where)
            mean = (step.t - step.s) * reverse.rates(x, step.t, where=where).to(torch.float64)
            return jump(mean, sites, generator)

        return (
            x.masked_scatter(movable, in_chunks(reverse, x, step.t, movable, draw)),
            None,
            nothing_clipped(x),
        )

    def single_jumps(self, mean: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """The sum of Poisson numbers is Poisson, and its one jump goes where the rates say: no number for each symbol is needed."""
        jumps = poisson(mean.sum(-1), generator=generator)
        once = jumps == 1
        return x.masked_scatter(once, categorical(mean[once], generator=generator))

    def add_jumps(self, mean: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        jumps = poisson(mean, generator=generator)
        distance = torch.arange(mean.shape[-1], device=x.device) - x[:, None]
        return (x + (jumps * distance).sum(-1)).clamp(0, mean.shape[-1] - 1)
