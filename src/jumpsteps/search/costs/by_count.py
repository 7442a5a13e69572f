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
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.information_profile import check_finite
from jumpsteps.search.costs.smoothing import GAP_BANDWIDTHS, local_line, smooth_logarithm
from jumpsteps.search.costs.table import Measure, StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["CountCosts", "count_costs"]

Counts = NDArray[np.int64]

TIE_BREAK = 1e-3
"""Nats added to a step over all sites, to shorter ones by the square of their share: of schedules
that cost the same the most uniform one is found."""

GAP_OCTAVES = 0.5
"""Bandwidth of the smoothing of the calibration gap over ranks, in octaves of their distance to
the known ones."""


@dataclass(frozen=True)
class CountCosts(StepCosts):
    """The cost of every step on a grid of numbers of masked sites, from all free sites to 0.

    Attributes:
        order: the order in which steps reveal sites.
        per_sequence: each sequence's cost of every step, [G, G, B].
        alone: the NLL of each sequence in single steps of the grid (one site at a time, where the
            grid has every number), [B]; None where costs are measured by the model.
    """

    order: RevealOrder
    per_sequence: Floats
    alone: Floats | None = None

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
    exchangeable = isinstance(order, Random)
    counts = revealed_counts(sites, evaluations, exchangeable=exchangeable)
    entropy, gap = uncertainties(reverse, paths, ranks, counts, measure)
    revealed = (
        np.arange(sites)
        if sites <= grid_intervals
        else np.unique(np.linspace(0, sites, grid_intervals + 1).astype(np.int64))[:-1]
    )
    if exchangeable:
        entropy = pooled_over_ranks(entropy, counts, bandwidth)
    grid = sites - np.append(revealed, sites).astype(np.float64)
    uneven = TIE_BREAK * ((grid[:, None] - grid[None]) / sites) ** 2
    table = interpolated(entropy, counts, revealed, exchangeable=exchangeable)
    per_sequence = total_correlations(table, revealed)
    if gap is None:
        value = steps_only(np.maximum(per_sequence.mean(-1), 0) + uneven)
        return CountCosts(grid, value, len(counts), order, per_sequence)
    if exchangeable:
        gap = mean_over_ranks(gap, counts)
    smooth = entropy + smoothed_gap(gap, counts, bandwidth, exchangeable=exchangeable)
    chosen = interpolated(
        smooth.mean(1, keepdims=True), counts, revealed, exchangeable=exchangeable
    )
    table = interpolated(entropy + gap, counts, revealed, exchangeable=exchangeable)
    per_sequence, alone = total_correlations(table, revealed), at_own_turn(table, revealed).sum(-1)
    mean = total_correlations(chosen, revealed)[..., 0]
    negative = np.minimum(mean + 2 * standard_error(per_sequence), 0)
    value = steps_only(np.where(mean < 0, negative, mean) + uneven)
    return CountCosts(grid, value, len(counts), order, per_sequence, alone)


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


def mean_over_ranks(values: Floats, counts: Counts) -> Floats:
    """Values [K, B, sites] of a random order: the mean over all masked ranks for each of them."""
    masked = np.arange(values.shape[-1]) >= counts[:, None, None]
    return np.where(masked, values.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True), 0.0)


def smoothed_gap(gap: Floats, counts: Counts, bandwidth: float, *, exchangeable: bool) -> Floats:
    """The mean calibration gap of [K, B, sites] with less noise, [K, 1, sites]; zero if revealed.

    It is taken for a function of the number m of known ranks and, except in a random order, of the
    distance j + 1 - m of rank j to them. It is smoothed over the evaluations, and over the
    logarithm of the distance. What is left is shrunk towards zero by its
    standard error e, by the factor 1 - (2 e / gap)^2 or 0: a calibrated model has the costs of its
    entropies.
    """
    if bandwidth > 0:
        gap = gap.copy()
        for k, m in enumerate(counts.tolist() if not exchangeable else []):
            if gap.shape[-1] - m < 3:
                continue  # a line through two points or fewer smooths nothing
            at = np.log(np.arange(1, gap.shape[-1] - m + 1, dtype=np.float64))
            gap[k, :, m:] = gap[k, :, m:] @ local_line(at, at, GAP_OCTAVES * np.log(2)).T
        gap = smoothed_over_counts(gap, counts, GAP_BANDWIDTHS * bandwidth)
    masked = np.arange(gap.shape[-1]) >= counts[:, None, None]
    mean, error = gap.mean(1, keepdims=True), standard_error(gap.transpose(0, 2, 1))[:, None]
    share = 1 - np.divide(2 * error, mean, out=np.full_like(mean, 1.0), where=mean != 0) ** 2
    return np.where(masked, mean * share.clip(0), 0.0)


def smoothed_over_counts(gap: Floats, counts: Counts, bandwidth: float) -> Floats:
    """[K, B, sites], each value replaced by that of a line through those at the same distance from
    the known ranks in other evaluations.
    """
    sites, at = gap.shape[-1], np.arange(len(counts), dtype=np.float64)
    distance = np.arange(sites)
    shifted = np.zeros_like(gap)
    for k, m in enumerate(counts.tolist()):
        shifted[k, :, : sites - m] = gap[k, :, m:]
    for n in range(2, len(counts) + 1):
        # The n first evaluations are those that have ranks at these distances.
        end = sites - counts[n] if n < len(counts) else 0
        those = (distance < sites - counts[n - 1]) & (distance >= end)
        fit = local_line(at[:n], at[:n], bandwidth)
        shifted[:n, :, those] = np.einsum("kn,nbs->kbs", fit, shifted[:n, :, those])
    smooth = np.zeros_like(gap)
    for k, m in enumerate(counts.tolist()):
        smooth[k, :, m:] = shifted[k, :, : sites - m]
    return smooth


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
