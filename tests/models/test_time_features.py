"""Time as a network input."""

import math

import pytest
import torch

from jumpsteps.models.networks.time_features import time_features, time_tensor

CPU = torch.device("cpu")


def test_times_are_float32_of_one_dimension() -> None:
    """A number, a time for all sequences, and one for each."""
    each = torch.tensor([0.25, 1.0], dtype=torch.float64)
    for t, expected in ((0.25, [0.25]), (each[0], [0.25]), (each, [0.25, 1.0])):
        found = time_tensor(t, CPU)
        assert found.dtype == torch.float32
        assert found.tolist() == expected


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_time_reaches_a_gpu_without_a_wait() -> None:
    times = (0.25, torch.tensor(0.25), torch.tensor([0.25, 1.0], dtype=torch.float64))
    torch.zeros(1, device="cuda")
    try:
        torch.cuda.set_sync_debug_mode("error")
        found = [time_tensor(t, torch.device("cuda")) for t in times]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for sent, t in zip(found, times, strict=True):
        assert torch.equal(sent.cpu(), time_tensor(t, CPU))


@pytest.mark.parametrize("dim", [4, 5, 8, 9])
def test_sines_then_cosines_of_frequencies_down_to_a_ten_thousandth(dim: int) -> None:
    times, half = [0.3, 70.0], dim // 2
    found = time_features(torch.tensor(times), dim)
    assert (found.shape, found.dtype) == ((2, dim), torch.float32)
    for row, t in zip(found, times, strict=True):
        angles = [t * 10_000 ** (-i / (half - 1)) for i in range(half)]
        expected = [*map(math.sin, angles), *map(math.cos, angles), *[0.0] * (dim % 2)]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)
