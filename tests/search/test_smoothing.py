"""Local regression, against weighted least squares."""

import numpy as np
import pytest
import torch

from jumpsteps.search.costs.smoothing import (
    local_line,
    local_lines,
    local_plane,
    smooth_logarithm,
)


@pytest.mark.parametrize("n", [3, 7, 20])
def test_a_local_plane_is_the_weighted_least_squares_fit_around_every_pair(n: int) -> None:
    rng = np.random.default_rng(n)
    at, (i, j) = np.sort(rng.random(n)), np.triu_indices(n, 1)
    values = rng.standard_normal(len(i))
    fitted = local_plane((i, j), values, at, 1.5)
    for p in range(len(i)):
        root = np.exp(-0.25 * ((i - i[p]) ** 2 + (j - j[p]) ** 2) / 1.5**2)
        design = np.stack([np.ones(len(i)), at[i] - at[i[p]], at[j] - at[j[p]]], 1)
        best, *_ = np.linalg.lstsq(root[:, None] * design, root * values, rcond=None)
        if len(i) > 3:
            assert abs(fitted[p] - best[0]) < 1e-4
    plane = 2 + 3 * at[i] - at[j]
    assert np.allclose(local_plane((i, j), plane, at, 1.5), plane, atol=1e-6)


def test_values_near_zero_are_raised_to_a_thousandth_of_the_largest() -> None:
    at = np.arange(4.0)
    narrow = smooth_logarithm(np.array([8.0, 0.0, 1e-9, 2.0]), 0.1, at, at)
    assert narrow == pytest.approx([8.0, 8e-3, 8e-3, 2.0])
    assert smooth_logarithm(np.zeros(4), 1.0, at, at[:2]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bandwidth", [0.05, 0.35, 3.0])
@pytest.mark.parametrize("points", [3, 11, 400])
def test_lines_through_the_first_points_as_products_of_two_matrices(
    points: int, bandwidth: float
) -> None:
    """The same as from weights point by point, and a straight line stays as it is."""
    at = 0.2 * np.arange(points) ** 0.6
    sizes = sorted({3, (points + 3) // 2, points})
    products = local_lines(torch.from_numpy(at), bandwidth, sizes)
    for n, (left, right) in zip(sizes, products, strict=True):
        fit, waves = left.numpy(), right.numpy()
        line = local_line(at[:n], at[:n], bandwidth)
        assert np.abs(fit @ waves - line).max() < 1e-11
        assert np.abs(fit @ (waves @ (2 - 3 * at[:n])) - (2 - 3 * at[:n])).max() < 1e-10
