"""Metrics of tokens and intervals of their means, against numbers worked out by hand."""

import math

import pytest
import torch
from scipy import stats

from helpers import seeded
from jumpsteps.metrics import bootstrap_interval, group_means, hellinger, outlier_share


def test_hellinger_distances():
    """The same frequencies, other lengths; no symbol in common; (1/2, 1/2) against (1/4, 3/4)."""
    same = hellinger(torch.tensor([[0, 1, 1, 2]]), torch.tensor([[1, 2, 0, 1, 2, 1, 1, 0]]), 3)
    assert same.dtype == torch.float64
    assert same.tolist() == [0]
    samples = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    found = hellinger(samples, torch.tensor([[2, 3, 3, 3], [0, 1, 1, 1]]), 4)
    expected = math.sqrt(1 - (math.sqrt(0.5 * 0.25) + math.sqrt(0.5 * 0.75)))
    assert found.tolist() == pytest.approx([1, expected], abs=1e-12)


def test_outliers():
    samples = torch.tensor([[1, 1, 2, 5], [1, 5, 5, 2], [5, 5, 5, 5]])
    reference = torch.tensor([[1, 1], [5, 2], [1, 2]])
    assert outlier_share(samples, reference, 6).tolist() == [0.5, 0.25, 1]
    assert outlier_share(samples, reference, 6, ignored=5).tolist() == pytest.approx([1 / 3, 1 / 2, 0])


@pytest.mark.parametrize("shapes", [((2, 4), (3, 4)), ((4,), (4,)), ((2, 0), (2, 4)), ((2, 4), (2, 0))])
def test_rows_that_do_not_belong_together(shapes):
    samples, reference = (torch.zeros(shape, dtype=torch.int64) for shape in shapes)
    for metric in (hellinger, outlier_share):
        with pytest.raises(ValueError, match=r"expected samples \[B, L\] and reference \[B, M\] of as many rows, got \["):
            metric(samples, reference, 3)


def test_means_of_groups():
    found = group_means(torch.tensor([1.0, 2, 3, 8]), torch.tensor([7, 2, 7, 2]))
    assert found.dtype == torch.float64
    assert found.tolist() == [5, 2]


def test_the_bootstrap_interval_of_two_values():
    """The mean of two draws of 0 and 1 is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4."""
    values = torch.tensor([0.0, 1.0])
    wide, narrow = (bootstrap_interval(values, seeded(0), level, resamples=2000) for level in (0.95, 0.4))
    assert (wide.mean, wide.low, wide.high, wide.level, wide.count) == (0.5, 0, 1, 0.95, 2)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    with pytest.raises(ValueError, match="an interval needs at least two values, got 1"):
        bootstrap_interval(values[:1], seeded(0))


def test_bootstrap_intervals_follow_the_exact_quantiles():
    """Of 10 values 0 or 1, three of them 1, the mean is binomial: its quantiles are known. A skewed law tells low from high."""
    values = torch.tensor([1.0] * 3 + [0] * 7)
    found = bootstrap_interval(values, seeded(1), 0.9, resamples=4000)
    assert (found.low, found.high) == tuple(stats.binom.ppf([0.05, 0.95], 10, 0.3) / 10)
    assert found.mean == pytest.approx(0.3)


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say():
    """90% intervals of 300 sets of 40 exponential numbers: 82% to 94% cover the mean (intervals of so few are narrow)."""
    sets = -torch.rand(300, 40, generator=seeded(2), dtype=torch.float64).log()
    intervals = [bootstrap_interval(values, seeded(3), 0.9, resamples=200) for values in sets]
    assert 0.82 < sum(each.low < 1 < each.high for each in intervals) / 300 < 0.94
