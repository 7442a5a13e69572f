"""The table of the costs of all steps between numbers of masked sites, for one reveal order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.schedules.orders import RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.table import Calibration, StepCosts

__all__ = ["CountCosts"]


@dataclass(frozen=True)
class CountCosts(StepCosts):
    """The cost of every step on a grid of numbers of masked sites, from all free sites to 0.

    Attributes:
        order: the order in which steps reveal sites.
        per_sequence: of the number i of a grid point: each sequence's cost of every step from it,
            [G - 1 - i, B].
        alone: the NLL of each sequence in single steps of the grid (one site at a time, where the
            grid has every number), [B]; None where costs are measured by the model.
        calibration: entropies and -log p of data at three noise levels, if measured by data.
        blocks: how many blocks there are that no step crosses (``by_block``).
    """

    order: RevealOrder
    per_sequence: Callable[[int], Floats]
    alone: Floats | None = None
    calibration: tuple[Calibration, ...] = ()
    blocks: int = 1

    @property
    def least_steps(self) -> int:
        return self.blocks

    @cached_property
    def stderr(self) -> Floats:
        found = np.full_like(self.value, np.inf)
        for i in range(len(found) - 1):
            found[i, i + 1 :] = standard_error(self.per_sequence(i))
        return found

    def schedule(self, grid_points: list[int]) -> CountSchedule:
        return CountSchedule(-np.diff(self.grid[grid_points]).astype(int), order=self.order)

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule on the grid and its standard error, nats per sequence.

        Raises:
            ValueError: a schedule of times, or one that leaves the grid or crosses a block.
        """
        total = self.summed(schedule)
        return float(total.mean()), float(standard_error(total))

    def few_step(self, schedule: Schedule) -> FewStepNLL | None:
        """The few-step NLL and its excess over ``alone``; None if measured by the model.

        It is interpolated between the evaluations, from the sequences of the search. Raises
        ValueError as ``predict``.
        """
        if self.alone is None:
            return None
        bound = self.alone + self.summed(schedule)
        return FewStepNLL(bound, self.alone, float(self.grid[0]), self.model_calls)

    def summed(self, schedule: Schedule) -> Floats:
        """Each sequence's summed cost of a schedule, [B]; raises ValueError as ``predict``."""
        masked = (
            self.grid[0] - np.cumsum([0, *schedule.counts])
            if isinstance(schedule, CountSchedule)
            else np.array([-1.0])
        )
        if not np.isin(masked, self.grid).all():
            raise ValueError("this schedule is not one of counts on the grid of these costs")
        points = np.searchsorted(-self.grid, -masked)
        steps = pairwise(points.tolist())
        if not np.isfinite(self.value[points[:-1], points[1:]]).all():
            raise ValueError("a step of this schedule crosses from one block into the next")
        total: Floats = np.array([self.per_sequence(i)[k - i - 1] for i, k in steps]).sum(0)
        return total
