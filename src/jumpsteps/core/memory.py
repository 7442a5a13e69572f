"""What says that memory ran out: Python, NumPy, torch on a GPU, and torch on a CPU."""

import torch

__all__ = ["out_of_memory"]

CPU_ALLOCATOR = "DefaultCPUAllocator: "
"""In the RuntimeError, of no class of its own, that torch raises for the memory of a CPU."""


def out_of_memory(error: BaseException) -> str | None:
    """The reason in one line, if this error says that memory ran out; None for any other."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return reason
    _, found, said = reason.partition(CPU_ALLOCATOR)
    return said if found and isinstance(error, RuntimeError) else None
