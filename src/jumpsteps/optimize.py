"""Schedules for a model: one call, every method."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from jumpsteps.costs import InformationProfile, grid_of_times, information_profile
from jumpsteps.klub import Klub, Path
from jumpsteps.reverse import ReverseProcess
from jumpsteps.samplers import Sampler, Tweedie
from jumpsteps.schedule import Provenance, TimeSchedule
from jumpsteps.search import golden_section, hierarchical, shortest_paths
from jumpsteps.simulate import CallCounter
from jumpsteps.version import __version__

__all__ = ["JYS", "Method", "ShortestPath", "optimize_schedule"]


class Method(Protocol):
    """A way to choose times: schedules for each NFE, from forward paths of data."""

    name: ClassVar[str]

    def find(self, reverse: ReverseProcess, path: Path, nfe: list[int], sampler: Sampler) -> dict[int, TimeSchedule]: ...


@dataclass(frozen=True)
class JYS:
    """Jump Your Steps as published: golden section on the KLUB, hierarchically (Park et al. 2025, Alg. 1 and 2).

    Attributes:
        t_min: where the search ends; the schedule's last time becomes 0, so that the last leap denoises.
        tolerance: a golden-section search stops when s moves less than this.
    """

    name: ClassVar[str] = "jys"
    t_min: float = 1e-3
    tolerance: float = 1 / 4096

    def find(self, reverse: ReverseProcess, path: Path, nfe: list[int], sampler: Sampler) -> dict[int, TimeSchedule]:
        """Raises ValueError unless every NFE is a power of two."""
        if any(n < 1 or n & (n - 1) for n in nfe):
            raise ValueError(f"JYS finds schedules for powers of two only, asked for NFE {nfe}; use --method shortest-path")

        def split(u: float, t: float) -> float:
            return golden_section(Klub(reverse, path, u, t), t, u, tolerance=self.tolerance)

        levels = hierarchical(split, max(nfe).bit_length() - 1, t_min=self.t_min)
        return {n: TimeSchedule([*levels[n.bit_length() - 1][:-1], 0.0]) for n in nfe}


@dataclass(frozen=True)
class ShortestPath:
    """The cheapest schedule for every NFE, from the information profile: one model call for each knot.

    Attributes:
        knots: points at which the profile is measured.
        bandwidth: of the smoothing of the profile, in knots. A search on the profile as measured picks its noise: it finds worse
            schedules, and predicts their costs several standard errors too low.
        grid: intervals of the grid on which schedules are chosen; raised to 4 x the largest NFE.
    """

    name: ClassVar[str] = "shortest-path"
    knots: int = 48
    bandwidth: float = 2.0
    grid: int = 512

    def find(self, reverse: ReverseProcess, path: Path, nfe: list[int], sampler: Sampler) -> dict[int, TimeSchedule]:
        """Raises ValueError for a sampler other than Tweedie, or a kernel other than the absorbing one."""
        if not isinstance(sampler, Tweedie):
            raise ValueError(
                f"the information profile prices Tweedie's leaps, not those of {sampler.name}; "
                "use --sampler tweedie, or --method jys"
            )
        profile = information_profile(reverse, path, knots=self.knots).smoothed(self.bandwidth)
        costs = profile.leap_costs(grid_of_times(profile.forward, max(self.grid, 4 * max(nfe))))
        found = shortest_paths(costs, nfe)
        return {n: with_cost(schedule, profile) for n, schedule in found.items()}


def with_cost(schedule: TimeSchedule, profile: InformationProfile) -> TimeSchedule:
    cost, stderr = profile.predict(schedule)
    return replace(schedule, provenance=Provenance(predicted_cost=cost, predicted_cost_stderr=stderr))


def optimize_schedule(
    reverse: ReverseProcess,
    data: Tensor,
    nfe: Iterable[int],
    *,
    generator: torch.Generator,
    method: Method | None = None,
    sampler: Sampler | None = None,
    about: Provenance = Provenance(),
) -> dict[int, TimeSchedule]:
    """Good times for a model, from samples of its data.

    Args:
        reverse: the reverse process.
        data: int64 [B, L], sequences like those the model was trained on; 16 to 64 are usually enough.
        nfe: numbers of steps.
        generator: makes the noise, on the device of ``data``.
        method: ``ShortestPath()`` unless given, or ``JYS()``.
        sampler: the sampler that will run; ``Tweedie()`` unless given.
        about: model and data, for the schedules' provenance.

    Returns:
        A schedule for each NFE, with its provenance (model calls counted).

    Raises:
        ValueError: an NFE that the method does not give, a sampler or kernel that it does not serve, or tokens that data
            cannot hold.
    """
    method, sampler = method or ShortestPath(), sampler or Tweedie()
    budgets = sorted(set(nfe))
    if not budgets:
        raise ValueError("name at least one NFE")
    if data.ndim != 2 or not len(data):
        raise ValueError(f"data must be tokens int64 [B, L], got shape {list(data.shape)}")
    reverse.forward.check_data(data, "data")
    counter = CallCounter(reverse.model)
    path = reverse.forward.sample_path(data, generator=generator)
    found = method.find(replace(reverse, model=counter), path, budgets, sampler)
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
    return {n: replace(schedule, provenance=merge(known, schedule.provenance)) for n, schedule in found.items()}


def merge(known: Provenance, cost: Provenance) -> Provenance:
    """``known`` with the method's own prediction."""
    return replace(known, predicted_cost=cost.predicted_cost, predicted_cost_stderr=cost.predicted_cost_stderr)
