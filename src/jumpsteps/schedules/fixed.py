"""Schedules that need no search."""

import math
from collections.abc import Callable

from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import JumpSchedule, TimeSchedule, jumps_between

__all__ = ["cosine", "cosine_jumps", "uniform", "uniform_jumps"]


def uniform(leaps: int) -> TimeSchedule:
    """Equal steps in time."""
    check_leaps(leaps)
    return TimeSchedule([1 - i / leaps for i in range(leaps)] + [0.0], Provenance(method="uniform"))


def cosine(leaps: int) -> TimeSchedule:
    """t_i = cos(pi/2 i/N): few sites first (MaskGIT, Chang et al. 2022, with t the masked fraction)."""
    check_leaps(leaps)
    times = [math.cos(0.5 * math.pi * i / leaps) for i in range(leaps)]
    return TimeSchedule([*times, 0.0], Provenance(method="cosine"))


def uniform_jumps(leaps: int, total: int, order: RevealOrder = Random()) -> JumpSchedule:
    """Jumps spread evenly over the leaps."""
    return jumps_of(lambda done: 1 - done, leaps, total, "uniform", order)


def cosine_jumps(leaps: int, total: int, order: RevealOrder = Random()) -> JumpSchedule:
    """The masked share falls as cos(pi/2 i/N): few jumps first (MaskGIT, Chang et al. 2022)."""
    return jumps_of(lambda done: math.cos(0.5 * math.pi * done), leaps, total, "cosine", order)


def jumps_of(masked: Callable[[float], float], leaps: int, total: int, method: str, order: RevealOrder) -> JumpSchedule:
    """A jump schedule from the share of sites still masked when a share of the leaps is done; every leap has a jump."""
    check_leaps(leaps)
    inner = [round(total * masked(i / leaps)) for i in range(1, leaps)]
    return JumpSchedule(jumps_between([total, *inner, 0]), Provenance(method=method), order)


def check_leaps(leaps: int) -> None:
    if leaps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {leaps}")
