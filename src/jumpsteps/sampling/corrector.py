"""Correctors: extra steps that leave the distribution at one time unchanged."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Info, Sampler
from jumpsteps.sampling.one_stage import Tweedie, first_jump
from jumpsteps.schedules.schedule import Step, TimeSchedule

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    r"""After each step, jumps that leave p_s as it is: reverse and forward rates together, :math:`\hat R_s + R_s`.

    A correction lasts ``size`` times the step that it follows and makes at most one jump for each site. There is none after the
    step to t = 0, where the reverse rates are not defined.

    Source: Campbell et al. (2022), Sec. 4.4. Kernels, schedule: the predictor's. Calls per step: the predictor's + corrections, but
    for the last step.

    Attributes:
        predictor: any sampler that follows times.
        corrections: after each step.
        size: duration of a correction over that of the step.
    """

    predictor: Sampler = Tweedie()
    corrections: int = 1
    size: float = 0.5

    def __post_init__(self) -> None:
        if self.predictor.takes is not TimeSchedule or self.predictor.calls_per_step is None:
            raise ValueError(
                f"a corrector needs a predictor that follows a time schedule, {self.predictor.name} does not"
            )
        if (
            self.corrections != int(self.corrections)
            or self.corrections < 1
            or not 0 < self.size < math.inf
        ):
            raise ValueError(
                f"corrections must be 1 or more and size positive and finite, got {self.corrections} and {self.size}"
            )

    @property
    def name(self) -> str:
        return f"{self.predictor.name}-corrected"

    @property
    def calls_per_step(self) -> int | None:
        return (self.predictor.calls_per_step or 0) + self.corrections

    def calls(self, steps: int) -> int:
        return (self.predictor.calls(steps) or 0) + (steps - 1) * self.corrections

    def check(self, forward: ForwardProcess) -> None:
        self.predictor.check(forward)

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any:
        return self.predictor.init(reverse, x, t)

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Any, Info]:
        x, state, info = self.predictor.step(reverse, x, step, state, generator=generator)
        if step.s > 0:
            for _ in range(self.corrections):
                x = self.correct(reverse, x, step.s, self.size * (step.t - step.s), generator)
        return x, state, info

    def correct(
        self, reverse: ReverseProcess, x: Tensor, s: float, h: float, generator: torch.Generator
    ) -> Tensor:
        forward, movable = reverse.forward, reverse.forward.movable(x)
        rates = forward.noise.rate(s).to(x.device) * forward.rates_from(x)
        rates[movable] += reverse.rates(x, s, where=movable).to(torch.float64)
        return first_jump(rates.flatten(0, 1), x.flatten(), h, generator=generator).reshape(x.shape)
