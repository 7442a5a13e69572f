r"""The table of step costs that a schedule search reads.

With :math:`c(t \to s)` the expected error of one step, in nats per sequence, the run along
:math:`1 = t_0 > t_1 > \dots > t_N = 0` has an error of at most

.. math:: \sum_{k=1}^{N} c(t_{k-1} \to t_k),

so the best schedule of N steps on a grid is a shortest path (``dynamic_programming``). Three
estimates give such a table, each from one pass over data:

* ``information_profile``: absorbing kernel, times, frozen context; one curve gives every step;
* ``by_count``: absorbing kernel, numbers of revealed sites in a reveal order;
* ``by_path``: every kernel, times, frozen context or frozen rates.
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
        value: value[i, k] is the cost of the step grid[i] -> grid[k], i < k, nats per sequence;
            infinite where k <= i. [G, G].
        model_calls: model evaluations that the estimate used.
    """

    grid: Floats
    value: Floats
    model_calls: int

    @property
    @abstractmethod
    def stderr(self) -> Floats:
        """The standard error of ``value`` over sequences, [G, G]; computed on first use."""

    @abstractmethod
    def schedule(self, grid_points: list[int]) -> Schedule:
        """The schedule that visits these grid points, given by their indices."""

    @abstractmethod
    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""


def steps_only(table: Floats) -> Floats:
    """The table [G, G] with infinity on and below the diagonal, where no step is."""
    return np.where(np.tril(np.ones(table.shape, dtype=bool)), np.inf, table)
