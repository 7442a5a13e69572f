"""Tables of a matrix kernel at single times, on a device: the latest are kept, up to a limit.

A run needs those of one step at a time, and a step starts at the time where the last one ended. A
run that announces its times has the tables of several steps made together, which on a GPU takes
hardly longer than one. The next batch of the same schedule finds them made, if it has not too many
steps.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from jumpsteps.process.given_data import JumpTables, NearJumps, NearSymbols
from jumpsteps.process.matrix_exponential import exponential_of_rates

__all__ = ["TimeTables"]

KEPT, NUMBERS = (6, 1024), 2**24
"""Tables of each kind that are kept besides those made ahead, at least and at most, and between
these as many as have so many numbers: 256 of 256 symbols, 128 MiB in float64."""

K = TypeVar("K")
T = TypeVar("T")


class TimeTables:
    """What steps read of a kernel at times. Several threads may share it: a dictionary of tables is
    replaced, never changed.

    Args:
        rates: R_b, float64 [V, V], on the device.
        total: the integral of sigma over [0, t], a float64 number on the CPU.
        smallest: see ``impossible``.
        ahead: later steps whose tables are made with those of a step.
    """

    def __init__(
        self, rates: Tensor, total: Callable[[float], Tensor], smallest: float, ahead: int = 0
    ) -> None:
        self.rates, self.total, self.smallest, self.ahead = rates, total, smallest, ahead
        least, most = KEPT
        self.kept = min(max(NUMBERS // rates.numel(), least), most) + 2 * ahead
        self.times: dict[float, list[float]] = {}
        self.matrices: dict[tuple[float, float], Tensor] = {}
        self.masks: dict[float, Tensor | None] = {}
        self.jump_tables: dict[float, JumpTables] = {}
        self.near_jumps: dict[float, NearJumps] = {}

    def announce(self, times: Sequence[float]) -> None:
        """The decreasing times of a run's steps, before its first step."""
        last = self.ahead + 2
        self.times = {t: list(times[i : i + last]) for i, t in enumerate(times)}

    def later(self, s: float, t: float) -> Iterator[tuple[float, float]]:
        """The pairs that later steps need where this one needs (s, t)."""
        times = self.times.get(t, [])[1:]
        if s == 0:
            yield from ((0.0, later) for later in times[: self.ahead] if later > 0)
        elif times and s == times[0]:
            yield from pairwise_reversed(times)

    # Tables that are made in inference mode could not be used outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def between(self, *times: tuple[float, float]) -> list[Tensor]:
        """q_{t|s} for pairs (s, t), float64 [V, V] each; those that are not kept are made
        together, and with them those of later steps.
        """
        known = dict(self.matrices)
        if not known.keys() >= set(times):
            wanted = [each for pair in times if pair not in known for each in self.later(*pair)]
            new = [pair for pair in dict.fromkeys([*wanted, *times]) if pair not in known]
            elapsed = torch.stack([self.total(t) - self.total(s) for s, t in new])
            matrices = exponential_of_rates(self.rates, elapsed, largest=self.largest)
            made = dict(zip(new, matrices, strict=True))
            self.matrices = latest(known | made, self.kept)
            known |= made
        return [known[pair] for pair in times]

    @torch.inference_mode(False)
    @torch.no_grad()
    def impossible(self, t: float) -> Tensor | None:
        """Where a likelihood is a smaller share than ``smallest`` of the largest of its site, bool
        [V, V], row x and column x0; None if it never is.
        """

        def make(q: Tensor) -> list[Tensor | None]:
            likelihood = q.mT
            masks = likelihood < self.smallest * likelihood.amax(-1, keepdim=True)
            some = masks.flatten(1).any(1).cpu().tolist()
            return [mask if any_of else None for mask, any_of in zip(masks, some, strict=True)]

        self.masks = known = self.with_later(self.masks, t, make)
        return known[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def jumps(self, t: float) -> JumpTables:
        def make(q: Tensor) -> list[JumpTables]:
            return JumpTables.of_each(q, self.rates_between)

        self.jump_tables = known = self.with_later(self.jump_tables, t, make)
        return known[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def near(self, t: float) -> NearJumps:
        def make(q: Tensor) -> list[NearJumps]:
            return NearJumps.of_each(JumpTables.of_each(q, self.rates_between), self.near_symbols)

        self.near_jumps = known = self.with_later(self.near_jumps, t, make)
        return known[t]

    @cached_property
    def largest(self) -> float:
        """The largest rate of leaving a state."""
        return float((-self.rates.diagonal()).max())

    @cached_property
    def rates_between(self) -> Tensor:
        """R_b without its diagonal."""
        return self.rates - self.rates.diagonal().diag()

    @cached_property
    def near_symbols(self) -> NearSymbols:
        return NearSymbols.of(self.rates_between.T)

    def with_later(
        self, known: dict[float, T], t: float, make: Callable[[Tensor], Sequence[T]]
    ) -> dict[float, T]:
        """The tables ``known``, and those that ``make`` makes of q_{t|0} [T, V, V] where t is new:
        at t, and at the times of later steps whose matrices have been made with it.
        """
        if t in known:
            return known
        matrices, kept = {t: self.between((0.0, t))[0]}, self.matrices
        for pair in self.later(0.0, t):
            if pair in kept and pair[1] not in known:
                matrices[pair[1]] = kept[pair]
        made = make(torch.stack(list(matrices.values())))
        return latest(known | dict(zip(matrices, made, strict=True)), self.kept)


def pairwise_reversed(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    """(s, t) of the steps between decreasing times."""
    return ((s, t) for t, s in pairwise(times))


def latest(tables: dict[K, T], kept: int) -> dict[K, T]:
    """The last few entries."""
    return dict(list(tables.items())[-kept:])
