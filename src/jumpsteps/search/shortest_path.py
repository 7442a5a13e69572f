"""The cheapest schedule for every number of model calls from one pass over data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.ancestral import Ancestral
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.by_path import rate_costs
from jumpsteps.search.costs.correction import ErrorCorrection
from jumpsteps.search.costs.information_profile import grid_of_times, information_profile
from jumpsteps.search.costs.table import StepCosts
from jumpsteps.search.dynamic_programming import fewest_steps, shortest_paths
from jumpsteps.search.paths import Paths

__all__ = ["ShortestPath"]


@dataclass(frozen=True)
class ShortestPath:
    """The cheapest schedule for every NFE from one pass over the data.

    What a step costs depends on the sampler: for the absorbing kernel and Tweedie's, times from the information profile; for one
    that counts jumps, numbers of jumps in a reveal order; for other kernels, and for tau-leaping, times from rates of divergence
    (see ``rate_costs``). Euler's sampler is served as Tweedie's: what it loses by holding the clock heals, or is small.

    Attributes:
        knots: points at most at which the model is asked; one call each.
        bandwidth: of the smoothing of what is measured, in knots. A search on numbers as measured picks their noise: it finds worse
            schedules, and predicts their costs several standard errors too low.
        grid: intervals of the grid on which schedules are chosen; for times, raised to 4 x the largest number of steps.
        order: the order in which a sampler that counts jumps reveals the sites; any but the random one needs such a sampler.
        sites: at most so many sites are compared by ``rate_costs``; its default unless given.
        error correction: what later steps leave of an error; the kernel's default unless given.
    """

    knots: int = 32
    bandwidth: float = 2.0
    grid: int = 512
    order: RevealOrder = Random()
    sites: int | None = None
    correction: ErrorCorrection | None = None

    @property
    def name(self) -> str:
        return "shortest-path" if self.order == Random() else f"shortest-path-{self.order.name}"

    @property
    def sampler(self) -> Sampler:
        return Tweedie() if self.order == Random() else KGillespie()

    def costs(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        sampler: Sampler,
        *,
        steps: int,
        generator: torch.Generator,
    ) -> StepCosts:
        """The table of costs for schedules of at most so many steps.

        Raises:
            ValueError: a sampler or kernel that the costs are not known for.
        """
        if isinstance(sampler, KGillespie):
            sizes = {"knots": self.knots, "points": self.grid}
            return count_costs(
                reverse, paths, self.order, **sizes, bandwidth=self.bandwidth, generator=generator
            )
        if self.order != Random():
            raise ValueError(
                f"sampler {sampler.name} follows times, in random order; for {self.order.name} order use k-gillespie"
            )
        intervals = max(self.grid, 4 * steps)
        if isinstance(reverse.forward, Absorbing) and isinstance(
            sampler, Tweedie | Ancestral | Euler
        ):
            profile = information_profile(reverse, paths, knots=self.knots).smoothed(self.bandwidth)
            return profile.step_costs(grid_of_times(profile.forward, intervals))
        if not isinstance(sampler, Tweedie | Euler | TauLeaping):
            raise ValueError(
                f"the shortest path serves tweedie, ancestral, euler, tau-leaping and k-gillespie, got {sampler.name}; "
                "choose one of these, or --method jys"
            )
        return rate_costs(
            reverse,
            paths,
            points=self.knots,
            intervals=intervals,
            sites=self.sites,
            hold_time=isinstance(sampler, TauLeaping),
            correction=self.correction,
            bandwidth=self.bandwidth,
            steps=steps,
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
    ) -> Mapping[int, Schedule]:
        """Raises ValueError for a sampler or kernel that the costs are not known for."""
        costs = self.costs(reverse, paths, sampler, steps=max(steps), generator=generator)
        return {
            n: with_cost(schedule, *costs.predict(schedule))
            for n, schedule in shortest_paths(costs, steps).items()
        }

    def find_within(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        tolerance: float,
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Schedule:
        """The cheapest schedule with the fewest steps whose predicted error is at most ``tolerance`` nats per sequence."""
        costs = self.costs(reverse, paths, sampler, steps=1, generator=generator)
        schedule = fewest_steps(costs, tolerance)
        return with_cost(schedule, *costs.predict(schedule))


def with_cost(schedule: Schedule, cost: float, stderr: float) -> Schedule:
    return replace(
        schedule, provenance=Provenance(predicted_cost=cost, predicted_cost_stderr=stderr)
    )
