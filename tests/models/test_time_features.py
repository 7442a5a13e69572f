"""Features of the time, term by term."""

import math

import pytest
import torch

from jumpsteps.models.networks.time_features import time_features


@pytest.mark.parametrize("dim", [4, 5, 8, 9])
def test_sines_then_cosines_of_frequencies_down_to_a_ten_thousandth(dim: int) -> None:
    times, half = [0.3, 70.0], dim // 2
    found = time_features(torch.tensor(times), dim)
    assert (found.shape, found.dtype) == ((2, dim), torch.float32)
    for row, t in zip(found, times, strict=True):
        angles = [t * 10_000 ** (-i / (half - 1)) for i in range(half)]
        expected = [*map(math.sin, angles), *map(math.cos, angles), *[0.0] * (dim % 2)]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)
