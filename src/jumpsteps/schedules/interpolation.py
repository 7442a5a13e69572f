r"""Schedules of other numbers of steps than a search was asked for.

With the number of masked sites (of counts) or the time (of times) as a function :math:`m(u)` of the
share u of the steps that are done, piecewise linear between the steps of a schedule, a schedule of
n steps has :math:`m(k/n)` after k of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["interpolated", "nearest"]

T = TypeVar("T")


def interpolated(values: Sequence[float], steps: int) -> list[float]:
    """The values after 0..N of N steps, at 0..n of n steps.

    Raises:
        ValueError: fewer than one step.
    """
    check_steps(steps)
    own = np.linspace(0, 1, len(values))
    inner: list[float] = np.interp(np.arange(1, steps) / steps, own, values).tolist()
    return [values[0], *inner, values[-1]]


def nearest(schedules: Mapping[int, T], steps: int) -> T:
    """The schedule of this number of steps, or of the number with the nearest ratio to it.

    Raises:
        ValueError: no schedules, or fewer than one step.
    """
    check_steps(steps)
    if not schedules:
        raise ValueError("there are no schedules; make some with optimize_schedule")
    return schedules[min(schedules, key=lambda n: (abs(math.log(n / steps)), n))]


def check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {steps}")
