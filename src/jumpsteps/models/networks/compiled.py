"""Compiled networks have fixed shapes: a batch of another size is padded to one that was compiled.

On a GPU a call is recorded once as a CUDA graph and replayed: some two hundred launches become one, which at small batches take the
CPU longer than the GPU needs for the work.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Sizes", "padded"]


Layers = Callable[[Tensor, Tensor], Tensor]


class Recorded:
    """A call recorded as a CUDA graph, whose output the next replay overwrites."""

    @torch.inference_mode(
        False
    )  # A tensor that is made in inference mode could not be written to outside.
    @torch.no_grad()
    def __init__(self, layers: Layers, x: Tensor, level: Tensor) -> None:
        self.inputs = x.clone(), level.clone()
        aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(
            aside
        ):  # Compile and allocate before the recording, which can do neither.
            for _ in range(2):
                layers(*self.inputs)
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = layers(*self.inputs)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        for kept, new in zip(self.inputs, (x, level), strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.output


class Sizes:
    """The shapes that a network was compiled for.

    A sampler that leaves finished sequences out asks for ever smaller batches. Each is padded to a compiled size if that is at most
    twice as large, so that a run compiles few times and computes at most twice what is needed.
    """

    def __init__(self) -> None:
        self.known: set[tuple[int, int]] = set()
        self.recorded: dict[tuple[int, ...], Recorded] = {}

    def call(self, layers: Layers, x: Tensor, level: Tensor) -> Tensor:
        """``layers(x, level)`` for x [B, L] and levels [B] or [1], with as many rows as were compiled."""
        size = self.of(*x.shape)
        inputs = padded(x, size), level if len(level) == 1 else padded(level, size)
        if not x.is_cuda or torch.is_grad_enabled():
            return layers(*inputs)[: len(x)]
        shape = (*inputs[0].shape, len(inputs[1]))
        if shape not in self.recorded:
            self.recorded[shape] = Recorded(layers, *inputs)
        return self.recorded[shape](*inputs)[: len(x)]

    def of(self, batch: int, length: int) -> int:
        """The size to pad a batch of sequences of this length to; one that is new will be compiled."""
        fitting = [
            size for size, known in self.known if known == length and batch <= size <= 2 * batch
        ]
        if fitting:
            return min(fitting)
        self.known.add((batch, length))
        return batch


def padded(x: Tensor, size: int) -> Tensor:
    """x [B, ...] with its first row repeated at the end, [size, ...]."""
    return x if len(x) == size else torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])
