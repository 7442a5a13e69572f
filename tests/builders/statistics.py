"""Statistical tests: seeded generators, the level, and chi-square tests of indices."""

import torch
from scipy import stats
from torch import Tensor

LEVEL = 1e-4
"""The level of every statistical test. Seeds are fixed: what passes once passes always."""


def seeded(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def two_sample_p(first: Tensor, second: Tensor) -> float:
    """The p-value of Pearson's test that two samples have the same distribution.

    Args:
        first, second: indices, int64 [n] and [m]. Indices drawn fewer than 20 times are left out.
    """
    size = int(max(first.max(), second.max())) + 1
    counts = torch.stack([torch.bincount(draws, minlength=size) for draws in (first, second)])
    return float(stats.chi2_contingency(counts[:, counts.sum(0) >= 20].numpy()).pvalue)


def chi_square_p(draws: Tensor, probs: Tensor) -> float:
    """The p-value of Pearson's test that ``draws`` are independent draws from ``probs``.

    Cells are pooled, the rarest first, until each expects at least 5 draws. A draw in a cell of
    probability zero gives 0.

    Args:
        draws: indices, int64 [n].
        probs: the distribution, [S].
    """
    probs = probs.to(torch.float64)
    assert probs.ndim == 1
    assert abs(float(probs.sum()) - 1) < 1e-9
    assert float(probs.min()) >= -1e-15
    counts = torch.bincount(draws.reshape(-1), minlength=len(probs)).to(torch.float64)
    if len(counts) > len(probs) or counts[probs <= 0].sum() > 0:
        return 0.0
    order = probs.argsort()
    observed, expected = counts[order], (probs * counts.sum())[order]
    observed, expected = observed[expected > 0], expected[expected > 0]
    rare = 0
    while rare < len(expected) and (expected[rare] < 5 or 0 < float(expected[:rare].sum()) < 5):
        rare += 1
    if rare:
        observed = torch.cat([observed[:rare].sum()[None], observed[rare:]])
        expected = torch.cat([expected[:rare].sum()[None], expected[rare:]])
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(expected) - 1)) if len(expected) > 1 else 1.0
