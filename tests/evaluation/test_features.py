"""The Frechet distance against its closed form, precision and recall of known sets."""

import numpy as np
import pytest
import torch

from builders.statistics import seeded
from jumpsteps.evaluation.features import (
    Moments,
    extract,
    frechet_distance,
    precision_recall,
)


def rotation(size, seed):
    return torch.linalg.qr(torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)).Q


def test_gaussians_with_common_axes():
    """With covariances of common eigenvectors: |m|^2 + sum (sqrt a - sqrt b)^2."""
    axes = rotation(5, 0)
    a, b = (torch.rand(5, generator=seeded(i), dtype=torch.float64) + 0.1 for i in (1, 2))
    shift = torch.tensor([1.0, 0, -2, 0, 0.5], dtype=torch.float64)
    first = Moments(torch.zeros(5, dtype=torch.float64), axes * a @ axes.T)
    second = Moments(shift, axes * b @ axes.T)
    exact = float(shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-10)
    assert frechet_distance(second, first) == pytest.approx(exact, rel=1e-10)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-10)


def test_covariances_that_do_not_commute():
    """In two dimensions tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det A det B))."""
    first, second = (
        Moments(torch.zeros(2, dtype=torch.float64), r * torch.tensor([1.0, 9.0]).double() @ r.T)
        for r in (rotation(2, 3), rotation(2, 4))
    )
    product = first.covariance @ second.covariance
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    exact = float(first.covariance.trace() + second.covariance.trace() - 2 * root)
    assert exact > 0.1
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-9)


def test_a_singular_covariance():
    flat = torch.zeros(4, 3, dtype=torch.float64)
    flat[:, 0] = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    moved = flat + torch.tensor([0.0, 2.0, 0.0])
    assert frechet_distance(flat, moved) == pytest.approx(4.0)


def test_features_of_low_rank_have_no_root_of_a_negative_number():
    """Four points in 20 dimensions: by the eigenvalues of the product of both factors, 4 x 4."""
    x, y = (torch.randn(4, 20, generator=seeded(i), dtype=torch.float64) for i in (8, 9))
    a, b = (z - z.mean(0) for z in (x, y))
    roots = torch.linalg.svdvals(a @ b.T).sum()
    squares = a.square().sum() + b.square().sum() - 2 * roots
    exact = float((x.mean(0) - y.mean(0)).square().sum() + squares / 3)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-6)


def test_samples_approach_the_closed_form():
    """|m|^2 + D (s - 1)^2 = 0.5 + 4 x 0.25; the bias of 20,000 samples is below 0.01."""
    first = torch.randn(20_000, 4, generator=seeded(5), dtype=torch.float64)
    second = 0.5 * torch.randn(20_000, 4, generator=seeded(6), dtype=torch.float64)
    second[:, :2] += 0.5
    assert frechet_distance(first, second) == pytest.approx(1.5, abs=0.05)


def test_precision_and_recall_of_known_sets():
    grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    far = grid + torch.tensor([100.0, 0.0])
    same = precision_recall(grid, grid)
    assert (same.precision, same.recall) == (1.0, 1.0)
    none = precision_recall(grid, far)
    assert (none.precision, none.recall) == (0.0, 0.0)
    both = torch.cat([grid, far])  # All of the data, and as many samples that are no data.
    half = precision_recall(grid, both)
    assert (half.precision, half.recall) == (0.5, 1.0)
    left = grid[grid[:, 0] < 4]  # The balls around the left half reach one or two columns more.
    part = precision_recall(grid, left)
    assert part.precision == 1.0
    assert 0.5 < part.recall < 0.9


def test_moments_are_those_of_numpy():
    features = torch.randn(5, 3, generator=seeded(7), dtype=torch.float64)
    found = Moments.of(features)
    np.testing.assert_allclose(found.mean, features.numpy().mean(0), atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.numpy().T), atol=1e-12)


@pytest.mark.parametrize(("neighbours", "covered"), [(1, 3), (2, 4), (3, 5)])
def test_balls_reach_the_neighbour_of_that_number(neighbours, covered):
    """On a line, at 0, 1, 3 and 7: radii 1, 1, 2, 4, then 3, 2, 3, 6, then 7, 6, 4, 7."""
    data = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    samples = torch.tensor([[-0.5], [4.5], [10.9], [12.9], [13.9], [14.1]])
    found = precision_recall(data, samples, neighbours=neighbours)
    assert found.precision == pytest.approx(covered / 6)


def test_features_in_batches():
    samples = torch.randint(9, (7, 4), generator=seeded(0))
    features = extract(lambda x: x[:, :2].float() / 2, samples, batch=3)
    assert torch.equal(features, samples[:, :2].double() / 2)


def test_features_that_cannot_be_compared():
    good = torch.randn(6, 3, generator=seeded(0))
    with pytest.raises(ValueError, match=r"must be \[n, D\] of n >= 2 samples, got shape \[1, 3\]"):
        frechet_distance(good[:1], good)
    with pytest.raises(ValueError, match="3 and 2 components; use one extractor"):
        frechet_distance(good, good[:, :2])
    with pytest.raises(ValueError, match="not all finite"):
        frechet_distance(good, good * torch.nan)
    with pytest.raises(ValueError, match="3 samples have no neighbour number 3"):
        precision_recall(good, good[:3])
