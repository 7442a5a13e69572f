"""From tokens to numbers, with the uncertainty that the number of samples leaves."""

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = [
    "Interval",
    "bootstrap_interval",
    "energy_distance",
    "group_means",
    "hellinger",
    "histogram",
    "mean_interval",
    "outlier_share",
]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float
    count: int


def mean_interval(values: Tensor, level: float = 0.95) -> Interval:
    """The mean of independent values [B] and its normal confidence interval.

    Raises:
        ValueError: fewer than two values.
    """
    if values.numel() < 2:
        raise ValueError(f"an interval needs at least two values, got {values.numel()}")
    mean = float(values.mean())
    half = NormalDist().inv_cdf(0.5 + level / 2) * float(values.std()) / values.numel() ** 0.5
    return Interval(mean, mean - half, mean + half, level, values.numel())


def bootstrap_interval(
    values: Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = 10_000
) -> Interval:
    """The mean of independent values [B], one for each song for example, and its percentile bootstrap interval.

    The B values are drawn again with replacement ``resamples`` times; the interval holds the middle ``level`` of their means
    (Efron 1979). Values that belong together, such as those of one song, have to be averaged first: ``group_means``.

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
    """The mean of the values [B] of each group, float64 [G], in the order of the groups' numbers; int64 groups [B]."""
    numbers, index = groups.unique(return_inverse=True)
    sums = torch.zeros(len(numbers), dtype=torch.float64, device=values.device).index_add(
        0, index, values.to(torch.float64)
    )
    return sums / index.bincount()


def histogram(tokens: Tensor, symbols: int) -> Tensor:
    """How often each symbol 0..symbols-1 occurs in each row: int64 [B, L] -> float64 [B, symbols]."""
    counts = torch.zeros(len(tokens), symbols, dtype=torch.float64, device=tokens.device)
    return counts.scatter_add(1, tokens, torch.ones_like(tokens, dtype=torch.float64))


def hellinger(samples: Tensor, reference: Tensor, symbols: int) -> Tensor:
    r"""The Hellinger distance of the symbols' frequencies, row by row: int64 [B, L] and [B, M] -> float64 [B] in 0..1.

    .. math:: H(p, q) = \frac{1}{\sqrt 2} \Big( \sum_v (\sqrt{p_v} - \sqrt{q_v})^2 \Big)^{1/2}

    Raises:
        ValueError: another number of rows, or rows without symbols.
    """
    check_rows(samples, reference)
    p, q = (histogram(tokens, symbols) / tokens.shape[1] for tokens in (samples, reference))
    return (p.sqrt() - q.sqrt()).norm(dim=-1) / 2**0.5


def energy_distance(samples: Tensor, reference: Tensor, symbols: int) -> Tensor:
    r"""How far apart the distributions of histograms are, for each of G groups: int64 [G, n, L] and [G, m, L] -> float64 [G].

    .. math:: 2 E H(x, y) - E H(x, x') - E H(y, y'),

    x, x' different samples, y, y' different ones of the reference, H the Hellinger distance of the histograms of two of them. It is
    zero for equal distributions only, because H is a distance in a Hilbert space (Szekely & Rizzo 2013; Lyons 2013), and estimated without
    bias, so that it can come out negative. A pooled histogram sees the mean of the distribution alone, and adds its noise to the distance.

    Raises:
        ValueError: another number of groups, or fewer than two sequences in a group.
    """
    if (
        samples.ndim != 3
        or reference.ndim != 3
        or len(samples) != len(reference)
        or min(samples.shape[1], reference.shape[1]) < 2
    ):
        raise ValueError(
            "expected samples [G, n, L] and reference [G, m, L] with at least two sequences in each group, "
            f"got {list(samples.shape)} and {list(reference.shape)}"
        )
    x, y = (
        torch.stack([(histogram(group, symbols) / group.shape[1]).sqrt() for group in each])
        for each in (samples, reference)
    )
    return torch.tensor(
        [2 * apart(a, b).mean() - among(a) - among(b) for a, b in zip(x, y, strict=True)],
        dtype=torch.float64,
    )


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Hellinger distances of all pairs of roots of distributions, [n, D] and [m, D] -> [n, m]."""
    return (1 - a @ b.T).clamp_min(0).sqrt()


def among(a: Tensor) -> Tensor:
    """The mean distance of two different ones of [n, D]."""
    return apart(a, a).fill_diagonal_(0).sum() / (len(a) * (len(a) - 1))


def outlier_share(
    samples: Tensor, reference: Tensor, symbols: int, ignored: int | None = None
) -> Tensor:
    """The share of each row's symbols that its reference row never has: int64 [B, L] and [B, M] -> float64 [B].

    Args:
        ignored: a symbol that is not counted at all, such as a rest; a row of nothing else has 0 outliers.

    Raises:
        ValueError: another number of rows, or rows without symbols.
    """
    check_rows(samples, reference)
    counts, known = histogram(samples, symbols), histogram(reference, symbols) > 0
    if ignored is not None:
        counts[:, ignored] = 0
    return (counts * ~known).sum(-1) / counts.sum(-1).clamp_min(1)


def check_rows(samples: Tensor, reference: Tensor) -> None:
    fits = samples.ndim == reference.ndim == 2 and len(samples) == len(reference)
    if not fits or 0 in (samples.shape[1], reference.shape[1]):
        raise ValueError(
            f"expected samples [B, L] and reference [B, M] of as many rows, got {list(samples.shape)} and {list(reference.shape)}"
        )
