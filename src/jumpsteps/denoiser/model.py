r"""Models: the network, or the exact distribution, that a denoiser is made of.

A model maps noisy tokens :math:`x_t` and a time t to V numbers for each site, whose meaning is the
parameterisation's (``parameterisations``). Any callable will do:

* ``model(x, t)``, with tokens x int64 [B, L] and t a number or a tensor [B];
* ``model(x, t, where=None)``, which may return only the K rows that ``where`` (bool [B, L])
  selects, so that the head of a network runs on these sites alone.

The result is a tensor [B, L, V] (or [K, V]), a tuple that starts with it, or an object whose
``logits`` it is. A model of a large vocabulary may have a method ``evaluate(x, t, where)``, too: it
returns an ``Evaluation``, whose hidden states become outputs a chunk of sites at a time. A model
that sets ``reads_site_mask = True`` gets ``where`` as a ``SiteMask``, with the sites' indices.

``call`` makes one call of any of these, selects the rows where the model did not, and checks what
can be checked without waiting for a GPU: type, shape and device. Values are checked once in a run,
by ``checks.CheckedModel``.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.signatures import takes_where
from jumpsteps.process.noise import Time

__all__ = ["DrawsSymbols", "DrawsWeighted", "Evaluates", "Evaluation", "Model", "call", "evaluate"]


class Model(Protocol):
    """A network, or an exact distribution, evaluated at noisy tokens.

    Takes x int64 [B, L], t (a number or [B]) and ``where`` (bool [B, L] or None). Returns floats
    [B, L, V], or only the rows of the selected sites, [K, V], in the order of ``x[where]``.
    """

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class DrawsSymbols(Protocol):
    """What reads rows of an ``Evaluation``, and draws from softmax(output) without the output."""

    def __call__(self, rows: Tensor, tokens: Tensor) -> Tensor: ...

    def draw(self, rows: Tensor, *, generator: Generator) -> Tensor:
        """One symbol for each row [K, ...], int64 [K].

        Raises:
            ValueError: a row that gives no distribution.
        """
        ...


@runtime_checkable
class DrawsWeighted(Protocol):
    """What reads rows of an ``Evaluation``, and draws from softmax(output) times a weight."""

    def draw_weighted(
        self, rows: Tensor, tokens: Tensor, table: Tensor, *, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """A symbol v of each row from p(v) w(x, v), and the mean of w(x, v) under p.

        Args:
            rows: [K, ...].
            tokens: x of each row, int64 [K].
            table: w, float32 [V, V], row x; negative where p(v) is to be zero.

        Returns:
            int64 [K] and float64 [K].

        Raises:
            ValueError: a row that leaves nothing to draw.
        """
        ...

    def weighted(
        self, rows: Tensor, tokens: Tensor, table: Tensor, rates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """p(v) w(x, v), float32 [K, V], and the mean of a second table's r(x, v) under p, [K].

        Args:
            rows, tokens: as above.
            table, rates: w and r, float32 [V, V]; negative, both, where p(v) is to be zero.

        Raises:
            ValueError: a row that leaves nothing to draw.
        """
        ...


class Evaluation:
    """A model evaluated once, at one state and time; it can be read at any of its sites.

    Args:
        rows: what is kept of each site, [S, ...]: the output, or the hidden states before the head.
        where: the S sites, bool [B, L] or a ``SiteMask``.
        read: rows [K, ...] and tokens [K] -> outputs [K, V]; it may draw as well
            (``DrawsSymbols``).
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(
        self, rows: Tensor, where: Tensor | SiteMask, read: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.rows, self.read, self.where = rows, read, where

    @property
    def mask(self) -> Tensor:
        """The S sites, bool [B, L]."""
        return self.where.mask if isinstance(self.where, SiteMask) else self.where

    @cached_property
    def row(self) -> Tensor:
        """The row of each of the S sites, int64 [B, L]; 0 elsewhere."""
        numbers = torch.arange(len(self.rows), device=self.mask.device)
        return torch.zeros_like(self.mask, dtype=torch.int64).masked_scatter(self.mask, numbers)

    def rows_at(self, where: SiteMask) -> Tensor:
        """What is kept of these sites, [K, ...]."""
        return self.rows if where is self.where else self.rows[where.select(self.row)]

    @classmethod
    def of_output(cls, output: Tensor) -> "Evaluation":
        """The evaluation whose output at all sites, [B, L, V], is known."""
        everywhere = torch.ones(output.shape[:2], dtype=torch.bool, device=output.device)
        return cls(output.flatten(0, 1), everywhere, lambda rows, tokens: rows)

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Outputs [K, V] at ``where``, some of the S sites; [B, L, V] without, if S = B L.

        x and t must be those that were evaluated.
        """
        if where is None:
            return self.read(self.rows[self.row.flatten()], x.flatten()).unflatten(0, x.shape)
        where = SiteMask.of(where)
        return self.read(self.rows_at(where), where.select(x))


@runtime_checkable
class Evaluates(Protocol):
    """A model that keeps the hidden states of one call, which are smaller than its output.

    They are read after later calls, too (by the multistep samplers), which must not overwrite them.
    """

    def evaluate(self, x: Tensor, t: Time, where: Tensor) -> Evaluation: ...


def call(
    model: Callable[..., Any], x: Tensor, t: Time, where: Tensor | SiteMask | None = None
) -> Tensor:
    """The output of one call of any model, [B, L, V], or [K, V] with ``where``.

    Raises:
        ValueError: no model, or one that does not take tokens and a time; an output that is no
            tensor of numbers, has another shape, or is on another device than x.
    """
    if model is None:
        raise ValueError("this reverse process has no model to call; pass a network or a function")
    where = SiteMask.of(where)
    output = output_of(model(x, t, **mask_for(model, where)))
    if output.device != x.device:
        raise ValueError(
            f"the model's output is on {output.device}, its tokens are on {x.device}; "
            "move both to one device: network.to(device), and a generator on that device"
        )
    if where is not None and output.shape[:-1] == x.shape and output.ndim == 3:
        return where.select(output)
    expected = tuple(x.shape) if where is None else (len(where),)
    if output.shape[:-1] != expected:
        wanted = f"[B, L, V] = [{x.shape[0]}, {x.shape[1]}, V]"
        if where is not None:
            wanted += f", or [K, V] = [{len(where)}, V] for the sites of where"
        raise ValueError(
            f"the model returned shape {list(output.shape)} for tokens {list(x.shape)}; "
            f"return {wanted}"
        )
    return output


def evaluate(model: Callable[..., Any], x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
    """One call of the model at the selected sites, kept to be read a chunk of sites at a time."""
    where = SiteMask.of(where)
    if isinstance(model, Evaluates):
        reads = getattr(model, "reads_site_mask", False)
        return model.evaluate(x, t, where if reads else where.mask)
    return Evaluation(call(model, x, t, where), where, lambda rows, tokens: rows)


def output_of(answer: Any) -> Tensor:
    """The tensor in a model's answer."""
    output = getattr(answer, "logits", answer)
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point():
        found = output.dtype if isinstance(output, Tensor) else type(answer).__name__
        raise ValueError(
            f"the model returned {found}; return a tensor of float logits [B, L, V], "
            "a tuple that starts with it, or an object with .logits"
        )
    return output


def mask_for(
    model: Callable[..., Any], where: SiteMask | None
) -> dict[str, Tensor | SiteMask | None]:
    """The mask as the model takes it: with its indices, as bool [B, L], or not at all."""
    if getattr(model, "reads_site_mask", False):
        return {"where": where}
    if not takes_where(model):
        return {}
    return {"where": None if where is None else where.mask}
