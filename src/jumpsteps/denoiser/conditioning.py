"""Conditioning: observed sites."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.process.kernel import ForwardProcess

__all__ = ["Given"]


@dataclass(frozen=True)
class Given:
    """Sites that are known and stay as they are: a prompt, given bars, known pixels.

    Attributes:
        tokens: int64 [L] or [B, L]; read where ``mask`` is true only.
        mask: bool, same shape.
    """

    tokens: Tensor
    mask: Tensor

    def check(self, shape: tuple[int, int], forward: ForwardProcess) -> None:
        """Raises ValueError for other shapes, and for tokens that data cannot hold."""
        if self.tokens.shape != self.mask.shape or self.tokens.shape not in (
            shape[1:],
            torch.Size(shape),
        ):
            raise ValueError(
                f"given tokens {list(self.tokens.shape)} and mask {list(self.mask.shape)} must both have shape "
                f"[L] = [{shape[1]}] or [B, L] = {list(shape)}"
            )
        forward.check_data(self.tokens[self.mask], "given")

    def rows(self, start: int, stop: int) -> "Given":
        """What is given in these sequences of a batch."""
        return (
            self if self.mask.ndim == 1 else Given(self.tokens[start:stop], self.mask[start:stop])
        )

    def clamp(self, x: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), self.tokens.to(x), x)
