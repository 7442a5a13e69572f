"""What the tests share: generators, chi-square tests, kernels and an exact log-score that does not go through the posterior."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from jumpsteps.denoiser.model import Model
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Exponential, LogLinear, NoiseSchedule, Time
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix
from jumpsteps.process.uniform import Uniform

# two workers on two cores: more threads would only wait for each other
torch.set_num_threads(1)

KERNELS = ("absorbing", "uniform", "gaussian")
SCORE_KERNELS = ("absorbing", "uniform")
"""The kernels that a log-score model serves: it asks for ``pull``, which a ``MatrixKernel`` refuses."""

LEVEL = 1e-4
"""The level of every statistical test; seeds are fixed, so that a test that passes once passes always."""


def seeded(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def one_way_rates(symbols: int) -> Tensor:
    """A rate matrix that runs around a circle, faster upwards than downwards and at another speed from every state: no detailed
    balance from three symbols on, and a stationary distribution that is not uniform."""
    x = torch.arange(symbols)
    matrix = torch.zeros(symbols, symbols, dtype=torch.float64)
    matrix[x, (x + 1) % symbols] += 1 + 0.5 * x
    matrix[x, (x - 1) % symbols] += 0.2
    return matrix - matrix.sum(-1).diag()


def gaussian_rates(size: int, rate_sigma: float, q_sigma: float) -> np.ndarray:
    """The rates of Campbell et al. (2022), App. H.2, entry by entry: the inward ones, then their opposites, then the diagonal."""
    rates = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if (i < size // 2 and i < j < size - i) or (i > size // 2 and size - 1 - i < j < i):
                rates[i, j] = math.exp(-((abs(i - j) - 1) ** 2) / rate_sigma**2)
    for i, j in np.argwhere(rates > 0):
        gap = (i + 1) ** 2 - (j + 1) ** 2 + size * (j + 1) - size * (i + 1)
        rates[j, i] = rates[i, j] * math.exp(-gap / (2 * q_sigma**2))
    return rates - np.diag(rates.sum(1))


def series(rates: np.ndarray, elapsed: float) -> np.ndarray:
    """exp(elapsed R) as one sum over the number of jumps, of non-negative terms: small entries are as precise as large ones."""
    fastest = -rates.diagonal().min()
    mean = fastest * elapsed
    step = (rates / fastest + np.eye(len(rates))).clip(0)
    term = np.eye(len(rates))
    total = term.copy()
    for jumps in range(1, len(rates) + 60 + int(mean + 12 * math.sqrt(mean))):
        term = term @ step * (mean / jumps)
        total += term
    return total * math.exp(-mean)


def kernel(name: str, symbols: int, noise: NoiseSchedule | None = None) -> ForwardProcess:
    """The kernel of this name for data of ``symbols`` symbols; the absorbing one has MASK as one state more, the last."""
    if name in ("gaussian", "rate-matrix"):
        noise = Exponential(base=10.0, scale=0.3) if noise is None else noise
        if name == "gaussian":
            return Gaussian(vocab_size=symbols, noise=noise, rate_sigma=1.0, q_sigma=0.5 * symbols)
        return RateMatrix(matrix=one_way_rates(symbols), noise=noise)
    noise = LogLinear() if noise is None else noise
    if name == "absorbing":
        return Absorbing(vocab_size=symbols + 1, noise=noise)
    if name == "uniform":
        return Uniform(vocab_size=symbols, noise=noise)
    raise KeyError(name)


def prior_distribution(model: Enumerable) -> Tensor:
    """The distribution [S] of the state that a run from noise starts from: all MASK, uniform, or the stationary distribution."""
    forward = model.forward
    if isinstance(forward, MatrixKernel):
        return model.product(forward.stationary().expand(model.table.ndim, -1))
    site = torch.full((forward.vocab_size,), 1 / forward.vocab_size, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        site = torch.zeros_like(site)
        site[forward.mask_id] = 1
    return model.product(site.expand(model.table.ndim, -1))


def two_sample_p(first: Tensor, second: Tensor) -> float:
    """The p-value of Pearson's test that two samples of indices, int64 [n] and [m], have the same distribution; rare cells are left out."""
    size = int(max(first.max(), second.max())) + 1
    counts = torch.stack([torch.bincount(draws, minlength=size) for draws in (first, second)])
    return float(stats.chi2_contingency(counts[:, counts.sum(0) >= 20].numpy()).pvalue)


def chi_square_p(draws: Tensor, probs: Tensor) -> float:
    """The p-value of Pearson's test that ``draws`` (indices, int64 [n]) are independent with this distribution [S].

    Cells are pooled, the rarest first, until each expects at least 5 draws. A draw in a cell of probability zero gives 0.
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


@dataclass(frozen=True)
class ExactLogScore:
    """log p_t(y)/p_t(x) read off the enumerated p_t: a ``Model`` for ``LogScoreReverse`` that knows no posterior."""

    truth: Enumerable

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        v, length = self.truth.forward.vocab_size, self.truth.table.ndim
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        here = self.truth.index(x)
        stride = v ** torch.arange(length - 1, -1, -1)
        there = here[:, None, None] + stride[:, None] * (torch.arange(v) - x[..., None])
        out = torch.empty(*x.shape, v, dtype=torch.float64)
        for time in times.unique().tolist():
            rows = times == time
            log_p = self.truth.marginal(time).log()
            out[rows] = log_p[there[rows]] - log_p[here[rows]][:, None, None]
        return out if where is None else out[where]


class Tabulated:
    """A model of few states, asked once for each state and looked up for each sequence: big batches at little cost."""

    def __init__(self, model: Model, truth: Enumerable) -> None:
        self.model, self.truth = model, truth

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        rows = self.model(self.truth.states, t)
        states = self.truth.index(x)
        if where is None:
            return rows[states]
        sequence, site = where.nonzero(as_tuple=True)
        return rows[states[sequence], site]


@dataclass(frozen=True)
class TwoSites:
    """The posterior of a table of two sites by Bayes' rule, with a time for each sequence and no loop over times: a ``Model``."""

    truth: Enumerable

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64)
        likelihood = self.truth.forward.likelihood(x, times[:, None] if times.ndim else times)
        n = self.truth.table.shape[0]
        joint = self.truth.table * likelihood[:, 0, :n, None] * likelihood[:, 1, None, :n]
        sites = torch.stack([joint.sum(2), joint.sum(1)], 1)
        out = torch.nn.functional.pad(sites, (0, self.truth.forward.vocab_size - n)).log()
        return out if where is None else out[where]


def save_words(folder: Path, vocab: list[str], **names: str) -> None:
    """A tokenizer that looks up words between blanks; ``names`` are its special tokens, [UNK] among the words."""
    import tokenizers
    import transformers

    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", **names
    ).save_pretrained(folder)
