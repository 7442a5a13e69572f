"""Information measures, and the standard error of a mean."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Floats", "kl_divergence", "standard_error"]


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats along the last axis; infinite where p has mass and q has none."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


Floats = NDArray[np.float64]


def standard_error(parts: Floats) -> Floats:
    """Standard error of a mean, from the parts [..., B] of each sequence."""
    return parts.std(-1, ddof=1) / np.sqrt(parts.shape[-1])
