r"""Exact random draws, in float64 whatever the model's precision.

A category is drawn by inverting the distribution function: with u uniform on [0, 1) and
unnormalised weights w,

.. math:: y = \min \Big\{ k : \sum_{j \le k} w_j > u \sum_j w_j \Big\}.

(Float32 Gumbel noise, the usual way, truncates the tail of a softmax and so lowers its temperature:
Zheng et al. 2025, arXiv 2409.02908.) All randomness comes from the generator that is passed: a
``torch.Generator``, or a generator for each sample (``core.sample_generators``).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jumpsteps.core.poisson import poisson_quantile
from jumpsteps.core.sample_generators import Generator, SampleGenerators
from jumpsteps.core.tensors import precise

__all__ = ["RowDraws", "categorical", "exponential", "gumbel", "integers", "poisson", "uniform"]

MANY = 256
"""The number of symbols from which on a draw takes two stages."""


def uniform(shape: tuple[int, ...], *, generator: Generator, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), float64, of the given shape."""
    if isinstance(generator, SampleGenerators):
        return generator.uniform(shape)
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def integers(
    high: int, shape: tuple[int, ...], *, generator: Generator, device: torch.device
) -> Tensor:
    """Uniform integers in 0..high-1, int64, of the given shape."""
    if isinstance(generator, SampleGenerators):
        return (high * generator.uniform(shape)).to(torch.int64)
    return torch.randint(high, shape, generator=generator, device=device)


def exponential(rate: Tensor, *, generator: Generator) -> Tensor:
    """One exponential waiting time for each rate, float64; infinite where the rate is zero."""
    u = uniform(tuple(rate.shape), generator=generator, device=rate.device)
    return (-torch.log1p(-u) / rate.to(torch.float64)).masked_fill(rate == 0, torch.inf)


def poisson(mean: Tensor, *, generator: Generator) -> Tensor:
    """One Poisson number for each mean >= 0, int64.

    A ``torch.Generator`` draws it in float32 for float32 means, else in float64.

    Raises:
        ValueError: a mean is negative or not finite.
    """
    mean = mean if mean.dtype == torch.float32 else mean.to(torch.float64)
    least, most = read(mean.aminmax()) if mean.numel() else (0.0, 0.0)
    if not (least >= 0 and most < math.inf):
        raise ValueError(
            "cannot draw a Poisson number: a mean is negative or not finite; "
            "the model may have returned NaN"
        )
    if isinstance(generator, SampleGenerators):
        return poisson_quantile(generator.uniform(tuple(mean.shape)), mean)
    return torch.poisson(mean, generator=generator).to(torch.int64)


def gumbel(shape: tuple[int, ...], *, generator: Generator, device: torch.device) -> Tensor:
    """Standard Gumbel numbers, float64; to perturb a ranking, not to draw categories."""
    return -torch.log(exponential(torch.ones(shape, device=device), generator=generator))


def categorical(weights: Tensor, *, generator: Generator) -> Tensor:
    """One draw from each row of unnormalised probabilities, by inverse distribution function.

    With many symbols a run of about sqrt(V) neighbours is drawn first, by its sum, and then one
    symbol of the run, by the rest of the same uniform number. The weights are read once, and their
    float64 distribution function is never written out.

    Args:
        weights: [..., V], non-negative; each row has a positive, finite sum.
        generator: source of randomness, on the device of ``weights``.

    Returns:
        int64 [...]. A symbol of weight zero is never drawn.

    Raises:
        ValueError: a row is negative, not finite, or sums to zero.
    """
    rows = weights.reshape(-1, weights.shape[-1])
    width = 1 if rows.shape[1] < MANY else math.isqrt(rows.shape[1])
    cumulative = run_sums(rows, width).cumsum(-1)
    total = cumulative[:, -1:]
    u = uniform(tuple(weights.shape[:-1]), generator=generator, device=weights.device)
    threshold = below(total * u.reshape(total.shape), total)
    drawn = torch.searchsorted(cumulative, threshold, right=True)
    if width > 1:
        drawn.clamp_max_(cumulative.shape[1] - 1)  # Beyond it where a row is no distribution.
        before = cumulative.gather(-1, (drawn - 1).clamp_min(0)) * (drawn > 0)
        share = (threshold - before) / (cumulative.gather(-1, drawn) - before)
        drawn = symbol_of_run(rows, drawn * width, width, share)
    # The check comes last, because it makes the CPU wait for a GPU.
    if not are_distributions(rows, total):
        raise ValueError(
            "cannot draw a symbol: a row of weights is negative, not finite or sums to zero; "
            "the model may have returned NaN, or given sites may have probability zero under it"
        )
    return drawn.reshape(weights.shape[:-1])


class RowDraws:
    """Draws from the rows of a table of unnormalised probabilities [R, V], many from each row.

    The rows' distribution functions lie one after the other on [0, R], where one search finds the
    symbol of a row: a draw reads log2(R V) numbers in place of V. Its resolution is R times that of
    float64.

    Raises:
        ValueError: a row is negative, not finite, or sums to zero.
    """

    def __init__(self, weights: Tensor) -> None:
        cumulative = weights.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:].clone()
        if not are_distributions(weights, total):
            raise ValueError("a table to draw from has a row that is no distribution")
        self.symbols = weights.shape[1]
        starts = torch.arange(len(weights), device=weights.device, dtype=torch.float64)
        self.cumulative = cumulative.div_(total).add_(starts[:, None]).flatten()

    def draw(self, rows: Tensor, *, generator: Generator) -> Tensor:
        """One symbol for each row index, int64 [...]; a symbol of weight zero is never drawn."""
        return self.find(rows, uniform(tuple(rows.shape), generator=generator, device=rows.device))

    def find(self, rows: Tensor, u: Tensor) -> Tensor:
        """The symbol of each row index where its distribution function exceeds u, int64 [...]."""
        start = rows.to(torch.float64)
        found = torch.searchsorted(self.cumulative, below(start + u, start + 1), right=True)
        return found - rows * self.symbols


def are_distributions(rows: Tensor, total: Tensor) -> bool:
    """Whether no number of ``rows`` is negative, and their sums are positive and finite; it waits
    for a GPU once.
    """
    if not rows.numel():
        return True
    least, most, weight = read([*total.aminmax(), rows.amin().to(total.dtype)])
    return least > 0 and most < math.inf and weight >= 0


def read(numbers: Sequence[Tensor]) -> list[float]:
    """Numbers of one type from a GPU, which is waited for once; a minimum is NaN if a number is."""
    found: list[float] = torch.stack(tuple(numbers)).cpu().tolist()
    return found


def run_sums(rows: Tensor, width: int) -> Tensor:
    """Sums over runs of ``width`` neighbours, the last run shorter, float64 [K, runs].

    They are added up in the weights' own precision, float32 at least: PyTorch adds float32 numbers
    in float64 only after it has written them out as such.
    """
    if width == 1:
        return rows.to(torch.float64)
    whole, dtype = rows.shape[1] // width * width, precise(rows)
    sums = rows[:, :whole].unflatten(1, (-1, width)).sum(-1, dtype=dtype)
    if whole < rows.shape[1]:
        sums = torch.cat([sums, rows[:, whole:].sum(-1, keepdim=True, dtype=dtype)], 1)
    return sums.to(torch.float64)


def symbol_of_run(rows: Tensor, first: Tensor, width: int, share: Tensor) -> Tensor:
    """The symbol that each share [K, 1] of a run's sum falls on, int64 [K, 1]; ``first`` [K, 1] is
    the first symbol of the run.
    """
    columns = first + torch.arange(width, device=rows.device)
    if rows.shape[1] % width == 0:
        part = rows.gather(1, columns).to(torch.float64)
    else:
        inside = columns < rows.shape[1]
        part = rows.gather(1, columns.clamp_max(rows.shape[1] - 1)).to(torch.float64) * inside
    cumulative = part.cumsum(-1)
    total = cumulative[:, -1:]
    return first + torch.searchsorted(cumulative, below(share * total, total), right=True)


def below(threshold: Tensor, total: Tensor) -> Tensor:
    """The threshold, or the number just below the total where rounding exceeded it."""
    return torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
