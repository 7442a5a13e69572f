r"""Few-step NLL costs: what a sampler's own step adds to the bound on data, for every kernel.

A step of a sampler that draws sites independently adds

.. math:: d(t \to s) = E \sum_l \mathrm{KL}\big(r(x_s^l \mid x_t^l, x_0^l) \,\|\,
    p^l(x_s^l \mid x_t)\big)

nats to the bound of ``nll_bounds``, so the cheapest schedule is the one of the least few-step NLL.
Nothing is assumed of the network, and the sampler's own mistakes count: the clock that Euler
freezes, the jumps that tau-leaping rejects.

One model evaluation at t gives the step to every s. In the correlation :math:`\rho`
(``correlation``) a step covers the share :math:`u = (\rho(s) - \rho(t)) / (1 - \rho(t))` of the way
to t = 0, and d / u varies slowly with t and u. It is measured at K times and C shares, and
interpolated linearly in both.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.information import Floats, kl_divergence, standard_error
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import Schedule, Step, TimeSchedule
from jumpsteps.search.costs.correlation import correlation, time_of_correlation
from jumpsteps.search.costs.divergence import some_free_sites
from jumpsteps.search.costs.evaluation_times import correlation_range
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.information_profile import time_grid
from jumpsteps.search.costs.nll_bounds import (
    bridge_of_data,
    prior_divergence,
    reference_grid,
    state_of_run,
)
from jumpsteps.search.costs.smoothing import local_line
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["NllCosts", "NllTable", "nll_costs"]

SHARES = np.concatenate([np.geomspace(1e-3, 0.2, 10), np.linspace(0.2, 1, 10)[1:-1], [0.98]])
"""The shares u of the way to t = 0 at which steps are measured, [C]; the first stands for the limit
of ever shorter steps."""

FINER = 8
"""Rows of a smoothed table for each evaluated time."""

REFERENCE_STEPS = 64
"""Steps of the run that the excess is over, where it is no limit."""


@dataclass(frozen=True)
class NllTable:
    """The bound's parts of steps from K evaluated times, of B sequences, nats per sequence.

    Attributes:
        forward: the forward process.
        rho: the correlations at the evaluated times, increasing, [K].
        rates: of the step from each time to each share, over the share, [K, C, B].
        last: of the step from each time to t = 0, [K, B].
        tweedie: ``rates`` of Tweedie's sampler, [K, C, B].
        start: KL of the forward process's end and the prior, [B].
        sites: free sites of a sequence, on average.
    """

    forward: ForwardProcess
    rho: Floats
    rates: Floats
    last: Floats
    tweedie: Floats
    start: Floats
    sites: float

    def positions(self, rho: Floats) -> Floats:
        """Where correlations lie among the evaluated ones: i + f between the i-th and the next."""
        return np.interp(rho, self.rho, np.arange(len(self.rho)))

    def steps(self, rho: Floats, then: Floats, rates: Floats) -> Floats:
        """Steps between correlations rho <= then < 1, [N] each, [N, ...]; ``rates`` [K, C, ...]."""
        share = (then - rho) / (1 - rho)
        place = np.interp(share, SHARES, np.arange(len(SHARES)))
        column = np.minimum(place.astype(int), len(SHARES) - 2)
        row = np.minimum(self.positions(rho).astype(int), len(self.rho) - 2)
        down, right = self.positions(rho) - row, place - column
        near, far = (mixed(rates[i, column], rates[i, column + 1], right) for i in (row, row + 1))
        return scaled(mixed(near, far, down), share)

    def steps_to_zero(self, rho: Floats, last: Floats) -> Floats:
        """Steps from correlations [N] to t = 0, [N, ...]; ``last`` [K, ...]."""
        row = np.minimum(self.positions(rho).astype(int), len(self.rho) - 2)
        return mixed(last[row], last[row + 1], self.positions(rho) - row)

    def smoothed(self, bandwidth: float) -> "NllTable":
        """The table with less noise from time to time: the logarithm of each column's mean, fitted
        by a line around each time.

        It has ``FINER`` times as many rows, because on a table with corners the best schedules stop
        at the corners.

        Args:
            bandwidth: standard deviation of the fit's Gaussian weights, in evaluated times; 0
                changes nothing.
        """
        if bandwidth == 0:
            return self
        rows = np.arange(FINER * (len(self.rho) - 1) + 1) / FINER
        rates, last = (smooth_rows(each, rows, bandwidth) for each in (self.rates, self.last))
        rho = np.interp(rows, np.arange(len(self.rho)), self.rho)
        return replace(self, rho=rho, rates=rates, last=last)

    def reference(self) -> Floats:
        """The bound of many steps of Tweedie's sampler, [B]: for the absorbing kernel in the limit
        of ever shorter steps, for others along ``reference_grid``.
        """
        if not isinstance(self.forward, Absorbing):
            return self.bound(reference_grid(self.forward, REFERENCE_STEPS), self.tweedie)
        limit = scaled(self.tweedie[:, 0], 1 / (1 - self.rho))
        inner = scaled(0.5 * (limit[1:] + limit[:-1]), np.diff(self.rho)).sum(0)
        return self.start + inner + self.last[-1]

    def bound(self, schedule: TimeSchedule, rates: Floats) -> Floats:
        """The bound of a run along a schedule from 1 to 0, [B], by ``rates`` [K, C, B]."""
        rho = correlation(self.forward, np.asarray(schedule.times[:-1]))
        inner = self.steps(rho[:-1], rho[1:], rates).sum(0)
        return self.start + inner + self.steps_to_zero(rho[-1:], self.last)[0]


def mixed(a: Floats, b: Floats, share: Floats) -> Floats:
    """(1 - share) a + share b over the first axis; infinite where a part that counts is."""
    total = np.zeros_like(a)
    for weight, part in ((1 - share, a), (share, b)):
        weight = weight.reshape(-1, *[1] * (a.ndim - 1))
        total += np.where(weight > 0, np.where(weight > 0, part, 0) * weight, 0)
    return total


def scaled(values: Floats, factor: Floats) -> Floats:
    """Values [N, ...] times one factor [N] each; zero where the factor is."""
    factor = factor.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(factor > 0, values, 0) * factor


def smooth_rows(values: Floats, rows: Floats, bandwidth: float) -> Floats:
    """Values [K, ..., B] at fractional ``rows`` [N], [N, ..., B]: interpolated, and each sequence
    scaled by what smoothing over K does to their mean.

    Columns in which a mean is zero or infinite are only interpolated.
    """
    at = np.arange(len(values), dtype=np.float64)
    row = np.minimum(rows.astype(int), len(values) - 2)
    between = mixed(values[row], values[row + 1], rows - row)
    mean = values.mean(-1)
    fine = (np.isfinite(mean) & (mean > 0)).all(0)
    smooth = np.exp(
        np.tensordot(local_line(at, rows, bandwidth), np.log(np.where(fine, mean, 1.0)), 1)
    )
    factor = np.where(fine, smooth / np.where(fine, between.mean(-1), 1.0), 1.0)
    return between * factor[..., None]


@dataclass(frozen=True)
class NllCosts(StepCosts):
    """Costs on a grid of times, from a table of the bound's parts.

    Attributes:
        table: the table that schedules are chosen by.
        measured: the table as measured, which few-step NLLs are read from.
    """

    table: NllTable
    measured: NllTable

    @classmethod
    def on_grid(cls, measured: NllTable, bandwidth: float, grid_intervals: int) -> "NllCosts":
        """The costs on a grid of so many intervals at least; the one that ends at t = 0 is not
        divided.
        """
        table, evaluated = measured.smoothed(bandwidth), len(measured.rho)
        pieces = -(-grid_intervals // (evaluated - 1))
        points = np.arange(pieces * (evaluated - 1) + 1) / pieces
        rho = np.interp(points, np.arange(evaluated), measured.rho)
        times = time_of_correlation(measured.forward, rho)
        times[0] = 1.0
        value = grid_costs(table, rho, table.rates.mean(-1), table.last.mean(-1))
        return cls(np.append(times, 0.0), value, evaluated, table, measured)

    @cached_property
    def stderr(self) -> Floats:
        rho = correlation(self.table.forward, self.grid[:-1])
        each = [
            grid_costs(self.table, rho, self.table.rates[..., b], self.table.last[:, b])
            for b in range(self.table.last.shape[-1])
        ]
        return steps_only(standard_error(np.stack(each, -1)))

    def schedule(self, grid_points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[grid_points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The excess of ``few_step`` and its standard error, nats per sequence."""
        measured = self.few_step(schedule)
        return measured.excess, measured.excess_stderr

    def few_step(self, schedule: Schedule) -> FewStepNLL:
        """The few-step NLL and its excess over many steps of Tweedie's sampler.

        It is interpolated between the evaluations, from the sequences of the search.
        """
        assert isinstance(schedule, TimeSchedule)
        table = self.measured
        bound, reference = table.bound(schedule, table.rates), table.reference()
        return FewStepNLL(bound, reference, table.sites, self.model_calls)


def grid_costs(table: NllTable, rho: Floats, rates: Floats, last: Floats) -> Floats:
    """The cost of every step on a grid of correlations [G - 1] and t = 0, [G, G]; rates [K, C] and
    last steps [K] of the table.
    """
    start, end = np.triu_indices(len(rho), 1)
    value = np.full((len(rho) + 1, len(rho) + 1), np.inf)
    value[start, end] = table.steps(rho[start], rho[end], rates)
    value[:-1, -1] = table.steps_to_zero(rho, last)
    return value


@torch.no_grad()
def nll_costs(
    reverse: ReverseProcess,
    paths: Paths,
    sampler: Sampler,
    *,
    evaluations: int = 32,
    grid_intervals: int = 256,
    sites: int | None = None,
    bandwidth: float = 2.0,
    t_min: float = 0.0,
    generator: torch.Generator,
) -> NllCosts:
    """Estimate the table of a sampler's own steps from forward paths of data.

    Args:
        reverse: the reverse process, of any kernel.
        paths: forward paths of B >= 2 sequences; observed sites do not count.
        sampler: one whose step draws sites independently (``Sampler.site_distribution``).
        evaluations: model evaluations.
        grid_intervals: of the grid of the table, at least.
        sites: free sites at most at which steps are compared, spread over the sequences; see
            ``some_free_sites`` for the default.
        bandwidth: of the smoothing over times, see ``NllTable.smoothed``.
        t_min: no step ends between this time and 0, and the model is not evaluated there; for
            kernels that revise tokens.
        generator: chooses the sites.

    Raises:
        ValueError: fewer than two sequences or four evaluations, or a sampler whose step does not
            draw sites independently.
    """
    if evaluations < 4:
        raise ValueError(f"few-step NLL costs need 4 evaluations or more, got {evaluations}")
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    forward = reverse.forward
    compared = some_free_sites(paths, sites, generator=generator)
    measure = StepMeasurement(reverse, paths, sampler, compared)
    rows = [measure.row(t) for t in row_times(forward, evaluations, t_min).tolist()]
    return NllCosts.on_grid(measure.table(rows), bandwidth, grid_intervals)


def row_times(forward: ForwardProcess, count: int, t_min: float) -> Floats:
    """Times from 1, decreasing, [count].

    Absorbing kernel: those of the information profile. Others: equally spaced in the sum of rho,
    log(1 - rho) and half of log(rho), each scaled to its range, because their costs go on changing
    towards both ends.
    """
    if isinstance(forward, Absorbing):
        return time_grid(forward, count)[:-1]
    first, last = correlation_range(forward, t_min)
    rho = np.union1d(np.geomspace(first, last, 4096), 1 - np.geomspace(1 - first, 1 - last, 4096))
    place = sum(
        weight * (each - each[0]) / (each[-1] - each[0])
        for weight, each in ((1.0, rho), (1.0, np.log1p(-rho)), (0.5, np.log(rho)))
    )
    times = time_of_correlation(forward, np.interp(np.linspace(0, 2.5, count), place, rho))
    times[0] = 1.0
    return times


@dataclass(frozen=True)
class Row:
    """The bound's parts of the steps from one evaluated time; see ``NllTable``."""

    rho: float
    rates: Floats
    last: Floats
    tweedie: Floats


@dataclass(frozen=True)
class StepMeasurement:
    """Measures the steps of a sampler from any time, on forward paths of data.

    Attributes:
        reverse: the reverse process.
        paths: forward paths of B sequences, which processes share.
        sampler: whose steps are measured.
        compared: the sites at which they are, bool [B, L].
    """

    reverse: ReverseProcess
    paths: Paths
    sampler: Sampler
    compared: Tensor

    def row(self, t: float) -> Row:
        """The steps from t, by one model call."""
        mine, forward = self.paths.own, self.reverse.forward
        x, compared = state_of_run(mine, t), self.compared[self.paths.own_rows]
        rho = float(correlation(forward, np.asarray(t)))
        ends = time_of_correlation(forward, rho + (1 - rho) * SHARES)
        wanted = [(self.sampler, Step(t, s)) for s in (*ends.tolist(), 0.0)]
        if self.sampler != Tweedie():
            wanted += [(Tweedie(), Step(t, s)) for s in ends.tolist()]
        where = SiteMask(compared & forward.movable(x))
        evaluation = self.reverse.evaluate(x, t, where)
        total = torch.zeros(len(wanted), len(x), dtype=torch.float64, device=x.device)
        for chunk in site_chunks(where, forward.vocab_size):
            known = Evaluation(evaluation(x, t, chunk), chunk, lambda rows, tokens: rows)
            of_chunk = replace(self.reverse, model=known)
            for k, (sampler, step) in enumerate(wanted):
                drawn = sampler.site_distribution(of_chunk, x, step, chunk.mask)
                target = bridge_of_data(forward, chunk.select(mine.data), chunk.select(x), step)
                total[k].index_add_(0, chunk.rows, kl_divergence(target, drawn))
        share = compared.sum(-1) / mine.free.sum(-1)
        bounds = self.paths.of_all((total / share).clamp_min(0).T).T.cpu().numpy()
        own, last, tweedie = np.split(bounds, [len(SHARES), len(SHARES) + 1])
        rates = own / SHARES[:, None]
        return Row(rho, rates, last[0], tweedie / SHARES[:, None] if len(tweedie) else rates)

    def table(self, rows: list[Row]) -> NllTable:
        """The table of rows at decreasing times."""
        return NllTable(
            self.reverse.forward,
            np.array([row.rho for row in rows]),
            np.stack([row.rates for row in rows]),
            np.stack([row.last for row in rows]),
            np.stack([row.tweedie for row in rows]),
            prior_divergence(self.paths).cpu().numpy(),
            float(self.paths.free.sum(-1).double().mean()),
        )
