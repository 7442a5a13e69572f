r"""The shortest path: the cheapest schedule for every number of steps, from one pass over data.

Costs of steps add up to a bound on the error of a run, so the best schedule of N steps minimises

.. math:: \sum_{k=1}^{N} \mathrm{cost}(t_{k-1} \to t_k).

What a step costs depends on what the sampler holds fixed in it (``Sampler.holds``):

* the context (Tweedie, ancestral): for the absorbing kernel the ``information_profile``, else
  ``path_costs``;
* the rates up to the first jump (Euler): the same as for the context. Costs that count the frozen
  clock found worse schedules (docs/schedules.md);
* the rates (tau-leaping): ``path_costs`` with ``hold_time``;
* the count (k-Gillespie): ``count_costs`` in a reveal order.

Costs of the absorbing kernel are measured by data (``Measure``), so that the cheapest schedule is
that of the least few-step NLL, whatever the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Blocks, Random, RevealOrder
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.by_block import block_costs
from jumpsteps.search.costs.by_count import CountCosts, count_costs
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import ErrorCorrection
from jumpsteps.search.costs.information_profile import (
    ProfileCosts,
    information_profile,
    time_grid,
)
from jumpsteps.search.costs.table import Calibration, Measure, StepCosts
from jumpsteps.search.doubts import doubt_calibration
from jumpsteps.search.dynamic_programming import fewest_steps, shortest_paths
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.paths import Paths

__all__ = ["ShortestPath"]


@dataclass(frozen=True)
class ShortestPath:
    """The shortest path on a grid of step costs, as a search.

    Attributes:
        evaluations: model evaluations at most.
        bandwidth: of the smoothing of measured costs, in evaluations. Minimising noisy estimates
            overfits their noise: without smoothing the schedules are worse, and their predicted
            costs several standard errors too low.
        grid_intervals: of the grid on which schedules are chosen; for times it is raised to 4 x
            the largest number of steps.
        order: the reveal order of a sampler that counts sites; any but the random one needs such a
            sampler.
        sites: at most so many sites are compared by ``path_costs``; its default if None.
        correction: the surviving fraction of errors; the kernel's default if None.
        measure: whether costs of the absorbing kernel are measured by data or by the model; other
            kernels, and tau-leaping, have those of ``path_costs``, the model's.
        within_blocks: for an order of ``Blocks``: no step crosses from one block into the next
            (semi-autoregressive decoding), see ``block_costs``.

    Raises:
        ValueError: ``within_blocks`` with another order.
    """

    evaluations: int = 32
    bandwidth: float = 2.0
    grid_intervals: int = 512
    order: RevealOrder = Random()
    sites: int | None = None
    correction: ErrorCorrection | None = None
    measure: Measure = Measure.DATA
    within_blocks: bool = False

    def __post_init__(self) -> None:
        if self.within_blocks and not isinstance(self.order, Blocks):
            raise ValueError(
                f"within_blocks is for an order of blocks, got {self.order.name}; "
                "pass order=Blocks(size, inner)"
            )

    @property
    def name(self) -> str:
        return "shortest-path" if self.order == Random() else f"shortest-path-{self.order.name}"

    @property
    def sampler(self) -> Sampler:
        return Tweedie() if self.order == Random() else KGillespie()

    @property
    def max_evaluations(self) -> int:
        return self.evaluations

    def measures_by_data(self, forward: ForwardProcess, sampler: Sampler) -> bool:
        """For the absorbing kernel, and samplers whose own costs these are."""
        return (
            self.measure is Measure.DATA and isinstance(forward, Absorbing) and has_bound(sampler)
        )

    def costs(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        sampler: Sampler,
        *,
        max_steps: int,
        generator: torch.Generator,
    ) -> StepCosts:
        """The table of costs for schedules of at most ``max_steps`` steps.

        Raises:
            ValueError: a sampler or kernel whose costs are not known, or a reveal order with a
                sampler of times.
        """
        if sampler.holds is None:
            raise ValueError(
                "the shortest path serves tweedie, ancestral, euler, tau-leaping and k-gillespie, "
                f"got {sampler.name}; choose one of these, or --method jys"
            )
        if sampler.holds is Held.COUNT:
            return self.costs_of_counts(reverse, paths, generator)
        if self.order != Random():
            raise ValueError(
                f"sampler {sampler.name} follows times, in random order; "
                f"for {self.order.name} order use k-gillespie"
            )
        grid_intervals = max(self.grid_intervals, 4 * max_steps)
        if isinstance(reverse.forward, Absorbing) and sampler.holds is not Held.RATES:
            profile = information_profile(
                reverse, paths, evaluations=self.evaluations, measure=self.measure
            )
            grid = time_grid(profile.forward, grid_intervals)
            return profile.smoothed(self.bandwidth).step_costs(grid)
        return path_costs(
            reverse,
            paths,
            evaluations=self.evaluations,
            grid_intervals=grid_intervals,
            sites=self.sites,
            hold_time=sampler.holds is Held.RATES,
            correction=self.correction,
            bandwidth=self.bandwidth,
            max_steps=max_steps,
            generator=generator,
        )

    def costs_of_counts(
        self, reverse: ReverseProcess, paths: Paths, generator: torch.Generator
    ) -> CountCosts:
        """The table for a sampler that counts sites, within blocks if those are to be kept."""
        estimate = (
            partial(block_costs, reverse, paths, self.order)
            if self.within_blocks and isinstance(self.order, Blocks)
            else partial(count_costs, reverse, paths, self.order)
        )
        return estimate(
            evaluations=self.evaluations,
            bandwidth=self.bandwidth,
            grid_intervals=self.grid_intervals,
            measure=self.measure,
            generator=generator,
        )

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """The cheapest schedule for each number of steps; raises ValueError as ``costs``."""
        costs = self.costs(reverse, paths, sampler, max_steps=max(steps), generator=generator)
        doubt_calibration(calibration_of(costs))
        return {
            n: predicted(costs, found, sampler) for n, found in shortest_paths(costs, steps).items()
        }

    def find_within(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        tolerance: float,
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> FoundSchedule:
        """The fewest steps whose error is at most ``tolerance`` nats per sequence.

        Raises:
            ValueError: as ``costs``, or no schedule on the grid is within the tolerance.
        """
        costs = self.costs(reverse, paths, sampler, max_steps=1, generator=generator)
        doubt_calibration(calibration_of(costs))
        return predicted(costs, fewest_steps(costs, tolerance), sampler)


def calibration_of(costs: StepCosts) -> tuple[Calibration, ...]:
    return costs.calibration if isinstance(costs, ProfileCosts | CountCosts) else ()


def has_bound(sampler: Sampler) -> bool:
    """Whether costs by data are those of the sampler itself."""
    return sampler.holds in (Held.CONTEXT, Held.COUNT)


def predicted(costs: StepCosts, schedule: Schedule, sampler: Sampler) -> FoundSchedule:
    """The schedule with its error; with its few-step NLL, where that is of this sampler.

    Euler's schedules have the costs of Tweedie's sampler, so they get no bound.
    """
    few_step = costs.few_step(schedule) if has_bound(sampler) else None
    return FoundSchedule(schedule, *costs.predict(schedule), few_step)
