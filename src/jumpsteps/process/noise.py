r"""Noise schedules: how fast each site is corrupted.

A noise schedule is a rate :math:`\sigma(t) \ge 0` on t in [0, 1]; 0 is data and 1 is noise. Kernels
use its integral :math:`\bar\sigma(t) = \int_0^t \sigma`, and the survival :math:`\alpha_t =
e^{-\bar\sigma(t)}`, the probability that a site has not been hit by time t. (The *time schedule* of
a run is something else: the times at which the model is evaluated.)
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked, said

__all__ = ["Constant", "Cosine", "Exponential", "Geometric", "LogLinear", "NoiseSchedule", "Time"]

Time = float | Tensor
"""A time in [0, 1]: a number, or a tensor that broadcasts against the sites it applies to."""


def as_float64(value: Time) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


@said("a noise schedule such as jumpsteps.LogLinear()")
class NoiseSchedule(ABC):
    """sigma(t) with its integral; float64 in and out, same shape and device as the time."""

    @abstractmethod
    def rate(self, t: Time) -> Tensor:
        """sigma(t), in 1/time."""

    @abstractmethod
    def total(self, t: Time) -> Tensor:
        """The integral of sigma over [0, t]; zero at t = 0."""

    @abstractmethod
    def inverse(self, total: Time) -> Tensor:
        """The time at which the integral reaches ``total``."""

    def alpha(self, t: Time) -> Tensor:
        """The survival exp(-total(t))."""
        return torch.exp(-self.total(t))

    def time_of_alpha(self, alpha: Time) -> Tensor:
        """The time at which the survival has fallen to ``alpha``."""
        return self.inverse(-torch.log(as_float64(alpha)))


@kinds_checked()
@dataclass(frozen=True)
class LogLinear(NoiseSchedule):
    """alpha_t = 1 - (1 - eps) t: the masked fraction grows linearly.

    Source: Lou, Meng, Ermon (2024), App. C.1.

    Raises:
        ValueError: eps is not between 0 and 1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < 1 - self.eps < 1:
            raise ValueError(
                f"LogLinear needs 0 < eps < 1, or its rate is infinite at t = 1; got eps={self.eps}"
            )

    def rate(self, t: Time) -> Tensor:
        return (1 - self.eps) / (1 - (1 - self.eps) * as_float64(t))

    def total(self, t: Time) -> Tensor:
        return -torch.log1p(-(1 - self.eps) * as_float64(t))

    def inverse(self, total: Time) -> Tensor:
        return -torch.expm1(-as_float64(total)) / (1 - self.eps)


@kinds_checked()
@dataclass(frozen=True)
class Cosine(NoiseSchedule):
    """alpha_t = cos(pi/2 (1 - eps) t); eps > 0 keeps the rate finite at t = 1.

    Source: Chang et al. (2022), Sec. 3.3.

    Raises:
        ValueError: eps is not between 0 and 1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise ValueError(f"Cosine needs 0 < eps < 1, got eps={self.eps}")

    @property
    def _speed(self) -> float:
        return 0.5 * math.pi * (1 - self.eps)

    def rate(self, t: Time) -> Tensor:
        return self._speed * torch.tan(self._speed * as_float64(t))

    def total(self, t: Time) -> Tensor:
        return -torch.log(torch.cos(self._speed * as_float64(t)))

    def inverse(self, total: Time) -> Tensor:
        return torch.acos(torch.exp(-as_float64(total))) / self._speed


@kinds_checked()
@dataclass(frozen=True)
class Constant(NoiseSchedule):
    """sigma(t) = value.

    Raises:
        ValueError: value is not positive and finite.
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ValueError(f"Constant needs a positive, finite rate, got value={self.value}")

    def rate(self, t: Time) -> Tensor:
        return torch.full_like(as_float64(t), self.value)

    def total(self, t: Time) -> Tensor:
        return self.value * as_float64(t)

    def inverse(self, total: Time) -> Tensor:
        return as_float64(total) / self.value


@kinds_checked()
@dataclass(frozen=True)
class Exponential(NoiseSchedule):
    """total(t) = scale (base^t - 1).

    Source: Campbell et al. (2022), App. H.2.

    Raises:
        ValueError: not base > 1 and scale > 0.
    """

    base: float
    scale: float

    def __post_init__(self) -> None:
        if not (1 < self.base < math.inf and 0 < self.scale < math.inf):
            raise ValueError(
                "Exponential needs finite base > 1 and scale > 0, "
                f"got base={self.base}, scale={self.scale}"
            )

    def rate(self, t: Time) -> Tensor:
        return self.scale * math.log(self.base) * self.base ** as_float64(t)

    def total(self, t: Time) -> Tensor:
        return self.scale * torch.expm1(math.log(self.base) * as_float64(t))

    def inverse(self, total: Time) -> Tensor:
        return torch.log1p(as_float64(total) / self.scale) / math.log(self.base)


@kinds_checked()
@dataclass(frozen=True)
class Geometric(NoiseSchedule):
    """total(t) = lowest^(1-t) highest^t for t > 0, and 0 at t = 0.

    The noise jumps to ``lowest`` at t = 0: there x_t is the data, and at any t > 0 it has at least
    that much noise. ``rate`` is the rate for t > 0; ``inverse`` gives 0 below ``lowest``.

    Source: Lou, Meng, Ermon (2024), App. C.1.

    Raises:
        ValueError: not 0 < lowest < highest.
    """

    lowest: float = 1e-5
    highest: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest < math.inf:
            raise ValueError(
                "Geometric needs 0 < lowest < highest, "
                f"got lowest={self.lowest}, highest={self.highest}"
            )

    @property
    def _span(self) -> float:
        return math.log(self.highest / self.lowest)

    def rate(self, t: Time) -> Tensor:
        return self._span * self.lowest * torch.exp(self._span * as_float64(t))

    def total(self, t: Time) -> Tensor:
        t = as_float64(t)
        return torch.where(t > 0, self.lowest * torch.exp(self._span * t), 0.0)

    def inverse(self, total: Time) -> Tensor:
        return (torch.log(as_float64(total) / self.lowest) / self._span).clamp_min(0)
