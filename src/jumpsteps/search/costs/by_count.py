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

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.chunks import site_entropies, site_entropies_and_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.calibration_gap import mean_over_ranks, smoothed_gap
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.information_profile import check_finite
from jumpsteps.search.costs.smoothing import smooth_logarithm
from jumpsteps.search.costs.table import (
    NOISE_LEVELS,
    Calibration,
    Measure,
    StepCosts,
    steps_only,
)
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
        alone: the NLL of each sequence in single steps of the grid (one site at a time, where the
            grid has every number), [B]; None where costs are measured by the model.
        calibration: entropies and -log p of data at three noise levels, if measured by data.
    """

    order: RevealOrder
    per_sequence: Floats
    alone: Floats | None = None
    calibration: tuple[Calibration, ...] = ()

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
        total = self.summed(schedule)
        return float(total.mean()), float(standard_error(total))

    def few_step(self, schedule: Schedule) -> FewStepNLL | None:
        """The few-step NLL and its excess over ``alone``; None if measured by the model.

        It is interpolated between the evaluations, from the sequences of the search. Raises
        ValueError as ``predict``.
        """
        if self.alone is None:
            return None
        bound = self.alone + self.summed(schedule)
        return FewStepNLL(bound, self.alone, float(self.grid[0]), self.model_calls)

    def summed(self, schedule: Schedule) -> Floats:
        """Each sequence's summed cost of a schedule, [B]; raises ValueError as ``predict``."""
        masked = (
            self.grid[0] - np.cumsum([0, *schedule.counts])
            if isinstance(schedule, CountSchedule)
            else np.array([-1.0])
        )
        if not np.isin(masked, self.grid).all():
            raise ValueError("this schedule is not one of counts on the grid of these costs")
        points = np.searchsorted(-self.grid, -masked)
        total: Floats = self.per_sequence[points[:-1], points[1:]].sum(0)
        return total


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
        ValueError: the kernel is not absorbing, there are fewer than two sequences, or a model that
            excludes a token of data (by data).
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
    counts = revealed_counts(sites, evaluations, exchangeable=isinstance(order, Random))
    entropy, gap = uncertainties(reverse, paths, ranks, counts, measure)
    revealed = (
        np.arange(sites)
        if sites <= grid_intervals
        else np.unique(np.linspace(0, sites, grid_intervals + 1).astype(np.int64))[:-1]
    )
    measured = Measured(order, counts, entropy, gap)
    costs = measured.by_model if measure is Measure.MODEL else measured.by_data
    return costs(revealed, bandwidth)


@dataclass(frozen=True)
class Measured:
    """What the evaluations of one order gave, and the tables of costs that follow.

    Attributes:
        order: the reveal order.
        counts: m, the numbers of known sites, [K].
        entropy: by rank, [K, B, sites]; zero where known.
        gap: the calibration gap, of the same shape; None where it was not measured.
    """

    order: RevealOrder
    counts: Counts
    entropy: Floats
    gap: Floats | None

    @property
    def exchangeable(self) -> bool:
        return isinstance(self.order, Random)

    def by_model(self, revealed: Counts, bandwidth: float) -> CountCosts:
        """Costs from entropies."""
        entropy = self.entropy
        if self.exchangeable:
            entropy = pooled_over_ranks(entropy, self.counts, bandwidth)
        per_sequence = total_correlations(self.table(entropy, revealed), revealed)
        grid, uneven = self.grid_and_ties(revealed)
        value = steps_only(np.maximum(per_sequence.mean(-1), 0) + uneven)
        return CountCosts(grid, value, len(self.counts), self.order, per_sequence)

    def by_data(self, revealed: Counts, bandwidth: float) -> CountCosts:
        """Costs from -log p of data; a negative one counts by as much as it is significant."""
        assert self.gap is not None
        entropy, smooth, gap = self.entropy, self.entropy, self.gap
        if self.exchangeable:
            entropy, smooth = (pooled_over_ranks(entropy, self.counts, h) for h in (0, bandwidth))
            gap = mean_over_ranks(gap, self.counts)
        table = self.table(entropy + gap, revealed)
        per_sequence = total_correlations(table, revealed)
        smooth = smooth.mean(1, keepdims=True) + smoothed_gap(
            gap, self.counts, bandwidth, exchangeable=self.exchangeable
        )
        mean = total_correlations(self.table(smooth, revealed), revealed)[..., 0]
        negative = np.minimum(mean + 2 * standard_error(per_sequence), 0)
        grid, uneven = self.grid_and_ties(revealed)
        value = steps_only(np.where(mean < 0, negative, mean) + uneven)
        alone = at_own_turn(table, revealed).sum(-1)
        return CountCosts(
            grid, value, len(self.counts), self.order, per_sequence, alone, self.calibration()
        )

    def table(self, values: Floats, revealed: Counts) -> Floats:
        return interpolated(values, self.counts, revealed, exchangeable=self.exchangeable)

    def grid_and_ties(self, revealed: Counts) -> tuple[Floats, Floats]:
        """The grid of masked sites [G], and what is added to costs to break ties [G, G]."""
        sites = self.entropy.shape[-1]
        grid = sites - np.append(revealed, sites).astype(np.float64)
        return grid, TIE_BREAK * ((grid[:, None] - grid[None]) / sites) ** 2

    def calibration(self) -> tuple[Calibration, ...]:
        """Entropy and -log p of a masked site, at the evaluations next to ``NOISE_LEVELS``."""
        assert self.gap is not None
        sites, found = self.entropy.shape[-1], []
        for level in NOISE_LEVELS:
            k = int(np.abs(self.counts - (1 - level) * sites).argmin())
            masked = sites - int(self.counts[k])
            entropy, gap = (each[k].sum(-1) / masked for each in (self.entropy, self.gap))
            stderr = float(standard_error(gap))
            found.append(
                Calibration(masked / sites, float(entropy.mean()), float(gap.mean()), stderr)
            )
        return tuple(found)


def uncertainties(
    reverse: ReverseProcess, paths: Paths, ranks: Tensor, counts: Counts, measure: Measure
) -> tuple[Floats, Floats | None]:
    """Entropies of every free site with the first m known, by rank, [K, B, sites]; zero if known.

    Also the calibration gap to -log p of data, of the same shape; None where it is not measured.
    """
    sites = paths.sites
    found = []
    for m in counts.tolist():
        x = paths.with_masked(sites - m, ranks)
        where = paths.movable(x)
        t = time_of_masked(paths.forward, sites - m, sites)
        if measure is Measure.MODEL:
            parts = [site_entropies(reverse, x, t, where)]
        else:
            entropy, nll = site_entropies_and_nll(reverse, x, t, where, paths.data)
            check_finite(nll)
            parts = [entropy, nll - entropy]
        found.append([by_rank(part, where, ranks)[:, :sites].cpu().numpy() for part in parts])
    entropy_by_rank, *gap = (np.stack(each) for each in zip(*found, strict=True))
    return entropy_by_rank, gap[0] if gap else None


def by_rank(values: Tensor, where: Tensor, ranks: Tensor) -> Tensor:
    """Values [K] at the sites ``where`` in the order of their ranks, float64 [B, L], else zero."""
    table = torch.zeros(ranks.shape, dtype=torch.float64, device=ranks.device)
    table[where] = values
    return torch.zeros_like(table).scatter(-1, ranks, table)


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
    excess = table - at_own_turn(table, revealed)[None]
    excess = np.where(ranks >= revealed[:, None, None], excess, 0.0)
    ends = np.append(revealed, table.shape[-1])
    total = np.concatenate([np.zeros((*excess.shape[:2], 1)), excess.cumsum(-1)], -1)[..., ends]
    return np.concatenate([total, np.zeros_like(total[:1])]).transpose(0, 2, 1)


def at_own_turn(table: Floats, revealed: Counts) -> Floats:
    """The entries of [G - 1, B, sites] at each rank's own turn, the grid point before it,
    [B, sites].
    """
    ranks = np.arange(table.shape[-1])
    turn = np.searchsorted(revealed, ranks, side="right") - 1
    return table[turn, :, ranks].T
