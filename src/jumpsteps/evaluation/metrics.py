"""Metrics of samples, and confidence intervals of their means."""

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked

__all__ = [
    "Interval",
    "bootstrap_interval",
    "energy_distance",
    "group_means",
    "hellinger_distance",
    "histogram",
    "mean_interval",
    "outlier_share",
]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: estimate of the mean.
        low, high: ends of the interval.
        level: confidence level, such as 0.95.
        count: number of independent values.
    """

    mean: float
    low: float
    high: float
    level: float
    count: int


@kinds_checked()
def mean_interval(values: Tensor, level: float = 0.95) -> Interval:
    r"""The mean of independent values [B] and its normal confidence interval.

    The interval is the mean ± z_{(1 + level)/2} s / sqrt(B). Here s / sqrt(B) is the standard error
    of the mean, and z the standard normal quantile.

    Raises:
        ValueError: fewer than two values, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}")
    values = values if values.is_floating_point() else values.to(torch.float64)
    if values.numel() < 2:
        raise ValueError(f"an interval needs at least two values, got {values.numel()}")
    mean = float(values.mean())
    half = NormalDist().inv_cdf(0.5 + level / 2) * float(values.std()) / values.numel() ** 0.5
    return Interval(mean, mean - half, mean + half, level, values.numel())


def bootstrap_interval(
    values: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 10_000
) -> Interval:
    """The mean of independent values [B] and its percentile bootstrap interval (Efron 1979).

    The B values are resampled with replacement ``resamples`` times; the interval contains the
    central ``level`` of the resampled means. Dependent values, such as those of one song, must be
    averaged first: ``group_means``.

    Raises:
        ValueError: fewer than two values.
    """
    if values.numel() < 2:
        raise ValueError(f"an interval needs at least two values, got {values.numel()}")
    values = values.to(generator.device, torch.float64).reshape(-1)
    n, device = len(values), generator.device
    means = [
        values[torch.randint(n, (n,), generator=generator, device=device)].mean()
        for _ in range(resamples)
    ]
    ends = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64, device=device)
    low, high = torch.stack(means).quantile(ends).tolist()
    return Interval(float(values.mean()), low, high, level, n)


def group_means(values: Tensor, groups: Tensor) -> Tensor:
    """The mean of the values [B] of each group, float64 [G].

    Groups int64 [B] are the group of each value; the result is in increasing order of groups.
    """
    numbers, index = groups.unique(return_inverse=True)
    sums = torch.zeros(len(numbers), dtype=torch.float64, device=values.device).index_add(
        0, index, values.to(torch.float64)
    )
    return sums / index.bincount()


def histogram(tokens: Tensor, symbols: int) -> Tensor:
    """Number of occurrences of each symbol in each row: int64 [B, L] -> float64 [B, symbols]."""
    counts = torch.zeros(len(tokens), symbols, dtype=torch.float64, device=tokens.device)
    return counts.scatter_add(1, tokens, torch.ones_like(tokens, dtype=torch.float64))


def hellinger_distance(samples: Tensor, reference: Tensor, symbols: int) -> Tensor:
    r"""Hellinger distance of the symbol frequencies of paired rows, float64 [B] in [0, 1].

    .. math:: H(p, q) = \frac{1}{\sqrt 2} \Big( \sum_v (\sqrt{p_v} - \sqrt{q_v})^2 \Big)^{1/2}

    Args:
        samples: int64 [B, L].
        reference: int64 [B, M].

    Raises:
        ValueError: different numbers of rows, or empty rows.
    """
    check_rows(samples, reference)
    p, q = (histogram(tokens, symbols) / tokens.shape[1] for tokens in (samples, reference))
    return (p.sqrt() - q.sqrt()).norm(dim=-1) / 2**0.5


def energy_distance(samples: Tensor, reference: Tensor, symbols: int) -> Tensor:
    r"""Energy distance of the distributions of symbol histograms in G groups, float64 [G].

    .. math:: 2 E H(x, y) - E H(x, x') - E H(y, y'),

    with x, x' independent samples, y, y' independent reference sequences, and H the Hellinger
    distance of the histograms of two sequences. It is zero only for equal distributions of
    histograms, because H is a distance in a Hilbert space (Szekely & Rizzo 2013; Lyons 2013). The
    estimator is unbiased, and can therefore be negative. By contrast, the Hellinger distance of
    pooled histograms compares the means of the two distributions only, and sampling noise biases it
    upwards.

    Args:
        samples: int64 [G, n, L].
        reference: int64 [G, m, L].

    Raises:
        ValueError: different numbers of groups, or fewer than two sequences in a group.
    """
    if (
        samples.ndim != 3
        or reference.ndim != 3
        or len(samples) != len(reference)
        or min(samples.shape[1], reference.shape[1]) < 2
    ):
        raise ValueError(
            "expected samples [G, n, L] and reference [G, m, L] with at least two sequences in "
            f"each group, got {list(samples.shape)} and {list(reference.shape)}"
        )
    x, y = (
        torch.stack([(histogram(group, symbols) / group.shape[1]).sqrt() for group in each])
        for each in (samples, reference)
    )
    return torch.tensor(
        [
            2 * pairwise_hellinger(a, b).mean() - mean_among(a) - mean_among(b)
            for a, b in zip(x, y, strict=True)
        ],
        dtype=torch.float64,
    )


def pairwise_hellinger(a: Tensor, b: Tensor) -> Tensor:
    """Hellinger distances [n, m] of distributions whose square roots are [n, D] and [m, D]."""
    return (1 - a @ b.T).clamp_min(0).sqrt()


def mean_among(a: Tensor) -> Tensor:
    """Mean Hellinger distance of two different rows of the square roots a [n, D]."""
    return pairwise_hellinger(a, a).fill_diagonal_(0).sum() / (len(a) * (len(a) - 1))


def outlier_share(
    samples: Tensor, reference: Tensor, symbols: int, ignored: int | None = None
) -> Tensor:
    """Share of each row's symbols that do not occur in the paired reference row, float64 [B].

    Args:
        samples: int64 [B, L].
        reference: int64 [B, M].
        ignored: symbol that is not counted, such as a rest. A row of this symbol only has the
            value 0.

    Raises:
        ValueError: different numbers of rows, or empty rows.
    """
    check_rows(samples, reference)
    counts, known = histogram(samples, symbols), histogram(reference, symbols) > 0
    if ignored is not None:
        counts[:, ignored] = 0
    return (counts * ~known).sum(-1) / counts.sum(-1).clamp_min(1)


def check_rows(samples: Tensor, reference: Tensor) -> None:
    """Raise ValueError unless both are non-empty rows, of the same number."""
    fits = samples.ndim == reference.ndim == 2 and len(samples) == len(reference)
    if not fits or 0 in (samples.shape[1], reference.shape[1]):
        raise ValueError(
            "expected samples [B, L] and reference [B, M] of as many rows, "
            f"got {list(samples.shape)} and {list(reference.shape)}"
        )
