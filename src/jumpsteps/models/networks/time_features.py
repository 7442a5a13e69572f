"""A time as a network's input: sinusoidal features, as in Vaswani et al. (2017) and Ho et al. (2020)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.process.noise import Time

__all__ = ["as_told", "time_features"]


def as_told(t: Time, device: torch.device) -> Tensor:
    """The time in float32: [1] for all sequences, or [B]."""
    return torch.as_tensor(t, dtype=torch.float32, device=device).reshape(-1)


def time_features(t: Tensor, dim: int) -> Tensor:
    """Sines of t, then cosines, at dim // 2 frequencies from 1 down to 1/10,000; float32 [..., dim] (a zero last if dim is odd)."""
    half = dim // 2
    frequency = torch.exp(
        -math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / (half - 1)
    )
    angle = t.float()[..., None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], -1), (0, dim % 2))
