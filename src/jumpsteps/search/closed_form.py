r"""Schedules in closed form from the information profile: what the shortest path is compared with.

With a = alpha(t) the survival, a from alpha(1) to 1, and h(a) the profile, a density m(a) is cut into pieces of equal mass:

* ``equal_error``: :math:`m = \sqrt{-h'(a)}`. A short step of length d costs L (-h') d^2 / 2, so that many short steps are
  cheapest when all cost the same (Lavenant & Zanella 2025, arXiv 2510.25544; Chen, Cong & Li 2025, arXiv 2511.04647).
* ``equal_entropy``: :math:`m = h(a)`. Every step takes the same share of the entropy H(x_0 | x_t), the rule of the entropic
  discrete schedule (Foresti et al. 2026, arXiv 2602.06849).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from jumpsteps.core.information import Floats
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.information_profile import InformationProfile, information_profile
from jumpsteps.search.paths import Paths

__all__ = ["ClosedForm", "equal_entropy", "equal_error"]

POINTS = 4096


def equal_error(profile: InformationProfile, steps: int) -> TimeSchedule:
    """Equal pieces of the integral of sqrt(-h') over the knots; beyond the last one h falls on as before it."""
    falls = np.maximum(-np.diff(profile.entropy), 0.0)
    lengths = np.diff(profile.alpha)
    rest = 1.0 - profile.alpha[-1]
    mass = np.append(np.sqrt(falls * lengths), np.sqrt(falls[-1] / lengths[-1]) * rest)
    return equal_pieces(profile, steps, np.append(profile.alpha, 1.0), mass)


def equal_entropy(profile: InformationProfile, steps: int) -> TimeSchedule:
    """Equal pieces of the integral of h."""
    alpha = np.linspace(profile.alpha[0], 1.0, POINTS + 1)
    entropy = np.interp(alpha, profile.alpha, profile.entropy)
    return equal_pieces(profile, steps, alpha, 0.5 * (entropy[1:] + entropy[:-1]) * np.diff(alpha))


def equal_pieces(
    profile: InformationProfile, steps: int, alpha: Floats, mass: Floats
) -> TimeSchedule:
    """Times that cut a mass [n] between points alpha [n + 1], increasing, into equal parts; by alpha where there is no mass."""
    mass = mass + 1e-9 * max(float(mass.sum()), 1e-9) * np.diff(alpha)
    total = np.concatenate([[0.0], mass.cumsum()])
    inner = np.interp(total[-1] * np.arange(1, steps) / steps, total, alpha)
    times = profile.forward.noise.time_of_alpha(torch.from_numpy(inner)).tolist()
    return TimeSchedule([1.0, *times, 0.0])


@dataclass(frozen=True)
class ClosedForm:
    """A rule in closed form as a search: absorbing kernel, Tweedie's sampler.

    Attributes:
        name: e.g. "equal-error".
        rule: the profile and a number of steps to a schedule.
        knots: points of the profile; one model call each.
        bandwidth: of its smoothing, in knots.
    """

    name: str
    rule: Callable[[InformationProfile, int], TimeSchedule]
    knots: int = 32
    bandwidth: float = 2.0

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
        """Raises ValueError for a sampler other than Tweedie's, or a kernel other than the absorbing one."""
        if not isinstance(sampler, Tweedie):
            raise ValueError(
                f"method {self.name} serves the tweedie sampler, got {sampler.name}; use --method shortest-path"
            )
        profile = information_profile(reverse, paths, knots=self.knots).smoothed(self.bandwidth)
        return {n: self.rule(profile, n) for n in steps}
