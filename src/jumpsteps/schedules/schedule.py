r"""Schedules: when the steps of a run are taken.

* ``TimeSchedule``: the times of a run, 1 = t_0 > t_1 > ... > t_N = 0, one step between each two.
* ``CountSchedule``: how many sites jump in each step, for samplers of the absorbing kernel that count.

Either gives numbers of tokens to loops that count them (``tokens_per_step``), and ``to_counts`` and ``to_times`` turn one into the
other.

A schedule carries where it came from, because it is only good for the kernel, sampler and model it was found for. Files hold
several schedules, one for each number of model calls.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import LogLinear, NoiseSchedule
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance, check_kernel, check_noise, converted

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
                    f"times must decrease strictly from noise (1) to data (0), got {before} before {after}"
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
        """Raises ValueError if the schedule was found for another kernel or another noise schedule."""
        check_kernel(self.provenance, forward, model)

    def tokens_per_step(self, length: int, noise: NoiseSchedule = LogLinear()) -> tuple[int, ...]:
        r"""How many masked tokens each step reveals, for loops that count (LLaDA's): whole numbers that sum to ``length``.

        A token that is masked at the first time t_0 is still masked at s with probability
        :math:`(1 - \alpha(s)) / (1 - \alpha(t_0))`, which is s / t_0 for log-linear noise. The expected number of masked tokens is
        rounded at every time (a half up), so that each step is less than one token away from its expectation; a step has 0 tokens
        only where it expects less than one.

        Args:
            length: masked tokens at the start; those of a prompt do not count.
            noise: the noise schedule of the absorbing kernel that the times are for; LLaDA's and MDLM's unless given.

        Raises:
            ValueError: no token, a schedule for another kernel or noise, or one that does not end at t = 0.
        """
        return tuple(
            before - after for before, after in pairwise(self.masked_tokens(length, noise))
        )

    def to_counts(self, forward: ForwardProcess, length: int) -> "CountSchedule":
        """``tokens_per_step`` as a schedule for samplers that count jumps, in random order; every step has at least one jump.

        The inverse of ``CountSchedule.to_times``: its times give back its counts. Times that are turned into counts and back are
        rounded.

        Raises:
            ValueError: as ``tokens_per_step``; a kernel other than absorbing; fewer tokens than steps.
        """
        left = self.masked_tokens(length, noise_of_masks(forward))
        return CountSchedule(counts_between(left), converted(self.provenance, forward))

    def masked_tokens(self, length: int, noise: NoiseSchedule) -> list[int]:
        """The expected number of masked tokens at every time, rounded, when all ``length`` are masked at the first."""
        check_noise(self.provenance, noise)
        if length < 1:
            raise ValueError(
                f"length must be at least 1, got {length}; it is the number of masked tokens at the start"
            )
        if self.times[-1] != 0:
            raise ValueError(
                f"the schedule ends at t = {self.times[-1]}, where tokens are still masked; append the time 0"
            )
        first = masked_share(noise, self.times[0])
        # Rounding errors of the noise schedule must not decide which way a half goes.
        return [
            math.floor(round(length * masked_share(noise, t) / first, 6) + 0.5) for t in self.times
        ]


@dataclass(frozen=True)
class CountSchedule:
    """How many sites jump in each step: positive integers that sum to the number of free sites; and which.

    Raises:
        ValueError: no step, or a step without a jump.
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
                f"a count schedule needs positive whole numbers, one for each step, got {list(values)}"
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
        """Raises ValueError if the schedule was found for another kernel or another noise schedule."""
        check_kernel(self.provenance, forward, model)

    def tokens_per_step(self, length: int) -> tuple[int, ...]:
        """How many masked tokens each step reveals: the counts.

        Raises:
            ValueError: a ``length`` (masked tokens at the start, without the prompt) other than ``total``.
        """
        if length != self.total:
            raise ValueError(
                f"the schedule is for {self.total} masked tokens, got length={length}; optimise for as many, or rescale it: "
                "schedule.to_times(forward).tokens_per_step(length)"
            )
        return self.counts

    def to_times(self, forward: ForwardProcess) -> TimeSchedule:
        r"""The times along which a run from noise has as many sites masked on average, for samplers that follow times.

        With n of L sites left, t solves :math:`(1 - \alpha(t)) / (1 - \alpha(1)) = n / L`; t = n / L for log-linear noise. The
        model's own times, in ``plan``, differ by the sites that the noise leaves unmasked at t = 1, of which a run from noise has
        none. ``TimeSchedule.to_counts`` and ``tokens_per_step`` with L tokens give the same counts back.

        Raises:
            ValueError: a kernel other than absorbing, a schedule for another noise, or one with a reveal order, which times do not
                have.
        """
        noise = noise_of_masks(forward)
        check_noise(self.provenance, noise)
        if self.order != Random():
            raise ValueError(
                f"the schedule reveals in {self.order.name} order, times in random order; optimise times instead"
            )
        left = [self.total - done for done in accumulate(self.counts)]
        total = [-math.log1p(-masked_share(noise, 1.0) * n / self.total) for n in left[:-1]]
        return TimeSchedule(
            [1.0, *(float(noise.inverse(value)) for value in total), 0.0],
            converted(self.provenance, forward),
        )


Schedule = TimeSchedule | CountSchedule


def time_of_masked(forward: ForwardProcess, masked: int, total: int) -> float:
    """The time at which ``masked`` of ``total`` sites are masked on average; at most 1."""
    if masked in (0, total):
        return float(masked > 0)
    lowest = float(forward.noise.alpha(1.0))
    return float(forward.noise.time_of_alpha(max(1 - masked / total, lowest)))


def masked_share(noise: NoiseSchedule, t: float) -> float:
    """1 - alpha(t)."""
    return -math.expm1(-float(noise.total(t)))


def noise_of_masks(forward: ForwardProcess) -> NoiseSchedule:
    if not isinstance(forward, Absorbing):
        raise ValueError(
            f"times and numbers of jumps are converted for the absorbing kernel, which masks; got {forward.name}"
        )
    return forward.noise


def counts_between(masked: list[int]) -> list[int]:
    """The jumps between numbers of masked sites, the last of them 0; those in between are moved where a step would have no jump."""
    left, steps = list(masked), len(masked) - 1
    if steps > left[0]:
        raise ValueError(
            f"{left[0]} sites cannot jump in {steps} steps, at least one in each; ask for at most {left[0]} steps"
        )
    for i in range(1, steps):
        left[i] = min(left[i], left[i - 1] - 1)
    for i in range(steps - 1, 0, -1):
        left[i] = max(left[i], left[i + 1] + 1)
    return [before - after for before, after in pairwise(left)]
