"""Agreement of sequences: the pair distance is that of all pair frequencies, without bias."""

from statistics import NormalDist

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.evaluation.agreement import agreement, hamming_distance, pair_distance


def pair_frequencies(x, symbols):
    """[L, L, V, V]: how often a stands at l and b at l'."""
    hot = torch.nn.functional.one_hot(x, symbols).double()
    return torch.einsum("nla,nmb->lmab", hot, hot) / len(x)


def test_agreement_and_hamming_distance():
    x = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 0], [3, 3, 3, 3]])
    assert agreement(x, x).tolist() == [[1, 0.5, 0.25], [0.5, 1, 0], [0.25, 0, 1]]
    assert hamming_distance(x) == pytest.approx(1 - 0.25)
    with pytest.raises(ValueError, match="have 4 and 3 sites"):
        agreement(x, x[:, :3])
    with pytest.raises(ValueError, match="at least two sequences"):
        hamming_distance(x[:1])


def test_the_pair_distance_is_the_squared_distance_of_pair_frequencies():
    x, y = (torch.randint(0, 3, (n, 4), generator=seeded(n)) for n in (7, 5))
    a, b = agreement(x, x).square(), agreement(y, y).square()
    # With the diagonals, which make it biased, the statistic is the distance itself.
    biased = a.mean() + b.mean() - 2 * agreement(x, y).square().mean()
    expected = (pair_frequencies(x, 3) - pair_frequencies(y, 3)).square().sum() / 16
    torch.testing.assert_close(biased, expected)
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (a, b)]
    unbiased = float(within[0] + within[1] - 2 * agreement(x, y).square().mean())
    assert pair_distance(x, y).mean == pytest.approx(unbiased)
    with pytest.raises(ValueError, match="two sequences of each"):
        pair_distance(x, y[:1])


def test_its_interval_is_that_of_the_linear_part():
    """With pair indicators f, twice <f(x_i), mean of the other x - mean of y>, and y's alike."""
    x, y = (torch.randint(0, 3, (n, 4), generator=seeded(n)) for n in (9, 6))
    pairs = [
        torch.stack([pair_frequencies(row[None], 3).flatten() for row in z]) / 4 for z in (x, y)
    ]
    variance = 0.0
    for f, g in (pairs, pairs[::-1]):
        others = (f.sum(0) - f) / (len(f) - 1)
        parts = 2 * (f * (others - g.mean(0))).sum(-1)
        variance += float(parts.var()) / len(f)
    found = pair_distance(x, y, level=0.9)
    half = NormalDist().inv_cdf(0.95) * variance**0.5
    assert found.high - found.mean == pytest.approx(half)
    assert found.mean - found.low == pytest.approx(half)


def test_its_interval_covers_the_truth():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])

    def draw(probs, seed):
        return probs.multinomial(3 * 40, replacement=True, generator=seeded(seed)).reshape(40, 3)

    both = torch.stack([torch.outer(r, r) for r in (p, q)])
    true = ((both[0] - both[1]).square().sum() * 6 + (p - q).square().sum() * 3) / 9
    found = [pair_distance(draw(p, 2 * i), draw(q, 2 * i + 1)) for i in range(300)]
    covered = sum(one.low <= float(true) <= one.high for one in found)
    assert 265 <= covered <= 298
    mean = torch.tensor([one.mean for one in found])
    assert abs(float(mean.mean() - true)) < 4 * float(mean.std()) / 300**0.5
