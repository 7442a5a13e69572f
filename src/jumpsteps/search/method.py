"""What every search answers."""

from collections.abc import Mapping
from typing import Protocol

import torch

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.paths import Paths

__all__ = ["Method"]


class Method(Protocol):
    """A way to choose steps: schedules for each number of steps, from forward paths of data."""

    @property
    def name(self) -> str: ...

    @property
    def sampler(self) -> Sampler:
        """The sampler that its schedules are for, unless another is asked for."""
        ...

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, Schedule]: ...
