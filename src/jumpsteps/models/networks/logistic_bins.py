r"""The probability of one bin under the U-Net's logistic distribution, without the other bins.

``unet.truncated_logistic`` gives the masses of all V bins of [-1, 1], up to their sum. Training
needs the bin of x_0 alone, and a tensor of V numbers per site is a hundred times the memory of the
network's output. The sum has a closed form. With the logistic function s, the scale h, and z_0, z_1
the ends of the interval relative to the location in units of h,

.. math:: \sum_b (s(u_b) - s(l_b)) = s(z_1) - s(z_0),

and the floors are a Riemann sum of width 2 / (V h) over [z_0, z_1] of s(z), or of s(-|z|) with two
floored tails. The integral differs from it by less than one term, which is 1e-6 of the total mass
at most.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.models.networks.unet import FLOOR

__all__ = ["log_probability_of_bin"]


def log_probability_of_bin(
    location: Tensor, log_scale: Tensor, index: Tensor, size: int, *, symmetric: bool
) -> Tensor:
    """log p of a bin: an entry of ``truncated_logistic(...).log_softmax(-1)``, to 1e-5.

    Args:
        location, log_scale: [...], the location between -1 and 1.
        index: int64 [...], the bin, 0..size - 1.
        size: number of bins.
        symmetric: as in ``truncated_logistic``.

    Returns:
        float32 [...].
    """
    location, inverse = location.float(), torch.exp(2 - log_scale.float())
    lower, upper = (((2 * index + i) / size - 1 - location) * inverse for i in (0, 2))
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    mass = below + above + torch.log(-torch.expm1(-2 / size * inverse))
    floor = torch.minimum(below, above) if symmetric else below
    first, last = (-1 - location) * inverse, (1 - location) * inverse
    total = F.logsigmoid(last) + F.logsigmoid(-first) + torch.log(-torch.expm1(-2 * inverse))
    area = (
        2 * math.log(2) - F.softplus(first) - F.softplus(-last)
        if symmetric
        else F.softplus(last) - F.softplus(first)
    )
    floors = torch.log(area) - torch.log(inverse) + math.log(FLOOR * size / 2)
    return torch.logaddexp(mass, floor + math.log(FLOOR)) - torch.logaddexp(total, floors)
