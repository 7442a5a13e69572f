"""Counting model calls."""

from torch import Tensor

from jumpsteps.denoiser.batching import MicroBatches
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.model import Evaluation, Model, evaluate
from jumpsteps.process.noise import Time

__all__ = ["CallCounter"]


class CallCounter:
    """A model that counts its calls, sees given sites as they are given, and takes batches larger than memory in pieces.

    Attributes:
        model: the model; a call for a batch counts once, in however many pieces it is made.
        given: sites that a sampler of several stages may have moved since the last step; None for none.
        calls: so far.
    """

    def __init__(self, model: Model, given: Given | None = None) -> None:
        self.model, self.given = MicroBatches(model), given
        self.calls = 0

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.model(self.clamped(x), t, where)

    def evaluate(self, x: Tensor, t: Time, where: Tensor) -> Evaluation:
        self.calls += 1
        return evaluate(self.model, self.clamped(x), t, where)

    def clamped(self, x: Tensor) -> Tensor:
        # Samplers that ask for some of the sequences only ask once in a step, for rows of the state, which are clamped.
        if self.given is not None and self.given.mask.shape in (x.shape, x.shape[1:]):
            return self.given.clamp(x)
        return x
