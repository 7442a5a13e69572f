"""Local regression, against weighted least squares."""

import numpy as np
import pytest

from jumpsteps.search.costs.smoothing import local_plane


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
