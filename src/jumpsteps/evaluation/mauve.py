r"""MAUVE: how near samples are to data, by clusters of an evaluator's features.

Features of samples and data are put into k common clusters. With the shares p of the samples and q
of the data in them, and :math:`r_\lambda = \lambda p + (1 - \lambda) q`, the curve

.. math:: \big(e^{-c \, \mathrm{KL}(q \| r_\lambda)}, \; e^{-c \, \mathrm{KL}(p \| r_\lambda)}\big),
          \quad 0 < \lambda < 1, \quad c = 5,

runs from (0, 1) to (1, 0) if p and q have nothing in common, and through (1, 1) if they are equal.
MAUVE is the area below it, in [0, 1]; higher is nearer (Pillutla et al. 2021, Eq. 1 and 2).

It depends on the numbers of samples and clusters, so only values with the same numbers can be
compared. Two sets of data have less than 1: give their value beside those of samples.
"""

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.evaluation.features import check_features
from jumpsteps.evaluation.metrics import Interval

__all__ = ["FEWEST", "clusters", "frontier_area", "mauve"]

SCALE = 5.0
"""The published c."""

FEWEST = 100
"""Samples, and sequences of data, with which the value says something: ten clusters.

Of Gaussians in 64 dimensions, where 8 of the means differ by one, it has 0.65 with 100 of each and
0.92 with 16; of equal ones 0.96 with both (means of 40; the standard deviations are 0.15, 0.16,
0.04 and 0.10).
"""

MIXTURES = 200
ITERATIONS = 30
RESAMPLES = 500


def mauve(
    samples: Tensor,
    data: Tensor,
    *,
    generator: torch.Generator,
    count: int | None = None,
    level: float = 0.95,
) -> Interval:
    """MAUVE of features float [n, D] and [m, D], with a percentile bootstrap interval.

    The bootstrap (Efron 1979) resamples both sets with the clusters held. Resampled shares differ
    more from each other than shares of other samples would, so the interval lies low.

    Args:
        generator: of the clusters' first centres and of the resampling.
        count: k clusters; a tenth of the smaller set by default, as published, and at least 2.

    Raises:
        ValueError: fewer than two of a set, features that are not finite, or of two sizes.
    """
    for features in (samples, data):
        check_features(features)
    if samples.shape[1] != data.shape[1]:
        raise ValueError(
            f"features have {samples.shape[1]} and {data.shape[1]} components; use one evaluator"
        )
    k = count or max(min(len(samples), len(data)) // 10, 2)
    labels = clusters(torch.cat([samples, data]), k, generator=generator)
    parts = [shares(part, k) for part in (labels[: len(samples)], labels[len(samples) :])]
    drawn = [
        multinomial_shares(part, size, generator)
        for part, size in zip(parts, (len(samples), len(data)), strict=True)
    ]
    ends = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    low, high = frontier_area(*drawn).quantile(ends.to(labels.device)).tolist()
    return Interval(float(frontier_area(*parts)), low, high, level, len(samples))


def frontier_area(p: Tensor, q: Tensor) -> Tensor:
    """The area below the curve of p and q, float64 [..., k] -> [...]."""
    weight = torch.linspace(0, 1, MIXTURES, dtype=torch.float64, device=p.device)[1:-1, None]
    mixed = weight * p[..., None, :] + (1 - weight) * q[..., None, :]

    def closeness(part: Tensor) -> Tensor:
        kl = (torch.xlogy(part, part) - torch.xlogy(part, mixed)).sum(-1)
        return torch.exp(-SCALE * kl.clamp_min(0))

    across, up = closeness(q[..., None, :]), closeness(p[..., None, :])
    zero, one = torch.zeros_like(across[..., :1]), torch.ones_like(across[..., :1])
    # As the weight of p grows, the first coordinate falls and the second one rises.
    across = torch.cat([one, across, zero], -1)
    up = torch.cat([zero, up, one], -1)
    return -torch.trapezoid(up, across)


def shares(labels: Tensor, count: int) -> Tensor:
    """The share of each of ``count`` labels, float64 [count]."""
    return torch.bincount(labels, minlength=count).double() / len(labels)


def multinomial_shares(p: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """The shares of ``size`` draws from p [k], ``RESAMPLES`` times, float64 [RESAMPLES, k]."""
    u = uniform((RESAMPLES, size), generator=generator, device=p.device)
    labels = torch.searchsorted(p.cumsum(0), u.double()).clamp_max(len(p) - 1)
    counts = torch.zeros(RESAMPLES, len(p), dtype=torch.float64, device=p.device)
    return counts.scatter_add_(1, labels, torch.ones_like(labels, dtype=torch.float64)) / size


def clusters(features: Tensor, count: int, *, generator: torch.Generator) -> Tensor:
    """The cluster of each of n features [n, D], int64 [n], by k-means (Lloyd 1982).

    Features are first scaled to unit variance in all. The first centres are k-means++ draws (Arthur
    & Vassilvitskii 2007).
    """
    x = (features - features.mean(0)).double()
    x = x / x.square().mean().sqrt().clamp_min(1e-12)
    centres = x[: min(count, len(x))].clone()
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for i in range(len(centres)):
        weight = torch.ones_like(nearest) if i == 0 else nearest.clamp_min(1e-12)
        u = uniform((1,), generator=generator, device=x.device).double()
        chosen = torch.searchsorted(weight.cumsum(0), u * weight.sum()).clamp_max(len(x) - 1)
        centres[i] = x[chosen[0]]
        nearest = torch.minimum(nearest, (x - centres[i]).square().sum(-1))
    for _ in range(ITERATIONS):
        labels = torch.cdist(x, centres).argmin(-1)
        sums = torch.zeros_like(centres).index_add_(0, labels, x)
        sizes = torch.bincount(labels, minlength=len(centres)).double()[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return torch.cdist(x, centres).argmin(-1)
