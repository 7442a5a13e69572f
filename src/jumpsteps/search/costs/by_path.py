r"""Path costs: the KL divergence between the paths of the time reversal and those of a step.

At a time :math:`\tau` in (s, t) the time reversal jumps at rates :math:`\hat R_\tau`, the step from
:math:`x_t` at rates :math:`\hat R_{\tau|t}`. The KL divergence of the two path measures is, by
Girsanov's theorem,

.. math:: \mathrm{cost}(t \to s) = \int_s^t e(t, \tau) \, d\tau, \qquad
    e(t, \tau) = E \sum_l \sum_{y \ne x_\tau}
        \phi\big( \hat R_\tau(y), \hat R_{\tau|t}(y) \big), \quad
    \phi(a, b) = a \log\frac{a}{b} - a + b.

:math:`x_t` and :math:`x_\tau` lie on one forward path of the same data. The step's rates are

* with a frozen context (Tweedie): noise level and own state of the time :math:`\tau`, leave-one-out
  posterior of the time t. For an exact model the cost is the total correlation of the sites' paths,
  without discretisation error;
* with frozen rates (tau-leaping): the noise level, too, is that of t.

One model call at each of K times gives e for every pair of them (``divergence``);
``divergence_table`` interpolates and integrates, ``evaluation_times`` chooses the times. Where the
kernel lets later steps revise tokens, the cost of a step is multiplied by the surviving fraction of
its error (``correction``). What is proved of these costs: docs/theory.md.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.correction import (
    NO_CORRECTION,
    ErrorCorrection,
    with_false_acceptance,
)
from jumpsteps.search.costs.divergence import PathEvaluations
from jumpsteps.search.costs.divergence_table import DivergenceTable
from jumpsteps.search.costs.evaluation_times import costliest_times, first_times
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths

__all__ = ["PathCosts", "path_costs"]


@dataclass(frozen=True)
class PathCosts(StepCosts):
    """Path costs on a grid of times.

    Attributes:
        table: the divergence rates that the costs are integrated from.
        final: those of steps to t = 0, which every sampler makes as Tweedie's does.
    """

    table: DivergenceTable
    final: DivergenceTable

    @classmethod
    def on_grid(
        cls,
        table: DivergenceTable,
        final: DivergenceTable,
        grid_intervals: int,
        t_min: float = 0.0,
    ) -> "PathCosts":
        """The costs on a grid of so many intervals at least, without times between ``t_min`` and
        0.
        """
        grid = table.grid(grid_intervals)
        grid = grid[(grid >= t_min) | (grid == 0)]
        cost = table.step_costs(grid, table.node_rates.mean(-1))
        cost[:, -1] = final.step_costs(grid, final.node_rates.mean(-1))[:, -1]
        surviving = table.surviving_fraction(grid)
        return cls(grid, steps_only(surviving * cost), len(table.times), table, final)

    @cached_property
    def stderr(self) -> Floats:
        each, last = (
            np.stack(
                [table.step_costs(self.grid, one) for one in np.moveaxis(table.node_rates, -1, 0)],
                -1,
            )
            for table in (self.table, self.final)
        )
        each[:, -1] = last[:, -1]
        return steps_only(self.table.surviving_fraction(self.grid) * standard_error(each))

    def schedule(self, grid_points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[grid_points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""
        steps = schedule.plan(self.table.forward)
        surviving = self.table.surviving_fraction(np.array([step.s for step in steps]))
        total = surviving @ np.stack([self.step(step.t, step.s) for step in steps])
        return float(total.mean()), float(standard_error(total))

    def step(self, t: float, s: float) -> Floats:
        """The divergence of one step for each sequence, [B], before error correction."""
        inner = self.grid[(self.grid < t) & (self.grid > s)]
        times = np.concatenate([[t], inner, [s]])
        table = self.table if s > 0 else self.final
        rho, at = table.correlation(times), table.positions(times)
        rates = table.interpolate(np.full_like(at, at[0]), at, table.node_rates).T
        integrand = table.integrand(rates, rho)
        return 0.5 * (integrand[:, 1:] + integrand[:, :-1]) @ np.diff(rho)


@dataclass(frozen=True)
class Precision:
    """How finely path costs are estimated; the arguments of ``path_costs`` of the same names."""

    evaluations: int
    grid_intervals: int
    bandwidth: float
    max_steps: int | None
    hold_time: bool
    t_min: float


class Refinement:
    """Path costs that become more precise with every batch of evaluated times.

    Args:
        evaluations: the sites that are compared; no evaluations yet.
        correction: the surviving fraction of errors; measured from the evaluations if need be.
        precision: how fine.

    Attributes:
        tables: the divergence rates of all evaluations so far, as measured: those of steps, and of
            steps to t = 0.
    """

    tables: tuple[DivergenceTable, DivergenceTable]

    def __init__(
        self, evaluations: PathEvaluations, correction: ErrorCorrection, precision: Precision
    ) -> None:
        self.evaluations, self.correction, self.precision = evaluations, correction, precision
        self.last_costs: PathCosts | None = None
        most = precision.evaluations
        self.add_times(
            first_times(
                evaluations.reverse.forward,
                min(most, max(most // 4, 3)),
                rare_corruption=correction.false_acceptance is None,
                t_min=precision.t_min,
            )
        )

    def add_times(self, times: Floats) -> None:
        """Evaluate the model at these times, one call for each."""
        self.evaluations = self.evaluations.with_times(times.tolist())
        self.correction = with_false_acceptance(self.correction, self.evaluations)
        holds = (True, False) if self.precision.hold_time else (False,)
        known = np.asarray(self.evaluations.times)
        tables = [
            DivergenceTable(self.evaluations.reverse.forward, known, rates, self.correction)
            for rates in self.evaluations.divergence_rates(*holds)
        ]
        self.tables = tables[0], tables[-1]

    def costs(self) -> PathCosts:
        """The costs from all evaluations so far."""
        table, final = (one.smoothed(self.precision.bandwidth) for one in self.tables)
        precision = self.precision
        return PathCosts.on_grid(table, final, precision.grid_intervals, precision.t_min)

    def next_times(self) -> Floats:
        """Times in the costliest intervals: twice as many in all, as far as evaluations allow."""
        known = len(self.evaluations.times)
        return costliest_times(self.tables[0], min(known, self.precision.evaluations - known))

    def settled(self) -> bool:
        """Whether evaluations are used up, or the last batch changed no cost that matters."""
        if len(self.evaluations.times) >= self.precision.evaluations:
            return True
        if self.precision.max_steps is None:
            return False
        before, after = self.last_costs, self.costs()
        self.last_costs = after
        return before is not None and unchanged(before, after, self.precision.max_steps)


def unchanged(before: PathCosts, after: PathCosts, max_steps: int) -> bool:
    """Whether the best schedules' costs changed by less than their standard errors.

    It looks at every power of two up to ``max_steps`` steps.
    """
    budgets = [2**k for k in range(min(max_steps, len(before.grid) - 1).bit_length())]
    old, new = (shortest_paths(costs, budgets) for costs in (before, after))
    for n in budgets:
        cost, stderr = after.predict(new[n])
        if abs(cost - before.predict(old[n])[0]) > stderr:
            return False
    return True


@kinds_checked()
@torch.no_grad()
def path_costs(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    evaluations: int = 32,
    grid_intervals: int = 256,
    sites: int | None = None,
    hold_time: bool = False,
    correction: ErrorCorrection | None = None,
    bandwidth: float = 2.0,
    max_steps: int | None = 64,
    t_min: float = 0.0,
    generator: torch.Generator,
) -> PathCosts:
    """Estimate the table of path costs from forward paths of data.

    Args:
        reverse: the reverse process, of any kernel.
        paths: forward paths of B >= 2 sequences; observed sites do not count.
        evaluations: model evaluations at most. A quarter of their times are equally spaced in
            correlation, the others halve the costliest intervals, until the best schedules' costs
            change by less than their standard errors.
        grid_intervals: of the grid of the table, at least.
        sites: free sites at most at which rates are compared, spread over the sequences; see
            ``some_free_sites`` for the default.
        hold_time: the step holds its rates fixed (tau-leaping); else its context alone.
        correction: the surviving fraction of errors. By default ``ErrorCorrection()`` for kernels
            that revise tokens and ``NO_CORRECTION`` for the absorbing one.
        bandwidth: of the smoothing over pairs of times, see ``DivergenceTable.smoothed``.
        max_steps: the most steps of a schedule that is wanted; None to use all evaluations.
        t_min: no step ends between this time and 0, and the model is not evaluated there.
        generator: chooses the sites.

    Raises:
        ValueError: fewer than two sequences or three evaluations, or a jump that is possible at
            one time and impossible from an earlier one.
    """
    check_at_least(1, grid_intervals=grid_intervals, sites=sites, max_steps=max_steps)
    check_at_least(0, bandwidth=bandwidth)
    if evaluations < 3:
        raise ValueError(f"path costs need at least 3 evaluations, got {evaluations}; raise it")
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    if correction is None:
        correction = ErrorCorrection() if reverse.forward.revisable else NO_CORRECTION
    compared = PathEvaluations.draw(reverse, paths, sites, generator=generator)
    precision = Precision(evaluations, grid_intervals, bandwidth, max_steps, hold_time, t_min)
    refinement = Refinement(compared, correction, precision)
    while not refinement.settled():
        refinement.add_times(refinement.next_times())
    return refinement.costs()
