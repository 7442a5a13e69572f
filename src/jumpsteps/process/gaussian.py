r"""The Gaussian kernel of tauLDR for symbols that are numbers.

With :math:`v_k = e^{-k^2 / \text{rate\_sigma}^2}` a state i jumps towards the middle V/2, or across
it up to its mirror image, to j = i ± (k + 1) at rate

.. math:: R_b(i, j) = v_k, \qquad
    R_b(j, i) = R_b(i, j) \frac{\pi_i}{\pi_j}, \qquad
    \pi_k \propto \exp\Big(-\frac{((k + 1) - V/2)^2}{2 \, \text{q\_sigma}^2}\Big),

the opposite rates by detailed balance. The stationary distribution :math:`\pi` is a discretised
Gaussian, and the prior.

Source: Campbell et al. (2022), App. H.2.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.process.noise import Exponential, NoiseSchedule
from jumpsteps.process.rate_matrix import MatrixKernel

__all__ = ["Gaussian"]


@kinds_checked()
@dataclass(frozen=True, kw_only=True)
class Gaussian(MatrixKernel):
    """Jumps to near symbols are likely, and to far ones rare.

    The defaults are those of tauLDR's CIFAR-10 model.

    Attributes:
        rate_sigma: width of the jumps, in symbols.
        q_sigma: standard deviation of the stationary distribution, in symbols.

    Raises:
        ValueError: a width that is not positive and finite.
    """

    vocab_size: int = 256
    noise: NoiseSchedule = field(default_factory=lambda: Exponential(base=100.0, scale=3.0))
    rate_sigma: float = 6.0
    q_sigma: float = 512.0
    name: ClassVar[str] = "gaussian"
    source: ClassVar[str] = "Campbell et al. 2022"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.rate_sigma < math.inf and 0 < self.q_sigma < math.inf):
            raise ValueError(
                "Gaussian needs rate_sigma > 0 and q_sigma > 0, "
                f"got {self.rate_sigma} and {self.q_sigma}"
            )

    def log_stationary(self) -> Tensor:
        """Up to a constant: -((k + 1) - V/2)^2 / (2 q_sigma^2)."""
        k = torch.arange(1, self.vocab_size + 1, dtype=torch.float64)
        return -((k - self.vocab_size / 2) ** 2) / (2 * self.q_sigma**2)

    def stationary(self) -> Tensor:
        return self.log_stationary().softmax(0)

    def rate_matrix(self) -> Tensor:
        return self.matrix.clone()

    @cached_property
    def matrix(self) -> Tensor:
        v = self.vocab_size
        i, j = torch.arange(v)[:, None], torch.arange(v)[None]
        inward = ((i < v // 2) & (i < j) & (j < v - i)) | ((i > v // 2) & (v - 1 - i < j) & (j < i))
        rates = torch.where(
            inward, torch.exp(-(((i - j).abs() - 1).double() ** 2) / self.rate_sigma**2), 0.0
        )
        log_probs = self.log_stationary()
        opposite = rates.T * torch.exp(log_probs[None] - log_probs[:, None])
        rates = torch.where(inward, rates, opposite)
        return rates - rates.sum(-1).diag()
