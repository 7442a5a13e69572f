r"""Correctors: extra moves after each step that leave the distribution p_s at its end unchanged.

A predictor's error is a wrong distribution at s; a Markov kernel with p_s as its stationary
distribution moves it back towards p_s, at the price of model calls. ``Corrected`` is the frame: a
predictor, then ``corrections`` calls of a kernel, none after the step to t = 0.
``PredictorCorrector`` takes jumps for its kernel, forward and reverse rates together: :math:`\hat
R_s + R_s` has p_s as its stationary distribution, because :math:`\hat R_s` reverses :math:`R_s` in
time.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.tensors import sent
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Info, Sampler, joint_distribution
from jumpsteps.sampling.one_stage import Euler, Tweedie, first_jump, first_jump_distribution
from jumpsteps.schedules.schedule import Step, TimeSchedule

__all__ = ["Corrected", "PredictorCorrector"]


@dataclass(frozen=True)
class Corrected(Sampler):
    """A predictor whose steps are followed by corrections, one model call each; none after the step
    to t = 0.

    Attributes:
        predictor: any sampler that follows times.
        corrections: after each step.
    """

    predictor: Sampler = Tweedie()
    corrections: int = 1

    def __post_init__(self) -> None:
        if self.predictor.takes is not TimeSchedule or self.predictor.calls_per_step is None:
            raise ValueError(
                "a corrector needs a predictor that follows a time schedule, "
                f"{self.predictor.name} does not"
            )
        if self.corrections != int(self.corrections) or self.corrections < 1:
            raise ValueError(f"corrections must be 1 or more, got {self.corrections}")

    @property
    def calls_per_step(self) -> int | None:
        return (self.predictor.calls_per_step or 0) + self.corrections

    @property
    def calls_in_words(self) -> str:
        return f"{self.calls_per_step}, the last step {self.predictor.calls_per_step}"

    def calls(self, steps: int) -> int:
        return (self.predictor.calls(steps) or 0) + (steps - 1) * self.corrections

    def evaluation_times(self, step: Step) -> list[float]:
        corrections = self.corrections if step.s > 0 else 0
        return self.predictor.evaluation_times(step) + [step.s] * corrections

    def check(self, forward: ForwardProcess) -> None:
        self.predictor.check(forward)

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Any:
        """The predictor's state, and the free sites."""
        return self.predictor.init(reverse, x, t, free=free), free

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Any, Info]:
        inner, free = state
        x, inner, info = self.predictor.step(reverse, x, step, inner, generator=generator)
        if step.s > 0:
            for _ in range(self.corrections):
                x = self.correct(reverse, x, step, free, generator)
        return x, (inner, free), info

    def transition_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        predicted = self.predictor.transition_matrix(reverse, states, step)
        if step.s == 0:
            return predicted
        correction = self.correction_matrix(reverse, states, step)
        return predicted @ torch.linalg.matrix_power(correction, self.corrections)

    @abstractmethod
    def correct(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        free: Tensor,
        generator: Generator,
    ) -> Tensor:
        """x after one correction at the time s, by one model call; only ``free`` sites (bool [B,
        L]) count.
        """

    @abstractmethod
    def correction_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """The exact distribution of one correction with all sites free, [S, S]; see
        ``transition_matrix``.
        """


@kinds_checked()
@dataclass(frozen=True)
class PredictorCorrector(Corrected):
    r"""After each step, jumps with the reverse and the forward rates together, :math:`\hat R_s +
    R_s`.

    A correction lasts ``size`` times the step that it follows, and a site makes its first jump
    only, so p_s is left unchanged to second order in that duration. There is none after the step to
    t = 0, where the reverse rates are not defined.

    Source: Campbell et al. (2022), Sec. 4.4. Kernels, schedule: the predictor's. Calls per step:
    the predictor's and ``corrections``, the last step without them.

    Attributes:
        size: duration of a correction over that of the step.
    """

    size: float = 0.5
    order = "1.0"
    source = "Campbell et al. 2022"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.size < math.inf:
            raise ValueError(f"size must be positive and finite, got {self.size}")

    @property
    def name(self) -> str:
        return f"{self.predictor.name}-corrected"

    @classmethod
    def variants(cls) -> tuple[Sampler, ...]:
        return cls(Tweedie()), cls(Euler())

    def correct(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        free: Tensor,
        generator: Generator,
    ) -> Tensor:
        rates, h = self.rates(reverse, x, step)
        return first_jump(rates, x, h, generator=generator)

    def rates(self, reverse: ReverseProcess, x: Tensor, step: Step) -> tuple[Tensor, float]:
        """Forward and reverse rates at s, float64 [B, L, V], and the duration of a correction."""
        forward, movable = reverse.forward, reverse.forward.movable(x)
        rates = sent(forward.noise.rate(step.s), x.device) * forward.rates_from(x)
        rates[movable] += reverse.rates(x, step.s, where=movable).to(torch.float64)
        return rates, self.size * (step.t - step.s)

    def correction_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        rates, h = self.rates(reverse, states, step)
        return joint_distribution(first_jump_distribution(rates, states, h), states)
