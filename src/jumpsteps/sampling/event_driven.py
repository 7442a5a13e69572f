r"""Event-driven samplers: one jump for each model call, at a random time of its own. They are
exact.

* ``Gillespie`` serves every kernel. The reverse rates change in time and are known only where the
  model is evaluated, so jumps are found by thinning: candidates come at a rate :math:`\lambda(t)
  \ge \sum_y \hat R_t(x \to y)` that bounds the true one for every model, and a candidate at time t
  is accepted with the ratio of the two.
* ``FirstHitting`` serves the absorbing kernel, where the times of the jumps do not depend on the
  model: with n sites masked at t, the next one is revealed at t' with :math:`1 - \alpha(t') = (1 -
  \alpha(t))\, u^{1/n}`, u uniform.

Every sequence has its own time, so a time is a tensor float64 [B] here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical, exponential, uniform
from jumpsteps.core.late_checks import check_numbers
from jumpsteps.core.sample_generators import Generator, at_rows, at_step
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Info, Sampler, nothing_clipped
from jumpsteps.sampling.one_stage import denoise
from jumpsteps.sampling.parallel_decoding import smallest
from jumpsteps.schedules.schedule import Step

__all__ = ["FirstHitting", "Gillespie"]

LAST = -1
"""The number of a run's last step: how many candidates come before it depends on the batch."""


@kinds_checked()
@dataclass(frozen=True)
class Gillespie(Sampler):
    r"""Gillespie's algorithm for rates that change in time, by thinning: exact down to ``t_min``.

    The kernel bounds the rate at which a site can leave, for every model
    (``ForwardProcess.exit_rate_bound``). Times of candidates follow from the bound in closed form.
    One model call, at the candidate's time and for its site alone, gives the true rates: their sum
    over the bound is the probability of accepting the candidate, and they say where it jumps. Below
    ``t_min`` one Tweedie step ends the run. A rate above the bound, which no exact model has, is
    counted in ``Info.clipped``.

    Source: Gillespie (1977); Lewis & Shedler (1979) for thinning. Kernels: all. Schedule: none; one
    call for each candidate of the slowest sequence.

    Attributes:
        t_min: where the last step starts, between 0 and 1.
    """

    t_min: float = 1e-3
    name = "gillespie"
    takes = None
    order = "exact"
    source = "Gillespie 1977; Lewis & Shedler 1979"

    @property
    def calls_in_words(self) -> str:
        return "one for each candidate jump"

    def __post_init__(self) -> None:
        if not 0 < self.t_min < 1:
            raise ValueError(f"t_min must lie between 0 and 1, got {self.t_min}")

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Tensor:
        """Each sequence has its own time, float64 [B]."""
        return torch.full((len(x),), t, dtype=torch.float64, device=x.device)

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        if not (state > self.t_min).any():
            last = at_step(generator, LAST)
            x, done = denoise(reverse, x, self.t_min, last), torch.zeros_like(state)
            return x, done, Info(nothing_clipped(x).clipped, done)
        movable = reverse.forward.movable(x)
        time = self.candidate(reverse, movable.sum(-1), state, generator)
        active = time > self.t_min
        clipped = torch.zeros_like(x[:, 0])
        if active.any():
            site = self.pick(movable, generator) & active[:, None]
            x, clipped[active] = self.thin(reverse, x, time, site, generator)
        return x, time, Info(clipped, time)

    def candidate(
        self, reverse: ReverseProcess, sites: Tensor, time: Tensor, generator: Generator
    ) -> Tensor:
        """The time of the next candidate of each sequence, [B]; t_min when there is none."""
        forward = reverse.forward
        waiting = exponential(sites, generator=generator)
        bound = forward.exit_rate_bound
        total = bound.inverse(bound.integral(forward.noise.total(time)) - waiting)
        return forward.noise.inverse(total).clamp_min(self.t_min)

    def pick(self, movable: Tensor, generator: Generator) -> Tensor:
        """bool [B, L]: one movable site of each sequence."""
        keys = uniform(tuple(movable.shape), generator=generator, device=movable.device) + ~movable
        return torch.zeros_like(movable).scatter(-1, keys.argmin(-1, keepdim=True), True) & movable

    def thin(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        time: Tensor,
        site: Tensor,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """The state after the candidates, and whether their rate exceeded the bound."""
        forward, rows = reverse.forward, site.any(-1).nonzero()[:, 0]
        t = time[rows]
        rates = reverse.at_rows(rows).rates(x[rows], t, where=site[rows]).to(torch.float64)
        bound = forward.noise.rate(t) * forward.exit_rate_bound.rate(forward.noise.total(t))
        leaving = rates.sum(-1)
        check_numbers(leaving.aminmax(), verify_rates)
        share = leaving / bound
        source = at_rows(generator, rows)
        accepted = uniform((len(t),), generator=source, device=x.device) < share
        jumped = categorical(rates[accepted], generator=at_rows(source, accepted))
        y = x[site].masked_scatter(accepted, jumped)
        return x.masked_scatter(site, y), (share > 1 + 1e-9).to(x.dtype)


def verify_rates(numbers: Sequence[float]) -> None:
    """Raise ValueError unless the least and the largest rate are finite; a candidate whose rate is
    NaN would never be accepted.
    """
    if not all(map(math.isfinite, numbers)):
        raise ValueError(
            "cannot draw a jump: a rate is not finite; the model may have returned NaN"
        )


@dataclass(frozen=True)
class FirstHitting(Sampler):
    r"""First-hitting: one masked site at a time, at the time at which the reverse process reveals
    it; exact.

    With n sites masked at t the next is revealed at t' with :math:`1 - \alpha(t') = (1 -
    \alpha(t))\, u^{1/n}`, u uniform.

    Source: Zheng et al. (2025), arXiv 2409.02908, Sec. 4. Kernel: absorbing. Schedule: none; one
    call for each masked site.
    """

    name = "first-hitting"
    kernels = ("absorbing",)
    takes = None
    order = "exact"
    source = "Zheng et al. 2025"

    @property
    def calls_in_words(self) -> str:
        return "one for each masked site"

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Tensor:
        return torch.full((len(x),), t, dtype=torch.float64, device=x.device)

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        noise, masked = reverse.forward.noise, reverse.forward.movable(x)
        n = masked.sum(-1)
        u = uniform((len(x),), generator=generator, device=x.device)
        share = (1 - noise.alpha(state)) * (1 - u) ** (1 / n.clamp_min(1))
        time = torch.where(n > 0, noise.time_of_alpha(1 - share), 0.0)
        site = smallest(exponential(masked.to(torch.float64), generator=generator), 1) & masked
        active = n > 0
        if active.any():
            rows = active.nonzero()[:, 0]
            w = reverse.at_rows(rows).leave_one_out(x[rows], time[rows], where=site[rows])
            x = x.masked_scatter(site, categorical(w, generator=at_rows(generator, rows)))
        time = torch.where(n > 1, time, 0.0)
        return x, time, Info(nothing_clipped(x).clipped, time)
