r"""The information profile: one curve that gives the cost of every step with the absorbing kernel.

The curve is h(t), the mean entropy of :math:`p(x_0^l \mid x_t)` over the masked sites. A step of
Tweedie's sampler costs

.. math:: \mathrm{cost}(t \to s) =
    L \int_{\alpha_t}^{\alpha_s} \big( h(\alpha_t) - h(a) \big) \, da,

the compounding decoding error (total correlation) of the sites that it reveals: drawn jointly they
have the entropy that they show one at a time, drawn independently h(t) each (Lavenant & Zanella
2025, arXiv 2510.25544; Chen, Cong & Li 2025, arXiv 2511.04647). Each point of the curve takes one
model evaluation.

Measured by data (``Measure.DATA``) the curve is :math:`c(t) = E[-\log p(x_0^l \mid x_t)]`, and
costs add up to the excess of the few-step NLL. The same evaluations give h, which has less noise:
:math:`c = h + (c - h)`, and the second part, the calibration gap, is smoothed more widely, because
it varies slowly.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.arguments import check_at_least, kinds_checked, said
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.chunks import site_entropies, site_entropies_and_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.nll_bounds import state_of_run
from jumpsteps.search.costs.smoothing import GAP_BANDWIDTHS, local_line, smooth_logarithm
from jumpsteps.search.costs.table import (
    NOISE_LEVELS,
    Calibration,
    Measure,
    StepCosts,
    steps_only,
)
from jumpsteps.search.paths import Paths

__all__ = ["InformationProfile", "ProfileCosts", "information_profile", "time_grid"]

GRID_POWER = 1.5
"""Grids are equally spaced in alpha^(1 / 1.5): closer near noise, where h falls fastest."""

FINER = 8
"""Points of a smoothed profile per evaluation."""

INTEGRALS = 4096
"""Points in alpha to which a curve is integrated, beside the evaluations."""


@dataclass(frozen=True)
class Integrated:
    """A curve interpolated between evaluations.

    Attributes:
        curve: at the evaluations, [K].
        integral: from alpha = 0 to each of ``InformationProfile.fine``, [F].
    """

    curve: Floats
    integral: Floats


@said("a profile of jumpsteps.information_profile")
@dataclass(frozen=True)
class InformationProfile:
    """The mean uncertainty of a masked site against the survival probability alpha.

    Attributes:
        forward: the forward process.
        length: number of free sites, on average over the sequences.
        alpha: alpha at the evaluations, in (0, 1], increasing, [K].
        entropy: h there, nats, [K].
        influence: each sequence's part in curve - E curve as measured, [K, B]; its standard
            deviation over sequences gives every standard error, also of a smoothed profile.
        model_calls: model evaluations that the estimate used.
        gap: the calibration gap c - h, nats, [K]; None where the curve is h.
        measured: where c was smoothed, the profile before, which few-step NLLs are read from.
    """

    forward: Absorbing
    length: float
    alpha: Floats
    entropy: Floats
    influence: Floats
    model_calls: int
    gap: Floats | None = None
    measured: "InformationProfile | None" = None

    @property
    def curve(self) -> Floats:
        """What costs are made of: h, or c where the profile is measured by data, [K]."""
        return self.entropy if self.gap is None else self.entropy + self.gap

    @property
    def stderr(self) -> Floats:
        """Standard error of the curve, [K]."""
        return standard_error(self.influence)

    @property
    def calibration(self) -> tuple[Calibration, ...]:
        """Entropy and -log p of a masked site at ``NOISE_LEVELS``; none if not measured by data."""
        if self.measured is not None:
            return self.measured.calibration
        if self.gap is None:
            return ()
        alpha = self.alpha[0] + (1 - self.alpha[0]) * (1 - np.array(NOISE_LEVELS))
        at = (np.interp(alpha, self.alpha, each) for each in (self.entropy, self.gap, self.stderr))
        found = zip(NOISE_LEVELS, *(each.tolist() for each in at), strict=True)
        return tuple(Calibration(*each) for each in found)

    def alphas(self, times: Floats) -> Floats:
        """alpha(t)."""
        return self.forward.noise.alpha(torch.from_numpy(np.ascontiguousarray(times))).numpy()

    def smoothed(self, bandwidth: float) -> "InformationProfile":
        """The profile with less noise from point to point: log h, fitted by a line around each.

        It has eight times as many points and continues to alpha = 1, because on a curve with
        corners the best schedules stop at the corners. Entropies below a thousandth of the largest
        are raised to it before the logarithm. The calibration gap is smoothed without a logarithm,
        with ``GAP_BANDWIDTHS`` times the bandwidth.

        Args:
            bandwidth: standard deviation of the fit's Gaussian weights, in evaluations; 0 changes
                nothing.
        """
        if bandwidth == 0:
            return self
        count, lowest = len(self.alpha), float(self.alpha[0])
        at = count * ((self.alpha - lowest) / (1 - lowest)) ** (1 / GRID_POWER)
        wanted = np.arange(FINER * count + 1) / FINER
        alpha = lowest + (1 - lowest) * (wanted / count) ** GRID_POWER
        entropy = smooth_logarithm(self.entropy, bandwidth, at, wanted)
        influence = np.stack(
            [np.interp(alpha, self.alpha, column) for column in self.influence.T], -1
        )
        smooth = replace(self, alpha=alpha, entropy=entropy, influence=influence)
        if self.gap is None:
            return smooth
        gap = local_line(at, wanted, GAP_BANDWIDTHS * bandwidth) @ self.gap
        return replace(smooth, gap=gap, measured=self)

    def step_costs(self, grid: Floats) -> "ProfileCosts":
        """The table on any grid of decreasing times; h is interpolated linearly in alpha."""
        return ProfileCosts(
            grid,
            steps_only(self.table(self.alphas(grid), self.integrated(self.curve))),
            self.model_calls,
            self,
        )

    def table(self, alpha: Floats, part: Integrated) -> Floats:
        """L (h_i (alpha_k - alpha_i) - integral of h from i to k), [G, G]; linear in h = ``part``.

        Args:
            alpha: [G].
        """
        height = np.interp(alpha, self.alpha, part.curve)
        area = np.interp(alpha, self.fine, part.integral)
        return self.length * (
            height[:, None] * (alpha[None] - alpha[:, None]) - (area[None] - area[:, None])
        )

    @cached_property
    def fine(self) -> Floats:
        """Where curves are integrated to: increasing alpha, the evaluations among them, [F]."""
        return np.union1d(np.linspace(0, 1, INTEGRALS + 1), self.alpha)

    def integrated(self, curve: Floats) -> Integrated:
        """A curve at the evaluations, [K], with its integral."""
        height = np.interp(self.fine, self.alpha, curve)
        steps = 0.5 * (height[1:] + height[:-1]) * np.diff(self.fine)
        return Integrated(curve, np.concatenate([[0.0], np.cumsum(steps)]))

    @cached_property
    def parts(self) -> list[Integrated]:
        """The curve, and each sequence's part in it."""
        return [self.integrated(each) for each in (self.curve, *self.influence.T)]

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        """The summed cost of a schedule and its standard error, nats per sequence.

        By data it is the excess of ``few_step``.
        """
        if (measured := self.few_step(schedule)) is not None:
            return measured.excess, measured.excess_stderr
        total, parts = self.summed(schedule, self.table)
        return total, float(standard_error(parts))

    def summed(
        self, schedule: Schedule, table: Callable[[Floats, Integrated], Floats]
    ) -> tuple[float, Floats]:
        """The sum of a linear table over the steps of a schedule, and each sequence's part, [B]."""
        plan = schedule.plan(self.forward)
        alpha = self.alphas(np.asarray([plan[0].t, *(step.s for step in plan)]))
        total, *parts = (np.trace(table(alpha, part), 1) for part in self.parts)
        return float(total), np.asarray(parts)

    def revealed(self, alpha: Floats, part: Integrated) -> Floats:
        """L c_i (alpha_k - alpha_i), the NLL of the sites that a step i -> k reveals, [G, G]."""
        height = np.interp(alpha, self.alpha, part.curve)
        return self.length * height[:, None] * (alpha[None] - alpha[:, None])

    def few_step(self, schedule: Schedule) -> FewStepNLL | None:
        """The few-step NLL and its excess over one site at a time; None if the curve is h.

        It is interpolated between the evaluations as measured, from the sequences of the search.
        A step reveals a share (alpha_s - alpha_t) / (1 - alpha_1) of the sites.
        """
        if self.measured is not None:
            return self.measured.few_step(schedule)
        if self.gap is None:
            return None
        scale = 1 / (1 - float(self.forward.noise.alpha(1.0)))
        (nll, each), (excess, extra) = (
            self.summed(schedule, table) for table in (self.revealed, self.table)
        )
        bound, above = scale * (nll + centred(each)), scale * (excess + centred(extra))
        return FewStepNLL(bound, bound - above, self.length, self.model_calls)


@dataclass(frozen=True)
class ProfileCosts(StepCosts):
    """Costs on a grid of times, from an information profile.

    Attributes:
        profile: the information profile.
    """

    profile: InformationProfile

    @cached_property
    def stderr(self) -> Floats:
        alpha = self.profile.alphas(self.grid)
        parts = np.stack([self.profile.table(alpha, part) for part in self.profile.parts[1:]], -1)
        return steps_only(standard_error(parts))

    def schedule(self, grid_points: list[int]) -> TimeSchedule:
        return TimeSchedule(self.grid[grid_points])

    def predict(self, schedule: Schedule) -> tuple[float, float]:
        return self.profile.predict(schedule)

    def few_step(self, schedule: Schedule) -> FewStepNLL | None:
        return self.profile.few_step(schedule)

    @property
    def calibration(self) -> tuple[Calibration, ...]:
        return self.profile.calibration


def centred(parts: Floats) -> Floats:
    return parts - parts.mean()


@kinds_checked()
def time_grid(forward: Absorbing, grid_intervals: int) -> Floats:
    """Times from 1 to 0, decreasing, [grid_intervals + 1]; see ``GRID_POWER``.

    Raises:
        ValueError: no interval.
    """
    check_at_least(1, grid_intervals=grid_intervals)
    lowest = float(forward.noise.alpha(1.0))
    alpha = lowest + (1 - lowest) * np.linspace(0, 1, grid_intervals + 1) ** GRID_POWER
    times = forward.noise.time_of_alpha(torch.from_numpy(alpha)).numpy()
    times[0], times[-1] = 1, 0
    return times


@kinds_checked()
@torch.no_grad()
def information_profile(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    evaluations: int = 32,
    measure: Measure = Measure.MODEL,
) -> InformationProfile:
    """Estimate the profile along forward paths of data.

    Args:
        reverse: an absorbing reverse process.
        paths: forward paths of B >= 2 sequences; observed sites do not count.
        evaluations: K, the model evaluations.
        measure: of the curve: the entropy h, or c by data.

    Raises:
        ValueError: the kernel is not absorbing, there are fewer than two sequences or no
            evaluation, or a model that excludes a token of data (by data).
    """
    check_at_least(1, evaluations=evaluations)
    forward = reverse.forward
    if not isinstance(forward, Absorbing):
        raise ValueError(
            "the information profile is defined for the absorbing kernel, "
            f"got {forward.name}; use --method jys"
        )
    times = time_grid(forward, evaluations)[:-1]
    found = [masked_uncertainty(reverse, paths, t, measure) for t in times.tolist()]
    entropy, gap, influence = (np.asarray(each) for each in zip(*found, strict=True))
    length = float(paths.free.sum(-1).double().mean())
    alpha = forward.noise.alpha(torch.from_numpy(times)).numpy()
    by_data = measure is Measure.DATA
    return InformationProfile(
        forward, length, alpha, entropy, influence, evaluations, gap if by_data else None
    )


def masked_uncertainty(
    reverse: ReverseProcess, paths: Paths, t: float, measure: Measure
) -> tuple[float, float, Floats]:
    """Mean entropy h of the masked sites at t, the gap c - h of the measure c to it, and each
    sequence's influence on c, [B].
    """
    # A run starts with all sites masked, the forward process ends with few unmasked.
    x = state_of_run(paths, t) if measure is Measure.DATA else paths(t)
    if len(x) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(x)}; pass more data"
        )
    masked = paths.movable(x)
    # At a masked site the posterior is the leave-one-out posterior: MASK says nothing about x_0.
    if measure is Measure.DATA:
        entropy, measured = site_entropies_and_nll(reverse, x, t, masked, paths.data, paths.workers)
        check_finite(measured)
    else:
        entropy = measured = site_entropies(reverse, x, t, masked, paths.workers)
    rows, count = masked.nonzero()[:, 0], masked.sum(-1).to(torch.float64)
    if not count.sum() > 0:
        return 0.0, 0.0, np.zeros(len(x))
    none = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    total, of_entropy = (none.index_add(0, rows, each) for each in (measured, entropy))
    mean, mean_entropy = (float(each.sum() / count.sum()) for each in (total, of_entropy))
    influence = (total - mean * count) / count.mean()
    return mean_entropy, mean - mean_entropy, influence.cpu().numpy()


def check_finite(nll: Tensor) -> None:
    """Raises ValueError for tokens of data that the model excludes."""
    excluded = int(nll.isinf().sum())
    if excluded:
        raise ValueError(
            f"the model gives probability zero to {excluded} tokens of the data, so costs measured "
            "by data are infinite; leave such sequences out, or measure by the model "
            "(Measure.MODEL)"
        )
