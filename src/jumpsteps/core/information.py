r"""Information measures, the standard error of a mean, and its confidence interval.

.. math:: KL(p \,\|\, q) = \sum_y p(y) \log \frac{p(y)}{q(y)} \ \text{nats}, \qquad
    \mathrm{se} = \frac{1}{\sqrt B} \sqrt{\frac{1}{B - 1} \sum_b (a_b - \bar a)^2}.

The interval is the mean ± t se, t the quantile of Student's distribution with B - 1 degrees of
freedom.
"""

from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Floats", "half_width", "kl_divergence", "standard_error", "student_quantile"]

Floats = NDArray[np.float64]


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats along the last axis; infinite where p has mass and q has none."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def standard_error(parts: Floats) -> Floats:
    """Standard error of the mean of ``parts`` [..., B], independent values along the last axis."""
    if parts.ndim > 2 and len(parts):  # One after the other they are in cache.
        return np.stack([standard_error(one) for one in parts])
    return parts.std(-1, ddof=1) / np.sqrt(parts.shape[-1])


def student_quantile(probability: float, freedom: int) -> float:
    """A quantile of Student's distribution, by an expansion in 1 / freedom (Fisher & Cornish 1960).

    Of probability 0.975 its error is 0.3% for 4 degrees of freedom and below 0.1% from 6 on.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def half_width(stderr: float, count: int, level: float = 0.95) -> float:
    """Half the confidence interval of the mean of ``count`` >= 2 values with this standard
    error.
    """
    return student_quantile(0.5 + level / 2, count - 1) * stderr
