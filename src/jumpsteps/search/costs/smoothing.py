r"""Local linear regression of measured curves and tables.

Every value is replaced by that of a line (or plane) fitted to the values around it by least
squares, with weights :math:`\exp(-d^2 / 2 h^2)` for a distance d and a bandwidth h.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.information import Floats

__all__ = ["GAP_BANDWIDTHS", "local_line", "local_lines", "local_plane", "smooth_logarithm"]

REACH = 8.5
"""Bandwidths from which on a Gaussian is below the rounding of 1."""

GAP_BANDWIDTHS = 3.0
"""The calibration gap c - h varies more slowly along the noise than the entropy h, and is noisier:
so many times the bandwidth."""


def smooth_logarithm(curve: Floats, bandwidth: float, at: Floats, wanted: Floats) -> Floats:
    """A positive curve [K], known at ``at`` [K], smoothed on a logarithmic scale.

    Values below a thousandth of the largest are raised to it; a curve of zeros stays zero.

    Returns:
        The smoothed curve at ``wanted``, [N].
    """
    highest = float(curve.max())
    if highest <= 0:
        return np.zeros(len(wanted))
    return np.exp(local_line(at, wanted, bandwidth) @ np.log(np.maximum(curve, 1e-3 * highest)))


def local_line(at: Floats, wanted: Floats, bandwidth: float) -> Floats:
    """The matrix [N, K] of the regression: values at ``at`` [K] to fitted values at ``wanted``."""
    distance = at[None] - wanted[:, None]
    weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
    s0, s1, s2 = (
        np.sum(each, -1, keepdims=True)
        for each in (weight, weight * distance, weight * distance**2)
    )
    return weight * (s2 - s1 * distance) / (s0 * s2 - s1**2)


def local_lines(
    at: Tensor, bandwidth: float, sizes: Iterable[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""``local_line`` of the first n of ``at`` to themselves, as a product of matrices [n, F] and
    [F, n], for each size n.

    With angular frequencies :math:`\omega_k` of a period P beyond all distances,

    .. math:: e^{-d^2 / 2 h^2} = \sum_k a_k \cos(\omega_k d), \qquad
        a_k = \frac{\sqrt{2 \pi} h}{P} (2 - \delta_{k0}) e^{-h^2 \omega_k^2 / 2},

    up to rounding where both the image of a distance in the next period and the frequencies left
    out are more than ``REACH`` bandwidths away. A cosine of a difference is a sum of products, so F
    is twice the number of frequencies, and no matrix [n, n] is made.
    """
    period = float(at.max() - at.min()) + REACH * bandwidth
    number = torch.arange(int(REACH * period / (2 * math.pi * bandwidth)) + 2, device=at.device)
    frequency = 2 * math.pi / period * number.to(at)
    scaled = (bandwidth * frequency) ** 2
    a = math.sqrt(2 * math.pi) * bandwidth / period * torch.exp(-0.5 * scaled)
    a[1:] *= 2
    cos, sin = (wave(at[:, None] * frequency) for wave in (torch.cos, torch.sin))
    waves = torch.hstack([cos, sin])
    # The weights w, and w d and w d^2 by derivatives: w d = -h^2 w', w d^2 = h^2 (w - (w d)').
    tilt, bend = bandwidth**2 * frequency * a, bandwidth**2 * (1 - scaled) * a
    zeroth, first, second = (
        torch.hstack(each)
        for each in ([a * cos, a * sin], [-tilt * sin, tilt * cos], [bend * cos, bend * sin])
    )
    total = waves.cumsum(0)
    for n in sizes:
        s0, s1, s2 = (each[:n] @ total[n - 1] for each in (zeroth, first, second))
        determinant = s0 * s2 - s1**2
        fit = (s2 / determinant)[:, None] * zeroth[:n] - (s1 / determinant)[:, None] * first[:n]
        yield fit, waves[:n].T


def local_plane(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]], values: Floats, at: Floats, bandwidth: float
) -> Floats:
    """Values [P] at pairs (i, j) of numbers in 0..n-1, each replaced by that of a fitted plane.

    The plane is linear in (at[i], at[j]), with ``at`` [n]; distances in the weights are those of
    the numbers. The weights are a product of one factor for i and one for j, so every sum over
    pairs is two products with an n x n matrix.
    """
    numbers = np.arange(len(at))
    near = np.exp(-0.5 * (numbers[:, None] - numbers) ** 2 / bandwidth**2)
    x, y = (at[one] - at.mean() for one in pairs)

    def around(terms: Floats) -> Floats:
        table = np.zeros((len(at), len(at)))
        table[pairs] = terms
        return (near @ table @ near.T)[pairs]

    one, sx, sy = around(np.ones_like(x)), around(x), around(y)
    sxx, sxy, syy = around(x * x), around(x * y), around(y * y)
    v, vx, vy = around(values), around(values * x), around(values * y)
    dx, dy = sx - x * one, sy - y * one
    dxy = sxy - x * sy - y * sx + x * y * one
    dxx, dyy = sxx - 2 * x * sx + x * x * one, syy - 2 * y * sy + y * y * one
    ridge = 1e-9 * (one + dxx + dyy)
    normal = np.array([[one, dx, dy], [dx, dxx + ridge, dxy], [dy, dxy, dyy + ridge]])
    right = np.array([v, vx - x * v, vy - y * v])
    return np.linalg.solve(normal.transpose(2, 0, 1), right.T[..., None])[:, 0, 0]
