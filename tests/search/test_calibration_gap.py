"""The smoothed calibration gap, against lines fitted point by point."""

import numpy as np
import pytest
import torch

from jumpsteps.search.costs.calibration_gap import smoothed_gap
from jumpsteps.search.costs.smoothing import local_line

COUNTS = np.array([0, 1, 2, 5, 8, 9])
SITES, SEQUENCES = 11, 7


@pytest.mark.parametrize("exchangeable", [True, False])
@pytest.mark.parametrize("bandwidth", [0.0, 0.4, 2.0])
def test_lines_over_distances_then_over_evaluations_then_shrinkage(exchangeable, bandwidth):
    rng = np.random.default_rng(0)
    distance = np.arange(SITES)
    # By distance, with NaN where no rank is left: [K, B, sites].
    values = 1 + rng.standard_normal((len(COUNTS), SEQUENCES, SITES))
    left = distance < SITES - COUNTS[:, None, None]
    values = np.where(left, values, np.nan)
    gap = np.zeros_like(values)
    for k, m in enumerate(COUNTS):
        gap[k, :, m:] = values[k, :, : SITES - m]
    if bandwidth:
        for k, m in enumerate(COUNTS):
            n = SITES - m
            if n >= 3 and not exchangeable:
                at = np.log(distance[:n] + 1)
                values[k, :, :n] = values[k, :, :n] @ local_line(at, at, 0.5 * np.log(2)).T
        for d in distance:
            n = int((d < SITES - COUNTS).sum())
            at = np.arange(n, dtype=np.float64)
            if n >= 2:
                values[:n, :, d] = local_line(at, at, 3 * bandwidth) @ values[:n, :, d]
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(SEQUENCES)
    shrunk = mean * np.maximum(1 - (2 * error / mean) ** 2, 0)
    smooth = smoothed_gap(torch.from_numpy(gap), COUNTS, bandwidth, exchangeable=exchangeable)
    found = smooth.numpy()
    assert found.shape == (len(COUNTS), 1, SITES)
    for k, m in enumerate(COUNTS):
        assert found[k, 0, m:] == pytest.approx(shrunk[k, : SITES - m], abs=1e-10)
        assert (found[k, 0, :m] == 0).all()
    assert (found > 0.1).sum() > 10
