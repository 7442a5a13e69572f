"""Time as a network input: sinusoidal features (Vaswani et al. 2017; Ho et al. 2020)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.core.tensors import sent
from jumpsteps.process.noise import Time

__all__ = ["time_features", "time_tensor"]


def time_tensor(t: Time, device: torch.device) -> Tensor:
    """t as float32: [1] for one time, [B] for a time per sequence."""
    if isinstance(t, Tensor):
        return sent(t.to(torch.float32), device).reshape(-1)
    return torch.full((1,), t, dtype=torch.float32, device=device)  # No copy to wait for.


def time_features(t: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of t at dim // 2 geometric frequencies from 1 down to 1/10,000.

    t [...] -> float32 [..., dim]. An odd dim adds a zero at the end.
    """
    half = dim // 2
    frequency = torch.exp(
        -math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / (half - 1)
    )
    angle = t.float()[..., None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], -1), (0, dim % 2))
