r"""The shortest path: the cheapest schedule for every number of steps, from one pass over data.

Costs of steps add up to a bound on the error of a run, so the best schedule of N steps minimises

.. math:: \sum_{k=1}^{N} \mathrm{cost}(t_{k-1} \to t_k).

What a step costs depends on what the sampler holds fixed in it (``Sampler.holds``):

* the context (Tweedie, ancestral): for the absorbing kernel the ``information_profile``, else
  ``path_costs``;
* the rates up to the first jump (Euler): the same as for the context;
* the rates (tau-leaping): ``path_costs`` with ``hold_time``;
* the count (k-Gillespie): ``count_costs`` in a reveal order.

Costs are measured by data or by the model (``Measure``). By data the cheapest schedule is that of
the least few-step NLL, whatever the network: costs are those of the profile and of counts, and the
``nll_costs`` of the sampler's own steps for every other kernel and sampler. The default is by
data for the absorbing kernel. Where later steps revise tokens the few-step NLL counts in full what
they correct, and its schedules are worse (docs/evidence.md), so the default is the model's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Blocks, Random, RevealOrder
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.by_block import block_costs
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.by_nll import nll_costs
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NOISE_WEIGHTED, ErrorCorrection
from jumpsteps.search.costs.count_table import CountCosts
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


MOST_STEPS = 1024
"""Of times; the grid has four times as many intervals, and its table the square of that."""


@kinds_checked()
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
        correction: the surviving fraction of errors, and their weight; the kernel's default if
            None. ``NOISE_WEIGHTED`` is for symbols that are numbers, such as intensities.
        measure: what costs are measured by; by default data, and the model where later steps revise
            tokens.
        within_blocks: for an order of ``Blocks``: no step crosses from one block into the next
            (semi-autoregressive decoding), see ``block_costs``.
        t_min: for kernels that revise tokens: no step ends between this time and 0. Costs count
            every detail in nats, so on images they would spend most steps on the last bits of
            intensities.

    Raises:
        ValueError: ``within_blocks`` with another order, ``t_min`` outside [0, 1), or a number that
            is too small.
    """

    evaluations: int = 32
    bandwidth: float = 2.0
    grid_intervals: int = 512
    order: RevealOrder = Random()
    sites: int | None = None
    correction: ErrorCorrection | None = None
    measure: Measure | None = None
    within_blocks: bool = False
    t_min: float = 0.0
    source = "this library; Lavenant & Zanella 2025; Chen et al. 2025"

    def __post_init__(self) -> None:
        check_at_least(1, evaluations=self.evaluations, grid_intervals=self.grid_intervals)
        check_at_least(0, bandwidth=self.bandwidth)
        check_at_least(1, sites=self.sites)
        if not 0 <= self.t_min < 1:
            raise ValueError(f"t_min must be a time in [0, 1), got {self.t_min}")
        if self.within_blocks and not isinstance(self.order, Blocks):
            raise ValueError(
                f"within_blocks is for an order of blocks, got {self.order.name}; "
                "pass order=Blocks(size, inner)"
            )

    @property
    def name(self) -> str:
        weighed = "-noise" * (self.correction == NOISE_WEIGHTED)
        ordered = "" if self.order == Random() else f"-{self.order.name}"
        return f"shortest-path{weighed}{ordered}"

    @property
    def sampler(self) -> Sampler:
        return Tweedie() if self.order == Random() else KGillespie()

    @property
    def max_evaluations(self) -> int:
        return self.evaluations

    def measure_for(self, forward: ForwardProcess) -> Measure:
        """What costs are measured by."""
        return self.measure or (Measure.MODEL if forward.revisable else Measure.DATA)

    def measures_by_data(self, forward: ForwardProcess, sampler: Sampler) -> bool:
        """For the absorbing kernel, and samplers that reveal sites by the model's posterior."""
        reveals = isinstance(forward, Absorbing) and sampler.holds in (Held.CONTEXT, Held.COUNT)
        return reveals and self.measure_for(forward) is Measure.DATA

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
        if self.t_min and not reverse.forward.revisable:
            raise ValueError(
                f"t_min={self.t_min:g} is for kernels that revise tokens, this model has the "
                f"{reverse.forward.name} kernel; leave it out"
            )
        if sampler.holds is Held.COUNT:
            return self.costs_of_counts(reverse, paths, generator)
        if self.order != Random():
            raise ValueError(
                f"sampler {sampler.name} follows times, in random order; "
                f"for {self.order.name} order use k-gillespie"
            )
        return self.costs_of_times(reverse, paths, sampler, max_steps, generator)

    def costs_of_times(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        sampler: Sampler,
        max_steps: int,
        generator: torch.Generator,
    ) -> StepCosts:
        """The table for a sampler that follows times."""
        if max_steps > MOST_STEPS:
            raise ValueError(
                f"the shortest path finds schedules of at most {MOST_STEPS} steps of times, got "
                f"{max_steps}; with so many steps take uniform times"
            )
        measure, holds = self.measure_for(reverse.forward), sampler.holds
        grid_intervals = max(self.grid_intervals, 4 * max_steps)
        by_data, masks = measure is Measure.DATA, isinstance(reverse.forward, Absorbing)
        if masks and (holds is Held.CONTEXT or (holds is Held.FIRST_JUMP and not by_data)):
            profile = information_profile(
                reverse, paths, evaluations=self.evaluations, measure=measure
            )
            grid = time_grid(profile.forward, grid_intervals)
            return profile.smoothed(self.bandwidth).step_costs(grid)
        if by_data:
            return nll_costs(
                reverse,
                paths,
                sampler,
                evaluations=self.evaluations,
                grid_intervals=grid_intervals,
                sites=self.sites,
                bandwidth=self.bandwidth,
                t_min=self.t_min,
                generator=generator,
            )
        return path_costs(
            reverse,
            paths,
            evaluations=self.evaluations,
            grid_intervals=grid_intervals,
            sites=self.sites,
            hold_time=holds is Held.RATES,
            correction=self.correction,
            bandwidth=self.bandwidth,
            max_steps=max_steps,
            t_min=self.t_min,
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
            measure=self.measure_for(reverse.forward),
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
        return {n: predicted(costs, found) for n, found in shortest_paths(costs, steps).items()}

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
        return predicted(costs, fewest_steps(costs, tolerance))


def calibration_of(costs: StepCosts) -> tuple[Calibration, ...]:
    return costs.calibration if isinstance(costs, ProfileCosts | CountCosts) else ()


def predicted(costs: StepCosts, schedule: Schedule) -> FoundSchedule:
    """The schedule with its error, and its few-step NLL where costs are measured by data."""
    return FoundSchedule(schedule, *costs.predict(schedule), costs.few_step(schedule))
