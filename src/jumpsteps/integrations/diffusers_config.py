"""What the config of ``JumpStepsScheduler`` holds, as objects: samplers and schedules."""

from collections.abc import Mapping
from typing import Any

from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.ancestral import ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.multistep import MultistepKGillespie, MultistepTweedie
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.files import read_schedule
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = [
    "INTERPOLATED",
    "SAMPLERS",
    "SPACINGS",
    "build_sampler",
    "check_kinds",
    "read_entry",
    "sampler_to_json",
]

SAMPLERS: dict[str, type[Sampler]] = {
    "tweedie": Tweedie,
    "euler": Euler,
    "tau-leaping": TauLeaping,
    "remdm": ReMDM,
    "k-gillespie": KGillespie,
    "tweedie-multistep": MultistepTweedie,
    "k-gillespie-multistep": MultistepKGillespie,
}
"""Samplers whose step is one model call, at x_t and t, for all sequences."""

SPACINGS = {"uniform": uniform, "cosine": cosine}
"""Fixed times, for numbers of steps without an optimised schedule."""

INTERPOLATED = "interpolated"
"""The optimised schedule with the nearest number of steps, interpolated."""


def sampler_to_json(sampler: Sampler) -> dict[str, Any]:
    """Type and settings of a sampler, for the config.

    Raises:
        ValueError: a sampler that is not in ``SAMPLERS``.
    """
    for name, kind in SAMPLERS.items():
        if type(sampler) is kind:
            return {"type": name, **vars(sampler)}
    raise ValueError(
        f"sampler {sampler.name} cannot make a step from one model output and a time, which is all "
        f"that a step of diffusers gets; choose {', '.join(SAMPLERS)}"
    )


def build_sampler(content: Mapping[str, Any]) -> Sampler:
    """The sampler that ``sampler_to_json`` has written."""
    settings = dict(content)
    kind = settings.pop("type")
    if kind not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {kind!r} for a step of diffusers; choose {', '.join(SAMPLERS)}"
        )
    return SAMPLERS[kind](**settings)


def read_entry(entry: Mapping[str, Any], forward: ForwardProcess) -> Schedule:
    """A schedule from its JSON entry; raises ValueError for corrections or another kernel."""
    schedule = read_schedule(entry)
    if schedule.redraws:
        raise ValueError(
            f"the schedule for {entry['nfe']} steps has corrections, which a step of diffusers "
            "does not make; leave out the redraws"
        )
    schedule.check_kernel(forward, "the scheduler")
    return schedule


def check_kinds(
    sampler: Sampler, schedules: Mapping[int, Schedule], timestep_spacing: str | None
) -> None:
    """Raises ValueError for schedules that the sampler does not follow."""
    takes = sampler.takes
    for nfe, schedule in schedules.items():
        if takes is not None and not isinstance(schedule, takes):
            has = "counts" if isinstance(schedule, CountSchedule) else "times"
            other = default_sampler(schedule).name
            raise ValueError(
                f"the schedule for {nfe} steps has {has}, which sampler {sampler.name} does not "
                f"follow; use {other} for all of them, or schedules of one kind"
            )
    if takes is CountSchedule and timestep_spacing in SPACINGS:
        raise ValueError(
            f"timestep_spacing={timestep_spacing!r} are times, and sampler {sampler.name} follows "
            "counts; use 'interpolated'"
        )
    if timestep_spacing == INTERPOLATED and not schedules:
        raise ValueError("timestep_spacing='interpolated' needs schedules; pass some")
