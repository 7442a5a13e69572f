"""What every sampler answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

__all__ = ["Held", "Info", "Sampler"]


class Held(Enum):
    """What a step from t to s holds fixed at its value for (x_t, t); the step's error follows from it.

    Schedule searches choose a cost by it, and refuse a sampler that names none.
    """

    CONTEXT = "context"
    """The leave-one-out posterior w of every site; the site then follows its exact kernel (Tweedie, ancestral)."""

    FIRST_JUMP = "first jump"
    """The reverse rates, and each site makes one jump at most (Euler)."""

    RATES = "rates"
    """The reverse rates, and jumps come as in a Poisson process (tau-leaping)."""

    COUNT = "count"
    """The posterior of masked sites; the schedule says how many are revealed, in an order free of the data (k-Gillespie)."""


@dataclass(frozen=True)
class Info:
    """What a step did.

    Attributes:
        clipped: int64 [B], sites at which a probability exceeded 1, or an extrapolated rate was negative, and was cut off.
        time: the time reached, where it is not the step's s: float64 [B], for samplers that choose their own times.
    """

    clipped: Tensor
    time: Tensor | None = None


def nothing_clipped(x: Tensor) -> Info:
    return Info(clipped=torch.zeros_like(x[:, 0]))


class Sampler(ABC):
    """One step at a time.

    Attributes:
        name: e.g. "tweedie".
        kernels: names of the kernels it serves; None for all.
        takes: the kind of schedule it follows; None for a sampler that chooses its own steps.
        holds: what its step holds fixed; None where the step is not of one of these forms.
    """

    kernels: ClassVar[tuple[str, ...] | None] = None
    takes: ClassVar[type[TimeSchedule] | type[CountSchedule] | None] = TimeSchedule
    holds: ClassVar[Held | None] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """A class attribute, or a property where it depends on the settings."""

    @property
    def calls_per_step(self) -> int | None:
        """Model calls of one step; None for a sampler that chooses its own steps."""
        return None if self.takes is None else 1

    def calls(self, steps: int) -> int | None:
        """Model calls of a run of this many steps that ends at t = 0, at most; None where it varies."""
        return None if self.calls_per_step is None else steps * self.calls_per_step

    def steps(self, nfe: int) -> int:
        """The most steps that ``nfe`` model calls allow.

        Raises:
            ValueError: not even one step, or a sampler that chooses its own steps.
        """
        if self.calls_per_step is None:
            raise ValueError(
                f"sampler {self.name} chooses its own steps, so it has no schedule and no number of steps"
            )
        steps = nfe // self.calls_per_step
        while (self.calls(steps + 1) or 0) <= nfe:
            steps += 1
        if steps < 1:
            raise ValueError(
                f"one step of {self.name} takes {self.calls(1)} model calls, got NFE {nfe}; raise it"
            )
        return steps

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any:
        """The sampler's state before the first step."""
        return None

    @abstractmethod
    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Any, Info]:
        """The new x, the new state, and what happened."""

    def check(self, forward: ForwardProcess) -> None:
        """Raises ValueError for a kernel that the sampler does not serve."""
        if self.kernels is not None and forward.name not in self.kernels:
            raise ValueError(
                f"sampler {self.name} serves the {' and '.join(self.kernels)} kernel, this model has the {forward.name} kernel; "
                "use tweedie, which serves all"
            )


def count_sites(x: Tensor, where: Tensor, flagged: Tensor) -> Tensor:
    """How many of the selected sites are flagged, int64 [B]; flagged [K], bool or 0 and 1."""
    return torch.zeros_like(x).masked_scatter(where, flagged.to(x.dtype)).sum(-1)
