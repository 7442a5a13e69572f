"""What the library knows of a kind of data."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """Data, a metric and a way to show a sample.

    Attributes:
        name: e.g. "countdown".
        length: L.
        symbols: number of data symbols (MASK not included).
        sample_data: (n, generator) -> int64 [n, L].
        metric: int64 [B, L] -> float64 [B], one number per sample; its mean is reported; less is better.
        metric_name: what the metric measures.
        show: int64 [L] -> text.
    """

    name: str
    length: int
    symbols: int
    sample_data: Callable[[int, torch.Generator], Tensor]
    metric: Callable[[Tensor], Tensor]
    metric_name: str
    show: Callable[[Tensor], str]
