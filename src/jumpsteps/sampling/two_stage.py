"""Samplers of two stages: the theta methods."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Info, Sampler, count_sites, nothing_clipped
from jumpsteps.sampling.one_stage import denoise, first_jump
from jumpsteps.schedules.schedule import Step

__all__ = ["ThetaRK2", "ThetaTrapezoidal"]


@dataclass(frozen=True)
class TwoStages(Sampler):
    """A trial stage of theta of the step with the rates mu at t, then a second one with rates mixed from both ends of the trial.

    Within a stage a site makes its first jump only. The step to t = 0 keeps the trial and ends as Tweedie's.

    Attributes:
        theta: share of the trial stage, between 0 and 1.
    """

    theta: float = 0.5
    keeps_trial: ClassVar[bool]

    def __post_init__(self) -> None:
        if not 0 < self.theta < 1:
            raise ValueError(f"theta must lie between 0 and 1, got {self.theta}")

    @property
    def calls_per_step(self) -> int | None:
        return 2

    @abstractmethod
    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        """Rates of the second stage, [B, L, V]; stayed is bool [B, L, 1]: sites that did not jump in the trial."""

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        middle = step.t - self.theta * (step.t - step.s)
        mu, movable = all_rates(reverse, x, step.t)
        trial = x.masked_scatter(
            movable, first_jump(mu[movable], x[movable], step.t - middle, generator=generator)
        )
        if step.s == 0:
            return denoise(reverse, trial, middle, generator), None, nothing_clipped(x)
        after, _ = all_rates(reverse, trial, middle)
        start, h = (trial, middle - step.s) if self.keeps_trial else (x, step.t - step.s)
        movable = reverse.forward.movable(start)
        rates = self.mix(mu, after, (trial == x)[..., None])[movable]
        y = first_jump(rates.clamp_min(0), start[movable], h, generator=generator)
        return (
            start.masked_scatter(movable, y),
            None,
            Info(clipped=count_sites(x, movable, (rates < 0).any(-1))),
        )


@dataclass(frozen=True)
class ThetaTrapezoidal(TwoStages):
    r"""Two stages: theta of the step with the rates at t, the rest with rates extrapolated from both times.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : (1 - \theta) h \text{ from } x^* \text{ with } [a_1 \mu^* - a_2 \mu]_+,

    :math:`a_1 = 1 / (2 \theta (1 - \theta)), a_2 = ((1 - \theta)^2 + \theta^2) a_1`, and :math:`\mu^*` the rates at x* and the time
    between. Where a site jumped in the first stage nothing is subtracted: the probability of a second jump is then right to second
    order, which the paper's Poisson jumps get from adding symbols up, and categories cannot be added. Sites with a negative
    extrapolated rate are counted in ``Info.clipped``; the cut is what keeps the measured order below 2, because one jump elsewhere
    can change a rate by more than the extrapolation allows.

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 2. Kernels: all. Schedule: times. Calls per step: 2.
    """

    name = "theta-trapezoidal"
    keeps_trial = True

    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        a1 = 0.5 / (self.theta * (1 - self.theta))
        a2 = ((1 - self.theta) ** 2 + self.theta**2) * a1
        return a1 * after - a2 * mu * stayed


@dataclass(frozen=True)
class ThetaRK2(TwoStages):
    r"""A trial stage of theta of the step, then the whole step from x_t with rates mixed from both.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : h \text{ from } x_t \text{ with } [(1 - 1/(2\theta)) \mu + \mu^* / (2\theta)]_+

    Sites that jumped in the trial stage use mu. The trial's jumps are forgotten, so that two sites of one step are drawn without
    regard for each other, as in Euler's: of first order whatever theta is. (Kept, they would make it ``ThetaTrapezoidal``.)

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 1. Kernels: all. Schedule: times. Calls per step: 2.
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
