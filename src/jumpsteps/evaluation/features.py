r"""Distances of sets of samples in the space of an extractor's features.

An extractor is any function from sequences int64 [B, L] to features [B, D]: Inception's for images,
the last hidden states of a classifier, or the tokens themselves.

The Frechet distance of two sets is that of Gaussians with their means and covariances
(Dowson & Landau 1982; Heusel et al. 2017),

.. math:: \lVert m_1 - m_2 \rVert^2
          + \operatorname{tr}\big(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\big).

It is biased upwards by an amount that falls as 1/n, so only sets of equal sizes can be compared
(Chong & Forsyth 2020). With fewer samples than D the covariance is singular, and the bias large.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Extractor",
    "Moments",
    "PrecisionRecall",
    "extract",
    "frechet_distance",
    "precision_recall",
]

Extractor = Callable[[Tensor], Tensor]
"""int64 [B, L] -> [B, D]."""

ROWS = 1024
"""Sequences whose distances to all others are in memory at a time."""


def extract(extractor: Extractor, samples: Tensor, *, batch: int = 256) -> Tensor:
    """Features of all samples, float64 [n, D], from int64 [n, L]."""
    with torch.no_grad():
        parts = [extractor(part).to(torch.float64) for part in samples.split(batch)]
    return torch.cat(parts)


@dataclass(frozen=True)
class Moments:
    """Mean [D] and covariance [D, D] of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Those of features [n, D], n >= 2; the covariance has the divisor n - 1.

        Raises:
            ValueError: another shape, fewer than two samples, or a feature that is not finite.
        """
        check_features(features)
        centred = features.to(torch.float64) - features.to(torch.float64).mean(0)
        return cls(features.to(torch.float64).mean(0), centred.T @ centred / (len(features) - 1))


def frechet_distance(first: Moments | Tensor, second: Moments | Tensor) -> float:
    """The Frechet distance of two sets of features [n, D], or of their moments.

    Raises:
        ValueError: as ``Moments.of``, or features of different sizes.
    """
    a, b = (each if isinstance(each, Moments) else Moments.of(each) for each in (first, second))
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"features have {len(a.mean)} and {len(b.mean)} components; use one extractor for both"
        )
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ b.covariance @ root)
    traces = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + traces - 2 * product.clamp_min(0).sqrt().sum())


@dataclass(frozen=True)
class PrecisionRecall:
    """Attributes:
    precision: share of samples within the estimated support of the data.
    recall: share of the data within the estimated support of the samples.
    """

    precision: float
    recall: float


def precision_recall(data: Tensor, samples: Tensor, *, neighbours: int = 3) -> PrecisionRecall:
    """Precision and recall of Kynkaanniemi et al. (2019), Eq. 1 and 2.

    The support of a set is the union of balls around its members, each up to its k-th neighbour in
    the set.

    Args:
        data, samples: features [n, D] and [m, D].
        neighbours: k.

    Raises:
        ValueError: as ``Moments.of``, or a set of k members or fewer.
    """
    for features in (data, samples):
        check_features(features)
        if len(features) <= neighbours:
            raise ValueError(
                f"{len(features)} samples have no neighbour number {neighbours}; pass more"
            )
    return PrecisionRecall(covered(samples, data, neighbours), covered(data, samples, neighbours))


def covered(points: Tensor, centres: Tensor, neighbours: int) -> float:
    """Share of the points that lie in a ball around a centre."""
    radius = torch.cat(
        [
            torch.cdist(part, centres).kthvalue(neighbours + 1, dim=-1).values
            for part in centres.split(ROWS)
        ]
    )
    inside = [
        (torch.cdist(part, centres) <= radius).any(-1).double() for part in points.split(ROWS)
    ]
    return float(torch.cat(inside).mean())


def check_features(features: Tensor) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"features must be [n, D] of n >= 2 samples, got shape {list(features.shape)}"
        )
    if not torch.isfinite(features).all():
        raise ValueError("features are not all finite; check the extractor")
