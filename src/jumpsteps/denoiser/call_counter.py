"""Counting model calls: the number of function evaluations (NFE) of a run, or of a search.

One call at a batch is one evaluation, in however many micro-batches it is made, and however often
its hidden states are read.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Evaluation, call, evaluate
from jumpsteps.process.noise import Time

__all__ = ["CallCounter"]


class CallCounter:
    """A model that counts its calls.

    Attributes:
        model: the model.
        calls: so far.
        sequences: that were evaluated, the sum of the calls' batches.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.calls = 0
        self.sequences = 0

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        self.calls += 1
        self.sequences += len(x)
        return call(self.model, x, t, where)

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        self.calls += 1
        self.sequences += len(x)
        return evaluate(self.model, x, t, where)
