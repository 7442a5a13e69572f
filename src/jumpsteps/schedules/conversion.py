r"""From times to counts of revealed sites and back, for the absorbing kernel.

A site that is masked at the first time t_0 is still masked at s with probability

.. math:: m(s) = (1 - \alpha_s) / (1 - \alpha_{t_0}),

which is s / t_0 for log-linear noise. Of ``length`` masked sites, ``length`` m(s) are masked at s
on average; the functions below round this expectation, or solve it for s.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import NoiseSchedule

__all__ = [
    "counts_between",
    "masked_sites",
    "noise_of_masks",
    "time_of_masked",
    "times_of_masked",
]


def masked_sites(times: Sequence[float], length: int, noise: NoiseSchedule) -> list[int]:
    """The expected number of masked sites at every time, rounded (a half up), when all ``length``
    are masked at the first time.

    Raises:
        ValueError: no site, or a last time other than 0.
    """
    if length < 1:
        raise ValueError(
            f"length must be at least 1, got {length}; "
            "it is the number of masked tokens at the start"
        )
    if times[-1] != 0:
        raise ValueError(
            f"the schedule ends at t = {times[-1]}, where tokens are still masked; "
            "append the time 0"
        )
    first = masked_share(noise, times[0])
    # Rounding errors of the noise schedule must not decide which way a half goes.
    return [math.floor(round(length * masked_share(noise, t) / first, 6) + 0.5) for t in times]


def times_of_masked(masked: Sequence[int], total: int, noise: NoiseSchedule) -> list[float]:
    """The times at which so many of ``total`` sites are masked on average, in a run that starts
    with all masked at t = 1: :math:`(1 - \\alpha_t) / (1 - \\alpha_1) = n / L`.
    """
    totals = [-math.log1p(-masked_share(noise, 1.0) * n / total) for n in masked]
    return [float(noise.inverse(value)) for value in totals]


def time_of_masked(forward: ForwardProcess, masked: int, total: int) -> float:
    """The time at which ``masked`` of ``total`` sites are masked on average, for data noised from t
    = 0; at most 1. It is the model's own time of a state with so many masked sites.
    """
    if masked in (0, total):
        return float(masked > 0)
    lowest = float(forward.noise.alpha(1.0))
    return float(forward.noise.time_of_alpha(max(1 - masked / total, lowest)))


def masked_share(noise: NoiseSchedule, t: float) -> float:
    """1 - alpha(t)."""
    return -math.expm1(-float(noise.total(t)))


def noise_of_masks(forward: ForwardProcess) -> NoiseSchedule:
    """The noise schedule; raises ValueError for a kernel other than absorbing."""
    if not isinstance(forward, Absorbing):
        raise ValueError(
            "times and counts are converted for the absorbing kernel, which masks; "
            f"got {forward.name}"
        )
    return forward.noise


def counts_between(masked: Sequence[int]) -> list[int]:
    """The counts of steps between these numbers of masked sites, the last of them 0.

    A number in between is moved where a step would reveal no site.

    Raises:
        ValueError: fewer sites than steps.
    """
    left, steps = list(masked), len(masked) - 1
    if steps > left[0]:
        raise ValueError(
            f"{left[0]} sites cannot be revealed in {steps} steps, at least one in each; "
            f"choose at most {left[0]} steps"
        )
    for i in range(1, steps):
        left[i] = min(left[i], left[i - 1] - 1)
    for i in range(steps - 1, 0, -1):
        left[i] = max(left[i], left[i + 1] + 1)
    return [before - after for before, after in pairwise(left)]
