"""What every sampler answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.schedules.schedule import JumpSchedule, Leap, TimeSchedule

__all__ = ["Info", "Sampler"]


@dataclass(frozen=True)
class Info:
    """What a step did.

    Attributes:
        clipped: int64 [B], sites at which a probability exceeded 1, or an extrapolated rate was negative, and was cut off.
        time: the time reached, where it is not the leap's s: float64 [B], for samplers that choose their own times.
    """

    clipped: Tensor
    time: Tensor | None = None


def nothing_clipped(x: Tensor) -> Info:
    return Info(clipped=torch.zeros_like(x[:, 0]))


class Sampler(ABC):
    """One leap at a time.

    Attributes:
        name: e.g. "tweedie".
        kernels: names of the kernels it serves; None for all.
        takes: the kind of schedule it follows; None for a sampler that chooses its own leaps.
    """

    kernels: ClassVar[tuple[str, ...] | None] = None
    takes: ClassVar[type[TimeSchedule] | type[JumpSchedule] | None] = TimeSchedule

    @property
    @abstractmethod
    def name(self) -> str:
        """A class attribute, or a property where it depends on the settings."""

    @property
    def calls_per_leap(self) -> int | None:
        """Model calls of one leap; None for a sampler that chooses its own leaps."""
        return None if self.takes is None else 1

    def calls(self, leaps: int) -> int | None:
        """Model calls of a run of this many leaps that ends at t = 0, at most; None where it varies."""
        return None if self.calls_per_leap is None else leaps * self.calls_per_leap

    def leaps(self, nfe: int) -> int:
        """The most leaps that ``nfe`` model calls allow.

        Raises:
            ValueError: not even one leap, or a sampler that chooses its own leaps.
        """
        if self.calls_per_leap is None:
            raise ValueError(f"sampler {self.name} chooses its own leaps, so it has no schedule and no number of steps")
        leaps = nfe // self.calls_per_leap
        while (self.calls(leaps + 1) or 0) <= nfe:
            leaps += 1
        if leaps < 1:
            raise ValueError(f"one leap of {self.name} takes {self.calls(1)} model calls, got NFE {nfe}; raise it")
        return leaps

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Any:
        """The sampler's state before the first leap."""
        return None

    @abstractmethod
    def step(
        self, reverse: ReverseProcess, x: Tensor, leap: Leap, state: Any, *, generator: torch.Generator
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
