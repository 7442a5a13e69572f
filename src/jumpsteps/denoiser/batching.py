"""A batch that does not fit in memory is given to the model in pieces.

A model's answer for a sequence does not depend on the other sequences, and asking twice changes nothing; so a call that runs out of
memory is made again with half as many sequences at a time. Samples are the same in distribution.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from jumpsteps.denoiser.model import Evaluation, Model, evaluate
from jumpsteps.process.noise import Time

__all__ = ["MicroBatches"]

T = TypeVar("T")
V = TypeVar("V", Tensor, Time)


class MicroBatches:
    """A model that halves the number of sequences at a time until they fit, and keeps to it.

    Attributes:
        model: the model.
        most: sequences at a time; None as long as every batch did fit.

    Raises (when called):
        ValueError: one sequence does not fit.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.most: int | None = None

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        def call(part: slice) -> Tensor:
            return self.model(
                cut(x, part), cut(t, part), None if where is None else cut(where, part)
            )

        pieces = self.in_pieces(call, x)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def evaluate(self, x: Tensor, t: Time, where: Tensor) -> Evaluation:
        kept = self.in_pieces(
            lambda part: evaluate(self.model, cut(x, part), cut(t, part), cut(where, part)), x
        )
        return (
            kept[0]
            if len(kept) == 1
            else Evaluation(torch.cat([one.rows for one in kept]), where, kept[0].read)
        )

    def in_pieces(self, call: Callable[[slice], T], x: Tensor) -> list[T]:
        while True:
            size = min(self.most or len(x), len(x))
            try:
                return [
                    call(slice(start, start + size))
                    for start in range(0, max(len(x), 1), max(size, 1))
                ]
            except torch.cuda.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            if size == 1:
                raise ValueError(
                    f"one sequence of {x.shape[1]} sites does not fit in memory ({reason}); use a smaller dtype"
                )
            self.most = (size + 1) // 2
            torch.cuda.empty_cache()


def cut(value: V, part: slice) -> V:
    """These rows of a tensor; a number, and a tensor that has no others, as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0 or part == slice(0, len(value)):
        return value
    return value[part]
