"""Schedules for a model: one call, every method."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.method import Method
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.version import __version__

__all__ = ["optimize_schedule"]


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
            how many steps an NFE allows.
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
    steps = {n: sampler.steps(n) for n in sorted(set(nfe))}
    if bool(steps) == (tolerance is not None):
        raise ValueError("name at least one NFE, or a tolerance in place of them")
    if data.ndim != 2 or not len(data):
        raise ValueError(f"data must be tokens int64 [B, L], got shape {list(data.shape)}")
    counter = CallCounter(reverse.model)
    paths = Paths.draw(reverse.forward, data, generator=generator, given_mask=given_mask)
    counted = replace(reverse, model=counter)
    if tolerance is None:
        found = method.find(
            counted, paths, sorted(set(steps.values())), sampler, generator=generator
        )
    else:
        if not isinstance(method, ShortestPath):
            raise ValueError(
                f"method {method.name} does not predict errors; for a tolerance use the shortest path"
            )
        schedule = method.find_within(counted, paths, tolerance, sampler, generator=generator)
        found, steps = (
            {schedule.steps: schedule},
            {sampler.calls(schedule.steps) or schedule.steps: schedule.steps},
        )
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
    return {n: with_provenance(found[steps[n]], known) for n in steps}


def with_provenance(schedule: Schedule, known: Provenance) -> Schedule:
    return replace(schedule, provenance=merge(known, schedule.provenance))


def merge(known: Provenance, cost: Provenance) -> Provenance:
    """``known`` with the method's own prediction."""
    return replace(
        known, predicted_cost=cost.predicted_cost, predicted_cost_stderr=cost.predicted_cost_stderr
    )
