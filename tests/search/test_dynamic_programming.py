"""Golden section against scipy, shortest paths against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.table import StepCosts
from jumpsteps.search.dynamic_programming import (
    error_curve,
    fewest_steps,
    shortest_path,
    shortest_paths,
)
from jumpsteps.search.golden_section import (
    golden_section,
    golden_section_integer,
    hierarchical,
    hierarchical_counts,
    most_of_hierarchical,
    most_of_hierarchical_counts,
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.floats(0.01, 0.99), st.floats(0.5, 3))
def test_golden_section_agrees_with_scipy(peak, power):
    def objective(s):
        return -(abs(s - peak) ** power)

    ours = golden_section(objective, 0.0, 1.0, tolerance=1e-5)
    scipy = minimize_scalar(
        lambda s: -objective(s), bounds=(0, 1), method="bounded", options={"xatol": 1e-6}
    ).x
    assert ours == pytest.approx(scipy, abs=1e-4)


def test_golden_section_stays_inside_and_evaluates_once_per_iteration():
    for objective in (lambda s: s, lambda s: -s):
        seen = []

        def counted(s, objective=objective, seen=seen):
            seen.append(s)
            return objective(s)

        best = golden_section(counted, 0.2, 0.6, tolerance=1 / 4096)
        assert 0.2 < best < 0.6
        assert len(seen) == len(set(seen))
        assert len(seen) == 2 + int(
            np.ceil(np.log(0.4 * (0.618034 - 0.381966) * 4096) / np.log(1.618034))
        )
    with pytest.raises(ValueError, match="low < high"):
        golden_section(lambda s: s, 0.5, 0.5, tolerance=0.1)


def test_golden_section_returns_the_better_of_its_last_two():
    for objective, best in ((lambda s: s, 0.618), (lambda s: -s, 0.382)):
        assert golden_section(objective, 0.0, 1.0, tolerance=0.5) == pytest.approx(best, abs=1e-3)


def test_hierarchical_doubles_and_nests():
    levels = hierarchical(lambda u, t: 0.5 * (u + t), 3, t_min=0.0)
    assert [len(level) for level in levels] == [2, 3, 5, 9]
    assert levels[3] == tuple(1 - i / 8 for i in range(9))
    assert all(set(a) < set(b) for a, b in itertools.pairwise(levels))


class Table(StepCosts):
    """Costs that are given, without errors."""

    @property
    def stderr(self):
        return np.zeros_like(self.value)

    def schedule(self, grid_points):
        return TimeSchedule(self.grid[grid_points])

    def predict(self, schedule):
        at = [int(np.abs(self.grid - t).argmin()) for t in schedule.times]
        return float(sum(self.value[i, k] for i, k in itertools.pairwise(at))), 0.0


def random_costs(grid_points: int, seed: int) -> StepCosts:
    value = np.random.default_rng(seed).random((grid_points, grid_points))
    value[np.tril_indices(grid_points)] = np.inf
    return Table(np.linspace(1, 0, grid_points), value, 0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_shortest_path_equals_brute_force(points, seed):
    costs = random_costs(points, seed)
    found = shortest_paths(costs, range(1, points))
    for n in range(1, points):
        ways = (
            (0, *inner, points - 1) for inner in itertools.combinations(range(1, points - 1), n - 1)
        )
        best = min(ways, key=lambda way: sum(costs.value[i, k] for i, k in itertools.pairwise(way)))
        assert found[n].times == pytest.approx(costs.grid[list(best)])
        assert shortest_path(costs, n) == found[n]
        assert list(shortest_paths(costs, [n])) == [n]


def test_the_fewest_steps_within_a_tolerance_and_the_error_curve():
    costs = random_costs(9, 3)
    curve = error_curve(costs, 8)
    assert curve.steps.tolist() == list(range(1, 9))
    assert curve.cost == pytest.approx(
        [costs.predict(shortest_path(costs, n))[0] for n in range(1, 9)]
    )
    assert curve.stderr.tolist() == [0.0] * 8
    for n in range(1, 9):
        found = fewest_steps(costs, float(curve.cost[n - 1]))
        assert found.steps == np.flatnonzero(curve.cost <= curve.cost[n - 1])[0] + 1
        assert costs.predict(found)[0] <= curve.cost[n - 1]
    with pytest.raises(ValueError, match="the least is"):
        fewest_steps(costs, float(curve.cost.min()) - 1e-3)


@pytest.mark.parametrize("n", [0, 5])
def test_the_grid_limits_the_number_of_steps(n):
    with pytest.raises(ValueError, match="1 to 4 steps"):
        shortest_path(random_costs(5, 0), n)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(-5, 5), st.integers(2, 300), st.floats(0, 1), st.floats(0.2, 3))
def test_golden_section_over_integers_finds_the_peak(low, width, share, power):
    """Any unimodal function without plateaus; few evaluations, none twice, none outside."""
    high, seen = low + width, []
    peak = low + 1 + share * (width - 2) + 1e-3

    def objective(n):
        seen.append(n)
        return -(abs(n - peak) ** power)

    best = golden_section_integer(objective, low, high)
    assert best == max(range(low + 1, high), key=lambda n: -(abs(n - peak) ** power))
    assert all(low < n < high for n in seen)
    assert len(seen) == len(set(seen)) <= 2 + np.log(width) / np.log(1.61)


def test_golden_section_over_integers_needs_an_integer_between():
    assert golden_section_integer(lambda n: 0.0, 3, 5) == 4
    with pytest.raises(ValueError, match="no integer between 3 and 4"):
        golden_section_integer(lambda n: 0.0, 3, 4)


def test_hierarchical_counts_double_and_nest_and_steps_of_one_site_stay():
    levels = hierarchical_counts(lambda u, t: (u + t) // 2, 3, total=64)
    assert levels[3] == tuple(range(64, -1, -8))
    greedy = hierarchical_counts(lambda u, t: u - 1, 3, total=9)
    assert [len(level) for level in greedy] == [2, 3, 5, 9]
    assert all(set(a) < set(b) for a, b in itertools.pairwise(greedy))
    assert hierarchical_counts(lambda u, t: u - 1, 2, total=4)[2] == (4, 3, 2, 1, 0)
    with pytest.raises(ValueError, match="3 sites cannot be revealed in 4 steps"):
        hierarchical_counts(lambda u, t: u - 1, 2, total=3)


@pytest.mark.parametrize("levels", [0, 1, 3, 7, 13])
@pytest.mark.parametrize("at", [0.001, 0.1, 0.5, 0.999])
def test_a_hierarchy_takes_at_most_so_many_evaluations(levels, at):
    """Peaks at any place of an interval, so that intervals are as unequal as they can be."""
    calls = []

    def split(u, t):
        def objective(s):
            calls.append(s)
            return -abs(s - (t + at * (u - t)))

        return golden_section(objective, t, u, tolerance=1 / 4096)

    hierarchical(split, levels, t_min=1e-3)
    most = most_of_hierarchical(levels, length=0.999, tolerance=1 / 4096)
    assert len(calls) <= most
    if at == 0.5 and levels <= 7:  # Then intervals are longer than the tolerance.
        assert most <= 1.6 * len(calls)


@pytest.mark.parametrize("total", [2, 3, 9, 64, 512])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.5, 1.0])
def test_a_hierarchy_of_counts_takes_at_most_so_many_evaluations(total, at):
    for levels in range(min(total.bit_length(), 7)):
        calls = []

        def split(n_u, n_t, calls=calls):
            def objective(n):
                calls.append(n)
                return -abs(n - (n_t + at * (n_u - n_t)))

            return golden_section_integer(objective, n_t, n_u)

        hierarchical_counts(split, levels, total=total)
        assert len(calls) <= most_of_hierarchical_counts(levels, total=total)
