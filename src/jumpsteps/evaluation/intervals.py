r"""Confidence intervals of rare events, and of ratios.

**Shares.** A sample's value is a share of its pairs, notes or tokens, in [0, 1], and most values
may be zero. The normal interval of their mean is then too short, and has no length where all are
zero. ``share_interval`` is Wilson's (1927) interval of a share :math:`\bar v` of

.. math:: n_e = n \, \bar v (1 - \bar v) / s^2

independent trials, as many as have the variance of the mean of the n values (Franco et al. 2019,
J. Surv. Stat. Methodol. 7, "effective sample size"). Of values 0 and 1 it is Wilson's interval
itself, and for many values it tends to the normal one.

**Ratios.** ``ratio_interval`` combines the intervals of two independent means (Donner & Zou 2012,
Stat. Methods Med. Res. 21), which may be asymmetric.
"""

import math
from statistics import NormalDist

from torch import Tensor

from jumpsteps.evaluation.metrics import Interval, mean_interval

__all__ = ["FEW", "ratio_interval", "share_interval"]

FEW = 20
"""With fewer values than these that are not zero, the interval is Wilson's."""


def share_interval(values: Tensor, unit: float = 1.0, level: float = 0.95) -> Interval:
    """The mean of independent values [B] and its confidence interval.

    Args:
        values: one for each sample. The interval is that of ``mean_interval`` unless they lie in
            [0, 1] and fewer than ``FEW`` are not zero.
        unit: the smallest value of a sample that is not zero, such as one pair of 255. It decides
            the upper end where all are zero: each sample is then 1 / unit trials.

    Raises:
        ValueError: fewer than two values.
    """
    plain = mean_interval(values, level)
    within = bool(((values >= 0) & (values <= 1)).all())
    if not within or int((values != 0).sum()) >= FEW:
        return plain
    n, mean = values.numel(), plain.mean
    variance = float(values.double().var(correction=0))
    trials = n * mean * (1 - mean) / variance if variance > 0 else n / unit
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    centre = (mean + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 / trials * (mean * (1 - mean) + z2 / (4 * trials))) / (1 + z2 / trials)
    low = centre - half if mean > 0 else 0.0
    return Interval(mean, max(low, 0.0), min(centre + half, 1.0), level, n)


def ratio_interval(top: Interval, bottom: Interval) -> Interval:
    """The ratio of two means that are zero or more, with its confidence interval.

    The ratio is infinite where the mean below is zero, and so is the upper end where the interval
    below reaches zero. ``count`` is the smaller one.

    Raises:
        ValueError: different levels, or both means are zero.
    """
    if top.level != bottom.level:
        raise ValueError(f"intervals of one level are needed, got {top.level} and {bottom.level}")
    a, b = top.mean, bottom.mean
    if a == 0 and b == 0:
        raise ValueError("the ratio of two means that are zero is not known; take more samples")
    ratio = a / b if b > 0 else math.inf
    low, high = max(top.low, 0.0), max(bottom.low, 0.0)
    ends = lower_end(a, b, low, bottom.high), upper_end(a, b, top.high, high)
    return Interval(ratio, *ends, top.level, min(top.count, bottom.count))


def lower_end(a: float, b: float, low: float, high: float) -> float:
    """Of a / b, from the lower end of a and the upper end of b."""
    if low == 0:
        return 0.0
    product = low * (2 * a - low)
    return product / (a * b + math.sqrt((a * b) ** 2 - product * high * (2 * b - high)))


def upper_end(a: float, b: float, high: float, low: float) -> float:
    """Of a / b, from the upper end of a and the lower end of b."""
    if low == 0:
        return math.inf
    below = low * (2 * b - low)
    return (a * b + math.sqrt((a * b) ** 2 - high * (2 * a - high) * below)) / below
