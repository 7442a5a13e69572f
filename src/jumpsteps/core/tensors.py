"""Small tensor helpers: tokens, one-hot rows, and numbers in another tensor's dtype.

A network may run in bfloat16, while times and noise are float64. Distributions keep the dtype of
the network's output, but have float32 at least (``precise``). A float64 number per site becomes a
factor in their dtype, on their device (``like``).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tokens", "like", "one_hot", "precise", "sent"]


def as_tokens(x: Any, what: str, device: torch.device | str = "cpu") -> Tensor:
    """Tokens as int64: a tensor on its own device, a numpy array on ``device``.

    Raises:
        ValueError: something else than integers; ``what`` names x in the message.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise ValueError(f"{what} must be a tensor or an array of integers, got {type(x).__name__}")
    tokens = x if isinstance(x, Tensor) else torch.as_tensor(x, device=device)
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"{what} must hold tokens, which are integers; got {tokens.dtype}")
    return tokens.to(torch.int64)


def one_hot(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """1 at the symbol x and 0 at the others, [..., size] for x int64 [...]."""
    return torch.zeros((*x.shape, size), dtype=dtype, device=x.device).scatter_(-1, x[..., None], 1)


def precise(value: Tensor) -> torch.dtype:
    """The dtype of a distribution that is made of ``value``: float32 at least."""
    return torch.promote_types(value.dtype, torch.float32)


def like(value: Tensor, w: Tensor) -> Tensor:
    """A float64 number per site [...] as a factor [..., 1] of w, in w's dtype and device."""
    return sent(value.to(w.dtype), w.device)[..., None]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; the CPU does not wait until a GPU has those that it had."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values).to(device, non_blocking=True)
