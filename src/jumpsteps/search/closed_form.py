r"""Schedules in closed form from the information profile, to compare the shortest path with.

With a = alpha(t) from alpha(1) to 1, and h(a) the profile, a density m(a) is cut into pieces of
equal mass:

* ``equal_error``: :math:`m = \sqrt{-h'(a)}`. A short step of length d costs L (-h') d^2 / 2, so
  many short steps are cheapest when all cost the same (Lavenant & Zanella 2025, arXiv 2510.25544;
  Chen, Cong & Li 2025, arXiv 2511.04647).
* ``equal_entropy``: :math:`m = h(a)`. Every step takes the same share of the entropy H(x_0 | x_t),
  the rule of the entropic discrete schedule (Foresti et al. 2026, arXiv 2602.06849).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.core.information import Floats
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.information_profile import InformationProfile, information_profile
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.paths import Paths

__all__ = ["ClosedForm", "equal_entropy", "equal_error"]

FINE_INTERVALS = 4096


@kinds_checked()
def equal_error(profile: InformationProfile, steps: int) -> TimeSchedule:
    """Equal pieces of the integral of sqrt(-h') over alpha.

    Beyond the last point of the profile h continues to fall at the same rate.
    """
    falls = np.maximum(-np.diff(profile.entropy), 0.0)
    lengths = np.diff(profile.alpha)
    rest = 1.0 - profile.alpha[-1]
    mass = np.append(np.sqrt(falls * lengths), np.sqrt(falls[-1] / lengths[-1]) * rest)
    return equal_pieces(profile, steps, np.append(profile.alpha, 1.0), mass)


@kinds_checked()
def equal_entropy(profile: InformationProfile, steps: int) -> TimeSchedule:
    """Equal pieces of the integral of h over alpha."""
    alpha = np.linspace(profile.alpha[0], 1.0, FINE_INTERVALS + 1)
    entropy = np.interp(alpha, profile.alpha, profile.entropy)
    return equal_pieces(profile, steps, alpha, 0.5 * (entropy[1:] + entropy[:-1]) * np.diff(alpha))


def equal_pieces(
    profile: InformationProfile, steps: int, alpha: Floats, mass: Floats
) -> TimeSchedule:
    """Times that cut a mass [n] between points alpha [n + 1], increasing, into equal parts.

    Where there is no mass the parts are equal in alpha.
    """
    mass = mass + 1e-9 * max(float(mass.sum()), 1e-9) * np.diff(alpha)
    total = np.concatenate([[0.0], mass.cumsum()])
    inner = np.interp(total[-1] * np.arange(1, steps) / steps, total, alpha)
    times = profile.forward.noise.time_of_alpha(torch.from_numpy(inner)).tolist()
    return TimeSchedule([1.0, *times, 0.0])


SOURCES: dict[Callable[[InformationProfile, int], TimeSchedule], str] = {
    equal_error: "Lavenant & Zanella 2025; Chen et al. 2025",
    equal_entropy: "Foresti et al. 2026",
}


@kinds_checked()
@dataclass(frozen=True)
class ClosedForm:
    """A rule in closed form as a search: absorbing kernel, Tweedie's sampler.

    Attributes:
        name: e.g. "equal-error".
        rule: a profile and a number of steps to a schedule, e.g. ``equal_error``.
        evaluations: points of the profile, one model evaluation each.
        bandwidth: of its smoothing, in evaluations.

    Raises:
        ValueError: no evaluation, or a bandwidth below zero.
    """

    name: str
    rule: Callable[[InformationProfile, int], TimeSchedule]
    evaluations: int = 32
    bandwidth: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(1, evaluations=self.evaluations)
        check_at_least(0, bandwidth=self.bandwidth)

    @property
    def source(self) -> str:
        """The papers of the rules of this module; of another rule nothing is known."""
        return SOURCES.get(self.rule, "")

    @property
    def sampler(self) -> Sampler:
        return Tweedie()

    @property
    def max_evaluations(self) -> int:
        return self.evaluations

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """The schedule for each number of steps.

        Raises:
            ValueError: a sampler other than Tweedie's, or a kernel other than the absorbing one.
        """
        if not isinstance(sampler, Tweedie):
            raise ValueError(
                f"method {self.name} serves the tweedie sampler, got {sampler.name}; "
                "use --method shortest-path"
            )
        profile = information_profile(reverse, paths, evaluations=self.evaluations)
        smooth = profile.smoothed(self.bandwidth)
        return {n: FoundSchedule(self.rule(smooth, n)) for n in steps}
