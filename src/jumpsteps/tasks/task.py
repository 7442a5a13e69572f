"""What the library knows of a kind of data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given

__all__ = ["Task", "WriteSample"]

WriteSample = Callable[[Path, Tensor, Tensor | None], None]
"""(path, int64 [L], given sites bool [L] or None): writes one sample to files whose names are the path and a suffix."""


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
        write: writes one sample to files of the data's own formats, such as pictures; None where there are none.
        read_given: (file, L) -> given sites, [L] or [n, L], from a file of the data's own format; None where there is none.
        read_data: (path, n, generator) -> n sequences, int64 [n, L] on the generator's device, and the data's name with a SHA-256,
            from files of the data's own format; None where there are none.
    """

    name: str
    length: int
    symbols: int
    sample_data: Callable[[int, torch.Generator], Tensor]
    metric: Callable[[Tensor], Tensor]
    metric_name: str
    show: Callable[[Tensor], str]
    write: WriteSample | None = None
    read_given: Callable[[Path, int], Given] | None = None
    read_data: Callable[[Path, int, torch.Generator], tuple[Tensor, str]] | None = None
