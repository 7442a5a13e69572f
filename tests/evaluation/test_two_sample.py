"""The two-sample distance: without bias, with intervals that cover, also given observed sites."""

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.core.information import student_quantile
from jumpsteps.evaluation.agreement import pair_distance
from jumpsteps.evaluation.metrics import energy_distance
from jumpsteps.evaluation.two_sample import (
    Discrepancy,
    OrdinalSimilarity,
    difference,
    histogram_similarity,
    token_similarity,
    two_sample_distance,
)
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform

SYMBOLS, LENGTH = 3, 3
ORDINAL = OrdinalSimilarity(1.0)


def law(seed):
    """A random distribution of three sites."""
    forward = Uniform(vocab_size=SYMBOLS, noise=LogLinear())
    return Enumerable.random(forward, symbols=SYMBOLS, length=LENGTH, seed=seed, concentration=0.5)


DATA, FAR = law(0), law(2)
NEAR = Enumerable(DATA.forward, 0.7 * DATA.table + 0.3 * law(1).table)


def exact(first, second, similarity):
    """MMD^2 of two enumerated distributions."""
    gap = (first.table - second.table).flatten()
    return float(gap @ similarity(first.states, first.states) @ gap)


def measured(truth, n, data, generator, **options):
    samples = truth.sample_data(n, generator=generator)
    return Discrepancy.measure(samples, torch.arange(n) % len(data), data, **options)


def differences(first, second, similarity, rows, samples, repeats):
    found = []
    for seed in range(repeats):
        generator = seeded(seed)
        data = DATA.sample_data(rows, generator=generator)
        a, b = (
            measured(truth, samples, data, generator, similarity=similarity)
            for truth in (first, second)
        )
        found.append(difference(a, b))
    return found


@pytest.mark.parametrize("similarity", [token_similarity, ORDINAL], ids=["tokens", "ordinal"])
def test_differences_are_those_of_the_exact_mmd(similarity):
    """Also with several samples for each row of data, and with rows without a sample."""
    truth = exact(FAR, DATA, similarity) - exact(NEAR, DATA, similarity)
    for rows, samples in ((12, 30), (30, 12)):
        found = differences(FAR, NEAR, similarity, rows, samples, 150)
        mean = torch.tensor([one.mean for one in found])
        assert abs(float(mean.mean()) - truth) < 4 * float(mean.std()) / 150**0.5
        assert abs(float(mean.mean())) > 8 * float(mean.std()) / 150**0.5


def test_intervals_cover():
    """At 95%: between 91% and 99% of 300 runs, which a correct one leaves with probability 0.003.
    Equal distributions that are the data's have intervals that are too long.
    """
    truth = exact(FAR, DATA, token_similarity) - exact(NEAR, DATA, token_similarity)
    found = differences(FAR, NEAR, token_similarity, 32, 48, 300)
    assert 273 <= sum(one.low <= truth <= one.high for one in found) <= 297
    same = differences(DATA, DATA, token_similarity, 32, 48, 300)
    assert sum(one.low <= 0 <= one.high for one in same) >= 285
    with pytest.raises(ValueError, match="different data: 2 and 3 rows"):
        difference(Discrepancy(0.0, torch.zeros(2)), Discrepancy(0.0, torch.zeros(3)))


def test_without_a_row_is_the_distance_of_the_other_rows():
    """Also where rows have different numbers of samples."""
    data = DATA.sample_data(7, generator=seeded(0))
    rows = torch.arange(17) % 7
    samples = NEAR.sample_data(17, generator=seeded(1))
    whole = Discrepancy.measure(samples, rows, data)
    for row in range(7):
        kept, others = torch.arange(7) != row, rows != row
        left = Discrepancy.measure(samples[others], (kept.cumsum(0) - 1)[rows[others]], data[kept])
        assert float(whole.without[row]) == pytest.approx(left.value)


def test_given_tokens_the_distance_is_that_of_the_joint_distribution():
    """The first site is observed, and two samples share it: their rows are not compared with
    themselves, which would be biased.
    """
    joint = DATA.table.sum((1, 2), keepdim=True) * NEAR.table / NEAR.table.sum((1, 2), keepdim=True)
    p, q, k = joint.flatten(), DATA.table.flatten(), token_similarity(DATA.states, DATA.states)
    truth = float(p @ k @ p - 2 * p @ k @ q)
    values = []
    for seed in range(300):
        generator = seeded(seed)
        data = DATA.sample_data(6, generator=generator)
        rows = torch.arange(12) // 2
        drawn = NEAR.table[data[rows, 0]].flatten(1).multinomial(1, generator=generator)[:, 0]
        samples = torch.stack([data[rows, 0], drawn // SYMBOLS, drawn % SYMBOLS], 1)
        values.append(Discrepancy.measure(samples, rows, data).value)
    mean = torch.tensor(values)
    assert abs(float(mean.mean()) - truth) < 4 * float(mean.std()) / 300**0.5


def test_the_distance_is_the_pair_distance_without_the_term_of_the_data():
    """With one sample for each row, but for the pairs of a sample and its row's data."""
    x, y = (truth.sample_data(20, generator=seeded(3)) for truth in (NEAR, DATA))
    found = Discrepancy.measure(x, torch.arange(20), y)
    own, across = token_similarity(y, y), token_similarity(x, y)
    data = float(own.sum() - own.trace()) / (20 * 19)
    between = float(across.sum() - across.trace()) / (20 * 19)
    expected = pair_distance(x, y).mean + 2 * float(across.mean()) - 2 * between
    assert found.value + data == pytest.approx(expected)


@pytest.mark.parametrize("pairs", [2**24, 14 * 3], ids=["at once", "three symbols at a time"])
def test_histograms_have_the_energy_distance_of_the_metrics(pairs, monkeypatch):
    monkeypatch.setattr("jumpsteps.evaluation.two_sample.PAIRS", pairs)
    x, y = (torch.randint(0, 5, (n, 9), generator=seeded(n)) for n in (6, 8))
    for neighbours in (1, 2):

        def within(z, n=neighbours):
            k = histogram_similarity(z, z, neighbours=n)
            return float(k.sum() - k.trace()) / (len(z) * (len(z) - 1))

        across = float(histogram_similarity(x, y, neighbours=neighbours).mean())
        pairs = [z if neighbours == 1 else z[:, :-1] * 5 + z[:, 1:] for z in (x, y)]
        expected = float(energy_distance(pairs[0][None], pairs[1][None], 25))
        assert within(x) + within(y) - 2 * across == pytest.approx(expected)


def test_the_whole_distance_is_unbiased_and_covered():
    """The intervals are those of 95%: between 91% and 99% of 300 runs."""
    truth = exact(FAR, DATA, token_similarity)
    found = []
    for seed in range(300):
        generator = seeded(seed)
        x, y = (one.sample_data(n, generator=generator) for one, n in ((FAR, 24), (DATA, 36)))
        found.append(two_sample_distance(x, y))
    mean = torch.tensor([one.mean for one in found])
    assert abs(float(mean.mean()) - truth) < 4 * float(mean.std()) / 300**0.5
    assert 273 <= sum(one.low <= truth <= one.high for one in found) <= 297


def test_the_whole_distance_without_each_sequence():
    """The jackknife's variance, by leaving out samples and data one by one."""
    x, y = (one.sample_data(n, generator=seeded(n)) for one, n in ((FAR, 5), (DATA, 7)))
    found = two_sample_distance(x, y)
    variance = 0.0
    for z, without in ((x, lambda i: (i, y)), (y, lambda i: (x, i))):
        parts = [z[torch.arange(len(z)) != i] for i in range(len(z))]
        values = torch.tensor([two_sample_distance(*without(part)).mean for part in parts])
        variance += float(values.var(correction=0)) * (len(z) - 1)
    half = student_quantile(0.975, 4) * variance**0.5
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    with pytest.raises(ValueError, match="three sequences of data at least, got 5 and 2"):
        two_sample_distance(x, y[:2])


def test_too_few_samples_are_refused():
    data = torch.zeros(3, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="got those of 2; draw more samples"):
        Discrepancy.measure(data[:2], torch.arange(2), data)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        OrdinalSimilarity(0.0)
