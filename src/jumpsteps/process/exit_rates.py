r"""How fast a site can leave its state in the time reversal, whatever the model says.

Per unit of noise, at noise :math:`\bar\sigma`, a site in state x leaves at the rate

.. math:: \sum_{y \ne x} R_b(y, x) \frac{(w q)(y)}{(w q)(x)}
    \le B(\bar\sigma) = \max_{x_0, x} \sum_{y \ne x} R_b(y, x) \frac{q(y \mid x_0)}{q(x \mid x_0)},
    \qquad q = e^{\bar\sigma R_b},

because the left side is an average of the right side over x0. Exact thinning (``Gillespie``)
proposes jumps at the rate B. With u an exponential waiting time for n sites, the next candidate
after noise a is at the noise b with :math:`\int_b^a B = u`, that is ``inverse(integral(a) - u)``.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.process.matrix_exponential import exponential_of_rates

__all__ = ["AbsorbingExit", "ExitRateBound", "MatrixExit", "UniformExit"]


class ExitRateBound(ABC):
    """B with an integral and its inverse; float64, of the argument's shape."""

    @abstractmethod
    def rate(self, total: Tensor) -> Tensor:
        """B at noise ``total`` > 0."""

    @abstractmethod
    def integral(self, total: Tensor) -> Tensor:
        """An integral of B: increasing, minus infinity at 0."""

    @abstractmethod
    def inverse(self, value: Tensor) -> Tensor:
        """The noise at which ``integral`` has this value."""


class AbsorbingExit(ExitRateBound):
    """B = 1 / (e^total - 1), attained by every masked site."""

    def rate(self, total: Tensor) -> Tensor:
        return 1 / torch.expm1(total)

    def integral(self, total: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-total))

    def inverse(self, value: Tensor) -> Tensor:
        return -torch.log(-torch.expm1(value))


class UniformExit(ExitRateBound):
    """B = 1 / (1 - e^-total), above the maximum by 1/V."""

    def rate(self, total: Tensor) -> Tensor:
        return -1 / torch.expm1(-total)

    def integral(self, total: Tensor) -> Tensor:
        return total + torch.log(-torch.expm1(-total))

    def inverse(self, value: Tensor) -> Tensor:
        return torch.nn.functional.softplus(value, threshold=700)


@dataclass(frozen=True)
class MatrixExit(ExitRateBound):
    """B = excess / total + max_exit_rate, for any R_b.

    Attributes:
        excess: see ``of``.
        max_exit_rate: the largest rate of leaving a state in the forward process.
        most: the noise at t = 1.
    """

    excess: float
    max_exit_rate: float
    most: float

    @classmethod
    def of(cls, rates_between: Tensor, most: float) -> "MatrixExit":
        """The bound for R_b [V, V] with a zero diagonal, up to the noise ``most``.

        At small noise the exact maximum is c / total, c the number of jumps from x0 to x, and at
        large noise it tends to a constant. The least excess that bounds it is found on 280 noise
        levels and raised by 2% for those between. Ten levels of the lowest octave are computed, and
        each is squared to the next octave.
        """
        leave = rates_between.sum(-1)
        max_exit_rate = float(leave.max())
        level = most * 2.0 ** (-28 + torch.arange(1, 11, dtype=torch.float64) / 10)
        q, worst = exponential_of_rates(rates_between - leave.diag(), level), 0.0
        for _ in range(28):
            leaving = torch.where(q > 1e-280, q @ rates_between / q, 0.0).amax((1, 2))
            worst = max(worst, float((level * (leaving - max_exit_rate)).max()))
            level, q = 2 * level, q @ q
            q = q / q.sum(-1, keepdim=True)
        return cls(1.02 * worst, max_exit_rate, most)

    def rate(self, total: Tensor) -> Tensor:
        return self.excess / total + self.max_exit_rate

    def integral(self, total: Tensor) -> Tensor:
        return self.excess * total.log() + self.max_exit_rate * total

    def inverse(self, value: Tensor) -> Tensor:
        """By Newton's method in z = log(total).

        excess z + max_exit_rate e^z is convex and increasing, so it converges from any start.
        """
        z = (value / self.excess).clamp_max(math.log(self.most))
        for _ in range(60):
            noise = self.max_exit_rate * z.exp()
            z = z - (self.excess * z + noise - value) / (self.excess + noise)
        return torch.where(value == -torch.inf, 0.0, z.exp())
