"""Counts in closed form, without a model."""

import math
from itertools import accumulate

import pytest
import torch

import jumpsteps as js
from jumpsteps.schedules.fixed import FITTED


@pytest.mark.parametrize("steps", [1, 2, 8, 64])
@pytest.mark.parametrize("total", [64, 256, 1000])
def test_the_curve_is_rounded(steps, total):
    schedule, (a, b) = js.get_schedule(steps, total), FITTED
    assert (schedule.steps, schedule.total, schedule.order) == (steps, total, js.Golden())
    share = [(math.exp(b * (k / steps) ** a) - 1) / (math.exp(b) - 1) for k in range(1, steps + 1)]
    if steps < total / 8:  # Elsewhere steps that would reveal nothing move the others.
        assert [*accumulate(schedule.counts)] == pytest.approx(
            [total * each for each in share], abs=1.01
        )
    assert sum(schedule.counts) == total


def test_steps_grow():
    counts = js.get_schedule(8).counts
    assert sum(counts) == 1024
    assert list(counts) == sorted(counts)
    assert counts[-1] > 6 * counts[0]
    flat = js.get_schedule(8, 80, shape=(1.0, 1e-9)).counts
    assert flat == (10,) * 8
    assert js.get_schedule(8, order=js.Spread()).order == js.Spread()
    assert js.get_schedule(8).provenance.method == "fitted"


def test_it_is_better_than_equal_counts_and_times_on_countdown():
    """On the exact model; by the bound on 32 sequences, nats."""
    model = js.load("countdown-exact")
    data = model.task.sample_data(32, torch.Generator().manual_seed(0))
    nll = [
        js.few_step_nll(
            model.reverse,
            data,
            schedule,
            sampler,
            generator=torch.Generator().manual_seed(1),
            reference_calls=2,
        ).nll
        for schedule, sampler in (
            (js.get_schedule(8, 256), js.KGillespie()),
            (js.uniform_counts(8, 256, js.Golden()), js.KGillespie()),
            (js.uniform(8), js.Tweedie()),
        )
    ]
    assert nll[0] + 30 < min(nll[1:])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        js.get_schedule(0)
    with pytest.raises(ValueError, match="choose at most 4 steps"):
        js.get_schedule(5, 4)
    with pytest.raises(ValueError, match=r"must be positive, got 1\.0 and 0"):
        js.get_schedule(5, shape=(1.0, 0))
