r"""The information profile: for the absorbing kernel and Tweedie's sampler, one curve gives the cost of every step.

The curve is h(t), the mean entropy of p(x0^l | x_t) over the masked sites, and

.. math:: \mathrm{cost}(t \to s) = L \int_{\alpha_t}^{\alpha_s} (h(\alpha_t) - h(a)) \, da,

which is the compounding decoding error (total correlation) of the sites revealed in the step: together they have the entropy
that they show one at a time, sampled separately they have h(t) each (Lavenant & Zanella 2025, arXiv 2510.25544; Chen, Cong & Li
2025, arXiv 2511.04647). The curve costs one model call for each knot.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.chunks import site_entropies
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.smoothing import smooth_logarithm
from jumpsteps.search.costs.table import StepCosts, steps_only
from jumpsteps.search.paths import Paths

__all__ = ["InformationProfile", "ProfileCosts", "grid_of_times", "information_profile"]

BEND = 1.5
"""Grids are even in alpha to the power 1 / BEND: closer together near noise, where the profile falls fastest."""

FINER = 8
"""Points of a smoothed profile for each knot."""


@dataclass(frozen=True)
class InformationProfile:
    """The mean entropy of a masked site against the survival alpha, on knots.

    Attributes:
        forward: the forward process.
        length: number of free sites, on average over the sequences.
        alpha: knots in (0, 1], increasing, [K].
        entropy: h at the knots, nats, [K].
        influence: each sequence's part in h - E h as measured, [K, B]; its spread over sequences gives every standard error, of
            a smoothed profile too.
        model_calls: calls made to estimate it.
    """

    forward: Absorbing
    length: float
    alpha: Floats
    entropy: Floats
    influence: Floats
    model_calls: int

    @property
    def stderr(self) -> Floats:
        """Standard error of the entropy, [K]."""
        return standard_error(self.influence)

    def alphas(self, times: Floats) -> Floats:
        return self.forward.noise.alpha(torch.from_numpy(np.ascontiguousarray(times))).numpy()

    def smoothed(self, bandwidth: float) -> "InformationProfile":
        """The profile with less noise from knot to knot, and smooth between them: log h, fitted by a line around every point.

        It has eight times as many knots and continues to alpha = 1. (On a curve with corners schedules stop at the corners.)

        Args:
            bandwidth: standard deviation of the fit's Gaussian weights, in knots; 0 changes nothing.

        Entropies below a thousandth of the largest are raised to it before the logarithm.
        """
        if bandwidth == 0:
            return self
        knots, lowest = len(self.alpha), float(self.alpha[0])
        places = knots * ((self.alpha - lowest) / (1 - lowest)) ** (1 / BEND)
        wanted = np.arange(FINER * knots + 1) / FINER
        alpha = lowest + (1 - lowest) * (wanted / knots) ** BEND
        entropy = smooth_logarithm(self.entropy, bandwidth, places, wanted)
        influence = np.stack(
            [np.interp(alpha, self.alpha, column) for column in self.influence.T], -1
        )
        return replace(self, alpha=alpha, entropy=entropy, influence=influence)

    def step_costs(self, grid: Floats) -> "ProfileCosts":
        """The table on any grid of decreasing times, from the knots by linear interpolation in alpha; no model calls."""
        return ProfileCosts(
            grid, steps_only(self.table(self.alphas(grid), self.entropy)), self.model_calls, self
        )

    def table(self, alpha: Floats, curve: Floats) -> Floats:
        """L (h_i (alpha_k - alpha_i) - integral of h from i to k), [G, G]; linear in the curve [K]."""
        height = np.interp(alpha, self.alpha, curve)
        area = np.interp(alpha, *self.cumulative(curve))
        return self.length * (
            height[:, None] * (alpha[None] - alpha[:, None]) - (area[None] - area[:, None])
        )

    def cumulative(self, curve: Floats, points: int = 4096) -> tuple[Floats, Floats]:
        """The integral of the interpolated curve from 0, on fine points."""
        fine = np.union1d(np.linspace(0, 1, points + 1), self.alpha)
        height = np.interp(fine, self.alpha, curve)
        steps = 0.5 * (height[1:] + height[:-1]) * np.diff(fine)
        return fine, np.concatenate([[0.0], np.cumsum(steps)])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence."""
        plan = schedule.plan(self.forward)
        alpha = self.alphas(np.asarray([plan[0].t, *(step.s for step in plan)]))
        total = np.trace(self.table(alpha, self.entropy), 1)
        parts = [np.trace(self.table(alpha, column), 1) for column in self.influence.T]
        return float(total), float(standard_error(np.asarray(parts)))


@dataclass(frozen=True)
class ProfileCosts(StepCosts):
    """Costs on a grid of times, from an information profile.

    Attributes:
        profile: where they come from.
    """

    profile: InformationProfile

    @cached_property
    def stderr(self) -> Floats:
        alpha = self.profile.alphas(self.grid)
        parts = np.stack(
            [self.profile.table(alpha, column) for column in self.profile.influence.T], -1
        )
        return steps_only(standard_error(parts))

    def schedule(self, points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        return self.profile.predict(schedule)


def grid_of_times(forward: Absorbing, intervals: int) -> Floats:
    """Times from 1 to 0, decreasing, [intervals + 1]; see ``BEND``."""
    lowest = float(forward.noise.alpha(1.0))
    alpha = lowest + (1 - lowest) * np.linspace(0, 1, intervals + 1) ** BEND
    times = forward.noise.time_of_alpha(torch.from_numpy(alpha)).numpy()
    times[0], times[-1] = 1, 0
    return times


@torch.no_grad()
def information_profile(
    reverse: ReverseProcess, paths: Paths, *, knots: int = 32
) -> InformationProfile:
    """Estimate the profile along forward paths of data: one model call for each knot.

    Args:
        reverse: an absorbing reverse process.
        paths: forward paths of B >= 2 sequences; given sites do not count.
        knots: K.

    Raises:
        ValueError: the kernel is not absorbing, or there are fewer than two sequences.
    """
    forward = reverse.forward
    if not isinstance(forward, Absorbing):
        raise ValueError(
            f"the information profile is defined for the absorbing kernel, got {forward.name}; use --method jys"
        )
    times = grid_of_times(forward, knots)[:-1]
    entropies, influences = [], []
    for t in times.tolist():
        h, influence = masked_entropy(reverse, paths, t)
        entropies.append(h)
        influences.append(influence)
    length = float(paths.free.sum(-1).double().mean())
    alpha = forward.noise.alpha(torch.from_numpy(times)).numpy()
    return InformationProfile(
        forward, length, alpha, np.asarray(entropies), np.stack(influences), knots
    )


def masked_entropy(reverse: ReverseProcess, paths: Paths, t: float) -> tuple[float, Floats]:
    """Mean entropy of the masked sites at t, and each sequence's influence on it [B]."""
    x = paths(t)
    if len(x) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(x)}; pass more data"
        )
    masked = paths.movable(x)
    # At a masked site the posterior is the leave-one-out posterior: MASK says nothing about x0.
    entropy = site_entropies(reverse, x, t, masked)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device).index_add(
        0, masked.nonzero()[:, 0], entropy
    )
    count = masked.sum(-1).to(torch.float64)
    if not count.sum() > 0:
        return 0.0, np.zeros(len(x))
    mean = total.sum() / count.sum()
    influence = (total - mean * count) / count.mean()
    return float(mean), influence.cpu().numpy()
