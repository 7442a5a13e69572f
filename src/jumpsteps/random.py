"""Exact random draws, in float64 whatever the model's precision.

Float32 Gumbel noise truncates the tail of a softmax and so lowers its temperature (Zheng et al., 2024,
arXiv 2409.02908). Categories are drawn by inverting the distribution function instead.
"""

import torch
from torch import Tensor

__all__ = ["categorical", "exponential", "gumbel", "poisson", "uniform"]


def uniform(shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), float64, of the given shape."""
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def exponential(rate: Tensor, *, generator: torch.Generator) -> Tensor:
    """One exponential waiting time for each rate, float64; infinite where the rate is zero."""
    u = uniform(tuple(rate.shape), generator=generator, device=rate.device)
    return (-torch.log1p(-u) / rate.to(torch.float64)).masked_fill(rate == 0, torch.inf)


def poisson(mean: Tensor, *, generator: torch.Generator) -> Tensor:
    """One Poisson number for each mean >= 0, int64.

    Raises:
        ValueError: a mean is negative or not finite.
    """
    mean = mean.to(torch.float64)
    if not (torch.isfinite(mean).all() and (mean >= 0).all()):
        raise ValueError("cannot draw a Poisson number: a mean is negative or not finite; the model may have returned NaN")
    return torch.poisson(mean, generator=generator).to(torch.int64)


def gumbel(shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard Gumbel numbers, float64; for perturbing a ranking, not for drawing categories."""
    return -torch.log(exponential(torch.ones(shape, device=device), generator=generator))


def categorical(weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """One draw from each row of unnormalised probabilities, by inverse distribution function.

    Args:
        weights: [..., V], non-negative; each row has a positive, finite sum.
        generator: source of randomness, on the device of ``weights``.

    Returns:
        int64 [...]. A symbol of weight zero is never drawn.

    Raises:
        ValueError: a row is negative, not finite, or sums to zero.
    """
    cumulative = weights.to(torch.float64).cumsum(-1)
    total = cumulative[..., -1:]
    valid = torch.isfinite(total).all() & (total > 0).all() & (weights >= 0).all()
    if not valid:
        raise ValueError(
            "cannot draw a symbol: a row of weights is negative, not finite or sums to zero; "
            "the model may have returned NaN, or given sites may have probability zero under it"
        )
    threshold = total * uniform(tuple(total.shape), generator=generator, device=weights.device)
    # Where the total is denormal the product can round up to it; the largest threshold is the number below.
    below = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True).squeeze(-1)
