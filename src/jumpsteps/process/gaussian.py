"""The discretised Gaussian kernel of tauLDR."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.process.noise import Exponential, NoiseSchedule
from jumpsteps.process.rate_matrix import MatrixKernel

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(MatrixKernel):
    r"""Symbols are numbers and jump to near ones; the stationary distribution is a discretised Gaussian around the middle.

    With :math:`v_k = e^{-k^2/\text{rate\_sigma}^2}` a state jumps k + 1 further towards the middle, or across it up to its mirror
    image, at rate :math:`v_k`; the opposite rates follow by detailed balance. CIFAR-10 in tauLDR: V = 256, rate_sigma = 6,
    q_sigma = 512, noise ``Exponential(base=100, scale=3)``.

    Source: Campbell et al. (2022), App. H.2.

    Attributes:
        rate_sigma: width of the jumps, in symbols.
        q_sigma: standard deviation of the stationary distribution, in symbols.
        noise: the noise schedule; tauLDR's is the default.
    """

    vocab_size: int = 256
    noise: NoiseSchedule = field(default_factory=lambda: Exponential(base=100.0, scale=3.0))
    rate_sigma: float = 6.0
    q_sigma: float = 512.0
    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.rate_sigma < math.inf and 0 < self.q_sigma < math.inf):
            raise ValueError(
                f"Gaussian needs rate_sigma > 0 and q_sigma > 0, got {self.rate_sigma} and {self.q_sigma}"
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
