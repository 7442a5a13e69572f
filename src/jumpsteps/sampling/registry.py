"""All samplers by name."""

from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = ["default_sampler"]


def default_sampler(schedule: Schedule) -> Sampler:
    """Tweedie's sampler for times, k-Gillespie for jumps: the same distribution of a step, at times or in numbers."""
    return KGillespie() if isinstance(schedule, CountSchedule) else Tweedie()
