r"""What later steps leave of a step's error, where the kernel lets them change every site again.

The next call of the model repairs what looks more like noise than like data. If noise has hit a site with probability n by the time
s at which a step ends, and data look like the mistake with probability d, the odds are n : d, and the share d / (d + n) is kept of
the error. All is kept of the step to t = 0, after which nobody looks. The form is a guess that was tested, and no theorem
(docs/theory.md); d is measured.

It is that of the coarsest mistakes, judged where noise is rare: symbols drawn from what is known at t = 1, which the model sees
among the data's other sites at the time s at which noise has hit 3% of the sites. With w_1 and w_s the leave-one-out posteriors of
both times, and p(x0 = y | x_s = y) the probability that the model takes y for data,

.. math:: K = \frac{E \sum_y (w_1 - w_s)_+(y) \, p(x_0 = y \mid x_s = y)}{E \sum_y (w_1 - w_s)_+(y)}, \qquad
    p(x_0 = y \mid x_s = y) = \frac{w_s(y) \, q_{s|0}(y \mid y)}{(w_s q_{s|0})(y)}, \qquad d = \frac{n K}{1 - K}.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jumpsteps.core.information import Floats
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.search.costs.divergence import Comparison

__all__ = ["NO_CORRECTION", "RARE", "ErrorCorrection", "hit_by", "measured", "time_of_hits"]

RARE = 0.03
"""The share of sites that noise has hit where mistakes are judged."""


@dataclass(frozen=True)
class ErrorCorrection:
    """What later steps leave of a step's error.

    Attributes:
        doubt: d, how likely data look like a mistake; None to measure it, infinite where nothing is repaired.
        power: p of an additional weight rho(tau)^p of what goes wrong at tau.
    """

    false_acceptance: float | None = None
    power: float = 0.0

    def __post_init__(self) -> None:
        if self.false_acceptance is not None and not self.false_acceptance > 0:
            raise ValueError(
                f"doubt must be positive, or None to have it measured, got {self.false_acceptance}"
            )

    def kept(self, noise: Floats) -> Floats:
        """The share that is kept where sites have been hit with these probabilities; raises ValueError before d is measured."""
        if self.false_acceptance is None:
            raise ValueError(
                "the doubt of this error correction is not measured yet; pass a number"
            )
        return 1 / (1 + noise / self.false_acceptance)


NO_CORRECTION = ErrorCorrection(math.inf)
"""Costs are divergences of paths: a bound for every kernel, and what counts for the absorbing one, where nothing heals."""


def hit_by(forward: ForwardProcess, t: Time) -> Tensor:
    """The probability that noise has hit a site by time t, at the fastest rate of leaving a state; float64, of t's shape."""
    return -torch.expm1(-forward.max_exit_rate * forward.noise.total(t))


def time_of_hits(forward: ForwardProcess, share: float) -> float:
    """The time at which ``hit_by`` is this share; 1 if it never is."""
    total = torch.tensor(-math.log1p(-share) / forward.max_exit_rate, dtype=torch.float64)
    return 1.0 if total >= forward.noise.total(1.0) else float(forward.noise.inverse(total))


@torch.no_grad()
def measured(correction: ErrorCorrection, comparison: Comparison) -> ErrorCorrection:
    """The error correction with its doubt, if it has none, from the first view and that at ``time_of_hits`` of ``RARE`` or next to it.

    Where knowing more changes no distribution there is no error, and nothing is repaired.
    """
    if correction.false_acceptance is not None:
        return correction
    forward = comparison.reverse.forward
    first, *later = comparison.evaluations
    late = min(later, key=lambda evaluation: abs(evaluation.t - time_of_hits(forward, RARE)))
    wrong, kept = 0.0, 0.0
    for chunk in site_chunks(comparison.where, 4 * forward.vocab_size):
        before, after = (
            comparison.leave_one_out(evaluation, chunk) for evaluation in (first, late)
        )
        excess = (before - after).clamp_min(0)
        wrong += float(excess.sum(dtype=torch.float64))
        taken = after * forward.stay_probability(late.t).to(after) / forward.push(after, late.t)
        kept += float((excess * taken).sum(dtype=torch.float64))
    return replace(
        correction,
        false_acceptance=max(float(hit_by(forward, late.t)) * kept, SMALLEST)
        / max(wrong - kept, SMALLEST),
    )


SMALLEST = 1e-12
"""Keeps the doubt positive and finite."""
