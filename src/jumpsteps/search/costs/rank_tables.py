r"""Tables of the uncertainty of sites by rank in an order, and sums over the ranks of steps.

Entropies (or -log p of data) H(x_j | first m) are known at some numbers m, [K, B, sites], zero
where rank j < m. They are interpolated between these numbers, and summed over the ranks that a step
reveals.
"""

import numpy as np
from numpy.typing import NDArray

from jumpsteps.core.information import Floats
from jumpsteps.search.costs.smoothing import smooth_logarithm

__all__ = ["at_own_turn", "interpolated", "pooled_over_ranks", "total_correlations"]

Counts = NDArray[np.int64]


def pooled_over_ranks(entropy: Floats, counts: Counts, bandwidth: float) -> Floats:
    """Entropies [K, B, sites] of a random order: the mean over all masked ranks for each of them.

    The ranks have the same distribution there. The means are smoothed over the K evaluations.
    """
    masked = np.arange(entropy.shape[-1]) >= counts[:, None, None]
    each = entropy.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True)
    mean = each.mean((1, 2))
    if bandwidth > 0:
        at = np.arange(len(mean), dtype=np.float64)
        factor = smooth_logarithm(mean, bandwidth, at, at) / np.where(mean > 0, mean, 1.0)
        each = each * factor[:, None, None]
    return np.where(masked, each, 0.0)


def entropy_slopes(entropy: Floats, counts: Counts, *, exchangeable: bool) -> Floats:
    """By how much H(x_j | first m) falls per site revealed, [K, B].

    It is for ranks j between the k-th count and the next, which the next evaluation no longer
    shows. Two neighbours estimate it: the entropies of the ranks behind, from this evaluation to
    the next, and those of the same ranks, from the evaluation before to this one. A random order
    takes the mean of both. Others take the lesser, because an order with levels (spread) has steep
    falls from one level to the next and none within.
    """
    ahead, behind = np.full(entropy.shape[:2], np.inf), np.full(entropy.shape[:2], np.inf)
    ends = np.append(counts, entropy.shape[-1])
    for k in range(len(counts) - 1):
        later = slice(ends[k + 1], ends[k + 2])
        fall = (entropy[k, :, later] - entropy[k + 1, :, later]).mean(-1) / (ends[k + 1] - ends[k])
        ahead[k], behind[k + 1] = fall, fall
    lesser = np.where(ahead.mean(-1, keepdims=True) < behind.mean(-1, keepdims=True), ahead, behind)
    both = np.isfinite(ahead) & np.isfinite(behind)
    fall = np.where(both, 0.5 * (ahead + behind), lesser) if exchangeable else lesser
    return np.where(np.isfinite(fall), fall, 0.0)


def interpolated(
    entropy: Floats, counts: Counts, revealed: Counts, *, exchangeable: bool
) -> Floats:
    """H(x_j | first m) for m in ``revealed`` [G] and all ranks j, [G, B, sites].

    Linear in m between two evaluations; ranks that are revealed before the next evaluation fall
    by ``entropy_slopes``. Entries with j < m have no meaning.
    """
    slope = entropy_slopes(entropy, counts, exchangeable=exchangeable)
    ends = np.append(counts, entropy.shape[-1])
    at = np.searchsorted(counts, revealed, side="right") - 1
    table = np.empty((len(revealed), *entropy.shape[1:]))
    for row, k, m in zip(table, at.tolist(), revealed.tolist(), strict=True):  # In cache, one each.
        beyond, last = m - counts[k], min(k + 1, len(counts) - 1)
        share = beyond / (ends[k + 1] - ends[k])
        row[:] = (1 - share) * entropy[k] + share * entropy[last]
        soon = slice(ends[k + 1])
        row[:, soon] = entropy[k][:, soon] - beyond * slope[k][:, None]
    return table


def total_correlations(table: Floats, revealed: Counts) -> Floats:
    """Each sequence's cost of every step on the grid, [G, G, B], from entropies [G - 1, B, sites].

    The sum over the step's ranks j of H(x_j | first m) - H(x_j | first j). Where the grid skips
    numbers, the second entropy is that of the grid point before j.
    """
    own, ends = at_own_turn(table, revealed), np.append(revealed, table.shape[-1])
    total = np.zeros((len(ends), len(ends), len(own)))
    for row, sums, m in zip(table, total[:-1], revealed.tolist(), strict=True):
        excess = row[:, m:] - own[:, m:]
        later = ends > m
        sums[later] = excess.cumsum(-1)[:, ends[later] - m - 1].T
    return total


def at_own_turn(table: Floats, revealed: Counts) -> Floats:
    """The entries of [G - 1, B, sites] at each rank's own turn, the grid point before it,
    [B, sites].
    """
    ranks = np.arange(table.shape[-1])
    turn = np.searchsorted(revealed, ranks, side="right") - 1
    return table[turn, :, ranks].T
