"""Runs whose numbers are read a step late, as on a GPU, for each sampler on each kernel."""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.samplers import CASES
from builders.statistics import seeded
from jumpsteps.core.late_checks import late_checks
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling import loop
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule

SYMBOLS, LENGTH = 3, 4


@dataclass
class Breaking:
    """An enumerable model that returns NaN from some call on, and must be asked of symbols only."""

    model: Enumerable
    good: int = 10**6
    calls: int = 0

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        assert x.min() >= 0
        assert x.max() < self.model.forward.vocab_size
        self.calls += 1
        output = self.model(x, t, where)
        return output if self.calls <= self.good else torch.full_like(output, math.nan)


def run(sampler: Sampler, forward: ForwardProcess, good: int = 10**6) -> Tensor:
    model = Enumerable.random(forward, symbols=SYMBOLS, length=LENGTH, seed=0)
    schedule: Schedule | None = None
    if sampler.takes is not None:
        counted = sampler.takes is CountSchedule
        schedule = CountSchedule([2, 1, 1]) if counted else TimeSchedule([1.0, 0.7, 0.4, 0.0])
    reverse = PosteriorReverse(forward, Breaking(model, good))
    return simulate(reverse, sampler, schedule, (50, LENGTH), generator=seeded(0)).samples


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "late_checks", partial(late_checks, ("cpu",)))


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_late_checks_change_no_sample(
    sampler: Sampler, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = kernel(name, SYMBOLS)
    expected = run(sampler, forward)
    monkeypatch.setattr(loop, "late_checks", partial(late_checks, ("cpu",)))
    assert torch.equal(run(sampler, forward), expected)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("good", [1, 2])
@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_a_model_that_breaks_during_a_run_is_refused(
    sampler: Sampler, name: str, good: int
) -> None:
    with pytest.raises(ValueError, match=r"NaN|not finite"):
        run(sampler, kernel(name, SYMBOLS), good)
