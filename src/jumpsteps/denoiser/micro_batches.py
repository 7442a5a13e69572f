"""Batches larger than memory: a model is called with a part of the sequences at a time.

A model's output for a sequence does not depend on the other sequences of the batch, so

    model(x, t) = concatenate(model(x[:n], t[:n]), model(x[n:2n], t[n:2n]), ...).

A call that runs out of memory is repeated with half as many sequences at a time. Outputs are those
of the whole batch, up to rounding.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from jumpsteps.core.memory import out_of_memory
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Evaluation, call, evaluate
from jumpsteps.process.noise import Time

__all__ = ["MicroBatches"]

T = TypeVar("T")
V = TypeVar("V", Tensor, Time)


class MicroBatches:
    """A model that halves the number of sequences at a time until they fit, and then keeps to it.

    Attributes:
        model: the model.
        most: sequences at a time; None as long as every batch did fit.

    Raises (when called):
        ValueError: one sequence does not fit.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.most: int | None = None

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        where = SiteMask.of(where)

        def part(rows: slice) -> Tensor:
            sites = None if where is None else cut_mask(where, rows)
            return call(self.model, cut(x, rows), cut(t, rows), sites)

        parts = self.in_parts(part, x)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        sites = SiteMask.of(where)
        parts = self.in_parts(
            lambda rows: evaluate(self.model, cut(x, rows), cut(t, rows), cut_mask(sites, rows)), x
        )
        if len(parts) == 1:
            return parts[0]
        return Evaluation(torch.cat([part.rows for part in parts]), sites, parts[0].read)

    def in_parts(self, part: Callable[[slice], T], x: Tensor) -> list[T]:
        """``part(rows)`` for as many rows of x at a time as fit."""
        while True:
            size = min(self.most or len(x), len(x))
            try:
                return [
                    part(slice(start, start + size))
                    for start in range(0, max(len(x), 1), max(size, 1))
                ]
            except (MemoryError, RuntimeError) as error:
                reason = out_of_memory(error)
                if reason is None:
                    raise
            if size == 1:
                raise ValueError(
                    f"one sequence of {x.shape[1]} sites does not fit in memory ({reason}); "
                    "use a smaller dtype"
                )
            self.most = (size + 1) // 2
            torch.cuda.empty_cache()


def cut(value: V, rows: slice) -> V:
    """These rows of a tensor; a number, and a tensor without other rows, as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0 or rows == slice(0, len(value)):
        return value
    return value[rows]


def cut_mask(where: SiteMask, rows: slice) -> SiteMask:
    """The selected sites of these rows."""
    mask = cut(where.mask, rows)
    return where if mask is where.mask else SiteMask(mask)
