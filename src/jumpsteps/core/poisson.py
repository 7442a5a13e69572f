r"""Quantiles of the Poisson distribution, for draws that take one uniform number each.

.. math:: k(u) = \min \Big\{ k : \sum_{j \le k} e^{-m} \frac{m^j}{j!} > u \Big\}

The terms are added up one after the other, from zero, or for large means from ten standard
deviations below the mean, where the distribution function is an incomplete gamma function.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

__all__ = ["poisson_quantile"]

LARGE = 144.0
"""Means from which on a sum starts above zero."""

SMALLEST = 2.0**-64
"""Terms behind the mean that are smaller end a sum: the numbers u are multiples of 2^-53."""


def poisson_quantile(u: Tensor, mean: Tensor) -> Tensor:
    """The number k(u) for u in [0, 1) and finite means >= 0 of the same shape, int64."""
    if u.is_cuda:
        return fused_quantile()(u, mean.to(torch.float64)).to(torch.int64)
    m = mean.to(torch.float64).flatten()
    u = u.flatten()
    k = torch.where(m > LARGE, (m - 10 * m.sqrt()).floor(), 0.0)
    term = torch.exp(torch.xlogy(k, m) - m - torch.lgamma(k + 1))
    total = term.clone()
    far = (k > 0).nonzero()[:, 0]
    total[far] = torch.special.gammaincc(k[far] + 1, m[far])
    found = k.clone()
    left = (u >= total).nonzero()[:, 0]
    m, u, k, term, total = (part[left] for part in (m, u, k, term, total))
    while len(left):
        k = k + 1
        term = term * m / k
        total = total + term
        found[left] = k
        more = ((u >= total) & ((k < m) | (term > SMALLEST))).nonzero()[:, 0]
        left, m, u, k, term, total = (part[more] for part in (left, m, u, k, term, total))
    return found.to(torch.int64).reshape(mean.shape)


@cache
def fused_quantile() -> Callable[[Tensor, Tensor], Tensor]:
    """The quantile as one CUDA kernel, float64.

    It leaves out the distribution function ten standard deviations below a large mean, 1e-23, which
    a float64 sum that starts there does not show.
    """
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.cuda.jiterator._create_jit_fn(
        """template <typename T> T quantile(T u, T m) {
            T k = m > LARGE ? ::floor(m - 10 * ::sqrt(m)) : T(0);
            T term = k > 0 ? ::exp(k * ::log(m) - m - ::lgamma(k + 1)) : ::exp(-m);
            T total = term;
            while (u >= total && (k < m || term > SMALLEST)) {
                k += 1;
                term *= m / k;
                total += term;
            }
            return k;
        }""".replace("LARGE", repr(LARGE)).replace("SMALLEST", repr(SMALLEST))
    )
    return compiled
