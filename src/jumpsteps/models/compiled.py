"""Compiled networks have fixed shapes: a batch of another size is padded to one that was compiled."""

import torch
from torch import Tensor

__all__ = ["Sizes", "padded"]


class Sizes:
    """The shapes that a network was compiled for.

    A sampler that leaves finished sequences out asks for ever smaller batches. Each is padded to a compiled size if that is at most
    twice as large, so that a run compiles few times and computes at most twice what is needed.
    """

    def __init__(self) -> None:
        self.known: set[tuple[int, int]] = set()

    def of(self, batch: int, length: int) -> int:
        """The size to pad a batch of sequences of this length to; one that is new will be compiled."""
        fitting = [size for size, known in self.known if known == length and batch <= size <= 2 * batch]
        if fitting:
            return min(fitting)
        self.known.add((batch, length))
        return batch


def padded(x: Tensor, size: int) -> Tensor:
    """x [B, ...] with its first row repeated at the end, [size, ...]."""
    return x if len(x) == size else torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])
