"""What the library knows about a kind of data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.core.tensors import as_tokens
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.two_sample import Similarity
from jumpsteps.tasks.pixels import Pixels

__all__ = ["Task", "WriteSample"]

SampleData = Callable[[int, torch.Generator], Tensor]
Metric = Callable[[Tensor], Tensor]

WriteSample = Callable[[Path, Tensor, Tensor | None], None]
"""(path, sample int64 [L], observed sites bool [L] or None): writes files named path + suffix."""


@dataclass(frozen=True)
class Task:
    """Data, a metric and a way to show a sample.

    Attributes:
        name: such as "countdown".
        length: sequence length L.
        symbols: number of data symbols (MASK not included).
        sample_data: (n, generator) -> int64 [n, L].
        metric: int64 [B, L] -> float64 [B], one value per sample; lower is better.
        metric_name: what the metric measures.
        unit: the smallest value of the metric that is not zero, such as one pair of 255.
        show: int64 [L] -> text.
        pixels: how a sequence is an image; None if it is none. Then reports show samples as
            images, and ``write`` and ``write_all`` write them, unless they are named.
        write: writes one sample to files, such as a picture; None if the task has no such formats.
        write_as: (observed sites) -> what writes samples that have them; None for ``write``.
        write_needs: modules that ``write`` imports, to be installed with an extra of this package.
        write_all: (path, samples int64 [n, L]): writes one picture of all samples to path + suffix;
            None if there is no such picture.
        gallery: how reports show samples without pixels, a key of ``galleries.GALLERIES``; None for
            numbers.
        read_given: (file, L) -> observed sites, [L] or [n, L], from a file of the task's own
            format; None if there is none.
        given_name: what such a file holds, as a page asks for it.
        given_suffixes: of such files; any if empty.
        read_data: (path, n, generator) -> n sequences, int64 [n, L] on the generator's device, and
            the name of the data with its SHA-256; None if the task has no data format of its own.
        read_template: text -> observed sites, [L], from a sequence with gaps; None if the task has
            no such notation.
        file_suffixes: of files that hold all samples in the task's own format.
        similarity: of two sequences, int64 [n, L] and [m, L] -> float64 [n, m], for a race
            (``evaluation.two_sample``); None where the kernel's default fits.
        write_file: (path, int64 [n, L], n headers): writes such a file; None if there is no format.

    ``sample_data`` and ``metric`` raise ValueError for arguments of another kind or shape.

    Raises:
        ValueError: pixels of another length or another number of symbols.
    """

    name: str
    length: int
    symbols: int
    sample_data: SampleData
    metric: Metric
    metric_name: str
    show: Callable[[Tensor], str]
    write: WriteSample | None = None
    write_all: Callable[[Path, Tensor], None] | None = None
    read_given: Callable[[Path, int], Given] | None = None
    read_data: Callable[[Path, int, torch.Generator], tuple[Tensor, str]] | None = None
    read_template: Callable[[str], Given] | None = None
    file_suffixes: tuple[str, ...] = ()
    write_file: Callable[[Path, Tensor, Sequence[str]], None] | None = None
    similarity: Similarity | None = None
    unit: float = 1.0
    write_as: Callable[[Given], WriteSample] | None = None
    write_needs: tuple[str, ...] = ()
    pixels: Pixels | None = None
    gallery: str | None = None
    given_name: str = "Observed sites"
    given_suffixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, check in (("sample_data", drawn), ("metric", measured)):
            own = getattr(self, name)
            if getattr(own, "func", None) is not check:
                object.__setattr__(self, name, partial(check, own))
        pixels = self.pixels
        if pixels is None:
            return
        if (pixels.length, pixels.levels) != (self.length, self.symbols):
            raise ValueError(
                f"the task {self.name} has {self.length} sites of {self.symbols} symbols, and "
                f"{pixels} are {pixels.length} of {pixels.levels}; make them equal"
            )
        for name in ("write", "write_all"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(pixels, name))


@kinds_checked()
def drawn(draw: SampleData, n: int, generator: torch.Generator) -> Tensor:
    """n sequences of data.

    Raises:
        ValueError: n or a generator of another kind, or fewer than one sequence.
    """
    check_at_least(1, n=n)
    return draw(n, generator)


def measured(metric: Metric, samples: Tensor | NDArray[np.integer]) -> Tensor:
    """The metric of samples [B, L].

    Raises:
        ValueError: samples of another kind or shape.
    """
    tokens = as_tokens(samples, "samples")
    if tokens.ndim != 2:
        raise ValueError(f"samples must be tokens [B, L], got shape {list(tokens.shape)}")
    return metric(tokens)
