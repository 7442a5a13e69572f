"""MAUVE of shares by hand, and of samples of equal and different distributions."""

import math
from itertools import pairwise

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.evaluation.mauve import clusters, frontier_area, mauve, multinomial_shares


def area(p: float, q: float, c: float = 5.0) -> float:
    """The area for shares (p, 1 - p) and (q, 1 - q), by a fine sum."""

    def kl(a: float, r: float) -> float:
        return sum(x * math.log(x / y) for x, y in ((a, r), (1 - a, 1 - r)) if x > 0)

    points = [(1.0, 0.0)]
    for i in range(1, 4000):
        r = i / 4000 * p + (1 - i / 4000) * q
        points.append((math.exp(-c * kl(q, r)), math.exp(-c * kl(p, r))))
    points.append((0.0, 1.0))
    return sum((a - b) * (u + v) / 2 for (a, u), (b, v) in pairwise(points))


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.3), (0.3, 0.5), (0.9, 0.2), (1.0, 0.5)])
def test_the_area_of_two_clusters(p: float, q: float) -> None:
    found = frontier_area(*(torch.tensor([x, 1 - x], dtype=torch.float64) for x in (p, q)))
    assert float(found) == pytest.approx(area(p, q), abs=2e-4)
    assert (p == q) == (float(found) == pytest.approx(1.0))


def test_nothing_in_common_has_a_small_area() -> None:
    p, q = torch.eye(2, dtype=torch.float64)
    # exp(-5 KL) = (1 - w)^5 and w^5: the area below that curve is 1 / B, B = binom(10, 5).
    assert float(frontier_area(p, q)) == pytest.approx(1 / math.comb(10, 5), abs=2e-4)


def test_clusters_find_what_is_far_apart() -> None:
    centres = 20 * torch.eye(4)
    truth = torch.arange(4).repeat(25)
    x = centres[truth] + torch.randn(100, 4, generator=seeded(0))
    labels = clusters(x, 4, generator=seeded(1))
    assert len({(int(a), int(b)) for a, b in zip(truth, labels, strict=True)}) == 4


def test_mauve_tells_equal_from_shifted() -> None:
    def normal(seed: int, shift: float) -> torch.Tensor:
        return torch.randn(500, 3, generator=seeded(seed)) + shift

    equal = mauve(normal(0, 0.0), normal(1, 0.0), generator=seeded(2), count=10)
    near = mauve(normal(0, 0.5), normal(1, 0.0), generator=seeded(2), count=10)
    far = mauve(normal(0, 3.0), normal(1, 0.0), generator=seeded(2), count=10)
    assert equal.mean > 0.95 > near.mean > 0.3 > far.mean
    assert near.low < near.mean < near.high + 0.02
    assert near.high - near.low < 0.3


def test_shares_of_draws_are_multinomial() -> None:
    """They add up to one; mean and variance of 500 sets of 40 draws, within 5 standard errors."""
    p = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    found = multinomial_shares(p, 40, seeded(0))
    assert torch.allclose(found.sum(-1), torch.ones(500, dtype=torch.float64))
    assert (found[:, 3] == 0).all()
    variance = p * (1 - p) / 40
    assert ((found.mean(0) - p).abs() <= 5 * (variance / 500).sqrt()).all()
    assert torch.allclose(found.var(0), variance, rtol=5 * (2 / 500) ** 0.5)


def test_features_of_two_evaluators_are_refused() -> None:
    with pytest.raises(ValueError, match="features have 3 and 4 components; use one evaluator"):
        mauve(torch.zeros(5, 3), torch.zeros(5, 4), generator=seeded(0))
