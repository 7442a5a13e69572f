r"""Schedules: where the steps of a run are.

* ``TimeSchedule``: times :math:`1 = t_0 > t_1 > \dots > t_N = 0`, one step between each two.
* ``CountSchedule``: how many masked sites each step reveals, and in which order, for samplers of
  the absorbing kernel.

Either gives the counts that loops of other libraries need (``tokens_per_step``), and ``to_counts``
and ``to_times`` turn one into the other. A schedule carries its ``Provenance``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import LogLinear, NoiseSchedule
from jumpsteps.schedules.conversion import (
    counts_between,
    masked_sites,
    noise_of_masks,
    time_of_masked,
    times_of_masked,
)
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance

__all__ = ["CountSchedule", "Schedule", "Step", "TimeSchedule"]


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        t, s: the time before and after.
        count: how many sites are revealed; None for a step of a ``TimeSchedule``.
        order: which of the masked sites those are.
    """

    t: float
    s: float
    count: int | None = None
    order: RevealOrder = Random()


@dataclass(frozen=True)
class TimeSchedule:
    """Strictly decreasing times in [0, 1], as Python floats (float64).

    Raises:
        ValueError: fewer than two times, a time outside [0, 1], or times that do not decrease.
    """

    times: tuple[float, ...]
    provenance: Provenance = Provenance()

    def __init__(self, times: Iterable[float], provenance: Provenance = Provenance()) -> None:
        values = tuple(float(t) for t in times)
        if len(values) < 2:
            raise ValueError(f"a time schedule needs at least two times, got {list(values)}")
        if not all(math.isfinite(t) and 0 <= t <= 1 for t in values):
            raise ValueError(f"times must lie in [0, 1], got {list(values)}")
        for before, after in pairwise(values):
            if not after < before:
                raise ValueError(
                    "times must decrease strictly from noise (1) to data (0), "
                    f"got {before} before {after}"
                )
        object.__setattr__(self, "times", values)
        object.__setattr__(self, "provenance", provenance)

    @property
    def steps(self) -> int:
        """The number of steps; the NFE of a sampler with one model call per step."""
        return len(self.times) - 1

    def plan(self, forward: ForwardProcess) -> list[Step]:
        """The steps, in order."""
        return [Step(t, s) for t, s in pairwise(self.times)]

    def check_kernel(self, forward: ForwardProcess, model: str = "this model") -> None:
        """Raises ValueError if the schedule was found for another kernel or noise schedule."""
        self.provenance.check_forward(forward, model)

    def tokens_per_step(self, length: int, noise: NoiseSchedule = LogLinear()) -> tuple[int, ...]:
        """How many masked tokens each step reveals: whole numbers that sum to ``length``.

        For sampling loops that count tokens, such as LLaDA's. The expected number of masked tokens
        is rounded at every time (a half up), so that each step is less than one token away from its
        expectation; a step has 0 tokens only where it expects less than one.

        Args:
            length: masked tokens at the start, without those of a prompt.
            noise: the noise schedule of the absorbing kernel that the times are for; the default is
                LLaDA's and MDLM's.

        Raises:
            ValueError: no token, a schedule for another kernel or noise, or one that does not end
                at t = 0.
        """
        return tuple(before - after for before, after in pairwise(self.masked(length, noise)))

    def masked(self, length: int, noise: NoiseSchedule) -> list[int]:
        """How many of ``length`` tokens are masked at every time; see ``tokens_per_step``."""
        self.provenance.check_noise(noise)
        return masked_sites(self.times, length, noise)

    def to_counts(self, forward: ForwardProcess, length: int) -> "CountSchedule":
        """``tokens_per_step`` as a count schedule in random order; every step reveals at least one
        site.

        The inverse of ``CountSchedule.to_times``, whose times give back its counts. Times that are
        turned into counts and back are rounded.

        Raises:
            ValueError: as ``tokens_per_step``; a kernel other than absorbing; fewer tokens than
                steps.
        """
        masked = self.masked(length, noise_of_masks(forward))
        return CountSchedule(counts_between(masked), self.provenance.converted(forward))


@dataclass(frozen=True)
class CountSchedule:
    """How many masked sites each step reveals, and in which order.

    The counts are positive integers that sum to the number of free sites.

    Raises:
        ValueError: no step, or a count that is not a positive whole number.
    """

    counts: tuple[int, ...]
    provenance: Provenance = Provenance()
    order: RevealOrder = Random()

    def __init__(
        self,
        counts: Iterable[int],
        provenance: Provenance = Provenance(),
        order: RevealOrder = Random(),
    ) -> None:
        values = tuple(counts)
        if not values or any(int(n) != n or n < 1 for n in values):
            raise ValueError(
                "a count schedule needs positive whole numbers, one for each step, "
                f"got {list(values)}"
            )
        object.__setattr__(self, "counts", tuple(int(n) for n in values))
        object.__setattr__(self, "provenance", provenance)
        object.__setattr__(self, "order", order)

    @property
    def steps(self) -> int:
        """The number of steps; the NFE of a sampler with one model call per step."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """The number of free sites that it is for."""
        return sum(self.counts)

    def plan(self, forward: ForwardProcess) -> list[Step]:
        """The steps, in order, with the times at which as many sites are masked on average."""
        left = [self.total - done for done in accumulate(self.counts, initial=0)]
        times = [time_of_masked(forward, n, self.total) for n in left]
        return [
            Step(t, s, n, self.order)
            for t, s, n in zip(times, times[1:], self.counts, strict=False)
        ]

    def check_kernel(self, forward: ForwardProcess, model: str = "this model") -> None:
        """Raises ValueError if the schedule was found for another kernel or noise schedule."""
        self.provenance.check_forward(forward, model)

    def tokens_per_step(self, length: int) -> tuple[int, ...]:
        """How many masked tokens each step reveals: the counts.

        Raises:
            ValueError: a ``length`` (masked tokens at the start, without the prompt) other than
                ``total``.
        """
        if length != self.total:
            raise ValueError(
                f"the schedule is for {self.total} masked tokens, got length={length}; "
                "optimise for as many, or rescale it: "
                "schedule.to_times(forward).tokens_per_step(length)"
            )
        return self.counts

    def to_times(self, forward: ForwardProcess) -> TimeSchedule:
        r"""The times along which a run from noise has as many sites masked on average, for samplers
        that follow times.

        With n of L sites left, t solves :math:`(1 - \alpha_t) / (1 - \alpha_1) = n / L`; t = n / L
        for log-linear noise. The times of ``plan``, which the model is conditioned on, differ by
        the sites that the noise leaves unmasked at t = 1. A run from noise has none of these.
        ``TimeSchedule.to_counts`` and ``tokens_per_step`` with L tokens give the same counts back.

        Raises:
            ValueError: a kernel other than absorbing, a schedule for another noise, or one with a
                reveal order, which times do not have.
        """
        noise = noise_of_masks(forward)
        self.provenance.check_noise(noise)
        if self.order != Random():
            raise ValueError(
                f"the schedule reveals in {self.order.name} order, times in random order; "
                "optimise times instead"
            )
        left = [self.total - done for done in accumulate(self.counts)]
        inner = times_of_masked(left[:-1], self.total, noise)
        return TimeSchedule([1.0, *inner, 0.0], self.provenance.converted(forward))


Schedule = TimeSchedule | CountSchedule
