"""Models: what a denoiser answers, and one evaluation of it kept for later."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from jumpsteps.core.site_mask import selected
from jumpsteps.process.noise import Time

__all__ = ["Evaluation", "Model", "evaluate"]


class Model(Protocol):
    """A network, or an exact distribution, evaluated at noisy tokens.

    Takes x int64 [B, L], t (a number or [B]) and ``where`` (bool [B, L] or None); returns floats [B, L, V], or only the
    rows of the selected sites, [K, V], in the order of ``x[where]``.
    """

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor: ...


class Evaluation:
    """A model at one state and time, evaluated once at some sites; a ``Model`` for those sites.

    Args:
        rows: what is kept of each site, [S, ...]: the output, or the hidden states that a head turns into it.
        where: bool [B, L], the S sites.
        read: rows [K, ...] and tokens [K] -> outputs [K, V].
    """

    def __init__(
        self, rows: Tensor, where: Tensor, read: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.rows, self.read = rows, read
        self.row = torch.zeros_like(where, dtype=torch.int64).masked_scatter(
            where, torch.arange(len(rows), device=where.device)
        )

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """Outputs [K, V] at ``where``, which selects some of the sites; x and t are those that were evaluated."""
        where = torch.ones_like(x, dtype=torch.bool) if where is None else where
        return self.read(self.rows[selected(self.row, where)], selected(x, where))


@runtime_checkable
class Evaluates(Protocol):
    """A model that can keep less than its output: a network with a large head keeps its trunk's hidden states."""

    def evaluate(self, x: Tensor, t: Time, where: Tensor) -> Evaluation: ...


def evaluate(model: Model, x: Tensor, t: Time, where: Tensor) -> Evaluation:
    """One call of the model, to be read later, site by site."""
    if isinstance(model, Evaluates):
        return model.evaluate(x, t, where)
    return Evaluation(model(x, t, where), where, lambda rows, tokens: rows)
