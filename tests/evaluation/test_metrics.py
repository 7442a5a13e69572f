"""Metrics of tokens and intervals of their means, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from builders.statistics import seeded
from jumpsteps.evaluation.metrics import (
    bootstrap_interval,
    energy_distance,
    group_means,
    hellinger_distance,
    outlier_share,
)


def test_hellinger_distances():
    """The same frequencies, other lengths; no symbol in common; (1/2, 1/2) against (1/4, 3/4)."""
    same = hellinger_distance(
        torch.tensor([[0, 1, 1, 2]]), torch.tensor([[1, 2, 0, 1, 2, 1, 1, 0]]), 3
    )
    assert same.dtype == torch.float64
    assert same.tolist() == [0]
    samples = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    found = hellinger_distance(samples, torch.tensor([[2, 3, 3, 3], [0, 1, 1, 1]]), 4)
    expected = math.sqrt(1 - (math.sqrt(0.5 * 0.25) + math.sqrt(0.5 * 0.75)))
    assert found.tolist() == pytest.approx([1, expected], abs=1e-12)


def symbols_of(shape: tuple[int, ...], seed: int, high: int = 4) -> torch.Tensor:
    return torch.randint(high, shape, generator=seeded(seed))


def hellinger_of(a: torch.Tensor, b: torch.Tensor, symbols: int) -> float:
    p, q = (np.array([(x == v).float().mean() for v in range(symbols)]) for x in (a, b))
    return math.sqrt(0.5 * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum())


def test_the_energy_distance_is_that_of_all_pairs():
    """Numbers of sequences and lengths differ; equal sequences count separately."""
    samples, reference = symbols_of((2, 3, 5), 0), symbols_of((2, 4, 7), 1, high=3)
    samples[1, 2] = samples[1, 0]
    found = energy_distance(samples, reference, 5)
    assert found.dtype == torch.float64
    expected = []
    for x, y in zip(samples, reference, strict=True):
        across = [hellinger_of(a, b, 5) for a in x for b in y]
        within = [
            [hellinger_of(z[i], z[j], 5) for i in range(len(z)) for j in range(len(z)) if i != j]
            for z in (x, y)
        ]
        expected.append(2 * np.mean(across) - np.mean(within[0]) - np.mean(within[1]))
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_the_energy_distance_of_equal_distributions_is_zero_on_average():
    """2,000 groups of 3 and 2 sequences, within 4 standard errors; many estimates are negative."""
    found = energy_distance(symbols_of((2000, 3, 6), 2), symbols_of((2000, 2, 6), 3), 4)
    assert abs(float(found.mean())) < 4 * float(found.std()) / 2000**0.5 < 0.03
    assert 0.2 < float((found < 0).double().mean()) < 0.8


def test_the_energy_distance_sees_more_than_pooled_frequencies():
    """Sequences of one symbol, and sequences of independent symbols; pooled they are alike.

    Two constant sequences of different symbols are at distance 1, a constant and a mixed one at
    sqrt(1 - sqrt(1/2)), and two mixed ones at 0.03 for this length.
    """
    alone, mixed = (
        symbols_of((1, 400, 1), 4, high=2).expand(1, 400, 200),
        symbols_of((1, 400, 200), 5, high=2),
    )
    assert float(hellinger_distance(alone.reshape(1, -1), mixed.reshape(1, -1), 2)) < 0.05
    expected = 2 * math.sqrt(1 - math.sqrt(0.5)) - 0.5 - 0.03
    assert float(energy_distance(alone, mixed, 2)) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 4), (1, 3, 4)), ((2, 1, 4), (2, 3, 4)), ((2, 3, 4), (2, 1, 4)), ((3, 4), (3, 4))],
)
def test_an_energy_distance_needs_groups_of_two(shapes):
    samples, reference = (torch.zeros(shape, dtype=torch.int64) for shape in shapes)
    with pytest.raises(
        ValueError,
        match=r"samples \[G, n, L\] and reference \[G, m, L\] with at least two .*, got \[",
    ):
        energy_distance(samples, reference, 3)


def test_outliers():
    samples = torch.tensor([[1, 1, 2, 5], [1, 5, 5, 2], [5, 5, 5, 5]])
    reference = torch.tensor([[1, 1], [5, 2], [1, 2]])
    assert outlier_share(samples, reference, 6).tolist() == [0.5, 0.25, 1]
    assert outlier_share(samples, reference, 6, ignored=5).tolist() == pytest.approx(
        [1 / 3, 1 / 2, 0]
    )


@pytest.mark.parametrize(
    "shapes", [((2, 4), (3, 4)), ((4,), (4,)), ((2, 0), (2, 4)), ((2, 4), (2, 0))]
)
def test_rows_that_do_not_belong_together(shapes):
    samples, reference = (torch.zeros(shape, dtype=torch.int64) for shape in shapes)
    for metric in (hellinger_distance, outlier_share):
        with pytest.raises(
            ValueError,
            match=r"expected samples \[B, L\] and reference \[B, M\] of as many rows, got \[",
        ):
            metric(samples, reference, 3)


def test_means_of_groups():
    found = group_means(torch.tensor([1.0, 2, 3, 8]), torch.tensor([7, 2, 7, 2]))
    assert found.dtype == torch.float64
    assert found.tolist() == [5, 2]


def test_the_bootstrap_interval_of_two_values():
    """The mean of two draws of 0 and 1 is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4."""
    values = torch.tensor([0.0, 1.0])
    wide, narrow = (
        bootstrap_interval(values, seeded(0), level, resamples=2000) for level in (0.95, 0.4)
    )
    assert (wide.mean, wide.low, wide.high, wide.level, wide.count) == (0.5, 0, 1, 0.95, 2)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    with pytest.raises(ValueError, match="an interval needs at least two values, got 1"):
        bootstrap_interval(values[:1], seeded(0))


def test_bootstrap_intervals_follow_the_exact_quantiles():
    """The mean of 10 resampled values, three of them 1, is binomial: its quantiles are known.

    The distribution is skewed, so that low and high cannot be confused.
    """
    values = torch.tensor([1.0] * 3 + [0] * 7)
    found = bootstrap_interval(values, seeded(1), 0.9, resamples=4000)
    assert (found.low, found.high) == tuple(stats.binom.ppf([0.05, 0.95], 10, 0.3) / 10)
    assert found.mean == pytest.approx(0.3)


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say():
    """90% intervals of 300 sets of 40 exponential numbers: 82% to 94% cover the mean."""
    sets = -torch.rand(300, 40, generator=seeded(2), dtype=torch.float64).log()
    intervals = [bootstrap_interval(values, seeded(3), 0.9, resamples=200) for values in sets]
    assert 0.82 < sum(each.low < 1 < each.high for each in intervals) / 300 < 0.94
