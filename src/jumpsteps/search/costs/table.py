r"""The table of step costs that a schedule search reads.

With :math:`c(t \to s)` the expected error of one step, in nats per sequence, the run along
:math:`1 = t_0 > t_1 > \dots > t_N = 0` has an error of at most

.. math:: \sum_{k=1}^{N} c(t_{k-1} \to t_k),

so the best schedule of N steps on a grid is a shortest path (``dynamic_programming``). These
estimates give such a table, each from one pass over data:

* ``information_profile``: absorbing kernel, times, frozen context; one curve gives every step;
* ``by_count``: absorbing kernel, numbers of revealed sites in a reveal order; ``by_block`` the same
  within blocks;
* ``by_path``: every kernel, times, frozen context or frozen rates;
* ``by_nll``: every kernel, times, the steps of the sampler itself, by data.

The first two measure what a step loses in one of two ways (``Measure``): by the negative
log-likelihood of data, which holds for any network, or by the entropy of the model's own
distributions, which holds for a calibrated one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

import numpy as np

from jumpsteps.core.arguments import said
from jumpsteps.core.information import Floats
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL

__all__ = ["NOISE_LEVELS", "Calibration", "Measure", "StepCosts"]


class Measure(Enum):
    """What costs are measured by; ``by_path`` gives the model's for kernels that revise tokens."""

    DATA = "data"
    """-log p of the data's own symbol: costs add up to the excess of the few-step NLL, a bound for
    any network."""

    MODEL = "model"
    """The entropy of the model's distribution, which is the same on average where the model is
    calibrated, and has less noise."""


NOISE_LEVELS = (1.0, 0.5, 0.1)
"""The shares of masked sites at which calibration is looked at."""


@dataclass(frozen=True)
class Calibration:
    """What the model believes of a masked site, and what data say, nats per site.

    Attributes:
        masked: the share of sites that are masked.
        entropy: mean entropy of the model's distributions.
        gap: mean -log p of data minus the entropy; zero for a calibrated model.
        stderr: standard error of the gap over sequences.
    """

    masked: float
    entropy: float
    gap: float
    stderr: float

    @property
    def nll(self) -> float:
        """Mean -log p of data."""
        return self.entropy + self.gap


@said("step costs, such as those of jumpsteps.path_costs")
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
    def least_steps(self) -> int:
        """Fewer steps than these do not reach the end of the grid."""
        return 1

    @property
    @abstractmethod
    def stderr(self) -> Floats:
        """The standard error of ``value`` over sequences, [G, G]; computed on first use."""

    @abstractmethod
    def schedule(self, grid_points: list[int]) -> Schedule:
        """The schedule that visits these grid points, given by their indices."""

    def few_step(self, schedule: Schedule) -> FewStepNLL | None:
        """The few-step NLL of a schedule, where costs are measured by data; else None."""
        return None

    @abstractmethod
    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""


def steps_only(table: Floats) -> Floats:
    """The table [G, G] with infinity on and below the diagonal, where no step is."""
    return np.where(np.tril(np.ones(table.shape, dtype=bool)), np.inf, table)
