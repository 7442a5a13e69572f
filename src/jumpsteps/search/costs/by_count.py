r"""Count costs: the total correlation of the sites that a step reveals in a reveal order.

For the absorbing kernel, with sites ranked by an order :math:`\pi`, revealing the ranks m..n-1 in
one step, given the first m, costs

.. math:: \sum_{j=m}^{n-1} \big[ H(x_{\pi_j} \mid \text{first } m)
                                - H(x_{\pi_j} \mid \text{first } j) \big]

nats. One model evaluation with the first m sites revealed gives H(. | first m) of all later ranks.
The model is evaluated at some numbers m; entropies are interpolated between them.

Measured by data (``Measure.DATA``) the entropies H give way to

.. math:: c_j(m) = E[-\log p(x_{\pi_j} \mid \text{first } m)],

and costs add up to the excess of the few-step NLL. Schedules are chosen by a smoothed estimate of
the calibration gap c - H, which varies slowly; their own NLL and excess are those of the data as
measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.core.tensors import sent
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.calibration_gap import smoothed_gap
from jumpsteps.search.costs.count_table import CountCosts
from jumpsteps.search.costs.rank_tables import (
    TotalCorrelations,
    mean_over_ranks,
    pooled_over_ranks,
)
from jumpsteps.search.costs.table import NOISE_LEVELS, Calibration, Measure
from jumpsteps.search.costs.uncertainties import uncertainties
from jumpsteps.search.paths import Paths

__all__ = [
    "OrderEvaluations",
    "count_costs",
    "evaluate_orders",
    "grid_counts",
    "revealed_counts",
    "start_uncertainties",
]

Counts = NDArray[np.int64]

TIE_BREAK = 1e-3
"""Nats added to a step over all sites, to shorter ones by the square of their share: of schedules
that cost the same the most uniform one is found."""


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


@kinds_checked()
@torch.no_grad()
def count_costs(
    reverse: ReverseProcess,
    paths: Paths,
    order: RevealOrder,
    *,
    evaluations: int = 32,
    bandwidth: float = 2.0,
    grid_intervals: int = 512,
    measure: Measure = Measure.MODEL,
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
        measure: of the uncertainty of a site: the model's entropy, or -log p of data.
        generator: draws the order.

    Raises:
        ValueError: the kernel is not absorbing, there are fewer than two sequences, a number is too
            small, or a model excludes a token of data (by data).
    """
    check_at_least(1, evaluations=evaluations, grid_intervals=grid_intervals)
    check_at_least(0, bandwidth=bandwidth)
    check_counted(reverse, paths)
    sites, ranks = paths.sites, paths.free_ranks(order, generator=generator)
    counts = revealed_counts(sites, evaluations, exchangeable=isinstance(order, Random))
    (evaluated,) = evaluate_orders(reverse, paths, [(order, ranks, counts)], measure)
    return evaluated.costs(grid_counts(sites, grid_intervals), bandwidth)


def check_counted(reverse: ReverseProcess, paths: Paths) -> None:
    """Raises ValueError for a kernel without reveal orders, and for fewer than two sequences."""
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


def grid_counts(sites: int, intervals: int) -> Counts:
    """Numbers of known sites between which a search chooses, increasing from 0, without ``sites``:
    every one where there are few.
    """
    if sites <= intervals:
        return np.arange(sites)
    return np.unique(np.linspace(0, sites, intervals + 1).astype(np.int64))[:-1]


@dataclass(frozen=True)
class OrderEvaluations:
    """What the evaluations of one order gave, and the tables of costs that follow.

    Attributes:
        order: the reveal order.
        counts: m, the numbers of known sites, [K].
        entropy: by rank, float64 [K, B, sites]; zero where known. On the model's device.
        gap: the calibration gap, of the same shape; None where it was not measured.
        workers: processes that all have these, and share the work of the tables.
    """

    order: RevealOrder
    counts: Counts
    entropy: Tensor
    gap: Tensor | None
    workers: Workers = ALONE

    @property
    def exchangeable(self) -> bool:
        return isinstance(self.order, Random)

    def rows(self, rows: slice) -> "OrderEvaluations":
        """Those of some of the sequences."""
        gap = None if self.gap is None else self.gap[:, rows]
        return replace(self, entropy=self.entropy[:, rows], gap=gap)

    def joined(self, other: "OrderEvaluations") -> "OrderEvaluations":
        """Together with others of the same order and sequences, by data."""
        assert self.gap is not None
        assert other.gap is not None
        counts, first = np.unique(np.append(self.counts, other.counts), return_index=True)
        every = sent(torch.from_numpy(first), self.entropy.device)
        entropy, gap = (
            torch.cat(each)[every]
            for each in ((self.entropy, other.entropy), (self.gap, other.gap))
        )
        return replace(self, counts=counts, entropy=entropy, gap=gap)

    def costs(self, revealed: Counts, bandwidth: float) -> CountCosts:
        """The table on a grid of numbers of revealed sites, by what was measured."""
        return (self.by_model if self.gap is None else self.by_data)(revealed, bandwidth)

    def by_model(self, revealed: Counts, bandwidth: float) -> CountCosts:
        """Costs from entropies."""
        entropy = self.entropy
        if self.exchangeable:
            entropy = pooled_over_ranks(entropy, self.counts, bandwidth)
        each = self.correlations(entropy, revealed)
        expected = self.correlations(entropy.mean(1, keepdim=True), revealed)
        return self.table(each, lambda points: np.maximum(expected.mean_rows(points), 0))

    def measured(self) -> Tensor:
        """-log p of data as measured, [K, B, sites]; in a random order the mean over all ranks."""
        assert self.gap is not None
        if not self.exchangeable:
            return self.entropy + self.gap
        return mean_over_ranks(self.entropy, self.counts) + mean_over_ranks(self.gap, self.counts)

    def smoothed(self, bandwidth: float) -> Tensor:
        """The mean of ``measured`` with less noise, [K, 1, sites]."""
        assert self.gap is not None
        entropy, gap = self.entropy, self.gap
        if self.exchangeable:
            entropy = pooled_over_ranks(entropy, self.counts, bandwidth)
            gap = mean_over_ranks(gap, self.counts)
        smooth = smoothed_gap(gap, self.counts, bandwidth, exchangeable=self.exchangeable)
        return entropy.mean(1, keepdim=True) + smooth

    def few_step(self, schedule: Schedule) -> Floats:
        """The few-step NLL of each sequence, [B], of counts that stop where the model was
        evaluated.
        """
        assert isinstance(schedule, CountSchedule)
        each = self.correlations(self.measured(), self.counts)
        points = np.searchsorted(self.counts, np.cumsum([0, *schedule.counts]))
        return each.sums_between(each.known, points[:-1], points[1:]).sum(0)

    def by_data(self, revealed: Counts, bandwidth: float) -> CountCosts:
        """Costs from -log p of data; a negative one counts by as much as it is significant."""
        (costs,) = self.tables_by_data([revealed], bandwidth)
        return costs

    def tables_by_data(self, grids: list[Counts], bandwidth: float) -> list[CountCosts]:
        """``by_data`` on several grids."""
        values = self.measured(), self.smoothed(bandwidth)
        return [self.table_by_data(*(self.correlations(v, grid) for v in values)) for grid in grids]

    def table_by_data(self, each: TotalCorrelations, expected: TotalCorrelations) -> CountCosts:
        """The table of the costs of each sequence, and of their mean with less noise."""

        def significant(points: Counts) -> Floats:
            means = expected.mean_rows(points)
            for i, mean in zip(points.tolist(), means, strict=True):
                negative = np.flatnonzero(mean < 0)
                if len(negative):
                    error = each.standard_errors(i, negative)
                    mean[negative] = np.minimum(mean[negative] + 2 * error, 0)
            return means

        alone, known = each.alone, self.calibration()
        return replace(self.table(each, significant), alone=alone, calibration=known)

    def table(self, each: TotalCorrelations, rows: Callable[[Counts], Floats]) -> CountCosts:
        """The table of the costs ``rows(points)`` [n, G] of the steps from grid points [n]."""
        sites, revealed = self.entropy.shape[-1], each.revealed
        grid = sites - np.append(revealed, sites).astype(np.float64)
        mine = np.arange(self.workers.rank, len(revealed), self.workers.count)
        value = rows(mine) + TIE_BREAK * ((grid[mine, None] - grid) / sites) ** 2
        value[np.arange(len(grid)) <= mine[:, None]] = np.inf
        every = self.workers.of_all(torch.from_numpy(value), len(revealed)).numpy()
        every = np.append(every, np.full((1, len(grid)), np.inf), axis=0)
        return CountCosts(grid, every, len(self.counts), self.order, cache(each.row))

    def correlations(self, values: Tensor, revealed: Counts) -> TotalCorrelations:
        """Costs by values at the counts, on a grid of numbers of revealed sites."""
        return TotalCorrelations(values, self.counts, revealed, self.exchangeable)

    def calibration(self) -> tuple[Calibration, ...]:
        """Entropy and -log p of a masked site, at the evaluations next to ``NOISE_LEVELS``."""
        assert self.gap is not None
        sites, found = self.entropy.shape[-1], []
        for level in NOISE_LEVELS:
            k = int(np.abs(self.counts - (1 - level) * sites).argmin())
            masked = sites - int(self.counts[k])
            entropy, gap = (
                (each[k].sum(-1) / masked).cpu().numpy() for each in (self.entropy, self.gap)
            )
            stderr = float(standard_error(gap))
            found.append(
                Calibration(masked / sites, float(entropy.mean()), float(gap.mean()), stderr)
            )
        return tuple(found)


@torch.no_grad()
def evaluate_orders(
    reverse: ReverseProcess,
    paths: Paths,
    orders: list[tuple[RevealOrder, Tensor, Counts]],
    measure: Measure,
    *,
    start: Tensor | None = None,
    together: int = 1,
) -> list[OrderEvaluations]:
    """Evaluate the model with the first m sites known, for every m of each order.

    Args:
        orders: each with its ranks of the free sites, int64 [B, L], and its counts m, increasing.
        start: ``start_uncertainties``, by data, which all orders share; evaluated if None.
        together: states in one model call; each has all B sequences.
    """
    states = [
        (ranks, m) for _, ranks, counts in orders for m in counts.tolist() if m or start is None
    ]
    found = uncertainties(reverse, paths, states, measure, together=together)
    evaluated, done = [], 0
    for order, ranks, counts in orders:
        new = len(counts) - (start is not None)
        tables = found[:, done : done + new]
        done += new
        if start is not None:
            tables = torch.cat([in_order(start, ranks[paths.free])[:, None], tables], 1)
        entropy, *gap = tables
        evaluated.append(
            OrderEvaluations(order, counts, entropy, gap[0] if gap else None, paths.workers)
        )
    return evaluated


def start_uncertainties(reverse: ReverseProcess, paths: Paths) -> Tensor:
    """Entropies and calibration gaps of all free sites from left to right with none known,
    [2, B, sites]; one model call.
    """
    left_to_right = paths.free.cumsum(-1) - 1
    return uncertainties(reverse, paths, [(left_to_right, 0)], Measure.DATA)[:, 0]


def in_order(tables: Tensor, ranks: Tensor) -> Tensor:
    """Values [2, B, sites] of free sites from left to right, by their ranks [B * sites]."""
    places = ranks.reshape(tables.shape[1:]).expand(tables.shape)
    return torch.empty_like(tables).scatter_(-1, places, tables)
