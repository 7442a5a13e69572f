"""Tables of a matrix kernel at single times, on a device: the latest few are kept.

A run needs those of one step at a time, and a step starts at the time where the last one ended.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from jumpsteps.process.given_data import JumpTables, NearJumps
from jumpsteps.process.matrix_exponential import exponential_of_rates

__all__ = ["TimeTables"]

KEPT = 6
"""Tables of each kind."""

K = TypeVar("K")
T = TypeVar("T")


class TimeTables:
    """What steps read of a kernel at times. Several threads may share it: a dictionary of tables is
    replaced, never changed.

    Args:
        rates: R_b, float64 [V, V], on the device.
        total: the integral of sigma over [0, t], a float64 number on the CPU.
        smallest: see ``impossible``.
    """

    def __init__(self, rates: Tensor, total: Callable[[float], Tensor], smallest: float) -> None:
        self.rates, self.total, self.smallest = rates, total, smallest
        self.matrices: dict[tuple[float, float], Tensor] = {}
        self.masks: dict[float, Tensor | None] = {}
        self.jump_tables: dict[float, JumpTables] = {}
        self.near_jumps: dict[float, NearJumps] = {}

    # Tables that are made in inference mode could not be used outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def between(self, *times: tuple[float, float]) -> list[Tensor]:
        """q_{t|s} for pairs (s, t), float64 [V, V] each; those that are not kept are made
        together.
        """
        known = dict(self.matrices)
        new = [pair for pair in times if pair not in known]
        if new:
            elapsed = torch.stack([self.total(t) - self.total(s) for s, t in new])
            made = dict(zip(new, exponential_of_rates(self.rates, elapsed), strict=True))
            self.matrices = latest(known | made)
            known |= made
        return [known[pair] for pair in times]

    @torch.inference_mode(False)
    @torch.no_grad()
    def impossible(self, t: float) -> Tensor | None:
        """Where a likelihood is a smaller share than ``smallest`` of the largest of its site, bool
        [V, V], row x and column x0; None if it never is.
        """
        known = self.masks
        if t not in known:
            likelihood = self.between((0.0, t))[0].T
            mask = likelihood < self.smallest * likelihood.amax(-1, keepdim=True)
            self.masks = known = latest(known | {t: mask if bool(mask.any()) else None})
        return known[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def jumps(self, t: float) -> JumpTables:
        known = self.jump_tables
        if t not in known:
            between = self.rates - self.rates.diagonal().diag()
            made = JumpTables.of(self.between((0.0, t))[0], between)
            self.jump_tables = known = latest(known | {t: made})
        return known[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def near(self, t: float) -> NearJumps:
        known = self.near_jumps
        if t not in known:
            self.near_jumps = known = latest(known | {t: NearJumps.of(self.jumps(t))})
        return known[t]


def latest(tables: dict[K, T]) -> dict[K, T]:
    """The last few entries."""
    return dict(list(tables.items())[-KEPT:])
