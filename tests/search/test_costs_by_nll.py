"""Costs by the few-step NLL: those of the bound, and the best schedule on the grid."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from builders.models import WrongNetwork
from builders.search import paths_of, random_truth
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.by_nll import nll_costs
from jumpsteps.search.costs.nll_bounds import prior_divergence, times_bound
from jumpsteps.search.dynamic_programming import shortest_path


def measured(kernel, sampler, evaluations=8):
    truth = random_truth(kernel)
    reverse = PosteriorReverse(truth.forward, WrongNetwork(truth, seed=1))
    paths = paths_of(truth, 24)
    costs = nll_costs(reverse, paths, sampler, evaluations=evaluations, generator=seeded(0))
    return costs, reverse, paths


@pytest.mark.parametrize("kernel", ["uniform", "gaussian"])
@pytest.mark.parametrize("sampler", [Tweedie(), TauLeaping()], ids=lambda one: one.name)
def test_a_schedule_costs_its_bound_and_none_costs_less(kernel, sampler):
    costs, reverse, paths = measured(kernel, sampler)
    assert costs.model_calls == len(costs.grid) - 1
    schedules = [
        TimeSchedule([1.0, *inner, 0.0]) for inner in combinations(costs.grid[1:-1].tolist(), 2)
    ]
    prior = prior_divergence(paths)
    expected = np.array(
        [float((times_bound(reverse, paths, s, sampler) - prior).mean()) for s in schedules]
    )
    np.testing.assert_allclose([costs.predict(s)[0] for s in schedules], expected)
    best = shortest_path(costs, 3)
    assert best.times == schedules[int(expected.argmin())].times
    assert np.isfinite(costs.predict(best)[1])


def test_compared_sites_are_enough_and_their_numbers_are_scaled(monkeypatch):
    """Half of the sites give the costs of all, within noise."""
    costs, reverse, paths = measured("uniform", Tweedie())
    monkeypatch.setattr("jumpsteps.search.costs.by_nll.NUMBERS", 24 * 3 * 3 * 2 // 3)
    fewer = nll_costs(reverse, paths, Tweedie(), evaluations=8, generator=seeded(0))
    schedule = TimeSchedule(costs.grid[[0, 3, -1]])
    (all_sites, stderr), (some, more) = (c.predict(schedule) for c in (costs, fewer))
    assert some != all_sites
    assert abs(some - all_sites) < 4 * np.hypot(stderr, more)


def test_mistakes_are_named():
    costs, reverse, paths = measured("uniform", Tweedie(), 4)
    with pytest.raises(ValueError, match="on their grid alone"):
        costs.predict(uniform(7))
    with pytest.raises(ValueError, match="does not draw sites independently"):
        nll_costs(reverse, paths, ThetaTrapezoidal(), generator=seeded(0))
    one = replace(paths, data=paths.data[:1])
    with pytest.raises(ValueError, match="at least two sequences, got 1"):
        nll_costs(reverse, one, Tweedie(), generator=seeded(0))
