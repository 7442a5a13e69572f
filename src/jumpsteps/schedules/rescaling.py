"""Counts for another number of sites: the steps keep their shares, or their shares of a block."""

import math
from collections.abc import Sequence
from itertools import accumulate

from jumpsteps.schedules.conversion import counts_between

__all__ = ["blocks_of", "rescaled_counts", "rescaled_counts_in_blocks"]


def rescaled_counts(counts: Sequence[int], sites: int) -> tuple[int, ...]:
    """The counts for so many sites: each step keeps its share, as far as counts are whole numbers.

    The numbers of sites that are left after each step are scaled and rounded (a half up); no step
    reveals nothing. Where there are fewer sites than steps, each of them has a step of its own.
    """
    if sites <= len(counts):
        return (1,) * sites
    total = sum(counts)
    left = [total - done for done in accumulate(counts, initial=0)]
    return tuple(counts_between([(2 * sites * n + total) // (2 * total) for n in left]))


def blocks_of(counts: Sequence[int], size: int) -> list[tuple[int, ...]] | None:
    """The counts of each block of ``size`` sites, the last of what is left; None where a step
    crosses from one block into the next.
    """
    ends = list(accumulate(counts))
    if not {*range(size, ends[-1], size)} <= set(ends):
        return None
    blocks: list[list[int]] = [[] for _ in range(math.ceil(ends[-1] / size))]
    for count, end in zip(counts, ends, strict=True):
        blocks[(end - 1) // size].append(count)
    return [tuple(block) for block in blocks]


def rescaled_counts_in_blocks(
    blocks: Sequence[tuple[int, ...]], size: int, sites: int
) -> list[tuple[int, ...]]:
    """The counts of each block for so many sites, in blocks of ``size`` and one of what is left.

    A block keeps its counts. Blocks that are new have those of the last full one, and a block of
    fewer sites is rescaled.
    """
    last_full = next((block for block in reversed(blocks) if sum(block) == size), blocks[0])
    found = []
    for first in range(0, sites, size):
        wanted = min(size, sites - first)
        known = blocks[first // size] if first // size < len(blocks) else last_full
        known = last_full if sum(known) < wanted else known
        found.append(known if sum(known) == wanted else rescaled_counts(known, wanted))
    return found
