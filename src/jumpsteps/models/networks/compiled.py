"""Compiled networks have fixed shapes; other batch sizes are padded to a compiled one.

On a GPU a call is recorded once as a CUDA graph and then replayed. One launch replaces some two
hundred; at small batches launching these would take the CPU longer than the GPU needs to run them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["CompiledShapes", "Layers", "padded"]


Layers = Callable[[Tensor, Tensor], Tensor]


class CudaGraph:
    """A call recorded as a CUDA graph, in the caller's autocast mode."""

    # A tensor made in inference mode could not be written to outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, layers: Layers, x: Tensor, level: Tensor) -> None:
        self.inputs = x.clone(), level.clone()
        # Weights that autocast has cast and kept are freed before a replay would read them.
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            self.record(layers)

    def record(self, layers: Layers) -> None:
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        # Compilation and allocation are not possible while recording, so they come first.
        with torch.cuda.stream(side):
            for _ in range(2):
                layers(*self.inputs)
        current.wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = layers(*self.inputs)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """The output, in a tensor of its own: the next replay overwrites that of the graph."""
        for buffer, value in zip(self.inputs, (x, level), strict=True):
            buffer.copy_(value)
        self.graph.replay()
        return self.output.clone()


class CompiledShapes:
    """The input shapes that a network is compiled for.

    Batches shrink during a run if the sampler leaves finished sequences out. A batch is padded to a
    compiled size of at most twice its own, so that a run compiles few shapes and computes at most
    twice the necessary rows.
    """

    def __init__(self) -> None:
        self.known: set[tuple[int, int]] = set()
        self.graphs: dict[tuple[torch.dtype | int, ...], CudaGraph] = {}

    def run(self, layers: Layers, x: Tensor, level: Tensor) -> Tensor:
        """``layers(x, level)`` on a padded batch; x is [B, L], level is [B] or [1]."""
        size = self.batch_size(*x.shape)
        inputs = padded(x, size), level if len(level) == 1 else padded(level, size)
        if not x.is_cuda or torch.is_grad_enabled():
            return layers(*inputs)[: len(x)]
        cast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        key = (*inputs[0].shape, len(inputs[1]), cast)
        if key not in self.graphs:
            self.graphs[key] = CudaGraph(layers, *inputs)
        return self.graphs[key](*inputs)[: len(x)]

    def batch_size(self, batch: int, length: int) -> int:
        """The size that a batch is padded to; ``batch`` itself if no compiled size fits."""
        fitting = [
            size for size, known in self.known if known == length and batch <= size <= 2 * batch
        ]
        if fitting:
            return min(fitting)
        self.known.add((batch, length))
        return batch


def padded(x: Tensor, size: int) -> Tensor:
    """x [B, ...] followed by copies of its first row, [size, ...]."""
    return x if len(x) == size else torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])
