"""Intervals of rare events and of ratios, by how often they cover what they estimate."""

import math

import pytest
import torch
from scipy.stats import binomtest

from builders.statistics import seeded
from jumpsteps.evaluation.intervals import FEW, ratio_interval, share_interval
from jumpsteps.evaluation.metrics import Interval, mean_interval
from jumpsteps.evaluation.report import factor

PAIRS = 255
REPEATS = 2000


def rare(sets, samples, rate, clumping):
    """Shares of pairs that break a rule, [sets, samples], with ``rate`` of them in a sequence.

    Numbers are Poisson, or negative binomial: their variance is rate (1 + clumping rate).
    """
    generator, mean = seeded(0), torch.full((sets, samples), rate, dtype=torch.float64)
    if clumping:
        shape = torch.full_like(mean, 1 / clumping)
        mean = torch._standard_gamma(shape, generator=generator) * rate * clumping
    return torch.poisson(mean, generator=generator) / PAIRS


def share(values):
    return share_interval(values, 1 / PAIRS)


@pytest.mark.parametrize(
    ("samples", "rate", "clumping"), [(40, 0.2, 0), (40, 0.2, 2), (40, 0.05, 0), (256, 0.02, 3)]
)
def test_intervals_of_rare_events_cover_the_share(samples, rate, clumping):
    """Of 2,000 intervals of 95%, 91% to 98% cover the share; of normal ones at least 3% fewer."""
    sets = rare(REPEATS, samples, rate, clumping)
    covered, normal = (
        sum(found.low <= rate / PAIRS <= found.high for found in map(interval, sets)) / REPEATS
        for interval in (share, mean_interval)
    )
    assert 0.91 < covered < 0.98
    assert normal < covered - 0.03


def test_of_zeros_and_ones_it_is_wilsons():
    values = torch.zeros(64, dtype=torch.float64)
    values[:5] = 1
    found = share_interval(values)
    known = binomtest(5, 64).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    none = share_interval(torch.zeros(64))
    high = binomtest(0, 64).proportion_ci(method="wilson").high
    assert (none.mean, none.low, none.high) == (0, 0, pytest.approx(high))
    pairs = binomtest(0, 64 * PAIRS).proportion_ci(method="wilson")
    assert share_interval(torch.zeros(64), 1 / PAIRS).high == pytest.approx(pairs.high)


def test_values_that_are_much_alike_have_nearly_normal_intervals():
    values = 0.1 + 0.02 * torch.rand(16, generator=seeded(0), dtype=torch.float64)
    found, normal = share_interval(values), mean_interval(values)
    assert (found.low, found.high) == pytest.approx((normal.low, normal.high), rel=0.01)


def test_other_values_have_normal_intervals():
    some = torch.tensor([0.0, 0.0, 0.5, 3.0])
    for values in (torch.rand(FEW + 1), torch.rand(9) + 1, -torch.rand(9), some):
        assert share_interval(values) == mean_interval(values)
    with pytest.raises(ValueError, match="at least two values"):
        share_interval(torch.zeros(1))


@pytest.mark.parametrize("rates", [(20.0, 0.3), (20.0, 2.0), (2.0, 3.0)])
def test_intervals_of_ratios_cover_the_ratio(rates):
    top, bottom = (rare(REPEATS, 40, rate, 1) for rate in rates)
    found = [ratio_interval(share(a), share(b)) for a, b in zip(top, bottom.flip(0), strict=True)]
    true = rates[0] / rates[1]
    assert 0.93 < sum(one.low <= true <= one.high for one in found) / REPEATS < 0.98


def test_ratios_of_zero_and_over_zero():
    zero, some = Interval(0.0, 0.0, 0.1, 0.95, 40), Interval(0.4, 0.3, 0.5, 0.95, 20)
    over = ratio_interval(some, zero)
    assert (over.mean, over.high, over.count) == (math.inf, math.inf, 20)
    assert over.low == pytest.approx(math.sqrt(0.3 * (0.8 - 0.3)) / 0.1)
    under = ratio_interval(zero, some)
    assert (under.mean, under.low) == (0, 0)
    assert under.high == pytest.approx(0.1 / math.sqrt(0.3 * (0.8 - 0.3)))
    wide = Interval(0.1, 0.0, 0.3, 0.95, 40)
    assert ratio_interval(some, wide).high == math.inf
    assert 0 < ratio_interval(some, wide).low < 4
    with pytest.raises(ValueError, match="two means that are zero"):
        ratio_interval(zero, zero)
    with pytest.raises(ValueError, match=r"intervals of one level .* 0\.95 and 0\.9"):
        ratio_interval(some, Interval(0.4, 0.3, 0.5, 0.9, 20))


def test_ratios_in_words():
    some, wide = Interval(0.4, 0.3, 0.5, 0.95, 20), Interval(0.1, 0.0, 0.3, 0.95, 40)
    assert factor(Interval(57.6, 40.1, 90.2, 0.95, 9)) == "57.6 (40.1 to 90.2)"
    assert factor(ratio_interval(some, wide)).startswith("4 (more than 1")
    zero = Interval(0.0, 0.0, 0.1, 0.95, 40)
    assert factor(ratio_interval(some, zero)) == "more than 3.87"
