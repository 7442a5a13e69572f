"""Selected sites: a mask, bool [B, L], and what stands at them.

Finding out which sites a mask selects makes the CPU wait for a GPU, and a step asks several times for the same mask; the answer is
kept for the mask that was asked for last.
"""

import weakref

import torch
from torch import Tensor

__all__ = ["rows_of", "selected", "sites_of"]


class Last:
    """The mask that was asked for last, while it lives and is not written to."""

    def __init__(self) -> None:
        self.mask: weakref.ref[Tensor] | None = None
        self.version = 0
        self.sites = torch.empty(0, dtype=torch.int64)

    def of(self, where: Tensor) -> Tensor:
        if where.is_inference():
            return where.flatten().nonzero()[:, 0]
        if self.mask is None or self.mask() is not where or self.version != where._version:
            self.sites = where.flatten().nonzero()[:, 0]
            self.mask, self.version = weakref.ref(where), where._version
        return self.sites


last = Last()


def sites_of(where: Tensor) -> Tensor:
    """The selected sites of the flattened mask, in order, int64 [K]."""
    return last.of(where)


def rows_of(where: Tensor) -> Tensor:
    """The sequence that each selected site is in, int64 [K]."""
    return sites_of(where) // where.shape[1]


def selected(x: Tensor, where: Tensor | None) -> Tensor:
    """x [B, L, ...] at the selected sites, [K, ...]; x itself without a mask."""
    return x if where is None else x.flatten(0, 1)[sites_of(where)]
