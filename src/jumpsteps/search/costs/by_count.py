r"""Count costs: the total correlation of the sites that a step reveals in a reveal order.

For the absorbing kernel, with sites ranked by an order :math:`\pi`, revealing the ranks m..n-1 in
one step, given the first m, costs

.. math:: \sum_{j=m}^{n-1} \big[ H(x_{\pi_j} \mid \text{first } m)
                                - H(x_{\pi_j} \mid \text{first } j) \big]

nats. One model evaluation with the first m sites revealed gives H(. | first m) of all later ranks.
The model is evaluated at some numbers m; entropies are interpolated between them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.chunks import site_entropies
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.smoothing import smooth_logarithm
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["CountCosts", "count_costs"]

Counts = NDArray[np.int64]

TIE_BREAK = 1e-3
"""Nats added to a step over all sites, to shorter ones by the square of their share: of schedules
that cost the same the most uniform one is found."""


@dataclass(frozen=True)
class CountCosts(StepCosts):
    """The cost of every step on a grid of numbers of masked sites, from all free sites to 0.

    Attributes:
        order: the order in which steps reveal sites.
        per_sequence: each sequence's cost of every step, [G, G, B].
    """

    order: RevealOrder
    per_sequence: Floats

    @cached_property
    def stderr(self) -> Floats:
        return steps_only(standard_error(self.per_sequence))

    def schedule(self, grid_points: list[int]) -> CountSchedule:
        return CountSchedule(-np.diff(self.grid[grid_points]).astype(int), order=self.order)

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule on the grid and its standard error, nats per sequence.

        Raises:
            ValueError: a schedule of times, or one that leaves the grid.
        """
        masked = (
            self.grid[0] - np.cumsum([0, *schedule.counts])
            if isinstance(schedule, CountSchedule)
            else np.array([-1.0])
        )
        if not np.isin(masked, self.grid).all():
            raise ValueError("this schedule is not one of counts on the grid of these costs")
        points = np.searchsorted(-self.grid, -masked)
        total = self.per_sequence[points[:-1], points[1:]].sum(0)
        return float(total.mean()), float(standard_error(total))


def revealed_counts(sites: int, evaluations: int, *, exchangeable: bool) -> Counts:
    """Numbers of revealed sites at which the model is evaluated, increasing from 0.

    The first are one apart, because the first sites tell most about the others. In a random order
    (``exchangeable``) the gaps then grow linearly. Other orders have levels that end at powers of
    two, so every octave gets equally many.
    """
    if sites <= evaluations:
        return np.arange(sites)
    if exchangeable:
        shares = np.linspace(0, 1, evaluations + 1)[:-1] ** 2
        counts = np.maximum(np.round(sites * shares), np.arange(evaluations))
        return np.unique(counts).astype(np.int64)
    octaves = 2.0 ** np.arange(sites.bit_length())[:, None]
    for per_octave in (2**k for k in range(evaluations.bit_length(), -1, -1)):
        every = np.unique(np.round(octaves * (1 + np.arange(per_octave) / per_octave)))
        points = np.append(0, every[every < sites]).astype(np.int64)
        if len(points) <= evaluations:
            return points
    return np.linspace(0, sites, evaluations + 1)[:-1].astype(np.int64)


@torch.no_grad()
def count_costs(
    reverse: ReverseProcess,
    paths: Paths,
    order: RevealOrder,
    *,
    evaluations: int = 32,
    bandwidth: float = 2.0,
    grid_intervals: int = 512,
    generator: torch.Generator,
) -> CountCosts:
    """Estimate the table of count costs for one order from data.

    Args:
        reverse: an absorbing reverse process.
        paths: B >= 2 sequences with the same number of free sites.
        order: the reveal order.
        evaluations: model evaluations at most, each at another number of revealed sites.
        bandwidth: of the smoothing over evaluations, for the random order alone; see
            ``InformationProfile.smoothed``.
        grid_intervals: of the grid of the table, at most; every number of sites is a grid point
            where there are fewer.
        generator: draws the order.

    Raises:
        ValueError: the kernel is not absorbing, or there are fewer than two sequences.
    """
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(
            f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; "
            "use method jys"
        )
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    sites, ranks = paths.sites, paths.free_ranks(order, generator=generator)
    exchangeable = isinstance(order, Random)
    counts = revealed_counts(sites, evaluations, exchangeable=exchangeable)
    entropy = np.stack([entropies(reverse, paths, ranks, sites - int(m)) for m in counts])
    revealed = (
        np.arange(sites)
        if sites <= grid_intervals
        else np.unique(np.linspace(0, sites, grid_intervals + 1).astype(np.int64))[:-1]
    )
    if exchangeable:
        entropy = pooled_over_ranks(entropy, counts, bandwidth)
    table = interpolated(entropy, counts, revealed, exchangeable=exchangeable)
    per_sequence = total_correlations(table, revealed)
    grid = sites - np.append(revealed, sites).astype(np.float64)
    uneven = TIE_BREAK * ((grid[:, None] - grid[None]) / sites) ** 2
    value = steps_only(np.maximum(per_sequence.mean(-1), 0) + uneven)
    return CountCosts(grid, value, len(counts), order, per_sequence)


def entropies(reverse: ReverseProcess, paths: Paths, ranks: Tensor, masked: int) -> Floats:
    """Entropy of every free site with the last ``masked`` of them masked, by rank, [B, sites].

    Zero where revealed.
    """
    x = paths.with_masked(masked, ranks)
    where = paths.movable(x)
    table = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    t = time_of_masked(paths.forward, masked, paths.sites)
    table[where] = site_entropies(reverse, x, t, where)
    return torch.zeros_like(table).scatter(-1, ranks, table)[:, : paths.sites].cpu().numpy()


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
    beyond = (revealed - counts[at])[:, None, None]
    share = beyond / np.diff(ends)[at][:, None, None]
    after = entropy[np.minimum(at + 1, len(counts) - 1)]
    between = (1 - share) * entropy[at] + share * after
    soon = np.arange(entropy.shape[-1]) < ends[at + 1][:, None, None]
    return np.where(soon, entropy[at] - beyond * slope[at][..., None], between)


def total_correlations(table: Floats, revealed: Counts) -> Floats:
    """Each sequence's cost of every step on the grid, [G, G, B], from entropies [G - 1, B, sites].

    The sum over the step's ranks j of H(x_j | first m) - H(x_j | first j). Where the grid skips
    numbers, the second entropy is that of the grid point before j.
    """
    ranks = np.arange(table.shape[-1])
    turn = np.searchsorted(revealed, ranks, side="right") - 1
    excess = table - table[turn, :, ranks].T[None]
    excess = np.where(ranks >= revealed[:, None, None], excess, 0.0)
    ends = np.append(revealed, table.shape[-1])
    total = np.concatenate([np.zeros((*excess.shape[:2], 1)), excess.cumsum(-1)], -1)[..., ends]
    return np.concatenate([total, np.zeros_like(total[:1])]).transpose(0, 2, 1)
