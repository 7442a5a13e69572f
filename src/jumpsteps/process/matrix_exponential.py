r"""The exponential of a matrix of rates, precise in every entry.

With :math:`\lambda` the largest rate of leaving a state, :math:`J = R + \lambda I` is non-negative
and

.. math:: e^{\tau R} = \Big(e^{-\lambda\tau/2^k} \sum_n \frac{(\tau J / 2^k)^n}{n!}\Big)^{2^k}.

No two numbers are ever subtracted, so a probability of 1e-30 is as precise as one of 0.3. That is
needed: a posterior is divided by these numbers. (A symmetric eigendecomposition is faster, but off
by any factor where a probability is below 1e-16; a network's reverse rates then come out up to 1e7
times too large.)
"""

import math

import torch
from torch import Tensor

from jumpsteps.core.tensors import sent

__all__ = ["exponential_of_rates"]


def exponential_of_rates(rates: Tensor, elapsed: Tensor, *, largest: float | None = None) -> Tensor:
    """exp(elapsed R) for a matrix of rates R, float64 [T, V, V]; elapsed >= 0, [T].

    A GPU is not waited for where ``elapsed`` is on the CPU, and the largest rate of leaving a state
    is given.

    Half a jump at most is expected in each of the 2^k pieces, whose series ends at 19 jumps. It is
    summed in powers of four jumps (Paterson & Stockmeyer 1973), by 7 products of matrices. Rows are
    normalised after each squaring, which removes the rounding error that it would double. Every
    time has a k of its own.
    """
    if largest is None:
        largest = float((-rates.diagonal()).max())
    elapsed = elapsed.cpu()
    # The series of one piece is short: there are as many pieces as jumps may be needed.
    least = (len(rates) - 1).bit_length()
    pieces = [
        max(least, math.ceil(math.log2(max(jumps, 1e-300)) + 1))
        for jumps in (largest * elapsed).tolist()
    ]
    order = sorted(range(len(pieces)), key=lambda i: -pieces[i])
    first = torch.tensor(order, dtype=torch.int64)
    shares = torch.tensor([0.5 ** pieces[i] for i in order], dtype=torch.float64)
    piece = sent(elapsed[first] * shares, rates.device)[:, None, None]
    eye = torch.eye(len(rates), dtype=torch.float64, device=rates.device)
    jump = piece * (rates + largest * eye).clamp_min(0)
    powers = [eye.expand_as(jump), jump, jump @ jump]
    powers.append(powers[2] @ jump)
    four, total = powers[2] @ powers[2], torch.zeros_like(jump)
    for start in range(16, -1, -4):
        total = total @ four if start < 16 else total
        for more, power in enumerate(powers):
            total = total.add(power, alpha=1 / math.factorial(start + more))
    total /= total.sum(-1, keepdim=True)
    for k in range(max(pieces, default=0), 0, -1):
        # The times with at least k squarings, which come first.
        part = total[: sum(count >= k for count in pieces)]
        squared = part @ part
        torch.div(squared, squared.sum(-1, keepdim=True), out=part)
    return torch.empty_like(total).index_copy_(0, sent(first, rates.device), total)
