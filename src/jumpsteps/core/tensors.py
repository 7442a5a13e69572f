"""Small tensor helpers."""

import torch
from torch import Tensor


def one_hot(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros((*x.shape, size), dtype=dtype, device=x.device).scatter_(-1, x[..., None], 1)


def precise(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def like(value: Tensor, w: Tensor) -> Tensor:
    """A float64 number per site as a [..., 1] factor of w, in w's dtype and device."""
    return value.to(w)[..., None]
