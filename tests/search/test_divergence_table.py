"""Interpolation and integration of divergence rates on curves that are known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from builders.kernels import kernel
from jumpsteps.process.noise import Constant
from jumpsteps.process.uniform import Uniform
from jumpsteps.search.costs.by_path import PathCosts, unchanged
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.costs.divergence_table import DivergenceTable
from jumpsteps.search.costs.evaluation_times import costliest_times


def table_of(rate, times=(1.0, 0.7, 0.45, 0.2, 0.1)) -> DivergenceTable:
    forward = Uniform(vocab_size=3, noise=Constant(2.0))
    rates = np.array([[max(rate(t, s), 0.0) if s < t else 0.0 for s in times] for t in times])
    return DivergenceTable(forward, np.asarray(times), rates[..., None], NO_CORRECTION)


def test_between_evaluated_times_rates_are_linear_and_zero_on_the_diagonal():
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t))
    times = np.linspace(0.98, 0.12, 25)
    start, end = np.repeat(times, 25), np.tile(times, 25)
    start, end = start[end <= start], end[end <= start]
    found = table.interpolate(table.positions(start), table.positions(end), table.node_rates)[:, 0]
    assert table.node_rates[:-1, -1, 0] == pytest.approx(1 - np.exp(-2 * table.times), abs=1e-12)
    assert found == pytest.approx(np.exp(-2 * end) - np.exp(-2 * start), abs=1e-12)


def test_the_integral_is_right_on_a_curve_that_is_known():
    """e = rho(s) - rho(t) per unit of noise.

    The integral of (rho - a) / rho over rho from a to b is b - a - a log(b / a).
    """
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t), times=np.linspace(1, 0.0005, 60))
    costs = PathCosts.on_grid(table, table, 600)
    for t, s in ((1.0, 0.3), (0.7, 0.05), (0.5, 0.45), (0.2, 0.0), (0.0005, 0.0)):
        a, b = np.exp(-2 * t), np.exp(-2 * s)
        assert costs.step(t, s)[0] == pytest.approx(b - a - a * np.log(b / a), rel=2e-3)


def test_the_noise_weight_is_within_the_integral():
    """The integral of (1 - a / rho) (1 - rho^2) from a to b, with all the noise's variance."""
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t), times=np.linspace(1, 0.0005, 60))
    weighed = replace(table, correction=ErrorCorrection(np.inf, noise_power=1.0))
    costs = PathCosts.on_grid(weighed, weighed, 600)
    for t, s in ((1.0, 0.3), (0.7, 0.05), (0.2, 0.0)):
        a, b = np.exp(-2 * t), np.exp(-2 * s)
        exact = b - a - (b**3 - a**3) / 3 - a * np.log(b / a) + a * (b**2 - a**2) / 2
        assert costs.step(t, s)[0] == pytest.approx(exact, rel=2e-3)


def test_the_costliest_intervals_are_halved_first():
    table = table_of(lambda t, s: 10.0 if t == 0.45 else 0.1)
    times = costliest_times(table, 3)
    assert ((times < 0.45) & (times > 0.2)).all()
    rho = table.correlation(np.sort(times)[::-1])
    low, high = table.correlation(np.array([0.45, 0.2]))
    assert (rho - low) / (high - low) == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize("seed", range(5))
def test_intervals_are_halved_by_their_costs_one_at_a_time(seed):
    """A half costs a quarter of its whole: eleven times, against a search through all pieces."""
    rng = np.random.default_rng(seed)
    table = table_of(lambda t, s: rng.random())
    pieces = list(zip(table.interval_costs()[:-1], pairwise(table.node_correlation), strict=False))
    expected = []
    for _ in range(11):
        cost, (low, high) = pieces.pop(max(range(len(pieces)), key=lambda i: pieces[i][0]))
        expected.append((low + high) / 2)
        pieces += [(cost / 4, (low, expected[-1])), (cost / 4, (expected[-1], high))]
    found = table.correlation(costliest_times(table, 11))
    assert sorted(found) == pytest.approx(sorted(expected), abs=1e-9)


def test_costs_are_unchanged_if_the_best_schedules_cost_the_same():
    """A standard error of zero, on a grid of 8 times, for more steps than it has."""
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t), times=np.linspace(1, 0.1, 7))
    costs, other = (
        PathCosts.on_grid(one, one, 7)
        for one in (
            replace(table, rates=table.rates.repeat(2, -1)),
            replace(table, rates=1.01 * table.rates.repeat(2, -1)),
        )
    )
    assert len(costs.grid) == 8
    for most in (1, 4, 100):
        assert unchanged(costs, costs, most)
        assert not unchanged(costs, other, most)
    noisy = replace(table, rates=np.concatenate([0.9 * table.rates, 1.12 * table.rates], -1))
    noisy = PathCosts.on_grid(noisy, noisy, 7)
    assert unchanged(costs, noisy, 4)


def test_the_surviving_fraction_falls_with_the_corruption_probability():
    """By the fastest rate of leaving a state; 1 at t = 0, and everywhere without correction."""
    forward, times = kernel("gaussian", 3), np.array([0.3, 0.0])
    table = DivergenceTable(forward, np.ones(1), np.zeros((1, 1, 2)), ErrorCorrection(0.01))
    leaving = float(-forward.rate_matrix().diagonal().min())
    corrupted = 1 - np.exp(-leaving * float(forward.noise.total(0.3)))
    assert table.surviving_fraction(times) == pytest.approx([0.01 / (0.01 + corrupted), 1.0])
    uncorrected = replace(table, correction=NO_CORRECTION)
    assert uncorrected.surviving_fraction(times).tolist() == [1.0, 1.0]
