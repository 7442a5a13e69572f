r"""Error correction: the fraction of a step's error that later steps leave.

Where the kernel lets the reverse process revise every token (``ForwardProcess.revisable``), later
steps resample tokens that look like noise. A step that ends at time s counts with the surviving
fraction

.. math:: f(s) = \frac{d}{d + n(s)},

n(s) the probability that noise has corrupted a site by time s, and d the false-acceptance
probability: how likely a wrong token passes for data. At s = 0 nothing is revised, and f = 1. The
form is a tested heuristic, not a theorem (docs/theory.md, "Error correction").

d is measured from the largest errors, tokens drawn from what is known at t = 1, and judged at the
time s where noise has corrupted 3% of the sites. With :math:`w_1` and :math:`w_s` the
leave-one-out posteriors of a site at both times,

.. math:: K = \frac{E \sum_y (w_1 - w_s)_+(y) \, p(x_0 = y \mid x_s = y)}
                   {E \sum_y (w_1 - w_s)_+(y)}, \qquad
    p(x_0 = y \mid x_s = y) = \frac{w_s(y) \, q_{s|0}(y \mid y)}{(w_s q_{s|0})(y)}, \qquad
    d = \frac{n K}{1 - K}.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import Floats
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.search.costs.divergence import PathEvaluations

__all__ = [
    "NOISE_WEIGHTED",
    "NO_CORRECTION",
    "RARE_CORRUPTION",
    "ErrorCorrection",
    "corruption_probability",
    "corruption_time",
    "with_false_acceptance",
]

RARE_CORRUPTION = 0.03
"""The probability n(s) at which false acceptance is measured."""

SMALLEST = 1e-12
"""Keeps a measured false-acceptance probability positive and finite."""


@kinds_checked()
@dataclass(frozen=True)
class ErrorCorrection:
    """The surviving fraction of errors as a function of the corruption probability.

    Attributes:
        false_acceptance: d, the probability that a wrong token passes for data; None to measure
            it, infinity where nothing is revised.
        power: p of an additional weight rho(tau)^p on the error made at time tau, rho the
            correlation of a site at tau with its value in the data.
        noise_power: q of an additional weight (1 - rho(tau)^2)^q. For symbols that are numbers
            1 - rho^2 is the share of noise in a site's variance, and q = 1/2 weighs errors by the
            standard deviation of the noise that they are made in: coarse structure, which is
            decided in much noise, counts more than fine details. Costs are then no nats.

    Raises:
        ValueError: a false-acceptance probability that is not positive, or a negative
            ``noise_power``.
    """

    false_acceptance: float | None = None
    power: float = 0.0
    noise_power: float = 0.0

    def __post_init__(self) -> None:
        if self.false_acceptance is not None and not self.false_acceptance > 0:
            raise ValueError(
                "false_acceptance must be positive, or None to have it measured, "
                f"got {self.false_acceptance}"
            )
        if not self.noise_power >= 0:
            raise ValueError(f"noise_power must be 0 or more, got {self.noise_power}")

    def noise_weight(self, rho: Floats) -> Floats:
        """(1 - rho^2)^q at correlations rho."""
        return (1 - np.minimum(rho, 1) ** 2) ** self.noise_power

    def surviving_fraction(self, corruption: Floats) -> Floats:
        """d / (d + n) at corruption probabilities n; raises ValueError before d is measured."""
        if self.false_acceptance is None:
            raise ValueError(
                "false_acceptance of this error correction is not measured yet; pass a number"
            )
        return 1 / (1 + corruption / self.false_acceptance)


NO_CORRECTION = ErrorCorrection(math.inf)
"""All errors survive: costs are path divergences, an upper bound for every kernel. It is exact for
the absorbing kernel, which never revises a token."""

NOISE_WEIGHTED = ErrorCorrection(math.inf, noise_power=0.5)
"""All errors survive, and count by the standard deviation of the noise that they are made in: for
symbols that are numbers, such as intensities (docs/theory.md, "Symbols that are numbers")."""


def corruption_probability(forward: ForwardProcess, t: Time) -> Tensor:
    """n(t), the probability that noise has hit a site by t, at the fastest rate of leaving a state.

    Float64, of t's shape.
    """
    return -torch.expm1(-forward.max_exit_rate * forward.noise.total(t))


def corruption_time(forward: ForwardProcess, probability: float) -> float:
    """The time at which ``corruption_probability`` has this value; 1 if it never does."""
    total = torch.tensor(-math.log1p(-probability) / forward.max_exit_rate, dtype=torch.float64)
    return 1.0 if total >= forward.noise.total(1.0) else float(forward.noise.inverse(total))


@torch.no_grad()
def with_false_acceptance(
    correction: ErrorCorrection, evaluations: PathEvaluations
) -> ErrorCorrection:
    """The error correction with its false-acceptance probability measured, unless it is given.

    It compares the first evaluation with the one whose time is nearest to that of
    ``RARE_CORRUPTION``, and calls no model. Where both have the same distributions there is no
    error, and the result is tiny.
    """
    if correction.false_acceptance is not None:
        return correction
    forward = evaluations.reverse.forward
    first, *later = evaluations.by_time
    rare = corruption_time(forward, RARE_CORRUPTION)
    late = min(later, key=lambda evaluation: abs(evaluation.t - rare))
    # Sums of each sequence, so that they do not depend on the processes that share them.
    sums = torch.zeros(len(evaluations.where), 2, dtype=torch.float64, device=first.x.device)
    for chunk in site_chunks(evaluations.where, 4 * forward.vocab_size):
        before, after = (evaluations.leave_one_out(one, chunk) for one in (first, late))
        excess = (before - after).clamp_min(0)
        as_data = after * forward.stay_probability(late.t).to(after) / forward.push(after, late.t)
        # A symbol of probability zero is never taken for data.
        as_data = as_data.masked_fill(after == 0, 0)
        parts = torch.stack([excess, excess * as_data], -1).sum(1, dtype=torch.float64)
        sums.index_add_(0, chunk.rows, parts)
    wrong, accepted = evaluations.paths.of_all(sums).sum(0).tolist()
    odds = max(float(corruption_probability(forward, late.t)) * accepted, SMALLEST)
    return replace(correction, false_acceptance=odds / max(wrong - accepted, SMALLEST))
