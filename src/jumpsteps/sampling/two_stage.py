r"""Samplers that call the model twice in a step: the theta methods.

Both spend a share theta of the step h = t - s on a trial stage with the rates :math:`\mu = \hat
R_t(x_t \to \cdot)`, which ends in x* at the time t - theta h, and evaluate the rates :math:`\mu^*`
there. The second stage uses a mixture of :math:`\mu` and :math:`\mu^*`: ``ThetaTrapezoidal``
continues from x*, ``ThetaRK2`` starts again from x_t. A negative mixture is cut off at zero. Within
a stage a site makes its first jump only.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.sample_generators import Generator, at_sites
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Info, Sampler, count_sites, joint_distribution, nothing_clipped
from jumpsteps.sampling.one_stage import Tweedie, denoise, first_jump, first_jump_distribution
from jumpsteps.schedules.schedule import Step

__all__ = ["ThetaRK2", "ThetaTrapezoidal"]


@dataclass(frozen=True)
class TwoStages(Sampler):
    """What the theta methods share. The step to t = 0 keeps the trial and ends with Tweedie's step.

    Attributes:
        theta: share of the trial stage, between 0 and 1.
    """

    theta: float = 0.5
    keeps_trial: ClassVar[bool]
    source = "Ren et al. 2025"

    def __post_init__(self) -> None:
        if not 0 < self.theta < 1:
            raise ValueError(f"theta must lie between 0 and 1, got {self.theta}")

    @property
    def calls_per_step(self) -> int | None:
        return 2

    def evaluation_times(self, step: Step) -> list[float]:
        return [step.t, self.middle(step)]

    def middle(self, step: Step) -> float:
        """The time at the end of the trial stage."""
        return step.t - self.theta * (step.t - step.s)

    @abstractmethod
    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        """Rates of the second stage, [B, L, V], from those at t and those after the trial.

        Args:
            stayed: bool [B, L, 1], the sites that did not jump in the trial.
        """

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        middle = self.middle(step)
        mu, movable = all_rates(reverse, x, step.t)
        source = at_sites(generator, movable)
        jumped = first_jump(mu[movable], x[movable], step.t - middle, generator=source)
        trial = x.masked_scatter(movable, jumped)
        if step.s == 0:
            return denoise(reverse, trial, middle, generator), None, nothing_clipped(x)
        after, _ = all_rates(reverse, trial, middle)
        start, h = (trial, middle - step.s) if self.keeps_trial else (x, step.t - step.s)
        movable = reverse.forward.movable(start)
        rates = self.mix(mu, after, (trial == x)[..., None])[movable]
        source = at_sites(generator, movable)
        y = first_jump(rates.clamp_min(0), start[movable], h, generator=source)
        clipped = count_sites(x, movable, (rates < 0).any(-1))
        return start.masked_scatter(movable, y), None, Info(clipped=clipped)

    def transition_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """The sum over trials x* of p(x* | x_t) p(x_s | x_t, x*); needs S^2 L V numbers."""
        middle = self.middle(step)
        mu, _ = all_rates(reverse, states, step.t)
        trial = joint_distribution(first_jump_distribution(mu, states, step.t - middle), states)
        if step.s == 0:
            return trial @ Tweedie().transition_matrix(reverse, states, Step(middle, 0.0))
        after, _ = all_rates(reverse, states, middle)
        stayed = (states[:, None] == states[None])[..., None]
        rates = self.mix(mu[:, None], after[None], stayed).clamp_min(0)
        start, h = (
            (states[None], middle - step.s)
            if self.keeps_trial
            else (states[:, None], step.t - step.s)
        )
        movable = reverse.forward.movable(start)[..., None]
        start = start.expand(rates.shape[:-1])
        last = joint_distribution(first_jump_distribution(rates * movable, start, h), states)
        return torch.einsum("xm,xmy->xy", trial, last)


@kinds_checked()
@dataclass(frozen=True)
class ThetaTrapezoidal(TwoStages):
    r"""Two stages: theta of the step with the rates at t, the rest with rates extrapolated from
    both times.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : (1 - \theta) h \text{ from } x^* \text{ with } [a_1 \mu^* - a_2 \mu]_+,

    with :math:`a_1 = 1 / (2 \theta (1 - \theta))`, :math:`a_2 = ((1 - \theta)^2 + \theta^2) a_1`,
    and :math:`\mu^*` the rates at x* and the time between. At a site that jumped in the trial
    nothing is subtracted: the probability of a second jump is then right to second order. The
    paper's Poisson jumps get this by adding symbols up, which categories do not allow. Sites with a
    negative extrapolated rate are counted in ``Info.clipped``. The cut keeps the measured order
    below 2, because one jump elsewhere can change a rate by more than the extrapolation allows.

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 2. Kernels: all. Schedule: times. Calls per
    step: 2.
    """

    name = "theta-trapezoidal"
    order = "1.1 to 1.6 (paper: 2)"
    keeps_trial = True

    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        a1 = 0.5 / (self.theta * (1 - self.theta))
        a2 = ((1 - self.theta) ** 2 + self.theta**2) * a1
        return a1 * after - a2 * mu * stayed


@kinds_checked()
@dataclass(frozen=True)
class ThetaRK2(TwoStages):
    r"""A trial stage of theta of the step, then the whole step from x_t with rates mixed from both.

    .. math:: x^* : \theta h \text{ with } \mu = \hat R_t(x_t \to \cdot), \quad
              x_s : h \text{ from } x_t \text{ with } [(1 - 1/(2\theta)) \mu + \mu^* / (2\theta)]_+

    Sites that jumped in the trial use mu. The trial's jumps are forgotten, so two sites of one step
    are as independent as in Euler's: the order is 1 for every theta. (Kept, they would make it
    ``ThetaTrapezoidal``.)

    Source: Ren et al. (2025), arXiv 2502.00234, Alg. 1. Kernels: all. Schedule: times. Calls per
    step: 2.
    """

    name = "theta-rk2"
    order = "1.0 to 1.1 (paper: 2)"
    keeps_trial = False

    def mix(self, mu: Tensor, after: Tensor, stayed: Tensor) -> Tensor:
        return torch.where(stayed, (1 - 0.5 / self.theta) * mu + 0.5 / self.theta * after, mu)


def all_rates(reverse: ReverseProcess, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Reverse rates, float64 [B, L, V], zero at sites that cannot move; and which sites can, bool
    [B, L].
    """
    movable = reverse.forward.movable(x)
    some = reverse.rates(x, t, where=movable).to(torch.float64)
    rates = torch.zeros(*x.shape, reverse.forward.vocab_size, dtype=torch.float64, device=x.device)
    rates[movable] = some
    return rates, movable
