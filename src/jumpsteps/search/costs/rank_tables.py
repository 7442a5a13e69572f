r"""Tables of the uncertainty of sites by rank in an order, and sums over the ranks of steps.

Entropies (or -log p of data) H(x_j | first m) are known at some numbers m, [K, B, sites], zero
where rank j < m. They are interpolated between these numbers, and summed over the ranks that a step
reveals.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.information import Floats
from jumpsteps.core.tensors import sent
from jumpsteps.search.costs.smoothing import smooth_logarithm

__all__ = ["TotalCorrelations", "mean_over_ranks", "pooled_over_ranks"]

Counts = NDArray[np.int64]


def mean_over_ranks(values: Tensor, counts: Counts) -> Tensor:
    """Values [K, B, sites] of a random order: the mean over all masked ranks for each of them."""
    known = sent(torch.from_numpy(counts), values.device)
    masked = torch.arange(values.shape[-1], device=values.device) >= known[:, None, None]
    return torch.where(masked, values.sum(-1, keepdim=True) / masked.sum(-1, keepdim=True), 0.0)


def pooled_over_ranks(entropy: Tensor, counts: Counts, bandwidth: float) -> Tensor:
    """Entropies [K, B, sites] of a random order: the mean over all masked ranks for each of them.

    The ranks have the same distribution there. The means are smoothed over the K evaluations.
    """
    each = mean_over_ranks(entropy, counts)
    if bandwidth <= 0:
        return each
    mean = each[..., -1].mean(1).cpu().numpy()  # The last rank is masked in all evaluations.
    at = np.arange(len(mean), dtype=np.float64)
    factor = smooth_logarithm(mean, bandwidth, at, at) / np.where(mean > 0, mean, 1.0)
    return each * sent(torch.from_numpy(factor), each.device)[:, None, None]


def entropy_slopes(entropy: Tensor, counts: Counts, *, exchangeable: bool) -> Tensor:
    """By how much H(x_j | first m) falls per site revealed, [K, B].

    It is for ranks j between the k-th count and the next, which the next evaluation no longer
    shows. Two neighbours estimate it: the entropies of the ranks behind, from this evaluation to
    the next, and those of the same ranks, from the evaluation before to this one. A random order
    takes the mean of both. Others take the lesser, because an order with levels (spread) has steep
    falls from one level to the next and none within.
    """
    ahead, behind = entropy.new_full((2, *entropy.shape[:2]), torch.inf)
    ends = np.append(counts, entropy.shape[-1]).tolist()
    for k in range(len(counts) - 1):
        later = slice(ends[k + 1], ends[k + 2])
        fall = (entropy[k, :, later] - entropy[k + 1, :, later]).mean(-1) / (ends[k + 1] - ends[k])
        ahead[k], behind[k + 1] = fall, fall
    less = ahead.mean(-1, keepdim=True) < behind.mean(-1, keepdim=True)
    lesser = torch.where(less, ahead, behind)
    both = ahead.isfinite() & behind.isfinite()
    fall = torch.where(both, 0.5 * (ahead + behind), lesser) if exchangeable else lesser
    return torch.where(fall.isfinite(), fall, 0.0)


@dataclass(frozen=True)
class Sums:
    """Sums over the first ranks, up to each point of a grid.

    Attributes:
        value: at each evaluation, [K, G, B].
        slope: by how much it changes per site known beyond those of the evaluation, [K, G, B].
    """

    value: Floats
    slope: Floats


@dataclass(frozen=True)
class TotalCorrelations:
    """Each sequence's cost of every step on a grid of numbers of known sites, row by row.

    A step from m known sites costs the sum over its ranks j of H(x_j | first m) - H(x_j | first j).
    Where the grid skips numbers, the second H is that of the grid point before j.

    H(x_j | first m) is linear in m between two evaluations; ranks that are revealed before the next
    evaluation fall by ``entropy_slopes``.

    Attributes:
        entropy: [K, B, sites], with the first ``counts`` [K] sites known. Its running sums are made
            on its device; what is read from them is on the CPU.
        counts: increasing from 0, [K].
        revealed: the grid's numbers m of known sites, without the last, [G - 1].
        exchangeable: whether the order is random.
    """

    entropy: Tensor
    counts: Counts
    revealed: Counts
    exchangeable: bool

    def row(self, i: int) -> Floats:
        """Costs of the steps from the i-th grid point to each later one, [G - 1 - i, B]."""
        costs = self.sums_between(self.excess, i, slice(i + 1, None))
        costs[0] = 0.0  # By definition, which rounding would miss.
        return costs

    def mean_rows(self, points: Counts) -> Floats:
        """Mean costs of the steps from grid points [n] to every one, [n, G]; zero where none is."""
        ends = np.arange(len(self.revealed) + 1)
        costs: Floats = self.sums_between(self.excess, points[:, None], ends).mean(-1)
        costs[ends <= points[:, None] + 1] = 0.0
        return costs

    def standard_errors(self, i: int, ends: Counts) -> Floats:
        """Of the costs of the steps from the i-th grid point to others [n], over sequences, [n]."""
        deviations = self.sums_between(self.deviations, i, ends)
        sequences = deviations.shape[-1]
        squares = np.einsum("nb,nb->n", deviations, deviations)
        error: Floats = np.sqrt(squares / (sequences * (sequences - 1)))
        return error

    @property
    def alone(self) -> Floats:
        """The sum of every rank's H at its own turn, [B]."""
        total: Floats = self.at_own_turn[-1]
        return total

    @cached_property
    def at_own_turn(self) -> Floats:
        """The sum of H at its own turn over the ranks before each grid point, [G, B]."""
        points = np.arange(len(self.revealed))
        return np.pad(self.sums_between(self.known, points, points + 1).cumsum(0), ((1, 0), (0, 0)))

    def sums_between(self, sums: Sums, i: int | Counts, ends: slice | Counts) -> Floats:
        """A sum over the ranks from the i-th grid point, whose sites are known, to ``ends``,
        [..., B]; ``i`` may be several with an end each.
        """
        k = self.before[i]
        beyond = (self.revealed[i] - self.counts[k])[..., None]
        total: Floats = sums.value[k, ends] - sums.value[k, i]
        total += beyond * (sums.slope[k, ends] - sums.slope[k, i])
        return total

    @cached_property
    def before(self) -> Counts:
        """The last evaluation with at most as many known ranks as each grid point, [G - 1]."""
        return np.searchsorted(self.counts, self.revealed, side="right") - 1

    @cached_property
    def known(self) -> "Sums":
        """Of H(x_j | first m)."""
        total = F.pad(self.entropy.cumsum(-1), (1, 0))
        points = sent(torch.from_numpy(np.append(self.revealed, self.sites)), total.device)
        values, slopes = [], []
        for k, end in enumerate(np.append(self.counts[1:], self.sites).tolist()):
            soon, later = points.clamp_max(end), total[min(k + 1, len(total) - 1)]
            rise = later[:, points] - later[:, soon] - (total[k][:, points] - total[k][:, soon])
            values.append(total[k][:, points].T)
            slopes.append((rise / (end - self.counts[k]) - self.slopes[k][:, None] * soon).T)
        return Sums(*(torch.stack(each).cpu().numpy() for each in (values, slopes)))

    @cached_property
    def excess(self) -> "Sums":
        """Of H(x_j | first m) - H(x_j | first j)."""
        return replace(self.known, value=self.known.value - self.at_own_turn)

    @cached_property
    def deviations(self) -> "Sums":
        """Of the same without its mean over sequences."""
        value, slope = (
            each - each.mean(-1, keepdims=True) for each in (self.excess.value, self.excess.slope)
        )
        return Sums(value, slope)

    @property
    def sites(self) -> int:
        return self.entropy.shape[-1]

    @cached_property
    def slopes(self) -> Tensor:
        """By how much the entropy falls per site revealed, [K, B]; see ``entropy_slopes``."""
        return entropy_slopes(self.entropy, self.counts, exchangeable=self.exchangeable)
