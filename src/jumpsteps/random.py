"""Exact random draws.

Float32 Gumbel noise truncates the tail of a softmax and so lowers its temperature (Zheng et al., 2024,
arXiv 2409.02908). Everything here draws in float64 by inverting the distribution function.
"""

import torch
from torch import Tensor

__all__ = ["categorical", "uniform"]


def uniform(shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), float64, of the given shape."""
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


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
