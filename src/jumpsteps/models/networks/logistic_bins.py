r"""The U-Net's logistic distribution over bins, and its use without all of them.

``truncated_logistic`` gives the masses of all V bins of [-1, 1], up to their sum. Training
needs the bin of x_0 alone, and a tensor of V numbers per site is a hundred times the memory of the
network's output. The sum has a closed form. With the logistic function s, the scale h, and z_0, z_1
the ends of the interval relative to the location in units of h,

.. math:: \sum_b (s(u_b) - s(l_b)) = s(z_1) - s(z_0),

and the floors are a Riemann sum of width 2 / (V h) over [z_0, z_1] of s(z), or of s(-|z|) with two
floored tails. The integral differs from it by less than one term, which is 1e-6 of the total mass
at most.

A symbol is drawn without the other bins, too, and exactly. The bins' masses with their floors f are
dominated by :math:`g_b = s(u_b) - s(l_b) + 10^{-6}`, which is drawn from by inverting s, or
uniformly; a bin of the uniform part is kept with probability :math:`f_b \le 1`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.late_checks import errors_of_step
from jumpsteps.core.sample_generators import Generator, at_rows

__all__ = [
    "FLOOR",
    "draw_bins",
    "log_probabilities",
    "log_probability_of_bin",
    "truncated_logistic",
]

FLOOR = 1e-6
"""Added to a bin's mass by the published head, in units of the mass below the bin's upper edge."""


def truncated_logistic(
    location: Tensor, log_scale: Tensor, size: int, *, symmetric: bool
) -> Tensor:
    r"""Unnormalised log-masses of equal bins of [-1, 1] under a logistic distribution.

    With the logistic function s, and the bin's edges u > l relative to ``location`` in units of
    exp(log_scale - 2), the mass is

    .. math:: s(u) - s(l) + 10^{-6} s(u), \qquad s(u) - s(l) = s(u) \, s(-l) \, (1 - e^{-(u - l)}).

    The right-hand form avoids the difference of nearly equal numbers. The term 1e-6 s(u) is that of
    the published head: it bounds the mass of bins far above the location from below. ``symmetric``
    replaces it by 1e-6 min(s(u), s(-l)), as the published option ``fix_logistic`` does.

    Args:
        location, log_scale: [...].
        size: number of bins.

    Returns:
        [..., size].
    """
    inverse = torch.exp(2 - log_scale)[..., None]
    edges = torch.linspace(-1, 1, size + 1, device=location.device, dtype=location.dtype)
    z = (edges - location[..., None]) * inverse
    below_upper, above_lower = F.logsigmoid(z[..., 1:]), F.logsigmoid(-z[..., :-1])
    mass = below_upper + above_lower + torch.log(-torch.expm1(-2 / size * inverse))
    floor = torch.minimum(below_upper, above_lower) if symmetric else below_upper
    return torch.logaddexp(mass, floor + math.log(FLOOR))


def log_probabilities(rows: Tensor, size: int, symmetric: bool) -> Tensor:
    """Location and log-scale of each site [..., 2] to log-probabilities of intensities, float32
    [..., size].
    """
    location, log_scale = rows.float().unbind(-1)
    return truncated_logistic(location, log_scale, size, symmetric=symmetric).log_softmax(-1)


def log_probability_of_bin(
    location: Tensor, log_scale: Tensor, index: Tensor, size: int, *, symmetric: bool
) -> Tensor:
    """log p of a bin: an entry of ``truncated_logistic(...).log_softmax(-1)``, to 1e-5.

    Args:
        location, log_scale: [...], the location between -1 and 1.
        index: int64 [...], the bin, 0..size - 1.
        size: number of bins.
        symmetric: as in ``truncated_logistic``.

    Returns:
        float32 [...].
    """
    location, inverse = location.float(), torch.exp(2 - log_scale.float())
    lower, upper = (((2 * index + i) / size - 1 - location) * inverse for i in (0, 2))
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    mass = below + above + torch.log(-torch.expm1(-2 / size * inverse))
    floor = torch.minimum(below, above) if symmetric else below
    first, last = (-1 - location) * inverse, (1 - location) * inverse
    total = F.logsigmoid(last) + F.logsigmoid(-first) + torch.log(-torch.expm1(-2 * inverse))
    area = (
        2 * math.log(2) - F.softplus(first) - F.softplus(-last)
        if symmetric
        else F.softplus(last) - F.softplus(first)
    )
    floors = torch.log(area) - torch.log(inverse) + math.log(FLOOR * size / 2)
    return torch.logaddexp(mass, floor + math.log(FLOOR)) - torch.logaddexp(total, floors)


def draw_bins(
    location: Tensor,
    log_scale: Tensor,
    size: int,
    *,
    symmetric: bool,
    generator: Generator,
) -> Tensor:
    """One bin for each site from ``truncated_logistic(...).softmax(-1)``, int64 [K].

    Args:
        location, log_scale: [K], the location between -1 and 1.
        size: number of bins.
        symmetric: as in ``truncated_logistic``.

    Raises:
        ValueError: a location or a scale that is not finite.
    """
    location, inverse = location.double(), torch.exp(2 - log_scale.double())
    bins, kept = propose_bins(location, inverse, size, symmetric, generator)
    again = (~kept).nonzero()[:, 0]
    if len(again) and not torch.isfinite(location[again] + inverse[again]).all():
        with errors_of_step():
            raise ValueError(
                "cannot draw a symbol: a location or a scale is not finite; "
                "the model may have returned NaN"
            )
    while len(again):
        source = at_rows(generator, again)
        drawn, kept = propose_bins(location[again], inverse[again], size, symmetric, source)
        bins[again] = drawn
        again = again[~kept]
    return bins


def propose_bins(
    location: Tensor, inverse: Tensor, size: int, symmetric: bool, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Bins from g, int64 [K], and whether they are kept; ``inverse`` is 1 / h."""
    low, high = (torch.sigmoid((end - location) * inverse) for end in (-1, 1))
    mass = high - low
    place, chance = (
        uniform((len(location),), generator=generator, device=location.device) for _ in range(2)
    )
    place = place * (mass + FLOOR * size)
    inside = place < mass
    value = location + torch.logit(low + place) / inverse
    flat = (place - mass) / FLOOR
    bins = torch.where(inside, (value + 1) * (0.5 * size), flat).clamp(0, size - 1).to(torch.int64)
    lower, upper = (((2 * bins + i) / size - 1 - location) * inverse for i in (0, 2))
    floor = torch.sigmoid(torch.minimum(upper, -lower) if symmetric else upper)
    return bins, inside | (chance < floor)
