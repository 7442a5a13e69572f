r"""The times at which path costs evaluate the model.

The first times divide the correlation :math:`\rho(t) = \exp(-\mathrm{gap}\, \bar\sigma(t))`
equally. Later ones halve, again and again, the interval that costs most. The cost of a short step
grows with the square of its length, so each half is taken to cost a quarter of the whole.
"""

import heapq
import math

import numpy as np

from jumpsteps.core.information import Floats
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.search.costs.correction import RARE_CORRUPTION, corruption_time
from jumpsteps.search.costs.correlation import correlation, time_of_correlation
from jumpsteps.search.costs.divergence_table import DivergenceTable

__all__ = ["correlation_range", "costliest_times", "first_times"]

LAST_NOISE = 1e-3
"""Jumps of a site that are expected before the last evaluated time; there are no rates at t = 0."""


def correlation_range(forward: ForwardProcess, t_min: float = 0.0) -> tuple[float, float]:
    """rho at t = 1 and at the last evaluated time, which is ``t_min`` if that comes earlier."""
    last = math.exp(-forward.spectral_gap * LAST_NOISE / forward.max_exit_rate)
    first, end = correlation(forward, np.asarray([1.0, t_min])).tolist()
    return first, min(last, end)


def first_times(
    forward: ForwardProcess, count: int, *, rare_corruption: bool, t_min: float = 0.0
) -> Floats:
    """Times equally spaced in rho, decreasing from 1 to that of ``LAST_NOISE``, [count].

    Args:
        rare_corruption: move one of the inner times to where false acceptance is measured.
        t_min: the last time, if that of ``LAST_NOISE`` is smaller.
    """
    times = time_of_correlation(forward, np.linspace(*correlation_range(forward, t_min), count))
    times[0], rare = 1.0, corruption_time(forward, RARE_CORRUPTION)
    if rare_corruption and times[-1] < rare < 1:
        times[1 + np.abs(times[1:-1] - rare).argmin()] = rare
    return np.maximum(times, 1e-6)


def costliest_times(table: DivergenceTable, count: int) -> Floats:
    """The middles in rho of the costliest intervals between evaluated times, [count].

    The interval that ends at t = 0 is never halved.
    """
    rho = table.node_correlation
    pieces = [
        (-cost, low, high)
        for cost, low, high in zip(table.interval_costs()[:-1], rho, rho[1:], strict=False)
    ]
    heapq.heapify(pieces)
    middles = []
    for _ in range(count):
        cost, low, high = heapq.heappop(pieces)
        middle = 0.5 * (low + high)
        middles.append(middle)
        heapq.heappush(pieces, (cost / 4, low, middle))
        heapq.heappush(pieces, (cost / 4, middle, high))
    return table.time_of_correlation(np.asarray(middles))
