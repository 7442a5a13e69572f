"""Jump Your Steps (Park et al. 2025)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule
from jumpsteps.search.golden_section import (
    golden_section,
    golden_section_integer,
    hierarchical,
    hierarchical_counts,
)
from jumpsteps.search.klub import CountKlub, Klub
from jumpsteps.search.paths import Paths

__all__ = ["JYS"]


@dataclass(frozen=True)
class JYS:
    """Jump Your Steps: golden section on the KLUB, hierarchically (Park et al. 2025, Alg. 1 and 2); as published by default.

    Attributes:
        t_min: where the search ends; the schedule's last time becomes 0, so that the last step denoises.
        tolerance: a golden-section search stops when s moves less than this.
        full: the whole Girsanov integrand in place of its logarithm part.
        hold_time: freeze the coarse rates in time as well as in context; False suits Tweedie's steps (see ``klub``).
    """

    t_min: float = 1e-3
    tolerance: float = 1 / 4096
    full: bool = False
    hold_time: bool = True

    @property
    def name(self) -> str:
        return "jys" + "-full" * self.full + "-context" * (not self.hold_time)

    @property
    def sampler(self) -> Sampler:
        return Tweedie()

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, Schedule]:
        """Raises ValueError unless every number of steps is a power of two; for jumps, there is the published form only."""
        if any(n < 1 or n & (n - 1) for n in steps):
            raise ValueError(
                f"JYS finds schedules for powers of two only, asked for {steps} steps; use --method shortest-path"
            )
        find = self.find_counts if sampler.takes is CountSchedule else self.find_times
        return find(reverse, paths, steps)

    def find_times(
        self, reverse: ReverseProcess, paths: Paths, steps: list[int]
    ) -> Mapping[int, Schedule]:
        def klub(u: float, t: float) -> Klub:
            return Klub(reverse, paths, u, t, full=self.full, hold_time=self.hold_time)

        def split(u: float, t: float) -> float:
            return golden_section(klub(u, t), t, u, tolerance=self.tolerance)

        levels = hierarchical(split, max(steps).bit_length() - 1, t_min=self.t_min)
        return {n: TimeSchedule([*levels[n.bit_length() - 1][:-1], 0.0]) for n in steps}

    def find_counts(
        self, reverse: ReverseProcess, paths: Paths, steps: list[int]
    ) -> Mapping[int, Schedule]:
        if self.full or not self.hold_time:
            raise ValueError(
                f"method {self.name} searches times, and this sampler counts jumps; use --method jys"
            )

        def split(n_u: int, n_t: int) -> int:
            return golden_section_integer(CountKlub(reverse, paths, n_u, n_t), n_t, n_u)

        levels = hierarchical_counts(split, max(steps).bit_length() - 1, total=paths.sites)
        return {
            n: CountSchedule([a - b for a, b in pairwise(levels[n.bit_length() - 1])])
            for n in steps
        }
