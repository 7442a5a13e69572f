r"""Jump Your Steps: times that maximise the KLUB, interval by interval (Park et al. 2025).

For every interval u > t of a schedule the next level stops at

.. math:: s^* = \arg\max_{t < s < u} \mathrm{KLUB}(u, s, t),

the stop that gains most (``klub``), found by golden section. Starting from one step, each level
doubles the number of steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule
from jumpsteps.search.golden_section import (
    golden_section,
    golden_section_integer,
    hierarchical,
    hierarchical_counts,
    most_of_hierarchical,
    most_of_hierarchical_counts,
)
from jumpsteps.search.klub import CountKlub, Klub
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.paths import Paths

__all__ = ["JYS"]


@kinds_checked()
@dataclass(frozen=True)
class JYS:
    """Jump Your Steps as a search, as published by default (Park et al. 2025, Alg. 1 and 2).

    It serves every kernel, and every sampler that follows a schedule.

    Attributes:
        t_min: where the search ends. The schedule's last time becomes 0, so that the last step
            denoises.
        tolerance: a golden-section search stops when s moves by less.
        full: the whole Girsanov integrand in place of its logarithm part.
        hold_time: freeze the coarse rates in time as well as in context; False suits Tweedie's
            steps (see ``klub``).

    Raises:
        ValueError: ``t_min`` outside [0, 1), or ``tolerance`` outside (0, 1).
    """

    t_min: float = 1e-3
    tolerance: float = 1 / 4096
    full: bool = False
    hold_time: bool = True
    source = "Park et al. 2025"

    def __post_init__(self) -> None:
        if not (0 <= self.t_min < 1 and 0 < self.tolerance < 1):
            raise ValueError(
                "JYS needs a t_min in [0, 1) and a tolerance between 0 and 1, "
                f"got {self.t_min} and {self.tolerance}"
            )

    @property
    def name(self) -> str:
        return "jys" + "-full" * self.full + "-context" * (not self.hold_time)

    @property
    def sampler(self) -> Sampler:
        return Tweedie()

    @property
    def max_evaluations(self) -> None:
        """Not without numbers of steps: see ``most_evaluations``."""
        return None

    def most_evaluations(self, steps: list[int], sampler: Sampler, sites: int) -> int:
        """Model evaluations at most: those of the golden-section searches, and one where each
        begins.
        """
        levels = max(steps).bit_length() - 1
        most = (
            most_of_hierarchical_counts(levels, total=sites)
            if sampler.takes is CountSchedule
            else most_of_hierarchical(levels, length=1 - self.t_min, tolerance=self.tolerance)
        )
        return most + 2**levels - 1

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """The schedule for each number of steps; without predicted errors.

        Raises:
            ValueError: a number of steps that is no power of two, or ``full`` or not ``hold_time``
                for a sampler that counts sites.
        """
        if any(n < 1 or n & (n - 1) for n in steps):
            raise ValueError(
                f"JYS finds schedules for powers of two only, got {steps} steps; "
                "use --method shortest-path"
            )
        find = self.find_counts if sampler.takes is CountSchedule else self.find_times
        return {n: FoundSchedule(found) for n, found in find(reverse, paths, steps).items()}

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
                f"method {self.name} searches times, and this sampler counts sites; "
                "use --method jys"
            )

        def split(n_u: int, n_t: int) -> int:
            return golden_section_integer(CountKlub(reverse, paths, n_u, n_t), n_t, n_u)

        levels = hierarchical_counts(split, max(steps).bit_length() - 1, total=paths.sites)
        return {
            n: CountSchedule([a - b for a, b in pairwise(levels[n.bit_length() - 1])])
            for n in steps
        }
