"""Schedules that need no search."""

import math
from collections.abc import Callable

from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule, counts_between

__all__ = ["cosine", "cosine_counts", "uniform", "uniform_counts"]


def uniform(steps: int) -> TimeSchedule:
    """Equal steps in time."""
    check_steps(steps)
    return TimeSchedule([1 - i / steps for i in range(steps)] + [0.0], Provenance(method="uniform"))


def cosine(steps: int) -> TimeSchedule:
    """t_i = cos(pi/2 i/N): few sites first (MaskGIT, Chang et al. 2022, with t the masked fraction)."""
    check_steps(steps)
    times = [math.cos(0.5 * math.pi * i / steps) for i in range(steps)]
    return TimeSchedule([*times, 0.0], Provenance(method="cosine"))


def uniform_counts(steps: int, total: int, order: RevealOrder = Random()) -> CountSchedule:
    """Jumps spread evenly over the steps."""
    return jumps_of(lambda done: 1 - done, steps, total, "uniform", order)


def cosine_counts(steps: int, total: int, order: RevealOrder = Random()) -> CountSchedule:
    """The masked share falls as cos(pi/2 i/N): few jumps first (MaskGIT, Chang et al. 2022)."""
    return jumps_of(lambda done: math.cos(0.5 * math.pi * done), steps, total, "cosine", order)


def jumps_of(
    masked: Callable[[float], float], steps: int, total: int, method: str, order: RevealOrder
) -> CountSchedule:
    """A count schedule from the share of sites still masked when a share of the steps is done; every step has a jump."""
    check_steps(steps)
    inner = [round(total * masked(i / steps)) for i in range(1, steps)]
    return CountSchedule(counts_between([total, *inner, 0]), Provenance(method=method), order)


def check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {steps}")
