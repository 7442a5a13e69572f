r"""Conditioning on observed sites: a prompt, the bars of a melody, known pixels.

With :math:`x_O` the tokens at the observed sites O, a run samples :math:`p(x_0 \mid x_O)`: noise
leaves the sites O alone, they hold :math:`x_O` at every state of the run, and the model, evaluated
at these states, gives the posteriors of the other sites.

``Given`` holds O and x_O. ``ClampedModel`` puts x_O into every state that the model is called at,
because a sampler of several stages may have moved these sites within a step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from jumpsteps.core.arguments import said
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import as_tokens
from jumpsteps.denoiser.model import Evaluation, call, evaluate
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["ClampedModel", "Given"]


@said("observed sites, jumpsteps.Given(tokens, mask)")
@dataclass(frozen=True)
class Given:
    """Observed sites, which stay as they are.

    Attributes:
        tokens: int64 [L] or [B, L]; read where ``mask`` is true. A numpy array will do.
        mask: bool [L] or [B, L], true at observed sites. Where one of the two is [L] and the other
            [B, L], the former is for all sequences; both are kept as [B, L].
        remarks: what reading them from a file has changed, a sentence each.

    Raises:
        ValueError: tokens or a mask of another kind.
    """

    tokens: Tensor
    mask: Tensor
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tokens = as_tokens(self.tokens, "given tokens")
        try:
            mask = torch.as_tensor(self.mask, dtype=torch.bool)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                "the mask of given sites must be a tensor of True and False, got "
                f"{type(self.mask).__name__}"
            ) from None
        if {tokens.ndim, mask.ndim} == {1, 2} and tokens.shape[-1] == mask.shape[-1]:
            shape = tokens.shape if tokens.ndim == 2 else mask.shape
            tokens, mask = tokens.expand(shape), mask.expand(shape)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "mask", mask)

    def check(self, shape: tuple[int, int], forward: ForwardProcess) -> None:
        """Raises ValueError for other shapes, and for tokens that data cannot hold."""
        if self.tokens.shape != self.mask.shape or self.tokens.shape not in (
            shape[1:],
            torch.Size(shape),
        ):
            raise ValueError(
                f"given tokens {list(self.tokens.shape)} and mask {list(self.mask.shape)} "
                f"must each have shape [L] = [{shape[1]}] or [B, L] = {list(shape)}"
            )
        forward.check_data(self.tokens[self.mask], "given")

    def to(self, device: torch.device) -> Self:
        """The same on this device, so that no step moves them again."""
        return replace(self, tokens=self.tokens.to(device), mask=self.mask.to(device))

    def at_rows(self, rows: Tensor | slice) -> Self:
        """The observed sites of these sequences of the batch."""
        if self.mask.ndim == 1:
            return self
        rows = rows.to(self.mask.device) if isinstance(rows, Tensor) else rows
        return replace(self, tokens=self.tokens[rows], mask=self.mask[rows])

    def clamp(self, x: Tensor) -> Tensor:
        """x [B, L] with the observed sites put back.

        Raises:
            ValueError: the observed sites are those of another number of sequences.
        """
        if self.mask.ndim == 2 and self.mask.shape != x.shape:
            raise ValueError(
                f"{len(x)} sequences are evaluated where sites of {len(self.mask)} are observed; "
                "a sampler that evaluates a part of the batch must say which rows: "
                "reverse.at_rows(rows)"
            )
        return torch.where(self.mask.to(x.device), self.tokens.to(x), x)


class ClampedModel:
    """A model that is only ever evaluated at states with the observed sites in place.

    Attributes:
        model: the model.
        given: the observed sites of the sequences that it is called with.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, model: Callable[..., Any], given: Given) -> None:
        self.model, self.given = model, given

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        return call(self.model, self.given.clamp(x), t, where)

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        return evaluate(self.model, self.given.clamp(x), t, where)

    def at_rows(self, rows: Tensor | slice) -> "ClampedModel":
        """The same for these sequences of the batch."""
        return ClampedModel(self.model, self.given.at_rows(rows))
