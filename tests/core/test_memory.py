"""Errors that say that memory ran out are told from others."""

import pytest
import torch

from jumpsteps.core.memory import out_of_memory


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("Unable to allocate 1.16 TiB"), "Unable to allocate 1.16 TiB"),
        (MemoryError(), "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 2 GiB"), "CUDA out of memory."),
        (RuntimeError("shapes differ"), None),
        (RuntimeError(), None),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), None),
    ],
)
def test_the_reason_is_one_line(error, reason):
    assert out_of_memory(error) == reason


def test_what_torch_raises_on_a_cpu_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert f"you tried to allocate {2**60} bytes" in out_of_memory(caught.value)
