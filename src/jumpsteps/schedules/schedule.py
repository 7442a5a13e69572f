r"""Schedules: where the steps of a run are.

* ``TimeSchedule``: times :math:`1 = t_0 > t_1 > \dots > t_N = 0`, one step between each two.
* ``CountSchedule``: how many masked sites each step reveals, and in which order, for samplers of
  the absorbing kernel.

Either gives the counts that loops of other libraries need (``tokens_per_step``), and ``to_counts``
and ``to_times`` turn one into the other. Counts serve any number of sites (``rescaled``), which may
differ within a batch (``plan_for``). A schedule carries its ``Provenance``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from jumpsteps.core.arguments import check_kind, kinds_checked, said
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import LogLinear, NoiseSchedule, Time
from jumpsteps.schedules.conversion import (
    counts_between,
    masked_sites,
    noise_of_masks,
    time_of_masked,
    times_of_masked,
)
from jumpsteps.schedules.interpolation import interpolated
from jumpsteps.schedules.orders import Blocks, Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.rescaling import (
    blocks_of,
    rescaled_counts,
    rescaled_counts_in_blocks,
)

__all__ = ["CountSchedule", "Schedule", "Step", "TimeSchedule"]


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        t, s: the time before and after; the latest of all sequences where they differ.
        count: how many sites are revealed, or int64 [B] where sequences differ; None for a step of
            a ``TimeSchedule``.
        order: which of the masked sites those are.
        times: float64 [B], each sequence's own time before the step, where sequences differ.
    """

    t: float
    s: float
    count: int | Tensor | None = None
    order: RevealOrder = Random()
    times: Tensor | None = None

    @property
    def model_time(self) -> Time:
        """The time that the model is conditioned on: t, or [B] where sequences differ."""
        return self.t if self.times is None else self.times


@said("times such as jumpsteps.uniform(8)")
@dataclass(frozen=True)
class TimeSchedule:
    """Strictly decreasing times in [0, 1], as Python floats (float64).

    Attributes:
        redraws: corrections between or after the steps.

    Raises:
        ValueError: fewer than two times, a time outside [0, 1], or times that do not decrease.
    """

    times: tuple[float, ...]
    provenance: Provenance = Provenance()
    redraws: tuple[Redraw, ...] = ()

    @kinds_checked()
    def __init__(
        self,
        times: Iterable[float],
        provenance: Provenance = Provenance(),
        redraws: Iterable[Redraw] = (),
    ) -> None:
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
        object.__setattr__(self, "redraws", tuple(redraws))

    @property
    def steps(self) -> int:
        """The number of steps; the NFE of a sampler with one model call per step."""
        return len(self.times) - 1

    def with_steps(self, steps: int) -> "TimeSchedule":
        """The schedule with so many steps, by linear interpolation of its times; without
        corrections.

        What was measured of the schedule's error is no longer known. Far from its own number of
        steps a new search is better.

        Raises:
            ValueError: fewer than one step.
        """
        if steps == self.steps:
            return TimeSchedule(self.times, self.provenance)
        about = self.provenance.interpolated(self.steps)
        return TimeSchedule(interpolated(self.times, steps), about)

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


@said("counts such as jumpsteps.uniform_counts(8, 64)")
@dataclass(frozen=True)
class CountSchedule:
    """How many masked sites each step reveals, and in which order.

    The counts are positive integers. They sum to the number of free sites that the schedule was
    made for; a run with another number rescales them.

    Attributes:
        order: the order in which sites are revealed.
        redraws: corrections between or after the steps.

    Raises:
        ValueError: no step, or a count that is not a positive whole number.
    """

    counts: tuple[int, ...]
    provenance: Provenance = Provenance()
    order: RevealOrder = Random()
    redraws: tuple[Redraw, ...] = ()

    def __init__(
        self,
        counts: Iterable[int],
        provenance: Provenance = Provenance(),
        order: RevealOrder = Random(),
        redraws: Iterable[Redraw] = (),
    ) -> None:
        whole = "positive whole numbers, one for each step"
        check_kind("counts", counts, Iterable[float], whole)
        check_kind("order", order, RevealOrder)
        values = tuple(counts)
        if not values or any(int(n) != n or n < 1 for n in values):
            raise ValueError(f"a count schedule needs {whole}, got {list(values)}")
        object.__setattr__(self, "counts", tuple(int(n) for n in values))
        object.__setattr__(self, "provenance", provenance)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "redraws", tuple(redraws))

    @property
    def steps(self) -> int:
        """The number of steps; the NFE of a sampler with one model call per step."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """The number of free sites that it was made for."""
        return sum(self.counts)

    @property
    def blocks(self) -> list[tuple[int, ...]] | None:
        """The counts of each block of a ``Blocks`` order, as loops that finish a block before the
        next need them (LLaDA's, SDAR's); None in other orders, and where a step crosses from one
        block into the next.
        """
        return blocks_of(self.counts, self.order.size) if isinstance(self.order, Blocks) else None

    def rescaled(self, sites: int) -> "CountSchedule":
        """The schedule for another number of free sites, in the same order.

        Every step keeps its share of the sites, rounded, and reveals one at least. Where there are
        fewer sites than steps, there are as many steps as sites. A schedule whose steps stay within
        the blocks of its order keeps the counts of each block: more sites are more blocks, with the
        counts of the last full one, and thus more steps. What was measured of the schedule's error
        is no longer known.

        Raises:
            ValueError: no site.
        """
        if sites < 1:
            raise ValueError(
                f"there must be at least one free site to reveal, got {sites}; "
                "leave some sites masked"
            )
        if sites == self.total:
            return self
        if isinstance(self.order, Blocks) and self.blocks is not None:
            by_block = rescaled_counts_in_blocks(self.blocks, self.order.size, sites)
            counts = tuple(chain(*by_block))
        else:
            counts = rescaled_counts(self.counts, sites)
        about = self.provenance.with_error(None, None)
        return CountSchedule(counts, about, self.order, self.redraws)

    def with_steps(self, steps: int) -> "CountSchedule":
        """The schedule with so many steps, by linear interpolation of the masked sites that each
        step leaves, rounded; without corrections.

        What was measured of the schedule's error is no longer known. Far from its own number of
        steps a new search is better.

        Raises:
            ValueError: fewer than one step, or more steps than sites.
        """
        if steps == self.steps:
            return CountSchedule(self.counts, self.provenance, self.order)
        left = [self.total - done for done in accumulate(self.counts, initial=0)]
        counts = counts_between([math.floor(n + 0.5) for n in interpolated(left, steps)])
        return CountSchedule(counts, self.provenance.interpolated(self.steps), self.order)

    def plan(self, forward: ForwardProcess) -> list[Step]:
        """The steps, in order, with the times at which as many sites are masked on average."""
        left = [self.total - done for done in accumulate(self.counts, initial=0)]
        times = [time_of_masked(forward, n, self.total) for n in left]
        return [
            Step(t, s, n, self.order)
            for t, s, n in zip(times, times[1:], self.counts, strict=False)
        ]

    def plan_for(self, forward: ForwardProcess, free: Tensor) -> list[Step]:
        """The steps of sequences with these numbers of free sites, int64 [B].

        Each sequence follows the schedule rescaled to its own number. Where these differ, a
        sequence with fewer steps than others is finished before them.
        """
        rows = free.tolist()
        plans = {n: self.rescaled(n).plan(forward) if n else [] for n in set(rows)}
        if len(plans) == 1:
            return plans[rows[0]]
        return [
            self.step_of_rows([plans[n][i] if i < len(plans[n]) else None for n in rows], free)
            for i in range(max(map(len, plans.values())))
        ]

    def step_of_rows(self, rows: list[Step | None], free: Tensor) -> Step:
        """One step of the batch from the step of each sequence; None if that is finished."""
        t, s = (max(times) for times in zip(*((r.t, r.s) for r in rows if r), strict=True))
        counts = torch.tensor([r.count if r else 0 for r in rows], device=free.device)
        times = torch.tensor([r.t if r else t for r in rows], dtype=torch.float64)
        return Step(t, s, counts, self.order, times.to(free.device))

    def check_kernel(self, forward: ForwardProcess, model: str = "this model") -> None:
        """Raises ValueError if the schedule was found for another kernel or noise schedule."""
        self.provenance.check_forward(forward, model)

    def tokens_per_step(self, length: int) -> tuple[int, ...]:
        """How many masked tokens each step reveals: the counts, ``rescaled`` to this many.

        Args:
            length: masked tokens at the start, without those of a prompt.

        Raises:
            ValueError: no token.
        """
        return self.rescaled(length).counts

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
