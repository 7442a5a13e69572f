r"""Information measures, and the standard error of a mean.

.. math:: KL(p \,\|\, q) = \sum_y p(y) \log \frac{p(y)}{q(y)} \ \text{nats}, \qquad
    \mathrm{se} = \frac{1}{\sqrt B} \sqrt{\frac{1}{B - 1} \sum_b (a_b - \bar a)^2}.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Floats", "kl_divergence", "standard_error"]

Floats = NDArray[np.float64]


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats along the last axis; infinite where p has mass and q has none."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def standard_error(parts: Floats) -> Floats:
    """Standard error of the mean of ``parts`` [..., B], independent values along the last axis."""
    return parts.std(-1, ddof=1) / np.sqrt(parts.shape[-1])
