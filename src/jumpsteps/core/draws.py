r"""Exact random draws, in float64 whatever the model's precision.

A category is drawn by inverting the distribution function: with u uniform on [0, 1) and
unnormalised weights w,

.. math:: y = \min \Big\{ k : \sum_{j \le k} w_j > u \sum_j w_j \Big\}.

(Float32 Gumbel noise, the usual way, truncates the tail of a softmax and so lowers its temperature:
Zheng et al. 2025, arXiv 2409.02908.) All randomness comes from the generator that is passed: a
``torch.Generator``, or a generator for each sample (``core.sample_generators``).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jumpsteps.core.late_checks import check_numbers, errors_of_step, read_later
from jumpsteps.core.poisson import poisson_quantile
from jumpsteps.core.sample_generators import Generator, SampleGenerators
from jumpsteps.core.tensors import precise

__all__ = [
    "RowDraws",
    "below",
    "categorical",
    "check_sums",
    "exponential",
    "gumbel",
    "integers",
    "poisson",
    "poisson_times",
    "uniform",
]

MANY = 256
"""The number of symbols from which on a draw takes two stages."""

BAD_WEIGHTS = (
    "cannot draw a symbol: a row of weights is negative, not finite or sums to zero; the model may "
    "have returned NaN, or given sites may have probability zero under it"
)
BAD_TABLE = "a table to draw from has a row that is no distribution"

LARGEST_MEAN = 1e9
"""Of a Poisson number whose mean has not been checked yet."""


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


def poisson(mean: Tensor, *, generator: Generator, now: bool = False) -> Tensor:
    """One Poisson number for each mean >= 0, int64.

    A ``torch.Generator`` draws it in float32 for float32 means, else in float64.

    Args:
        now: check the means before it returns, in a run as well: for numbers that set a size.

    Raises:
        ValueError: a mean is negative or not finite.
    """
    checked = not mean.numel() or check_numbers(mean.aminmax(), verify_means, now=now)
    return poisson_numbers(mean if checked else in_range(mean), generator)


def poisson_times(mean: Tensor, *, generator: Generator) -> tuple[Tensor, Callable[[], int]]:
    """``poisson`` numbers that set a size, and a function that gives their sum.

    A GPU copies the sum in the background: what it is asked for before the function is called, it
    does while the CPU waits.

    Raises:
        ValueError: a mean is negative or not finite; the function raises it.
    """
    if not mean.numel():
        return mean.to(torch.int64), lambda: 0
    times = poisson_numbers(in_range(mean), generator)
    numbers = [each.to(torch.float64) for each in (*mean.aminmax(), times.sum())]
    read = read_later(torch.stack(numbers))

    def number() -> int:
        least, most, total = read()
        with errors_of_step():
            verify_means([least, most])
        return int(total)

    return times, number


def poisson_numbers(mean: Tensor, generator: Generator) -> Tensor:
    """A Poisson number for each mean >= 0, int64."""
    mean = mean if mean.dtype == torch.float32 else mean.to(torch.float64)
    if isinstance(generator, SampleGenerators):
        return poisson_quantile(generator.uniform(tuple(mean.shape)), mean)
    return torch.poisson(mean, generator=generator).to(torch.int64)


def in_range(mean: Tensor) -> Tensor:
    """Means that have not been checked yet, those that are none replaced."""
    return mean.clamp(0, LARGEST_MEAN).nan_to_num_(0)


def verify_means(numbers: Sequence[float]) -> None:
    """Raise ValueError unless the least and the largest mean are such."""
    least, most = numbers
    if not (least >= 0 and most < math.inf):
        raise ValueError(
            "cannot draw a Poisson number: a mean is negative or not finite; "
            "the model may have returned NaN"
        )


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
    cumulative = running_sums(run_sums(rows, width))
    total = cumulative[:, -1:]
    u = uniform(tuple(weights.shape[:-1]), generator=generator, device=weights.device)
    threshold = below(total * u.reshape(total.shape), total)
    drawn = number_below(cumulative, threshold)
    if width > 1:
        drawn.clamp_max_(cumulative.shape[1] - 1)  # Beyond it where a row is no distribution.
        before = cumulative.gather(-1, (drawn - 1).clamp_min(0)) * (drawn > 0)
        share = (threshold - before) / (cumulative.gather(-1, drawn) - before)
        drawn = symbol_of_run(rows, drawn * width, width, share)
    # The check comes last, because it may make the CPU wait for a GPU.
    if not check_distributions(rows, total, BAD_WEIGHTS):
        drawn.clamp_max_(rows.shape[1] - 1)
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
        cumulative = running_sums(weights)
        total = cumulative[:, -1:].clone()
        self.checked = check_distributions(weights, total, BAD_TABLE)
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
        symbol = found - rows * self.symbols
        return symbol if self.checked else symbol.clamp_(0, self.symbols - 1)


def check_distributions(rows: Tensor, total: Tensor, message: str) -> bool:
    """Check that no number of ``rows`` is negative, and that their sums are positive and finite;
    returns whether that is done (``check_numbers``).
    """

    def verify(numbers: Sequence[float]) -> None:
        least, most, weight = numbers  # A minimum is NaN if a number is.
        if not (least > 0 and most < math.inf and weight >= 0):
            raise ValueError(message)

    if not rows.numel():
        return True
    return check_numbers([*total.aminmax(), rows.amin().to(total.dtype)], verify)


def check_sums(*sums: Tensor) -> None:
    """Check that sums of weights, [K] each, are positive and finite.

    Raises:
        ValueError: they are not.
    """

    def verify(numbers: Sequence[float]) -> None:
        if not (min(numbers) > 0 and max(numbers) < math.inf):  # Either is NaN if a sum is.
            raise ValueError(BAD_WEIGHTS)

    if sums[0].numel():
        check_numbers([end for each in sums for end in each.aminmax()], verify)


def by_columns(rows: Tensor) -> bool:
    """Whether running sums are laid out by columns."""
    return rows.device.type == "cuda"


def running_sums(rows: Tensor) -> Tensor:
    """Running sums along each row, float64 [K, n].

    On a GPU they are laid out by columns: PyTorch's sums along short rows took 0.9 ms for 200,000
    rows of 16 on an H200, where the memory needs 0.02 ms.
    """
    if not by_columns(rows):
        return rows.cumsum(-1, dtype=torch.float64)
    return rows.T.to(torch.float64, memory_format=torch.contiguous_format).cumsum(0).T


def number_below(cumulative: Tensor, threshold: Tensor) -> Tensor:
    """How many running sums [K, n] of each row are at most its threshold [K, 1], int64 [K, 1]."""
    if not by_columns(cumulative):
        return torch.searchsorted(cumulative, threshold, right=True)
    return (cumulative <= threshold).sum(-1, keepdim=True)


def run_sums(rows: Tensor, width: int) -> Tensor:
    """Sums over runs of ``width`` neighbours, the last run shorter, [K, runs].

    They are added up in the weights' own precision, float32 at least: PyTorch adds float32 numbers
    in float64 only after it has written them out as such.
    """
    if width == 1:
        return rows
    whole, dtype = rows.shape[1] // width * width, precise(rows)
    sums = rows[:, :whole].unflatten(1, (-1, width)).sum(-1, dtype=dtype)
    if whole < rows.shape[1]:
        sums = torch.cat([sums, rows[:, whole:].sum(-1, keepdim=True, dtype=dtype)], 1)
    return sums


def symbol_of_run(rows: Tensor, first: Tensor, width: int, share: Tensor) -> Tensor:
    """The symbol that each share [K, 1] of a run's sum falls on, int64 [K, 1]; ``first`` [K, 1] is
    the first symbol of the run.
    """
    columns = first + torch.arange(width, device=rows.device)
    if rows.shape[1] % width == 0:
        part = rows.gather(1, columns)
    else:
        inside = columns < rows.shape[1]
        part = rows.gather(1, columns.clamp_max(rows.shape[1] - 1)) * inside
    cumulative = running_sums(part)
    total = cumulative[:, -1:]
    return first + number_below(cumulative, below(share * total, total))


def below(threshold: Tensor, total: Tensor) -> Tensor:
    """The threshold, or the number just below the total where rounding exceeded it."""
    return torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
