r"""Tables of the uncertainty of sites by rank in an order, and sums over the ranks of steps.

Entropies (or -log p of data) H(x_j | first m) are known at some numbers m, [K, B, sites], zero
where rank j < m. They are interpolated between these numbers, and summed over the ranks that a step
reveals.
"""

import numpy as np
from numpy.typing import NDArray

from jumpsteps.core.information import Floats
from jumpsteps.search.costs.smoothing import smooth_logarithm

__all__ = ["pooled_over_ranks", "total_correlations"]

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


def total_correlations(
    entropy: Floats, counts: Counts, revealed: Counts, *, exchangeable: bool
) -> tuple[Floats, Floats]:
    """Each sequence's cost of every step on the grid, and every rank's H at its own turn.

    A step from m known sites costs the sum over its ranks j of H(x_j | first m) - H(x_j | first j).
    Where the grid skips numbers, the second H is that of the grid point before j.

    H(x_j | first m) is linear in m between two evaluations; ranks that are revealed before the next
    evaluation fall by ``entropy_slopes``.

    Args:
        entropy: [K, B, sites], with the first ``counts`` [K] sites known.
        revealed: the grid's numbers m of known sites, without the last, [G - 1].

    Returns:
        Costs [G, G, B] and H [B, sites].
    """
    slope = entropy_slopes(entropy, counts, exchangeable=exchangeable)
    batch, sites = entropy.shape[1:]
    ends, stops = np.append(counts, sites), np.append(revealed, sites)
    at = np.searchsorted(counts, revealed, side="right") - 1
    total, own = np.zeros((len(stops), len(stops), batch)), np.zeros((batch, sites))
    # From the last row to the first, so that the turns of later ranks are known.
    for i, (k, m) in reversed(list(enumerate(zip(at.tolist(), revealed.tolist(), strict=True)))):
        beyond, last = m - counts[k], min(k + 1, len(counts) - 1)
        share = beyond / (ends[k + 1] - ends[k])
        row = (1 - share) * entropy[k, :, m:] + share * entropy[last, :, m:]
        soon = slice(m, ends[k + 1])
        row[:, : ends[k + 1] - m] = entropy[k, :, soon] - beyond * slope[k][:, None]
        own[:, m : stops[i + 1]] = row[:, : stops[i + 1] - m]
        excess = (row - own[:, m:]).cumsum(-1)
        total[i, i + 1 :] = excess[:, stops[i + 1 :] - m - 1].T
    return total, own
