r"""Which of several sets of samples is nearest to data: an unbiased two-sample distance.

A similarity k(x, y) of two sequences that is positive definite (or minus a distance of negative
type) has the squared maximum mean discrepancy (Gretton et al. 2012, Lemma 6)

.. math:: \mathrm{MMD}^2 = E\,k(x, x') - 2 E\,k(x, y) + E\,k(y, y'),

x, x' independent samples and y, y' independent data. The last term is that of the data alone. It
cancels in the difference of two sets of samples, so it is left out (``Discrepancy``).

A *row* is a sequence of data with all samples that belong to it. With observed sites, a sample has
the tokens of its row's data there. Then the distance is that of the joint distributions of observed
and sampled tokens: it sees whether samples fit what they are given. Only different rows are
compared, so the estimate is unbiased whatever the samples of a row have in common. Rows are
independent, and the jackknife over rows (Efron & Stein 1981) gives the variance of a difference; it
is too large rather than too small on average.

Similarities, int64 [n, L] and [m, L] -> float64 [n, m]:

* ``token_similarity``: the squared share of sites at which the tokens agree. Its distance is that
  of all pair frequencies (``agreement``).
* ``OrdinalSimilarity``: near symbols agree in part, for intensities.
* ``histogram_similarity``: how often symbols, or neighbouring pairs of them, occur anywhere.

``two_sample_distance`` is the whole MMD^2 of two independent sets, without rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import student_quantile
from jumpsteps.evaluation.agreement import PAIRS, agreement
from jumpsteps.evaluation.metrics import Interval

__all__ = [
    "Discrepancy",
    "OrdinalSimilarity",
    "Similarity",
    "difference",
    "histogram_similarity",
    "token_similarity",
    "two_sample_distance",
]

Similarity = Callable[[Tensor, Tensor], Tensor]
"""int64 [n, L], int64 [m, L] -> float64 [n, m]."""


def check_sequences(*tokens: Tensor) -> None:
    for x in tokens:
        if x.ndim != 2:
            raise ValueError(f"sequences are tokens [n, L], got shape {list(x.shape)}")


@kinds_checked()
def token_similarity(x: Tensor, y: Tensor) -> Tensor:
    """The squared share of sites at which x and y have the same token.

    Raises:
        ValueError: sequences that are not [n, L].
    """
    check_sequences(x, y)
    return agreement(x, y).square()


@kinds_checked()
@dataclass(frozen=True)
class OrdinalSimilarity:
    r"""The squared mean over sites of :math:`\exp(-(x^l - y^l)^2 / (2 h^2))`.

    Attributes:
        bandwidth: h, in symbols.

    Raises:
        ValueError: a bandwidth that is not positive.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {self.bandwidth}")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        rows = max(PAIRS // max(y.numel(), 1), 1)
        parts = [
            torch.exp(-0.5 * ((part[:, None] - y) / self.bandwidth).square()).mean(-1)
            for part in x.split(rows)
        ]
        return torch.cat(parts).to(torch.float64).square()


@kinds_checked()
def histogram_similarity(x: Tensor, y: Tensor, *, neighbours: int = 1) -> Tensor:
    r"""Minus the Hellinger distance of two sequences' histograms; MMD^2 is their energy distance.

    Args:
        neighbours: 1 to count symbols, 2 to count pairs of neighbouring symbols.

    Raises:
        ValueError: sequences that are not [n, L], or another number of neighbours.
    """
    check_sequences(x, y)
    if neighbours not in (1, 2):
        raise ValueError(f"neighbours must be 1 or 2, got {neighbours}")
    if neighbours == 2:
        symbols = int(max(x.max(), y.max())) + 1
        x, y = (tokens[:, :-1] * symbols + tokens[:, 1:] for tokens in (x, y))
    seen, ranks = torch.cat([x.flatten(), y.flatten()]).unique(return_inverse=True)
    a, b = (
        part.view_as(z) for part, z in zip(ranks.split([x.numel(), y.numel()]), (x, y), strict=True)
    )
    affinity = torch.zeros(len(x), len(y), dtype=torch.float64, device=x.device)
    size = max(PAIRS // (len(x) + len(y)), 1)
    for first in range(0, len(seen), size):
        p, q = (roots_of_counts(part - first, min(size, len(seen) - first)) for part in (a, b))
        affinity += p @ q.T
    return -(1 - affinity / (x.shape[1] * y.shape[1]) ** 0.5).clamp_min(0).sqrt()


def roots_of_counts(symbols: Tensor, size: int) -> Tensor:
    """Square roots of how often each of the symbols 0 .. size - 1 occurs in each row, float64."""
    known = (symbols >= 0) & (symbols < size)
    counts = torch.zeros(len(symbols), size, dtype=torch.float64, device=symbols.device)
    return counts.scatter_add(1, symbols.clamp(0, size - 1), known.to(counts)).sqrt()


@dataclass(frozen=True)
class Discrepancy:
    """MMD^2 of samples from data, without the term of the data alone.

    Attributes:
        value: the unbiased estimate.
        without: the estimate without each row, float64 [B].
    """

    value: float
    without: Tensor

    @classmethod
    def measure(
        cls,
        samples: Tensor,
        rows: Tensor,
        data: Tensor,
        similarity: Similarity = token_similarity,
    ) -> "Discrepancy":
        """The discrepancy of n samples from B rows of data.

        Args:
            samples: int64 [n, L].
            rows: int64 [n], the row that each sample belongs to.
            data: int64 [B, L].

        Raises:
            ValueError: samples of fewer than three rows.
        """
        member = (rows[:, None] == torch.arange(len(data), device=rows.device)).to(torch.float64)
        n = member.sum(0)
        if int((n > 0).sum()) < 3:
            raise ValueError(
                "a two-sample distance needs samples of three rows of data at least, got those of "
                f"{int((n > 0).sum())}; draw more samples"
            )
        among = (member.T @ similarity(samples, samples) @ member).fill_diagonal_(0)
        across = (member.T @ similarity(samples, data)).fill_diagonal_(0)
        # Without a row, its line and its column are missing from every sum.
        value = estimate(among.sum(), across.sum(), n.sum(), n.square().sum(), len(data))
        without = estimate(
            among.sum() - 2 * among.sum(1),
            across.sum() - across.sum(1) - across.sum(0),
            n.sum() - n,
            n.square().sum() - n.square(),
            len(data) - 1,
        )
        return cls(float(value), without)


def estimate(among: Tensor, across: Tensor, samples: Tensor, squares: Tensor, rows: int) -> Tensor:
    """E k(x, x') - 2 E k(x, y) from sums over pairs of different rows.

    Args:
        samples: the number of samples.
        squares: the sum over rows of the square of their number.
    """
    return among / (samples.square() - squares) - 2 * across / (samples * (rows - 1))


def difference(first: Discrepancy, second: Discrepancy, level: float = 0.95) -> Interval:
    """How much farther the first samples are from the data than the second, with its interval.

    Both must have been measured with the same rows of data.

    Raises:
        ValueError: other numbers of rows.
    """
    if first.without.shape != second.without.shape:
        raise ValueError(
            "the two discrepancies were measured with different data: "
            f"{len(first.without)} and {len(second.without)} rows"
        )
    value, count = first.value - second.value, len(first.without)
    without = first.without - second.without
    variance = float((without - without.mean()).square().sum()) * (count - 1) / count
    half = student_quantile(0.5 + level / 2, count - 1) * variance**0.5
    return Interval(value, value - half, value + half, level, count)


def two_sample_distance(
    samples: Tensor,
    data: Tensor,
    similarity: Similarity = token_similarity,
    level: float = 0.95,
) -> Interval:
    """MMD^2 of independent samples from independent data, with its jackknife interval.

    The estimate has no bias, so it can be negative. The variance is the sum of the jackknife's over
    the samples and over the data. The interval is too long where both have one distribution.

    Args:
        samples: int64 [n, L].
        data: int64 [m, L].

    Raises:
        ValueError: fewer than three samples or sequences of data.
    """
    n, m = len(samples), len(data)
    if min(n, m) < 3:
        raise ValueError(
            "a two-sample distance needs three samples and three sequences of data at least, "
            f"got {n} and {m}; pass more"
        )
    across = similarity(samples, data)
    (own, own_without), (other, other_without) = (
        mean_without_each(similarity(z, z)) for z in (samples, data)
    )
    total, between = across.sum(), across.mean()
    value = float(own - 2 * between + other)
    without_sample = own_without - 2 * (total - across.sum(1)) / ((n - 1) * m) + other
    without_datum = own - 2 * (total - across.sum(0)) / (n * (m - 1)) + other_without
    variance = sum(
        float((part - part.mean()).square().sum()) * (len(part) - 1) / len(part)
        for part in (without_sample, without_datum)
    )
    half = student_quantile(0.5 + level / 2, min(n, m) - 1) * variance**0.5
    return Interval(value, value - half, value + half, level, n)


def mean_without_each(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The mean off the diagonal of a symmetric matrix [n, n], [], and that without each row and
    column, [n].
    """
    n, inner = len(kernel), kernel.clone().fill_diagonal_(0)
    total = inner.sum()
    return total / (n * (n - 1)), (total - 2 * inner.sum(1)) / ((n - 1) * (n - 2))
