r"""Tables of the uncertainty of sites by rank in an order, and sums over the ranks of steps.

Entropies (or -log p of data) H(x_j | first m) are known at some numbers m, [K, B, sites], zero
where rank j < m. They are interpolated between these numbers, and summed over the ranks that a step
reveals.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from jumpsteps.core.information import Floats
from jumpsteps.search.costs.smoothing import smooth_logarithm

__all__ = ["TotalCorrelations", "pooled_over_ranks"]

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


@dataclass(frozen=True)
class TotalCorrelations:
    """Each sequence's cost of every step on a grid of numbers of known sites, row by row.

    A step from m known sites costs the sum over its ranks j of H(x_j | first m) - H(x_j | first j).
    Where the grid skips numbers, the second H is that of the grid point before j.

    H(x_j | first m) is linear in m between two evaluations; ranks that are revealed before the next
    evaluation fall by ``entropy_slopes``.

    Attributes:
        entropy: [K, B, sites], with the first ``counts`` [K] sites known.
        counts: increasing from 0, [K].
        revealed: the grid's numbers m of known sites, without the last, [G - 1].
        exchangeable: whether the order is random.
    """

    entropy: Floats
    counts: Counts
    revealed: Counts
    exchangeable: bool

    def row(self, i: int) -> Floats:
        """Costs of the steps from the i-th grid point to each later one, [G - 1 - i, B]."""
        first, stops = int(self.revealed[i]), np.append(self.revealed[i + 1 :], self.sites)
        above = self.known(i, self.sites) - self.at_own_turn[:, first:]
        # In torch the rows are summed side by side; numpy's cumsum is slower, with the same sums.
        excess = torch.from_numpy(above).cumsum(-1).numpy()
        return np.ascontiguousarray(excess[:, stops - first - 1].T)

    @cached_property
    def at_own_turn(self) -> Floats:
        """Every rank's H at its own turn, [B, sites]."""
        stops = np.append(self.revealed[1:], self.sites).tolist()
        return np.concatenate([self.known(i, stop) for i, stop in enumerate(stops)], -1)

    def known(self, i: int, stop: int) -> Floats:
        """H(x_j | first m) of the ranks m <= j < stop, [B, stop - m]; m that of the grid point."""
        m = int(self.revealed[i])
        k = int(np.searchsorted(self.counts, m, side="right")) - 1
        beyond, last = m - self.counts[k], min(k + 1, len(self.counts) - 1)
        end = int(self.counts[k + 1]) if k < last else self.sites
        share = beyond / (end - self.counts[k])
        row: Floats = (1 - share) * self.entropy[k, :, m:stop]
        row += share * self.entropy[last, :, m:stop]
        soon = slice(m, min(end, stop))
        row[:, : soon.stop - m] = self.entropy[k, :, soon] - beyond * self.slopes[k][:, None]
        return row

    @property
    def sites(self) -> int:
        return self.entropy.shape[-1]

    @cached_property
    def slopes(self) -> Floats:
        """By how much the entropy falls per site revealed, [K, B]; see ``entropy_slopes``."""
        return entropy_slopes(self.entropy, self.counts, exchangeable=self.exchangeable)
