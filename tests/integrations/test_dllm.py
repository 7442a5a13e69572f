"""Counts as an alpha scheduler: dLLM's own rounding gives them back."""

import importlib
import sys
from itertools import pairwise

import pytest
import torch

from builders import dllm
from builders.statistics import seeded
from jumpsteps.schedules.schedule import CountSchedule

MODULE = "jumpsteps.integrations.dllm"


@pytest.fixture
def alpha(monkeypatch):
    """The class, and dLLM's function from a scheduler to counts."""
    counts_of = dllm.install(monkeypatch)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield importlib.import_module(MODULE).CountAlphaScheduler, counts_of
    sys.modules.pop(MODULE, None)


def random_schedule(generator):
    """1 to 24 steps for up to 4096 sites."""
    steps = int(torch.randint(1, 25, (), generator=generator))
    sites = int(torch.randint(24, 4097, (), generator=generator))
    ends = torch.randperm(sites - 1, generator=generator)[: steps - 1].sort().values + 1
    ends = [0, *ends.tolist(), sites]
    return CountSchedule(b - a for a, b in pairwise(ends))


def test_the_counts_of_a_thousand_random_schedules_come_back(alpha):
    scheduler, counts_of = alpha
    generator = seeded(0)
    for _ in range(1000):
        schedule = random_schedule(generator)
        masked = torch.ones(1, schedule.total, dtype=torch.bool)
        found = counts_of(masked, schedule.steps, scheduler(schedule))
        assert tuple(found[0].tolist()) == schedule.counts


def test_a_block_of_another_size_has_the_rescaled_counts(alpha):
    scheduler, counts_of = alpha
    schedule = CountSchedule([1, 2, 5, 24])
    for sites in (4, 7, 31, 100):
        masked = torch.ones(2, sites, dtype=torch.bool)
        found = counts_of(masked, schedule.rescaled(sites).steps, scheduler(schedule, sites))
        assert found.tolist() == [list(schedule.rescaled(sites).counts)] * 2


def test_alpha_is_the_share_that_is_revealed(alpha):
    scheduler, _ = alpha
    made = scheduler(CountSchedule([1, 3, 4]))
    times = torch.tensor([1.0, 2 / 3, 0.5, 1 / 3, 0.0])
    assert made(times).tolist() == pytest.approx([0, 1 / 8, 5 / 16, 1 / 2, 1])
    t = torch.linspace(0.01, 0.99, 51, dtype=torch.float64)
    slope = (made._alpha(t + 1e-9) - made._alpha(t)) / 1e-9
    assert made._alpha_derivative(t).tolist() == pytest.approx(slope.tolist(), rel=1e-5)


def test_other_numbers_of_steps_interpolate_the_counts(alpha):
    scheduler, counts_of = alpha
    schedule = CountSchedule([8, 16, 40])
    found = counts_of(torch.ones(1, 64, dtype=torch.bool), 6, scheduler(schedule))
    assert tuple(found[0].tolist()) == schedule.with_steps(6).counts


def test_without_dllm_it_says_where_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "dllm.core.schedulers", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"needs dLLM .*github\.com/ZHZisZZ/dllm"):
        importlib.import_module(MODULE)
