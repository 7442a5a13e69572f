r"""Noisy states at a fixed set of times from a table of the transition rows q_{t|0}(. | x_0).

A path of the Gaussian kernel with 256 symbols has some 3500 jumps at every site. Training needs one
time of it, which is a single draw from a row of the table.
"""

import torch
from torch import Tensor

from jumpsteps.core.draws import RowDraws
from jumpsteps.core.sample_generators import Generator
from jumpsteps.process.rate_matrix import MatrixKernel

__all__ = ["NoisingTable"]

AT_A_TIME = 128
"""Matrices that are exponentiated together."""


class NoisingTable:
    """Draws of x_t given x_0 at the times t_1, ..., t_K.

    Memory: 8 K V^2 bytes; the rows are computed once, in O(K V^3).

    Args:
        times: float64 [K].
        device: of the table, and of what is drawn.
    """

    def __init__(
        self, forward: MatrixKernel, times: Tensor, *, device: torch.device | str = "cpu"
    ) -> None:
        self.symbols = forward.vocab_size
        self.times = times.to(device)
        elapsed = forward.noise.total(times).to(device)
        matrices = [forward.exponential(part) for part in elapsed.split(AT_A_TIME)]
        self.rows = RowDraws(torch.cat(matrices).flatten(0, 1))

    def draw(self, x0: Tensor, which: Tensor, *, generator: Generator) -> Tensor:
        """x_t of x_0 int64 [B, L] at the time of index ``which``, int64 [B]; int64 [B, L]."""
        return self.rows.draw(which[:, None] * self.symbols + x0, generator=generator)
