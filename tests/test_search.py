import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from jumpsteps.costs import LeapCosts
from jumpsteps.search import golden_section, hierarchical, shortest_path, shortest_paths


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.floats(0.01, 0.99), st.floats(0.5, 3))
def test_golden_section_agrees_with_scipy(peak, power):
    def objective(s):
        return -(abs(s - peak) ** power)

    ours = golden_section(objective, 0.0, 1.0, tolerance=1e-5)
    scipy = minimize_scalar(lambda s: -objective(s), bounds=(0, 1), method="bounded", options={"xatol": 1e-6}).x
    assert ours == pytest.approx(scipy, abs=1e-4)


def test_golden_section_stays_inside_and_spends_one_evaluation_a_step():
    for objective in (lambda s: s, lambda s: -s):
        seen = []

        def counted(s, objective=objective, seen=seen):
            seen.append(s)
            return objective(s)

        best = golden_section(counted, 0.2, 0.6, tolerance=1 / 4096)
        assert 0.2 < best < 0.6
        assert len(seen) == len(set(seen))
        assert len(seen) == 2 + int(np.ceil(np.log(0.4 * (0.618034 - 0.381966) * 4096) / np.log(1.618034)))
    with pytest.raises(ValueError, match="low < high"):
        golden_section(lambda s: s, 0.5, 0.5, tolerance=0.1)


def test_hierarchical_doubles_and_nests():
    levels = hierarchical(lambda u, t: 0.5 * (u + t), 3, t_min=0.0)
    assert [len(level) for level in levels] == [2, 3, 5, 9]
    assert levels[3] == tuple(1 - i / 8 for i in range(9))
    assert all(set(a) < set(b) for a, b in itertools.pairwise(levels))


def random_costs(points: int, seed: int) -> LeapCosts:
    value = np.random.default_rng(seed).random((points, points))
    value[np.tril_indices(points)] = np.inf
    return LeapCosts(np.linspace(1, 0, points), value, np.zeros_like(value), 0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_shortest_path_equals_brute_force(points, seed):
    costs = random_costs(points, seed)
    found = shortest_paths(costs, range(1, points))
    for n in range(1, points):
        ways = ((0, *inner, points - 1) for inner in itertools.combinations(range(1, points - 1), n - 1))
        best = min(ways, key=lambda way: sum(costs.value[i, k] for i, k in itertools.pairwise(way)))
        assert found[n].times == pytest.approx(costs.grid[list(best)])
        assert shortest_path(costs, n) == found[n]


@pytest.mark.parametrize("n", [0, 5])
def test_shortest_path_refuses_what_the_grid_cannot_give(n):
    with pytest.raises(ValueError, match="1 to 4 leaps"):
        shortest_path(random_costs(5, 0), n)
