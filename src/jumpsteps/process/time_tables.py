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

T = TypeVar("T")


class TimeTables:
    """What steps read of a kernel at times.

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
        new = [pair for pair in times if pair not in self.matrices]
        if new:
            elapsed = torch.stack([self.total(t) - self.total(s) for s, t in new])
            made = exponential_of_rates(self.rates, elapsed)
            for pair, matrix in zip(new, made, strict=True):
                keep(self.matrices, pair, matrix)
        return [self.matrices[pair] for pair in times]

    @torch.inference_mode(False)
    @torch.no_grad()
    def impossible(self, t: float) -> Tensor | None:
        """Where a likelihood is a smaller share than ``smallest`` of the largest of its site, bool
        [V, V], row x and column x0; None if it never is.
        """
        if t not in self.masks:
            likelihood = self.between((0.0, t))[0].T
            mask = likelihood < self.smallest * likelihood.amax(-1, keepdim=True)
            keep(self.masks, t, mask if bool(mask.any()) else None)
        return self.masks[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def jumps(self, t: float) -> JumpTables:
        if t not in self.jump_tables:
            between = self.rates - self.rates.diagonal().diag()
            keep(self.jump_tables, t, JumpTables.of(self.between((0.0, t))[0], between))
        return self.jump_tables[t]

    @torch.inference_mode(False)
    @torch.no_grad()
    def near(self, t: float) -> NearJumps:
        if t not in self.near_jumps:
            keep(self.near_jumps, t, NearJumps.of(self.jumps(t)))
        return self.near_jumps[t]


K = TypeVar("K")


def keep(tables: dict[K, T], key: K, value: T) -> None:
    """Put the value into the tables, and let the oldest go if there are too many."""
    tables[key] = value
    if len(tables) > KEPT:
        del tables[next(iter(tables))]
