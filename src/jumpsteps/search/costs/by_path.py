r"""What a step costs with any kernel: the divergence of paths, from the rates at two times.

A step from t to s continues with what was known at t. At a time :math:`\tau` in between, the time reversal jumps at rates
:math:`\hat R_\tau`, the step at :math:`\hat R_{\tau|t}`, and the KL divergence between the two distributions of paths is (Girsanov)

.. math:: \mathrm{cost}(t \to s) = \int_s^t e(t, \tau) \, d\tau, \qquad
    e(t, \tau) = E \sum_l \sum_{y \ne x_\tau} \phi\big( \hat R_\tau(y), \hat R_{\tau|t}(y) \big), \quad
    \phi(a, b) = a \log\frac{a}{b} - a + b.

Both states lie on one forward path of the same data, so x_t and x_tau have their true joint distribution. What the step's rates are depends
on the sampler:

* frozen context (Tweedie): noise level and own state are those of the moment, the leave-one-out posterior is that of t. For an
  exact model the cost is the total correlation of the sites' paths, and no discretisation of time comes in;
* frozen rates (Euler, tau-leaping): the noise level is that of t, too. (``ShortestPath`` serves Euler's sampler as Tweedie's.)

One model call for each of K times gives e for every pair of them. Between them e is interpolated: linearly in each triangle that
the diagonals (t_i, t_j), (t_i+1, t_j+1) cut, so that it stays zero at tau = t. The measured times are chosen where a step costs
most, by bisection. Coordinates and integrals are in the correlation that is left, rho = exp(-gap total(t)), which runs over (0, 1]:
what is found does not depend on how the noise runs in time.

Where the kernel lets later steps repair mistakes (``ForwardProcess.revisable``), a step counts with the share that ``ErrorCorrection`` leaves.
"""

import heapq
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.correction import (
    NO_CORRECTION,
    RARE,
    ErrorCorrection,
    hit_by,
    measured,
    time_of_hits,
)
from jumpsteps.search.costs.divergence import Comparison
from jumpsteps.search.costs.smoothing import local_plane
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths

__all__ = ["RateCosts", "rate_costs"]

SITES, NUMBERS = 2**13, 2**25
"""Sites, and sites times symbols, that are compared at most, unless the caller says how many."""

LATEST = 1e-3
"""Jumps of a site that are expected before the last measured time; rates are not defined at t = 0."""


@dataclass(frozen=True)
class RateTable:
    """The rate of divergence between measured times, per unit of noise.

    Attributes:
        forward: the forward process.
        times: decreasing, [K].
        parts: parts[i, j] is e(t_i, t_j) / sigma(t_j) of each sequence, i < j; zero elsewhere. Float64 [K, K, B].
        error correction: what is left of the errors.
    """

    forward: ForwardProcess
    times: Floats
    parts: Floats
    correction: ErrorCorrection

    def correlation(self, times: Floats) -> Floats:
        total = self.forward.noise.total(
            torch.from_numpy(np.ascontiguousarray(times, dtype=np.float64))
        )
        return torch.exp(-self.forward.spectral_gap * total).numpy()

    def time_of(self, rho: Floats) -> Floats:
        return self.forward.noise.inverse(
            torch.from_numpy(-np.log(rho) / self.forward.spectral_gap)
        ).numpy()

    @cached_property
    def knots(self) -> Floats:
        """The measured times and 0, decreasing, [K + 1]."""
        return np.append(self.times, 0.0)

    @cached_property
    def rho(self) -> Floats:
        """At the knots, increasing to 1, [K + 1]."""
        return self.correlation(self.knots)

    @cached_property
    def filled(self) -> Floats:
        """``parts`` with t = 0, where rates cannot be measured, [K + 1, K + 1, B]: they continue growing as in the interval before."""
        growth = self.parts[-2, -1] * (self.rho[-1] - self.rho[-2]) / (self.rho[-2] - self.rho[-3])
        filled = np.pad(self.parts, ((0, 1), (0, 1), (0, 0)))
        filled[:-1, -1] = self.parts[:, -1] + growth
        return filled

    def positions(self, times: Floats) -> Floats:
        """Where times lie among the knots: i + f between the i-th and the next."""
        return np.interp(self.correlation(times), self.rho, np.arange(len(self.knots)))

    def between(self, start: Floats, end: Floats, parts: Floats) -> Floats:
        """``parts`` [K + 1, K + 1, ...] at positions start <= end, [N] each: linear in the triangles that the diagonals cut."""
        i, j = (np.minimum(p.astype(int), len(self.knots) - 2) for p in (start, end))
        lead = (start - i) - (end - j)
        extra = (slice(None), *[None] * (parts.ndim - 2))
        side = np.where((lead > 0)[extra], parts[i + 1, j], parts[i, j + 1])
        far = np.minimum(start - i, end - j)[extra]
        aside = np.abs(lead)[extra]
        return (1 - far - aside) * parts[i, j] + aside * side + far * parts[i + 1, j + 1]

    def weighted(self, rate: Floats, rho: Floats) -> Floats:
        """The integrand over rho, since d total = -d rho / (gap rho); rate [..., len(rho)]."""
        return rate * rho ** (self.correction.power - 1) / self.forward.spectral_gap

    def kept(self, times: Floats) -> Floats:
        """The share of the cost of steps to these times that is kept."""
        return self.correction.kept(
            hit_by(
                self.forward, torch.from_numpy(np.ascontiguousarray(times, dtype=np.float64))
            ).numpy()
        )

    def steps(self) -> Floats:
        """The cost of the step from each knot to the next, [K]."""
        rate = np.diagonal(self.filled.mean(-1), 1)
        return (
            self.kept(self.knots[1:]) * 0.5 * self.weighted(rate, self.rho[1:]) * np.diff(self.rho)
        )

    def subdivided(self, intervals: int) -> Floats:
        """Times from 1 to 0, decreasing: every interval between knots in equal parts of rho, so many intervals in all at least."""
        each = -(-intervals // len(self.times))
        points = np.arange(each * len(self.times) + 1)
        times = self.time_of(np.interp(points / each, np.arange(len(self.knots)), self.rho))
        times[::each] = self.knots
        return np.append(times[times > 0], 0.0)

    def smoothed(self, bandwidth: float) -> "RateTable":
        """The table with less noise from pair to pair: log e / |rho_i - rho_j|, fitted by a plane around every pair.

        Args:
            bandwidth: standard deviation of the fit's Gaussian weights, in measured times; 0 changes nothing.

        Rates below a millionth of the largest are raised to it before the logarithm; every sequence's part is scaled alike.
        """
        i, j = np.triu_indices(len(self.times), 1)
        rate = self.parts.mean(-1)[i, j]
        if bandwidth == 0 or not rate.max() > 0:
            return self
        apart = self.rho[j] - self.rho[i]
        rate = np.maximum(rate, 1e-6 * rate.max())
        plane = local_plane((i, j), np.log(rate / apart), self.rho[: len(self.times)], bandwidth)
        parts = self.parts.copy()
        parts[i, j] *= (apart * np.exp(plane) / rate)[:, None]
        return replace(self, parts=parts)


def cost_table(table: RateTable, grid: Floats, parts: Floats) -> Floats:
    """Costs of all steps on a grid before anything is repaired, [G, G]; ``parts`` [K + 1, K + 1]."""
    rho, at = table.correlation(grid), table.positions(grid)
    start, end = np.triu_indices(len(grid))
    rate = np.zeros((len(grid), len(grid)))
    rate[start, end] = table.between(at[start], at[end], parts)
    integrand = table.weighted(rate, rho)
    area = 0.5 * (integrand[:, 1:] + integrand[:, :-1]) * np.diff(rho)
    area[np.arange(len(grid))[:, None] > np.arange(len(grid) - 1)] = 0
    return np.concatenate([np.zeros((len(grid), 1)), area.cumsum(-1)], -1)


@dataclass(frozen=True)
class RateCosts(StepCosts):
    """Costs on a grid of times, from rates of divergence.

    Attributes:
        table: where the costs come from.
        ends: where those of steps to t = 0 come from; every sampler makes these as Tweedie's does.
    """

    table: RateTable
    ends: RateTable

    @classmethod
    def on_grid(cls, table: RateTable, ends: RateTable, intervals: int) -> "RateCosts":
        """The costs on a grid of so many intervals at least."""
        grid = table.subdivided(intervals)
        cost = cost_table(table, grid, table.filled.mean(-1))
        cost[:, -1] = cost_table(ends, grid, ends.filled.mean(-1))[:, -1]
        return cls(grid, steps_only(table.kept(grid) * cost), len(table.times), table, ends)

    @cached_property
    def stderr(self) -> Floats:
        each, last = (
            np.stack(
                [cost_table(table, self.grid, one) for one in np.moveaxis(table.filled, -1, 0)], -1
            )
            for table in (self.table, self.ends)
        )
        each[:, -1] = last[:, -1]
        return steps_only(self.table.kept(self.grid) * standard_error(each))

    def schedule(self, points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""
        steps = schedule.plan(self.table.forward)
        kept = self.table.kept(np.array([step.s for step in steps]))
        total = kept @ np.stack([self.step(step.t, step.s) for step in steps])
        return float(total.mean()), float(standard_error(total))

    def step(self, t: float, s: float) -> Floats:
        """What one step costs each sequence, [B], before anything is repaired."""
        inner = self.grid[(self.grid < t) & (self.grid > s)]
        times = np.concatenate([[t], inner, [s]])
        table = self.table if s > 0 else self.ends
        rho, at = table.correlation(times), table.positions(times)
        integrand = table.weighted(table.between(np.full_like(at, at[0]), at, table.filled).T, rho)
        return 0.5 * (integrand[:, 1:] + integrand[:, :-1]) @ np.diff(rho)


@torch.no_grad()
def rate_costs(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    points: int = 32,
    intervals: int = 256,
    sites: int | None = None,
    hold_time: bool = False,
    correction: ErrorCorrection | None = None,
    bandwidth: float = 2.0,
    steps: int = 64,
    generator: torch.Generator,
) -> RateCosts:
    """Estimate the table: one model call for each measured time.

    Args:
        reverse: the reverse process, of any kernel.
        paths: forward paths of B >= 2 sequences; given sites do not count.
        points: measured times at most. A quarter are equally spaced in rho, the others halve the intervals that cost most, until
            the best schedules' costs change by less than their standard errors.
        intervals: of the grid of the table, at least.
        sites: free sites at most at which rates are compared, spread over the sequences; see ``SITES`` for the default.
        hold_time: freeze the rates, not the context alone (see ``ShortestPath`` for which sampler wants what).
        error correction: what is left of errors; ``ErrorCorrection()`` for kernels that heal and ``NO_CORRECTION`` for the absorbing one unless given.
        bandwidth: of the smoothing over pairs of times, in times; see ``RateTable.smoothed``.
        steps: the most steps of a schedule that is wanted; 0 to measure at all points.
        generator: chooses the sites.

    Raises:
        ValueError: fewer than two sequences or three points, or a jump that is possible at one time and impossible from an earlier
            one.
    """
    if points < 3:
        raise ValueError(
            f"rates of divergence need at least 3 points, got {points}; pass more knots"
        )
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; pass more data"
        )
    correction = correction or (ErrorCorrection() if reverse.forward.revisable else NO_CORRECTION)
    comparison = Comparison.draw(
        reverse,
        paths,
        sites or min(SITES, NUMBERS // reverse.forward.vocab_size),
        generator=generator,
    )
    holds = (True, False) if hold_time else (False,)
    fresh, found, settled = (
        first_times(
            reverse.forward,
            min(points, max(points // 4, 3)),
            rare=correction.false_acceptance is None,
        ),
        None,
        False,
    )
    while len(fresh):
        comparison = comparison.with_times(fresh.tolist())
        correction = measured(correction, comparison)
        times = np.asarray(comparison.times)
        tables = [
            RateTable(reverse.forward, times, parts, correction)
            for parts in comparison.divergences(*holds)
        ]
        if steps > 0 or len(times) == points:
            smooth = [table.smoothed(bandwidth) for table in tables]
            found, before = RateCosts.on_grid(smooth[0], smooth[-1], intervals), found
            settled = before is not None and unchanged(before, found, steps)
        fresh = halved(tables[0], 0 if settled else min(len(times), points - len(times)))
    assert found is not None
    return found


def first_times(forward: ForwardProcess, points: int, *, rare: bool) -> Floats:
    """Times equally spaced in rho, from 1 to the last that is measured; if ``rare`` an inner one is moved to where noise is."""
    first, last = (
        math.exp(-forward.spectral_gap * float(forward.noise.total(1.0))),
        math.exp(-forward.spectral_gap * LATEST / forward.max_exit_rate),
    )
    times = forward.noise.inverse(
        torch.from_numpy(-np.log(np.linspace(first, last, points)) / forward.spectral_gap)
    ).numpy()
    times[0], wanted = 1.0, time_of_hits(forward, RARE)
    if rare and times[-1] < wanted < 1:
        times[1 + np.abs(times[1:-1] - wanted).argmin()] = wanted
    return np.maximum(times, 1e-6)


def halved(table: RateTable, points: int) -> Floats:
    """So many new times: again and again the interval that costs most is cut in the middle of rho; not the one that ends at 0.

    A piece is taken to cost a quarter of the whole, because costs grow with the square of a short step.
    """
    pieces = [
        (-cost, low, high)
        for cost, low, high in zip(table.steps()[:-1], table.rho, table.rho[1:], strict=False)
    ]
    heapq.heapify(pieces)
    middles = []
    for _ in range(points):
        cost, low, high = heapq.heappop(pieces)
        middle = 0.5 * (low + high)
        middles.append(middle)
        heapq.heappush(pieces, (cost / 4, low, middle))
        heapq.heappush(pieces, (cost / 4, middle, high))
    return table.time_of(np.asarray(middles))


def unchanged(before: RateCosts, after: RateCosts, steps: int) -> bool:
    """Whether the cost of the best schedules, at every power of two up to ``steps``, changed by less than its standard error."""
    budgets = [2**k for k in range(min(steps, len(before.grid) - 1).bit_length())]
    if not budgets:
        return False
    old, new = (shortest_paths(costs, budgets) for costs in (before, after))
    for n in budgets:
        cost, stderr = after.predict(new[n])
        if abs(cost - before.predict(old[n])[0]) > stderr:
            return False
    return True
