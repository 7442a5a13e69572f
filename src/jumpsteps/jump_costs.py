r"""What a leap costs when jumps are counted and sites come in a given order (absorbing kernel).

With sites ranked by an order, revealing the ranks m..n-1 together, given the first m, costs

.. math:: \sum_{j=m}^{n-1} \big[ H(x_{\pi_j} \mid \text{first } m) - H(x_{\pi_j} \mid \text{first } j) \big]

nats, the total correlation of those sites given the first m. One model call with the first m sites revealed gives H(. | first m)
for all later ranks, so a grid of G numbers m costs G calls. The second term, the entropy of a site when its turn comes, is the same
for all schedules on the grid but for the leaps within one interval, where it is interpolated.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.costs import Floats, LeapCosts, spread
from jumpsteps.forward import Absorbing
from jumpsteps.orders import Random, RevealOrder
from jumpsteps.paths import Paths
from jumpsteps.reverse import ReverseProcess
from jumpsteps.schedule import JumpSchedule, Schedule, time_of_masked

__all__ = ["JumpCosts", "grid_of_counts", "jump_costs"]


@dataclass(frozen=True)
class JumpCosts(LeapCosts):
    """The cost of every leap on a grid of numbers of masked sites, decreasing from all free sites to 0.

    Attributes:
        order: the order that the leaps follow.
        parts: each sequence's cost of every leap, [G, G, B].
    """

    order: RevealOrder
    parts: Floats

    def schedule(self, points: list[int]) -> JumpSchedule:
        """The schedule that visits these points of the grid."""
        return JumpSchedule(-np.diff(self.grid[points]).astype(int), order=self.order)

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule on the grid and its standard error, nats per sequence.

        Raises:
            ValueError: a schedule of another kind, or one that leaves the grid.
        """
        left = self.grid[0] - np.cumsum([0, *schedule.counts]) if isinstance(schedule, JumpSchedule) else np.array([-1.0])
        if not np.isin(left, self.grid).all():
            raise ValueError("this schedule is not one of jumps on the grid of these costs")
        points = np.searchsorted(-self.grid, -left)
        total = self.parts[points[:-1], points[1:]].sum(0)
        return float(total.mean()), float(spread(total))


def grid_of_counts(sites: int, intervals: int) -> Floats:
    """Numbers of masked sites from all to none, decreasing; one by one at first, where every site tells most."""
    shares = np.linspace(0, 1, intervals + 1) ** 2
    revealed = np.unique(np.maximum(np.round(sites * shares), np.arange(intervals + 1).clip(max=sites)))
    return sites - revealed[revealed <= sites]


@torch.no_grad()
def jump_costs(
    reverse: ReverseProcess, paths: Paths, order: RevealOrder, *, intervals: int = 64, generator: torch.Generator
) -> JumpCosts:
    """Estimate the table for one order: one model call for each interval of the grid.

    Args:
        reverse: an absorbing reverse process.
        paths: B >= 2 sequences with the same number of free sites.
        intervals: of the grid; fewer where there are fewer sites.
        generator: draws the order.

    Raises:
        ValueError: the kernel is not absorbing, or there are fewer than two sequences.
    """
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; use method jys")
    if len(paths.data) < 2:
        raise ValueError(f"the standard error needs at least two sequences, got {len(paths.data)}; pass more data")
    grid = grid_of_counts(paths.sites, intervals)
    ranks = paths.free_ranks(order, generator=generator)
    starts = (paths.sites - grid).astype(np.int64)
    by_rank = np.stack([entropies(reverse, paths, ranks, int(n)) for n in grid[:-1]])
    exchangeable = isinstance(order, Random)
    if exchangeable:
        by_rank = pooled(by_rank, starts)
    parts = leap_parts(np.add.reduceat(by_rank, starts[:-1], axis=-1), inner_parts(by_rank, starts, exchangeable=exchangeable))
    impossible = np.tril(np.ones(parts.shape[:2], dtype=bool))
    value, stderr = (np.where(impossible, np.inf, table) for table in (np.maximum(parts.mean(-1), 0), spread(parts)))
    return JumpCosts(grid, value, stderr, len(by_rank), order, parts)


def entropies(reverse: ReverseProcess, paths: Paths, ranks: Tensor, masked: int) -> Floats:
    """Entropy of every free site with the last ``masked`` of them masked, by rank, [B, sites]; zero where revealed."""
    x = paths.with_masked(masked, ranks)
    where = paths.movable(x)
    p = reverse.leave_one_out(x, time_of_masked(paths.forward, masked, paths.sites), where=where).to(torch.float64)
    table = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    table[where] = -torch.xlogy(p, p).sum(-1)
    return torch.zeros_like(table).scatter(-1, ranks, table)[:, : paths.sites].cpu().numpy()


def pooled(by_rank: Floats, starts: NDArray[np.int64]) -> Floats:
    """The same with the mean over all masked ranks in the place of each: in a random order they have the same law."""
    masked = np.arange(by_rank.shape[-1]) >= starts[:-1, None, None]
    return np.where(masked, by_rank.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True), 0.0)


def inner_parts(by_rank: Floats, starts: NDArray[np.int64], *, exchangeable: bool) -> Floats:
    """Each sequence's cost of the leap over each interval, [G-1, B]; by_rank [G-1, B, sites].

    Within an interval from m to n, H(x_j | first j) falls from H(x_j | first m), for each site revealed, by as much as the next
    ranks' entropies do from m to n, or as these ranks' own did in the interval before: the mean of both in a random order; else the
    lesser, because an order of levels (spread) has steep falls from one level to the next and none within a level.
    """
    width = np.diff(starts)
    shape = (len(width), by_rank.shape[1])
    ahead, behind = np.full(shape, np.inf), np.full(shape, np.inf)
    for i in range(len(width) - 1):
        later = slice(starts[i + 1], starts[i + 2])
        fall = (by_rank[i, :, later] - by_rank[i + 1, :, later]).mean(-1) / width[i]
        ahead[i], behind[i + 1] = fall, fall
    lesser = np.where(ahead.mean(-1, keepdims=True) < behind.mean(-1, keepdims=True), ahead, behind)
    both = np.isfinite(ahead) & np.isfinite(behind)
    fall = np.where(both, 0.5 * (ahead + behind), lesser) if exchangeable else lesser
    return np.where(np.isfinite(fall), 0.5 * (width * (width - 1))[:, None] * fall, 0.0)


def leap_parts(held: Floats, inner: Floats) -> Floats:
    """Each sequence's cost of every leap, [G, G, B].

    Args:
        held: sums of the entropies over intervals, [start G-1, B, interval G-1].
        inner: cost of the leap over each interval, [G-1, B].
    """
    intervals = len(held)
    every = np.arange(intervals)
    excess = held.transpose(0, 2, 1) - held[every, :, every][None] + inner[None]
    excess[every[:, None] > every[None]] = 0
    total = np.zeros((intervals + 1, intervals + 1, held.shape[1]))
    total[:-1, 1:] = excess.cumsum(1)
    return total
