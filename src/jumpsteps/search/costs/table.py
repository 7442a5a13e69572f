r"""What steps cost: the table that a search reads.

``StepCosts`` is the expected error of every step on a grid, in nats per sequence. Costs of steps add up to a bound of the error of
a run, so the best schedule is a shortest path (see ``search``). Three estimates make such tables, each from one pass over data:

* ``profile``: absorbing kernel, Tweedie's sampler; times. One curve gives every step.
* ``order_costs``: absorbing kernel, a number of jumps in a reveal order.
* ``rate_costs``: every kernel; times. Contexts, or whole rates, are frozen during a step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from jumpsteps.core.information import Floats
from jumpsteps.schedules.schedule import Schedule

__all__ = ["StepCosts"]


@dataclass(frozen=True)
class StepCosts(ABC):
    """The cost of every step on a grid.

    Attributes:
        grid: times, or numbers of masked sites, decreasing, [G].
        value: value[i, k] is the cost of the step grid[i] -> grid[k], i < k, nats per sequence; infinite where k <= i. [G, G].
        model_calls: calls made to estimate it.
    """

    grid: Floats
    value: Floats
    model_calls: int

    @property
    @abstractmethod
    def stderr(self) -> Floats:
        """The standard error of ``value`` over sequences, [G, G]; computed when asked for, since no search needs it."""

    @abstractmethod
    def schedule(self, points: list[int]) -> Schedule:
        """The schedule that visits these points of the grid."""

    @abstractmethod
    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""


def steps_only(table: Floats) -> Floats:
    """The table [G, G] with infinity where no step is."""
    return np.where(np.tril(np.ones(table.shape, dtype=bool)), np.inf, table)
