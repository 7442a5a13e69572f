r"""Searches over schedules.

* ``golden_section`` and ``hierarchical``: Jump Your Steps (Park et al. 2025, Alg. 1 and 2). 1, 2, 4, 8 ... leaps: every interval
  is split where the KLUB is largest.
* ``shortest_paths``: the cheapest schedule on a grid for every number of leaps, from a table of leap costs.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

from jumpsteps.costs import LeapCosts
from jumpsteps.schedule import TimeSchedule

__all__ = ["golden_section", "hierarchical", "shortest_path", "shortest_paths"]

GOLDEN = (math.sqrt(5) - 1) / 2


def golden_section(objective: Callable[[float], float], low: float, high: float, *, tolerance: float) -> float:
    """The maximiser of a unimodal function on (low, high); never an end point. One evaluation for each step after the first.

    Stops when the two inner points are closer than ``tolerance``.
    """
    if not low < high:
        raise ValueError(f"golden section needs low < high, got {low} and {high}")
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = objective(left), objective(right)
    while right - left > tolerance:
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = objective(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = objective(right)
    return left if at_left > at_right else right


def hierarchical(split: Callable[[float, float], float], levels: int, *, t_min: float) -> list[tuple[float, ...]]:
    """Break (1, t_min) into 1, 2, 4, ..., 2^levels leaps; ``split(u, t)`` gives the time between u and t.

    Returns:
        The times of every level, decreasing; level k has 2^k leaps.
    """
    times: tuple[float, ...] = (1.0, t_min)
    found = [times]
    for _ in range(levels):
        middle = [split(u, t) for u, t in pairwise(times)]
        times = tuple(sorted({*times, *middle}, reverse=True))
        found.append(times)
    return found


def shortest_paths(costs: LeapCosts, nfe: Iterable[int]) -> dict[int, TimeSchedule]:
    """The cheapest schedule from the grid's first time to its last, for each number of leaps.

    best_N(k) = min_i best_{N-1}(i) + cost(i, k): O(N G^2) for all N together, and no model calls.

    Raises:
        ValueError: a number of leaps below 1, or more leaps than the grid has intervals.
    """
    wanted = sorted(set(nfe))
    intervals = len(costs.grid) - 1
    if not wanted or wanted[0] < 1 or wanted[-1] > intervals:
        raise ValueError(f"a grid of {intervals} intervals has schedules of 1 to {intervals} leaps, asked for {wanted}")
    best = costs.value[0]
    came_from: list[np.ndarray] = []
    for _ in range(wanted[-1] - 1):
        through = best[:, None] + costs.value
        came_from.append(through.argmin(0))
        best = through.min(0)
    return {n: TimeSchedule(costs.grid[trace(came_from[: n - 1], intervals)]) for n in wanted}


def trace(came_from: list[np.ndarray], last: int) -> list[int]:
    """The path that ends at grid point ``last``, as grid indices from 0."""
    path = [last]
    for step in reversed(came_from):
        path.append(int(step[path[-1]]))
    return [0, *reversed(path)]


def shortest_path(costs: LeapCosts, n: int) -> TimeSchedule:
    """The cheapest schedule of n leaps."""
    return shortest_paths(costs, [n])[n]
