r"""What a step costs when jumps are counted and sites come in a given order (absorbing kernel).

With sites ranked by an order, revealing the ranks m..n-1 together, given the first m, costs

.. math:: \sum_{j=m}^{n-1} \big[ H(x_{\pi_j} \mid \text{first } m) - H(x_{\pi_j} \mid \text{first } j) \big]

nats, the total correlation of those sites given the first m. One model call with the first m sites revealed gives H(. | first m)
for all later ranks; it is measured at some numbers m, the knots, and interpolated between them.
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
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule, time_of_masked
from jumpsteps.search.costs.smoothing import smooth_logarithm
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["CountCosts", "count_costs"]


EVEN = 1e-3
"""Nats by which a step over all sites is costlier than it is, shorter ones by the square of their share: of schedules that cost the
same the most uniform is found."""


@dataclass(frozen=True)
class CountCosts(StepCosts):
    """The cost of every step on a grid of numbers of masked sites, decreasing from all free sites to 0.

    Attributes:
        order: the order that the steps follow.
        parts: each sequence's cost of every step, [G, G, B].
    """

    order: RevealOrder
    parts: Floats

    @cached_property
    def stderr(self) -> Floats:
        return steps_only(standard_error(self.parts))

    def schedule(self, points: list[int]) -> CountSchedule:
        """The schedule that visits these points of the grid."""
        return CountSchedule(-np.diff(self.grid[points]).astype(int), order=self.order)

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule on the grid and its standard error, nats per sequence.

        Raises:
            ValueError: a schedule of another kind, or one that leaves the grid.
        """
        left = (
            self.grid[0] - np.cumsum([0, *schedule.counts])
            if isinstance(schedule, CountSchedule)
            else np.array([-1.0])
        )
        if not np.isin(left, self.grid).all():
            raise ValueError("this schedule is not one of jumps on the grid of these costs")
        points = np.searchsorted(-self.grid, -left)
        total = self.parts[points[:-1], points[1:]].sum(0)
        return float(total.mean()), float(standard_error(total))


def knots_of(sites: int, most: int, *, exchangeable: bool) -> NDArray[np.int64]:
    """Numbers of revealed sites at which the entropies are measured, from 0; one by one at first, where every site tells most.

    In a random order the gaps grow linearly. Other orders have levels, which end at powers of two: as many points in each octave.
    """
    if sites <= most:
        return np.arange(sites)
    if exchangeable:
        shares = np.linspace(0, 1, most + 1)[:-1] ** 2
        return np.unique(np.maximum(np.round(sites * shares), np.arange(most))).astype(np.int64)
    octaves = 2.0 ** np.arange(sites.bit_length())[:, None]
    for q in (2**k for k in range(most.bit_length(), -1, -1)):
        every = np.unique(np.round(octaves * (1 + np.arange(q) / q)))
        points = np.append(0, every[every < sites]).astype(np.int64)
        if len(points) <= most:
            return points
    return np.linspace(0, sites, most + 1)[:-1].astype(np.int64)


@torch.no_grad()
def count_costs(
    reverse: ReverseProcess,
    paths: Paths,
    order: RevealOrder,
    *,
    knots: int = 32,
    bandwidth: float = 2.0,
    points: int = 512,
    generator: torch.Generator,
) -> CountCosts:
    """Estimate the table for one order: one model call for each knot.

    Args:
        reverse: an absorbing reverse process.
        paths: B >= 2 sequences with the same number of free sites.
        knots: numbers of revealed sites at most at which the entropies are measured; interpolated between.
        bandwidth: of the smoothing over knots, for the random order; see ``InformationProfile.smoothed``.
        points: intervals of the grid at most; all numbers of sites where there are fewer.
        generator: draws the order.

    Raises:
        ValueError: the kernel is not absorbing, or there are fewer than two sequences.
    """
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(
            f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; use method jys"
        )
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; pass more data"
        )
    sites, ranks = paths.sites, paths.free_ranks(order, generator=generator)
    exchangeable = isinstance(order, Random)
    starts = knots_of(sites, knots, exchangeable=exchangeable)
    measured = np.stack([entropies(reverse, paths, ranks, sites - int(m)) for m in starts])
    revealed = (
        np.arange(sites)
        if sites <= points
        else np.unique(np.linspace(0, sites, points + 1).astype(np.int64))[:-1]
    )
    if exchangeable:
        measured = pooled(measured, starts, bandwidth)
    parts = step_parts(
        interpolated(measured, starts, revealed, exchangeable=exchangeable), revealed
    )
    grid = sites - np.append(revealed, sites).astype(np.float64)
    even = EVEN * ((grid[:, None] - grid[None]) / sites) ** 2
    value = steps_only(np.maximum(parts.mean(-1), 0) + even)
    return CountCosts(grid, value, len(starts), order, parts)


def entropies(reverse: ReverseProcess, paths: Paths, ranks: Tensor, masked: int) -> Floats:
    """Entropy of every free site with the last ``masked`` of them masked, by rank, [B, sites]; zero where revealed."""
    x = paths.with_masked(masked, ranks)
    where = paths.movable(x)
    table = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    table[where] = site_entropies(
        reverse, x, time_of_masked(paths.forward, masked, paths.sites), where
    )
    return torch.zeros_like(table).scatter(-1, ranks, table)[:, : paths.sites].cpu().numpy()


def pooled(measured: Floats, starts: NDArray[np.int64], bandwidth: float) -> Floats:
    """The same with the mean over all masked ranks in the place of each: in a random order they have the same distribution.

    Smoothed over knots.
    """
    masked = np.arange(measured.shape[-1]) >= starts[:, None, None]
    each = measured.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True)
    mean = each.mean((1, 2))
    if bandwidth > 0:
        places = np.arange(len(mean), dtype=np.float64)
        each = (
            each
            * (smooth_logarithm(mean, bandwidth, places, places) / np.where(mean > 0, mean, 1.0))[
                :, None, None
            ]
        )
    return np.where(masked, each, 0.0)


def falls(measured: Floats, starts: NDArray[np.int64], *, exchangeable: bool) -> Floats:
    """By how much H(x_j | first m) falls for each site revealed, for the ranks j between a knot and the next, [knots, B].

    Either as the next ranks' entropies fall from this knot to the next, or as these ranks' own fell from the knot before: the mean
    of both in a random order; else the lesser, because an order of levels (spread) has steep falls from one level to the next and
    none within.
    """
    ahead, behind = np.full(measured.shape[:2], np.inf), np.full(measured.shape[:2], np.inf)
    ends = np.append(starts, measured.shape[-1])
    for i in range(len(starts) - 1):
        later = slice(ends[i + 1], ends[i + 2])
        fall = (measured[i, :, later] - measured[i + 1, :, later]).mean(-1) / (
            ends[i + 1] - ends[i]
        )
        ahead[i], behind[i + 1] = fall, fall
    lesser = np.where(ahead.mean(-1, keepdims=True) < behind.mean(-1, keepdims=True), ahead, behind)
    both = np.isfinite(ahead) & np.isfinite(behind)
    fall = np.where(both, 0.5 * (ahead + behind), lesser) if exchangeable else lesser
    return np.where(np.isfinite(fall), fall, 0.0)


def interpolated(
    measured: Floats, starts: NDArray[np.int64], revealed: NDArray[np.int64], *, exchangeable: bool
) -> Floats:
    """H(x_j | first m) for m in ``revealed`` and all ranks j, from the knots, [points, B, sites]; meaningless at j < m.

    Linear in m between two knots; ranks that are revealed before the next knot follow ``falls``.
    """
    fall = falls(measured, starts, exchangeable=exchangeable)
    ends = np.append(starts, measured.shape[-1])
    at = np.searchsorted(starts, revealed, side="right") - 1
    step = (revealed - starts[at])[:, None, None]
    share = step / np.diff(ends)[at][:, None, None]
    after = measured[np.minimum(at + 1, len(starts) - 1)]
    between = (1 - share) * measured[at] + share * after
    soon = np.arange(measured.shape[-1]) < ends[at + 1][:, None, None]
    return np.where(soon, measured[at] - step * fall[at][..., None], between)


def step_parts(table: Floats, revealed: NDArray[np.int64]) -> Floats:
    """Each sequence's cost of every step on the grid, [G, G, B]: sum over its ranks j of H(x_j | first m) - H(x_j | first j).

    Where the grid skips numbers, a site's own turn is taken at the grid point before it.
    """
    ranks = np.arange(table.shape[-1])
    turn = np.searchsorted(revealed, ranks, side="right") - 1
    excess = table - table[turn, :, ranks].T[None]
    excess = np.where(ranks >= revealed[:, None, None], excess, 0.0)
    ends = np.append(revealed, table.shape[-1])
    total = np.concatenate([np.zeros((*excess.shape[:2], 1)), excess.cumsum(-1)], -1)[..., ends]
    return np.concatenate([total, np.zeros_like(total[:1])]).transpose(0, 2, 1)
