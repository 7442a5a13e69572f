r"""Costs of steps by the few-step NLL of the sampler's own steps, for kernels that revise tokens.

The cost of a step is its part of the bound of -log p of data (``nll_bounds``),

.. math:: \mathrm{cost}(t \to s) = E \sum_l \mathrm{KL}\big(q(x_s^l \mid x_t^l, x_0^l)
    \,\|\, p^l(x_s^l \mid x_t)\big),

:math:`p^l` the sampler's step. It knows what path costs do not: the jumps that tau-leaping rejects,
and whether the network is right. The sum over a schedule bounds -log p of data, so the shortest
path has the least few-step NLL on its grid. A mistake that later steps repair counts in full, so
the bound is loose, and a race decides whether the schedule is good.

One model evaluation at each time t serves the steps to all s < t.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from jumpsteps.core.draws import uniform
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.checks import CheckedModel
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import Schedule, Step, TimeSchedule
from jumpsteps.search.costs.nll_bounds import divergence_of_step, reference_grid
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["NllCosts", "nll_costs"]

NUMBERS = 2**21
"""The most sites times symbols at which steps are compared."""


@dataclass(frozen=True)
class NllCosts(StepCosts):
    """Costs by the few-step NLL on a grid of times.

    Attributes:
        parts: the cost of every step for each sequence, nats, [G, G, B]; infinite where no step is,
            or where the sampler excludes the data.
    """

    parts: Floats

    @property
    def stderr(self) -> Floats:
        finite = np.isfinite(self.value)
        stderr = standard_error(np.where(np.isfinite(self.parts), self.parts, 0.0))
        return np.where(finite, stderr, np.inf)

    def schedule(self, grid_points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[grid_points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The few-step NLL of a schedule on the grid, without the term of t = 1, and its standard
        error.

        Raises:
            ValueError: times that are not on the grid.
        """
        if not isinstance(schedule, TimeSchedule) or not set(schedule.times) <= set(self.grid):
            raise ValueError("these costs are known for schedules of times on their grid alone")
        at = np.searchsorted(-self.grid, -np.array(schedule.times))
        total = self.parts[at[:-1], at[1:]].sum(0)
        stderr = float(standard_error(total)) if np.isfinite(total).all() else np.inf
        return float(total.mean()), stderr


@torch.no_grad()
def nll_costs(
    reverse: ReverseProcess,
    paths: Paths,
    sampler: Sampler,
    *,
    evaluations: int = 32,
    generator: torch.Generator,
) -> NllCosts:
    """The table of costs from forward paths of data.

    Args:
        reverse: a reverse process of a kernel that revises tokens.
        paths: forward paths of B >= 2 sequences; observed sites do not count.
        sampler: one whose step draws sites independently.
        evaluations: model evaluations, at half as many times equally spaced in t, and as many in
            the correlation of x_0 and x_t.
        generator: chooses the sites at which steps are compared, where not all are.

    Raises:
        ValueError: a sampler without independent sites, or fewer than two sequences.
    """
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    reverse = replace(reverse, model=CheckedModel(MicroBatches(reverse.model)))
    grid = grid_of(reverse, evaluations)
    free = paths.free.sum(-1)
    share = NUMBERS / (reverse.forward.vocab_size * float(free.sum()))
    u = uniform(tuple(paths.free.shape), generator=generator, device=generator.device)
    compared = paths.free & (u.to(paths.free.device) < share)
    scale = (free / compared.sum(-1).clamp_min(1)).cpu().numpy()
    parts = np.full((len(grid), len(grid), len(paths.data)), np.inf)
    for i, t in enumerate(grid[:-1].tolist()):
        x = paths(t)
        evaluated = replace(reverse, model=reverse.evaluate(x, t, compared))
        for k, s in enumerate(grid[i + 1 :].tolist(), i + 1):
            step = divergence_of_step(evaluated, paths, x, Step(t, s), sampler, compared)
            parts[i, k] = scale * step.cpu().numpy()
    return NllCosts(grid, steps_only(parts.mean(-1)), len(grid) - 1, parts)


def grid_of(reverse: ReverseProcess, evaluations: int) -> Floats:
    """Times from 1 to 0, decreasing, of which ``evaluations`` are positive."""
    half = (evaluations + 1) // 2
    equal = np.linspace(1, 0, half + 1)
    times = {*equal.tolist(), *reference_grid(reverse.forward, evaluations - half + 1).times}
    return np.array(sorted(times, reverse=True))
