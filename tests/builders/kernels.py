"""Kernels of a few symbols, and the published rates of two of them written out entry by entry."""

import math

import numpy as np
import torch
from torch import Tensor

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Exponential, LogLinear, NoiseSchedule
from jumpsteps.process.rate_matrix import RateMatrix
from jumpsteps.process.uniform import Uniform

KERNELS = ("absorbing", "uniform", "gaussian")
SCORE_KERNELS = ("absorbing", "uniform")
"""Kernels that a log-score model serves: it needs ``pull``, which a ``MatrixKernel`` refuses."""


def kernel(name: str, symbols: int, noise: NoiseSchedule | None = None) -> ForwardProcess:
    """The kernel of this name for data of ``symbols`` symbols.

    The absorbing kernel has one state more, MASK, the last.
    """
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


def one_way_rates(symbols: int) -> Tensor:
    """A rate matrix around a circle, faster upwards than downwards, at another speed in each state.

    From three symbols on it has no detailed balance, and its stationary distribution is not
    uniform.
    """
    x = torch.arange(symbols)
    matrix = torch.zeros(symbols, symbols, dtype=torch.float64)
    matrix[x, (x + 1) % symbols] += 1 + 0.5 * x
    matrix[x, (x - 1) % symbols] += 0.2
    return matrix - matrix.sum(-1).diag()


def gaussian_rates(size: int, rate_sigma: float, q_sigma: float) -> np.ndarray:
    """The rates of Campbell et al. (2022), App. H.2, entry by entry.

    First the inward rates, then their opposites, then the diagonal.
    """
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
    """exp(elapsed R) as one sum over the number of jumps.

    All terms are non-negative, so that small entries are as precise as large ones.
    """
    fastest = -rates.diagonal().min()
    mean = fastest * elapsed
    step = (rates / fastest + np.eye(len(rates))).clip(0)
    term = np.eye(len(rates))
    total = term.copy()
    for jumps in range(1, len(rates) + 60 + int(mean + 12 * math.sqrt(mean))):
        term = term @ step * (mean / jumps)
        total += term
    return total * math.exp(-mean)
