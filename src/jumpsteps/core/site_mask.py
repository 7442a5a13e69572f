"""Selected sites: a mask, bool [B, L], and what stands at them.

Finding out which sites a mask selects makes the CPU wait for a GPU, and a step asks several times for the same mask; the answer is
kept for the mask that was asked for last.
"""

import weakref

from torch import Tensor

__all__ = ["rows_of", "selected", "sites_of"]


last: tuple[weakref.ref[Tensor], int, Tensor] | None = None
"""The mask that was asked for last, how often it had been written to, and its sites; replaced as a whole, so that threads which
sample at the same time never see one mask with the sites of another."""


def sites_of(where: Tensor) -> Tensor:
    """The selected sites of the flattened mask, in order, int64 [K]."""
    global last
    known = last
    if where.is_inference():  # Such tensors do not count how often they are written to.
        return where.flatten().nonzero()[:, 0]
    if known is not None and known[0]() is where and known[1] == where._version:
        return known[2]
    sites = where.flatten().nonzero()[:, 0]
    last = weakref.ref(where), where._version, sites
    return sites


def rows_of(where: Tensor) -> Tensor:
    """The sequence that each selected site is in, int64 [K]."""
    return sites_of(where) // where.shape[1]


def selected(x: Tensor, where: Tensor | None) -> Tensor:
    """x [B, L, ...] at the selected sites, [K, ...]; x itself without a mask."""
    return x if where is None else x.flatten(0, 1)[sites_of(where)]
