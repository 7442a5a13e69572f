"""From tokens to numbers, with the uncertainty that the number of samples leaves."""

from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

__all__ = ["Interval", "mean_interval"]


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
