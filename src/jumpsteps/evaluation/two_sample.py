r"""Which of several sets of samples is nearest to data: an unbiased two-sample distance.

A similarity k(x, y) of two sequences that is positive definite (or minus a distance of negative
type) has the squared maximum mean discrepancy (Gretton et al. 2012, Lemma 6)

.. math:: \mathrm{MMD}^2 = E\,k(x, x') - 2 E\,k(x, y) + E\,k(y, y'),

x, x' independent samples and y, y' independent data. The last term is that of the data alone. It
cancels in the difference of two sets of samples, so it is left out (``Discrepancy``). Where sites
are observed, sequences are compared only if they have the same observed tokens: the similarity is
multiplied by 1 if these are equal, and else by 0. The mean over groups of equal observed tokens is
then the mean distance of the conditional distributions.

A *row* is a sequence of data with all samples that belong to it. Rows are independent, so the
jackknife over rows (Efron & Stein 1981) gives the variance of a difference; it is too large rather
than too small on average.

Similarities, int64 [n, L] and [m, L] -> float64 [n, m]:

* ``token_similarity``: the squared share of sites at which the tokens agree. Its distance is that
  of all pair frequencies (``agreement``).
* ``OrdinalSimilarity``: near symbols agree in part, for intensities.
* ``histogram_similarity``: how often symbols, or neighbouring pairs of them, occur anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
]

Similarity = Callable[[Tensor, Tensor], Tensor]
"""int64 [n, L], int64 [m, L] -> float64 [n, m]."""


def token_similarity(x: Tensor, y: Tensor) -> Tensor:
    """The squared share of sites at which x and y have the same token."""
    return agreement(x, y).square()


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


def histogram_similarity(x: Tensor, y: Tensor, *, neighbours: int = 1) -> Tensor:
    r"""Minus the Hellinger distance of two sequences' histograms; 2 MMD^2 is an energy distance.

    Args:
        neighbours: 1 to count symbols, 2 to count pairs of neighbouring symbols.
    """
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
        without: the estimate without each row, float64 [R], of the rows that count.
        rows: which rows count, int64 [R].
    """

    value: float
    without: Tensor
    rows: Tensor

    @classmethod
    def measure(
        cls,
        samples: Tensor,
        rows: Tensor,
        data: Tensor,
        *,
        groups: Tensor | None = None,
        similarity: Similarity = token_similarity,
    ) -> "Discrepancy":
        """The discrepancy of n samples from B rows of data.

        Args:
            samples: int64 [n, L].
            rows: int64 [n], the row that each sample belongs to.
            data: int64 [B, L].
            groups: int64 [B], equal where the observed tokens are; None if no site is observed.

        Raises:
            ValueError: too few samples to leave a row out.
        """
        groups = (
            torch.zeros_like(data[:, 0])
            if groups is None
            else groups.unique(return_inverse=True)[1]
        )
        within = similarity(samples, samples).fill_diagonal_(0)
        across = similarity(samples, data)
        same = groups[rows][:, None] == groups
        member = (rows[:, None] == torch.arange(len(data), device=rows.device)).to(within)
        among = member.T @ (within * (groups[rows][:, None] == groups[rows])) @ member
        sums = Sums(among, member.T @ (across * same), member.sum(0), groups)
        return sums.discrepancy()


@dataclass(frozen=True)
class Sums:
    """Sums of similarities, by rows: of their samples, and of their samples and data.

    Attributes:
        among: float64 [B, B], over pairs of different samples, zero between groups.
        across: float64 [B, B], of the samples of a row and the data of a row.
        counts: float64 [B], samples of each row.
        groups: int64 [B], 0 .. G - 1.
    """

    among: Tensor
    across: Tensor
    counts: Tensor
    groups: Tensor

    def discrepancy(self) -> Discrepancy:
        size = int(self.groups.max()) + 1
        among, across, counts, data = (
            torch.zeros(size, dtype=torch.float64, device=self.groups.device).index_add(
                0, self.groups, values
            )
            for values in (
                self.among.sum(1),
                self.across.sum(1),
                self.counts,
                torch.ones_like(self.counts),
            )
        )
        value, weight = weighted(among, across, counts, data)
        counting = (weight[self.groups] > 0).nonzero()[:, 0]
        group = self.groups[counting]
        among_left = among[group] - (self.among.sum(1) + self.among.sum(0))[counting]
        among_left += self.among.diagonal()[counting]
        across_left = across[group] - (self.across.sum(1) + self.across.sum(0))[counting]
        across_left += self.across.diagonal()[counting]
        left = weighted(
            among_left, across_left, counts[group] - self.counts[counting], data[group] - 1
        )
        total, weights = (value * weight).sum(), weight.sum()
        weights_left = weights - weight[group] + left[1]
        if len(counting) < 2 or not bool((weights_left > 0).all()):
            raise ValueError(
                "a two-sample distance needs two sequences of data with two samples each, or "
                "three with one, for the same observed tokens; draw more samples"
            )
        without = (total - (value * weight)[group] + left[0] * left[1]) / weights_left
        return Discrepancy(float(total / weights), without, counting)


def weighted(among: Tensor, across: Tensor, counts: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """The estimate of each group, and its weight: its rows of data, or 0 without two samples."""
    known = (counts > 1) & (data > 0)
    n, m = counts.clamp_min(2), data.clamp_min(1)
    value = among / (n * (n - 1)) - 2 * across / (n * m)
    return torch.where(known, value, 0.0), torch.where(known, data, 0.0)


def difference(first: Discrepancy, second: Discrepancy, level: float = 0.95) -> Interval:
    """How much farther the first samples are from the data than the second, with its interval.

    Both must have been measured with the same rows of data.

    Raises:
        ValueError: other rows.
    """
    if not torch.equal(first.rows, second.rows):
        raise ValueError("the two discrepancies were measured with different rows of data")
    value, count = first.value - second.value, len(first.rows)
    without = first.without - second.without
    variance = float((without - without.mean()).square().sum()) * (count - 1) / count
    half = student_quantile(0.5 + level / 2, count - 1) * variance**0.5
    return Interval(value, value - half, value + half, level, count)
