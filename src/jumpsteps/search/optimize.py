"""Schedules for a model: one call, every method."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import Absorbing
from jumpsteps.sampling.loop import CallCounter
from jumpsteps.sampling.one_stage import Euler, Sampler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import Ancestral, KGillespie
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import JumpSchedule, Provenance, Schedule, TimeSchedule
from jumpsteps.search.costs.by_count import jump_costs
from jumpsteps.search.costs.by_path import rate_costs
from jumpsteps.search.costs.correction import Healing
from jumpsteps.search.costs.information_profile import grid_of_times, information_profile
from jumpsteps.search.costs.table import LeapCosts
from jumpsteps.search.dynamic_programming import (
    fewest_leaps,
    golden_section,
    golden_section_integer,
    hierarchical,
    hierarchical_jumps,
    shortest_paths,
)
from jumpsteps.search.klub import JumpKlub, Klub
from jumpsteps.search.learned_order import learn_order
from jumpsteps.search.paths import Paths
from jumpsteps.version import __version__

__all__ = ["JYS", "LearnedOrder", "Method", "ShortestPath", "optimize_schedule"]


class Method(Protocol):
    """A way to choose leaps: schedules for each number of leaps, from forward paths of data."""

    @property
    def name(self) -> str: ...

    @property
    def sampler(self) -> Sampler:
        """The sampler that its schedules are for, unless another is asked for."""
        ...

    def find(
        self, reverse: ReverseProcess, paths: Paths, leaps: list[int], sampler: Sampler, *, generator: torch.Generator
    ) -> Mapping[int, Schedule]: ...


@dataclass(frozen=True)
class JYS:
    """Jump Your Steps: golden section on the KLUB, hierarchically (Park et al. 2025, Alg. 1 and 2); as published by default.

    Attributes:
        t_min: where the search ends; the schedule's last time becomes 0, so that the last leap denoises.
        tolerance: a golden-section search stops when s moves less than this.
        full: the whole Girsanov integrand in place of its logarithm part.
        hold_time: freeze the coarse rates in time as well as in context; False suits Tweedie's leaps (see ``klub``).
    """

    t_min: float = 1e-3
    tolerance: float = 1 / 4096
    full: bool = False
    hold_time: bool = True

    @property
    def name(self) -> str:
        return "jys" + "-full" * self.full + "-context" * (not self.hold_time)

    @property
    def sampler(self) -> Sampler:
        return Tweedie()

    def find(
        self, reverse: ReverseProcess, paths: Paths, leaps: list[int], sampler: Sampler, *, generator: torch.Generator
    ) -> Mapping[int, Schedule]:
        """Raises ValueError unless every number of leaps is a power of two; for jumps, there is the published form only."""
        if any(n < 1 or n & (n - 1) for n in leaps):
            raise ValueError(f"JYS finds schedules for powers of two only, asked for {leaps} leaps; use --method shortest-path")
        find = self.find_jumps if sampler.takes is JumpSchedule else self.find_times
        return find(reverse, paths, leaps)

    def find_times(self, reverse: ReverseProcess, paths: Paths, leaps: list[int]) -> Mapping[int, Schedule]:
        def klub(u: float, t: float) -> Klub:
            return Klub(reverse, paths, u, t, full=self.full, hold_time=self.hold_time)

        def split(u: float, t: float) -> float:
            return golden_section(klub(u, t), t, u, tolerance=self.tolerance)

        levels = hierarchical(split, max(leaps).bit_length() - 1, t_min=self.t_min)
        return {n: TimeSchedule([*levels[n.bit_length() - 1][:-1], 0.0]) for n in leaps}

    def find_jumps(self, reverse: ReverseProcess, paths: Paths, leaps: list[int]) -> Mapping[int, Schedule]:
        if self.full or not self.hold_time:
            raise ValueError(f"method {self.name} searches times, and this sampler counts jumps; use --method jys")

        def split(n_u: int, n_t: int) -> int:
            return golden_section_integer(JumpKlub(reverse, paths, n_u, n_t), n_t, n_u)

        levels = hierarchical_jumps(split, max(leaps).bit_length() - 1, total=paths.sites)
        return {n: JumpSchedule([a - b for a, b in pairwise(levels[n.bit_length() - 1])]) for n in leaps}


@dataclass(frozen=True)
class ShortestPath:
    """The cheapest schedule for every NFE from one pass over the data.

    What a leap costs depends on the sampler: for the absorbing kernel and Tweedie's, times from the information profile; for one
    that counts jumps, numbers of jumps in a reveal order; for other kernels, and for tau-leaping, times from rates of divergence
    (see ``rate_costs``). Euler's sampler is served as Tweedie's: what it loses by holding the clock heals, or is small.

    Attributes:
        knots: points at most at which the model is asked; one call each.
        bandwidth: of the smoothing of what is measured, in knots. A search on numbers as measured picks their noise: it finds worse
            schedules, and predicts their costs several standard errors too low.
        grid: intervals of the grid on which schedules are chosen; for times, raised to 4 x the largest number of leaps.
        order: the order in which a sampler that counts jumps reveals the sites; any but the random one needs such a sampler.
        sites: at most so many sites are compared by ``rate_costs``; its default unless given.
        healing: what later leaps leave of an error; the kernel's default unless given.
    """

    knots: int = 32
    bandwidth: float = 2.0
    grid: int = 512
    order: RevealOrder = Random()
    sites: int | None = None
    healing: Healing | None = None

    @property
    def name(self) -> str:
        return "shortest-path" if self.order == Random() else f"shortest-path-{self.order.name}"

    @property
    def sampler(self) -> Sampler:
        return Tweedie() if self.order == Random() else KGillespie()

    def costs(
        self, reverse: ReverseProcess, paths: Paths, sampler: Sampler, *, leaps: int, generator: torch.Generator
    ) -> LeapCosts:
        """The table of costs for schedules of at most so many leaps.

        Raises:
            ValueError: a sampler or kernel that the costs are not known for.
        """
        if isinstance(sampler, KGillespie):
            sizes = {"knots": self.knots, "points": self.grid}
            return jump_costs(reverse, paths, self.order, **sizes, bandwidth=self.bandwidth, generator=generator)
        if self.order != Random():
            raise ValueError(f"sampler {sampler.name} follows times, in random order; for {self.order.name} order use k-gillespie")
        intervals = max(self.grid, 4 * leaps)
        if isinstance(reverse.forward, Absorbing) and isinstance(sampler, Tweedie | Ancestral | Euler):
            profile = information_profile(reverse, paths, knots=self.knots).smoothed(self.bandwidth)
            return profile.leap_costs(grid_of_times(profile.forward, intervals))
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
            healing=self.healing,
            bandwidth=self.bandwidth,
            leaps=leaps,
            generator=generator,
        )

    def find(
        self, reverse: ReverseProcess, paths: Paths, leaps: list[int], sampler: Sampler, *, generator: torch.Generator
    ) -> Mapping[int, Schedule]:
        """Raises ValueError for a sampler or kernel that the costs are not known for."""
        costs = self.costs(reverse, paths, sampler, leaps=max(leaps), generator=generator)
        return {n: with_cost(schedule, *costs.predict(schedule)) for n, schedule in shortest_paths(costs, leaps).items()}

    def find_within(
        self, reverse: ReverseProcess, paths: Paths, tolerance: float, sampler: Sampler, *, generator: torch.Generator
    ) -> Schedule:
        """The cheapest schedule with the fewest leaps whose predicted error is at most ``tolerance`` nats per sequence."""
        costs = self.costs(reverse, paths, sampler, leaps=1, generator=generator)
        schedule = fewest_leaps(costs, tolerance)
        return with_cost(schedule, *costs.predict(schedule))


@dataclass(frozen=True)
class LearnedOrder(ShortestPath):
    """The shortest path in an order learned from the same data (see ``learn_order``).

    Attributes:
        calls: of the model, that the order is learned from; those of the path come on top.
        stationary: the data look the same everywhere.
    """

    calls: int = 16
    stationary: bool = False

    @property
    def name(self) -> str:
        return "shortest-path-learned"

    @property
    def sampler(self) -> Sampler:
        return KGillespie()

    def costs(
        self, reverse: ReverseProcess, paths: Paths, sampler: Sampler, *, leaps: int, generator: torch.Generator
    ) -> LeapCosts:
        """The table of costs in the learned order; raises ValueError for a sampler that does not count jumps."""
        if not isinstance(sampler, KGillespie):
            raise ValueError(f"sampler {sampler.name} follows times, in random order; a learned order needs k-gillespie")
        order = learn_order(reverse, paths, calls=self.calls, stationary=self.stationary, generator=generator)
        path = ShortestPath(self.knots, self.bandwidth, self.grid, order)
        return path.costs(reverse, paths, sampler, leaps=leaps, generator=generator)


def with_cost(schedule: Schedule, cost: float, stderr: float) -> Schedule:
    return replace(schedule, provenance=Provenance(predicted_cost=cost, predicted_cost_stderr=stderr))


def optimize_schedule(
    reverse: ReverseProcess,
    data: Tensor,
    nfe: Iterable[int] = (),
    *,
    tolerance: float | None = None,
    generator: torch.Generator,
    method: Method | None = None,
    sampler: Sampler | None = None,
    given_mask: Tensor | None = None,
    about: Provenance = Provenance(),
) -> dict[int, Schedule]:
    """Good times (or numbers of jumps) for a model, from samples of its data.

    Args:
        reverse: the reverse process.
        data: int64 [B, L], sequences like those the model was trained on; 16 to 64 are usually enough.
        nfe: numbers of model calls.
        tolerance: in place of ``nfe``, the predicted error that is wanted, nats per sequence; the fewest steps are found.
        generator: makes the noise, on the device of ``data``.
        method: ``ShortestPath()`` unless given, or ``JYS()``.
        sampler: the sampler that will run; the method's own unless given. It decides whether the schedule has times or jumps, and
            how many leaps an NFE allows.
        given_mask: bool [L] or [B, L], the sites that will be given when sampling; they stay as in the data.
        about: model and data, for the schedules' provenance.

    Returns:
        A schedule for each NFE, with its provenance (model calls counted).

    Raises:
        ValueError: an NFE that the method or the sampler does not give, a tolerance that no schedule keeps, a sampler or kernel
            that it does not serve, or tokens that data cannot hold.
    """
    method = method or ShortestPath()
    sampler = sampler or method.sampler
    sampler.check(reverse.forward)
    leaps = {n: sampler.leaps(n) for n in sorted(set(nfe))}
    if bool(leaps) == (tolerance is not None):
        raise ValueError("name at least one NFE, or a tolerance in place of them")
    if data.ndim != 2 or not len(data):
        raise ValueError(f"data must be tokens int64 [B, L], got shape {list(data.shape)}")
    counter = CallCounter(reverse.model)
    paths = Paths.draw(reverse.forward, data, generator=generator, given_mask=given_mask)
    counted = replace(reverse, model=counter)
    if tolerance is None:
        found = method.find(counted, paths, sorted(set(leaps.values())), sampler, generator=generator)
    else:
        if not isinstance(method, ShortestPath):
            raise ValueError(f"method {method.name} does not predict errors; for a tolerance use the shortest path")
        schedule = method.find_within(counted, paths, tolerance, sampler, generator=generator)
        found, leaps = {schedule.leaps: schedule}, {sampler.calls(schedule.leaps) or schedule.leaps: schedule.leaps}
    known = replace(
        about,
        method=method.name,
        kernel=reverse.forward.name,
        noise=repr(reverse.forward.noise),
        sampler=sampler.name,
        sequences=len(data),
        seed=generator.initial_seed(),
        model_calls=counter.calls,
        version=__version__,
    )
    return {n: with_provenance(found[leaps[n]], known) for n in leaps}


def with_provenance(schedule: Schedule, known: Provenance) -> Schedule:
    return replace(schedule, provenance=merge(known, schedule.provenance))


def merge(known: Provenance, cost: Provenance) -> Provenance:
    """``known`` with the method's own prediction."""
    return replace(known, predicted_cost=cost.predicted_cost, predicted_cost_stderr=cost.predicted_cost_stderr)
