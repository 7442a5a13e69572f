r"""Comparing sets of sequences by the number of sites at which two of them agree.

With a(x, y) the share of the L sites at which x and y have the same token, :math:`a^2` is a kernel
whose features are the indicators of all pairs of tokens at all pairs of sites. Its maximum mean
discrepancy (Gretton et al. 2012, Eq. 3) is therefore the squared distance of all pair frequencies,

.. math:: \frac{1}{L^2} \sum_{l, l'} \sum_{a, b} \big( P(x^l = a, x^{l'} = b)
    - Q(x^l = a, x^{l'} = b) \big)^2 .
"""

from statistics import NormalDist

import torch
from torch import Tensor

from jumpsteps.evaluation.metrics import Interval

__all__ = ["PAIRS", "agreement", "hamming_distance", "pair_distance"]

PAIRS = 2**24
"""Sites of pairs of sequences that are compared at a time."""


def agreement(x: Tensor, y: Tensor) -> Tensor:
    """The share of sites at which each x agrees with each y: int64 [n, L], [m, L] -> [n, m]."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sequences have {x.shape[1]} and {y.shape[1]} sites")
    rows = max(PAIRS // max(y.numel(), 1), 1)
    equal = [(part[:, None] == y).sum(-1, dtype=torch.float64) for part in x.split(rows)]
    return torch.cat(equal) / x.shape[1]


def hamming_distance(x: Tensor) -> float:
    """The mean share of sites at which two different ones of n >= 2 sequences differ."""
    if len(x) < 2:
        raise ValueError(f"a mean distance needs at least two sequences, got {len(x)}")
    a, n = agreement(x, x), len(x)
    return 1 - float((a.sum() - a.diagonal().sum()) / (n * (n - 1)))


def pair_distance(x: Tensor, y: Tensor, level: float = 0.95) -> Interval:
    """The distance of all pair frequencies, without bias, so that it can come out negative.

    The interval is the normal one of the U-statistic's linear part, over x and y. It is of the
    right order, and too narrow, where the distributions are equal.

    Args:
        x: int64 [n, L], n >= 2.
        y: int64 [m, L], m >= 2.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a distance needs two sequences of each, got {len(x)} and {len(y)}")
    within_x, within_y = (mean_to_others(agreement(z, z).square()) for z in (x, y))
    across = agreement(x, y).square()
    value = float(within_x.mean() + within_y.mean() - 2 * across.mean())
    parts = (within_x - across.mean(1), within_y - across.mean(0))
    variance = sum(float(4 * part.var() / len(part)) for part in parts)
    half = NormalDist().inv_cdf(0.5 + level / 2) * variance**0.5
    return Interval(value, value - half, value + half, level, len(x))


def mean_to_others(kernel: Tensor) -> Tensor:
    """The mean of each row of a square matrix without its diagonal, [n]."""
    return (kernel.sum(1) - kernel.diagonal()) / (len(kernel) - 1)
