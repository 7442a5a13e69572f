"""Runs whose numbers are read a step late, as on a GPU, for each sampler on each kernel."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.samplers import CASES
from builders.statistics import seeded
from builders.waits import Waits
from jumpsteps.core.late_checks import LateChecks, late_checks
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant
from jumpsteps.sampling import loop
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.schedule import CountSchedule, Schedule, Step, TimeSchedule

SYMBOLS, LENGTH = 3, 4


@dataclass
class Breaking:
    """An enumerable model that returns NaN from some call on, and must be asked of symbols only.

    Attributes:
        reached: the times that the run has reported.
        broken: how many these were at its first NaN, which is the number of the step.
    """

    model: Enumerable
    good: int = 10**6
    calls: int = 0
    reached: list[float] = field(default_factory=list)
    broken: int = 0

    def report(self, t: float, x: Tensor) -> None:
        self.reached.append(t)

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        assert x.min() >= 0
        assert x.max() < self.model.forward.vocab_size
        self.calls += 1
        output = self.model(x, t, where)
        if self.calls <= self.good:
            return output
        self.broken = self.broken or len(self.reached)
        return torch.full_like(output, math.nan)


def breaking(forward: ForwardProcess, good: int = 10**6) -> Breaking:
    return Breaking(Enumerable.random(forward, symbols=SYMBOLS, length=LENGTH, seed=0), good)


def run(sampler: Sampler, forward: ForwardProcess, model: Breaking) -> Tensor:
    schedule: Schedule | None = None
    if sampler.takes is not None:
        counted = sampler.takes is CountSchedule
        schedule = CountSchedule([2, 1, 1]) if counted else TimeSchedule([1.0, 0.7, 0.4, 0.0])
    reverse, shape = PosteriorReverse(forward, model), (50, LENGTH)
    return simulate(
        reverse, sampler, schedule, shape, generator=seeded(0), callback=model.report
    ).samples


LATE = partial(late_checks, ("cpu",))


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_late_checks_change_no_sample(
    sampler: Sampler, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = kernel(name, SYMBOLS)
    expected = run(sampler, forward, breaking(forward))
    monkeypatch.setattr(loop, "late_checks", LATE)
    assert torch.equal(run(sampler, forward, breaking(forward)), expected)


@pytest.mark.parametrize("checks", [late_checks, LATE], ids=["at once", "late"])
@pytest.mark.parametrize("good", [1, 2])
@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_a_model_that_breaks_during_a_run_is_refused_by_its_step(
    sampler: Sampler,
    name: str,
    good: int,
    checks: Callable[[], AbstractContextManager[LateChecks]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "late_checks", checks)
    forward = kernel(name, SYMBOLS, Constant(2.0))
    model = breaking(forward, good)
    with pytest.raises(ValueError, match=r"NaN|not finite") as refused:
        run(sampler, forward, model)
    total = "" if sampler.takes is None else " of 3"
    start = f"step {model.broken}{total}, at t = {model.reached[model.broken - 1]:.4g}: "
    assert str(refused.value).startswith(start)


@pytest.mark.parametrize(
    ("step", "ranks", "waiting"),
    [(Step(0.9, 0.6, count=2), True, False), (Step(0.9, 0.6), False, True)],
    ids=["a number of sites", "a random number"],
)
def test_a_step_of_a_known_number_of_sites_does_not_wait_for_a_gpu(
    step: Step, ranks: bool, waiting: bool
) -> None:
    """With one that draws how many sites it reveals, to see that waits are found."""
    forward = kernel("absorbing", SYMBOLS)
    network, reverse = build(DiTConfig(SYMBOLS + 1, 8, 1, 2), forward, "posterior")
    network.eval()
    x = torch.full((5, 6), forward.mask_id)
    sampler: Sampler = KGillespie() if ranks else Tweedie()
    state = torch.arange(6).expand(5, -1) if ranks else None
    with torch.no_grad(), late_checks(("cpu",)), Waits() as waits:
        y, kept, _ = sampler.step(reverse, x, step, state, generator=seeded(0))
        found = list(waits.found)
    assert bool(found) == waiting, found
    assert kept is state
    if ranks:
        assert ((y != forward.mask_id) == (torch.arange(6) < 2)).all()
