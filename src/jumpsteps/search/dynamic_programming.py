r"""The cheapest schedule of every number of steps on a grid, by dynamic programming.

With C_n(k) the least cost of n steps from the first grid point to the k-th,

.. math:: C_{n+1}(k) = \min_{i < k} \big[ C_n(i) + \mathrm{cost}(i, k) \big],

O(G^2) for each n, and no model evaluations beyond those of the table.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import Floats
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.table import StepCosts

__all__ = ["ErrorCurve", "error_curve", "fewest_steps", "shortest_path", "shortest_paths"]


@kinds_checked()
def shortest_paths(costs: StepCosts, steps: Iterable[int]) -> dict[int, Schedule]:
    """The cheapest schedule from the first grid point to the last, for each number of steps.

    Raises:
        ValueError: a number of steps below 1 or the number of blocks, more steps than the grid
            has intervals, or so few that every schedule costs infinitely much.
    """
    wanted = sorted(set(steps))
    check_steps(costs, wanted)
    paths = islice(best_paths(costs), wanted[-1] + 1 - costs.least_steps)
    found = {n: path for n, path in enumerate(paths, costs.least_steps) if n in wanted}
    for n, path in found.items():
        if not np.isfinite(costs.value[path[:-1], path[1:]]).all():
            raise ValueError(
                f"every schedule of {n} steps costs infinitely much: its steps exclude some of the "
                "data; use more steps, or tweedie, whose steps exclude none"
            )
    return {n: costs.schedule(path) for n, path in found.items()}


def check_steps(costs: StepCosts, wanted: list[int]) -> None:
    intervals = len(costs.grid) - 1
    if not wanted or wanted[0] < 1 or wanted[-1] > intervals:
        raise ValueError(
            f"a grid of {intervals} intervals has schedules of 1 to {intervals} steps, got "
            f"{wanted}; ask for at most {intervals}"
        )
    if wanted[0] < costs.least_steps:
        raise ValueError(
            f"{costs.least_steps} blocks take {costs.least_steps} steps at least, got {wanted}; "
            "raise the number of model calls, or make the blocks larger"
        )


def best_paths(costs: StepCosts) -> Iterator[list[int]]:
    """The cheapest paths of n, n + 1, n + 2, ... steps over the grid, as indices of grid points;
    n is the least number that there is.
    """
    best, last = costs.value[0], len(costs.grid) - 1
    into = np.ascontiguousarray(costs.value.T)
    came_from: list[np.ndarray] = []
    for n in range(1, last + 1):
        if n >= costs.least_steps:
            yield trace(came_from, last)
        through = best + into
        came_from.append(through.argmin(-1))
        best = np.take_along_axis(through, came_from[-1][:, None], -1)[:, 0]


def trace(came_from: list[np.ndarray], last: int) -> list[int]:
    """The path that ends at grid point ``last``, as indices from 0."""
    path = [last]
    for before in reversed(came_from):
        path.append(int(before[path[-1]]))
    return [0, *reversed(path)]


@kinds_checked()
def shortest_path(costs: StepCosts, steps: int) -> Schedule:
    """The cheapest schedule of this many steps; raises ValueError as ``shortest_paths``."""
    return shortest_paths(costs, [steps])[steps]


@dataclass(frozen=True)
class ErrorCurve:
    """The error of the best schedules against their number of steps.

    Attributes:
        steps: 1, 2, 3 ... (from the number of blocks on), int64 [N].
        cost: nats per sequence, [N].
        stderr: its standard error over the sequences of the search, [N].
    """

    steps: np.ndarray
    cost: Floats
    stderr: Floats


@kinds_checked()
def error_curve(costs: StepCosts, max_steps: int) -> ErrorCurve:
    """The error of the cheapest schedules of 1 to ``max_steps`` steps.

    Raises:
        ValueError: fewer than 1 or the number of blocks, or more steps than the grid has intervals.
    """
    least = min(costs.least_steps, max_steps)
    found = shortest_paths(costs, range(least, max_steps + 1))
    cost, stderr = zip(*(costs.predict(schedule) for schedule in found.values()), strict=True)
    return ErrorCurve(np.arange(least, max_steps + 1), np.asarray(cost), np.asarray(stderr))


@kinds_checked()
def fewest_steps(costs: StepCosts, tolerance: float) -> Schedule:
    """The cheapest schedule with the fewest steps whose error is within a tolerance.

    Args:
        tolerance: nats per sequence.

    Raises:
        ValueError: no schedule on the grid has so small an error.
    """
    lowest = math.inf
    for path in best_paths(costs):
        schedule = costs.schedule(path)
        cost = costs.predict(schedule)[0]
        if cost <= tolerance:
            return schedule
        lowest = min(lowest, cost)
    raise ValueError(
        f"no schedule on this grid has an error of {tolerance:g} nats per sequence or "
        f"less, the least is {lowest:.3g}; raise the tolerance, or the grid"
    )
