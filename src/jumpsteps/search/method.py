"""The interface of a schedule search, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from jumpsteps.core.arguments import said
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.paths import Paths

__all__ = [
    "BoundsEvaluations",
    "FoundSchedule",
    "MeasuresByData",
    "Method",
    "OrderChoice",
    "PredictsErrors",
    "measures_by_data",
]


@dataclass(frozen=True)
class OrderChoice:
    """A reveal order that was chosen among several by few-step NLL.

    Attributes:
        order: its name.
        runner_up: the name of the next best.
        difference: by how much the few-step NLL of the next best is higher, nats per sequence.
        half_width: of the 95% interval of the difference.
        sequences: on how many sequences that chose no counts.
    """

    order: str
    runner_up: str
    difference: float
    half_width: float
    sequences: int


@dataclass(frozen=True)
class FoundSchedule:
    """A schedule and what the search that found it knows of its error.

    Attributes:
        schedule: the schedule.
        cost: the error of a run, nats per sequence; None if the search estimates none.
        stderr: the standard error of ``cost`` over the sequences of the search.
        few_step: the few-step NLL, of which ``cost`` is the excess; None if costs were not measured
            by data. A search interpolates it on its own sequences.
        held_out: on how many sequences that did not choose the schedule it was measured instead,
            without interpolation.
        choice: how its order was chosen, if among several.
    """

    schedule: Schedule
    cost: float | None = None
    stderr: float | None = None
    few_step: FewStepNLL | None = None
    held_out: int | None = None
    choice: OrderChoice | None = None

    def certified(self, few_step: FewStepNLL) -> "FoundSchedule":
        """The same, with the few-step NLL of held-out sequences."""
        return FoundSchedule(
            self.schedule,
            few_step.excess,
            few_step.excess_stderr,
            few_step,
            len(few_step.per_sequence),
            self.choice,
        )


@said("a search such as jumpsteps.JYS()")
@runtime_checkable
class Method(Protocol):
    """A schedule search on forward paths of data.

    Attributes:
        name: e.g. "shortest-path".
        source: author and year of the paper, or "this library"; optional, for ``cite``.
        sampler: the sampler that its schedules are for by default.
        max_evaluations: model evaluations at most; None where their number is not known before.
    """

    @property
    def name(self) -> str: ...

    @property
    def sampler(self) -> Sampler: ...

    @property
    def max_evaluations(self) -> int | None: ...

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """The schedule for each number of steps."""
        ...


@runtime_checkable
class BoundsEvaluations(Protocol):
    """A search whose model evaluations depend on the numbers of steps."""

    def most_evaluations(self, steps: list[int], sampler: Sampler, sites: int) -> int:
        """Model evaluations at most, for sequences of so many sites."""
        ...


@runtime_checkable
class PredictsErrors(Protocol):
    """A search that predicts errors, so that it can meet a tolerance."""

    def find_within(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        tolerance: float,
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> FoundSchedule:
        """The fewest steps whose error is at most ``tolerance`` nats per sequence."""
        ...


@runtime_checkable
class MeasuresByData(Protocol):
    """A search whose schedules have a few-step NLL, so that held-out data can certify it."""

    def measures_by_data(self, forward: ForwardProcess, sampler: Sampler) -> bool:
        """Whether they have one for this kernel and sampler."""
        ...


def measures_by_data(method: Method, forward: ForwardProcess, sampler: Sampler) -> bool:
    """Whether schedules of this search have a few-step NLL for this kernel and sampler."""
    return isinstance(method, MeasuresByData) and method.measures_by_data(forward, sampler)
