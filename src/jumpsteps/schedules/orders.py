r"""Reveal orders: which masked sites come first, for samplers of the absorbing kernel that follow
counts.

An order is a permutation :math:`\pi` of the L sites that does not depend on the data. Revealing one
site for each model call samples the model's distribution in every such order; the random order of
the forward process is one choice. With fewer calls a step reveals the ranks m..n-1 together, as if
they were independent, and its error is their total correlation given the first m. An order is good
if sites with neighbouring ranks depend little on each other. ``Spread``, ``Golden`` and ``Dilated``
reveal distant sites first and fill the gaps when they are nearly determined (cf. Besnier et al.
2025, arXiv 2503.17076, for images).

Shapes: ranks are int64 [B, L], a permutation of 0..L-1 for each sequence; rank 0 is revealed first.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked, said
from jumpsteps.core.draws import categorical, integers, uniform
from jumpsteps.core.sample_generators import Generator, at_repeats

__all__ = [
    "ORDERS",
    "Blocks",
    "Dilated",
    "Fixed",
    "Golden",
    "Mixture",
    "Random",
    "RevealOrder",
    "Sequential",
    "Spread",
    "order_from_json",
    "order_to_json",
]


LARGEST_BLOCK = 1 << 20
"""Sites of a block at most: every block draws the ranks of all its sites."""


@said("a reveal order such as jumpsteps.Spread()")
@dataclass(frozen=True)
class RevealOrder(ABC):
    """A way to order the sites of a sequence.

    Attributes:
        name: e.g. "spread"; a key of ``ORDERS``.
        source: author and year of the paper, or "this library".
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""

    @abstractmethod
    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        """Numbers [B, L]; sites are revealed from the smallest to the largest."""

    def ranks(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        """The rank of every site, int64 [B, L]; of equal keys the left one is first.

        Raises:
            ValueError: keys of another shape or on another device than the generator's, or NaN.
        """
        keys = self.keys(batch, length, generator=generator)
        check_keys(keys, (batch, length), generator.device, f"order {self.name}")
        return keys.argsort(dim=-1, stable=True).argsort(-1)

    def free_ranks(self, free: Tensor, *, generator: Generator) -> Tensor:
        """The rank of every free site among the free ones, int64 [B, L]; the others last.

        Args:
            free: bool [B, L], the sites that are neither observed nor revealed.
        """
        return ranks_among(free, self.ranks(*free.shape, generator=generator))


def check_keys(keys: Tensor, shape: tuple[int, int], device: torch.device, what: str) -> None:
    """Raises ValueError for keys that do not order the sites of each sequence."""
    if not isinstance(keys, Tensor) or tuple(keys.shape) != shape:
        found = list(keys.shape) if isinstance(keys, Tensor) else type(keys).__name__
        raise ValueError(
            f"{what}: keys returned {found}; return a number for each site of each sequence, a "
            f"tensor [B, L] = {list(shape)}"
        )
    if keys.device.type != device.type:
        raise ValueError(
            f"{what}: keys are on {keys.device}, the run is on {device}; make them on "
            "generator.device"
        )
    if keys.is_floating_point() and bool(keys.isnan().any()):
        raise ValueError(f"{what}: keys hold NaN, which has no place in an order; return numbers")


def check_orders(*orders: RevealOrder) -> None:
    """Raises ValueError for what is no reveal order."""
    for order in orders:
        if not isinstance(order, RevealOrder):
            raise ValueError(f"there must be a reveal order where there is {order!r}")


def ranks_among(free: Tensor, keys: Tensor) -> Tensor:
    """The ranks of the free sites by their keys, int64 [B, L]; the others last, left to right."""
    last = torch.where(free, keys, keys.amax(-1, keepdim=True) + 1)
    return last.argsort(dim=-1, stable=True).argsort(-1)


@dataclass(frozen=True)
class Random(RevealOrder):
    """A uniformly random permutation: the forward process's own order."""

    name = "random"
    source = "Austin et al. 2021"

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        return uniform((batch, length), generator=generator, device=generator.device)


@dataclass(frozen=True)
class Sequential(RevealOrder):
    """From left to right."""

    name = "sequential"
    source = "this library"

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        return torch.arange(length, device=generator.device).expand(batch, -1)


def shifted(batch: int, length: int, generator: Generator) -> Tensor:
    """Positions after a random cyclic shift of each sequence, [B, L]."""
    shift = integers(length, (batch, 1), generator=generator, device=generator.device)
    return (torch.arange(length, device=generator.device) + shift) % length


@kinds_checked()
@dataclass(frozen=True)
class Spread(RevealOrder):
    """Van der Corput's order with a random cyclic shift: every prefix is spread evenly over the
    sites.

    Sites are ordered by their position with its bits reversed; in more dimensions the bits of the
    coordinates are interleaved.

    Attributes:
        layout: the sites' grid, row-major, such as (32, 32) for an image; a line by default.
    """

    layout: tuple[int, ...] | None = None
    name = "spread"
    source = "this library; Besnier et al. 2025"

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        layout = tuple(self.layout or (length,))
        if math.prod(layout) != length or min(layout) < 1:
            raise ValueError(
                f"layout {layout} has {math.prod(layout)} sites, the sequences have {length}"
            )
        bits = max(1, (max(layout) - 1).bit_length())
        site = torch.arange(length, device=generator.device)
        key = torch.zeros(batch, length, dtype=torch.int64, device=generator.device)
        for axis, size in enumerate(layout):
            position = shifted(batch, size, generator)[
                :, site // math.prod(layout[axis + 1 :]) % size
            ]
            for bit in range(bits):
                key |= (position >> bit & 1) << ((bits - 1 - bit) * len(layout) + axis)
        return key


@dataclass(frozen=True)
class Dilated(RevealOrder):
    """Multiples of the largest power of two first, then of the next smaller one; from left to right
    within a level.

    All positions are shifted cyclically at random.

    Source: after Luxembourg et al. (2025), arXiv 2506.19037.
    """

    name = "dilated"
    source = "Luxembourg et al. 2025"

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        position = shifted(batch, length, generator)
        spacing = position & -position
        spacing = torch.where(position == 0, 2 * length, spacing)
        return position - spacing * length


@dataclass(frozen=True)
class Golden(RevealOrder):
    """A Kronecker sequence: sites in the order of the fractional part of (golden ratio x position +
    a random shift).

    Neighbouring sites have distant ranks.
    """

    name = "golden"
    source = "this library"

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        shift = uniform((batch, 1), generator=generator, device=generator.device)
        ratio = 0.5 * (math.sqrt(5) - 1)
        return (
            ratio * torch.arange(length, dtype=torch.float64, device=generator.device) + shift
        ) % 1


@kinds_checked()
@dataclass(frozen=True)
class Blocks(RevealOrder):
    """Blocks of free sites from left to right (semi-autoregressive decoding), each in an ``inner``
    order drawn for it.

    Observed sites do not count, so after a prompt the first block starts at the prompt's end.

    Attributes:
        size: of a block, in free sites.
        inner: the order within a block.
    """

    size: int = 32
    inner: RevealOrder = Random()
    name = "blocks"
    source = "Nie et al. 2025"

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and 1 <= self.size <= LARGEST_BLOCK):
            raise ValueError(
                f"a block needs at least one site, at most {LARGEST_BLOCK}, got size={self.size!r}"
            )
        check_orders(self.inner)

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        sites = torch.arange(length, device=generator.device).expand(batch, -1)
        return self.keys_at(sites, generator)

    def keys_at(self, position: Tensor, generator: Generator) -> Tensor:
        """The keys of sites by their positions in the sequence of blocks, int64 [B, L]."""
        batch, length = position.shape
        blocks = -(-length // self.size)
        source = at_repeats(generator, blocks)
        inner = self.inner.ranks(batch * blocks, self.size, generator=source)
        inner = inner.reshape(batch, blocks * self.size)
        return inner.gather(-1, position) + self.size * (position // self.size)

    def free_ranks(self, free: Tensor, *, generator: Generator) -> Tensor:
        position = (free.cumsum(-1) - 1).clamp_min(0)
        return ranks_among(free, self.keys_at(position, generator))


@kinds_checked()
@dataclass(frozen=True)
class Fixed(RevealOrder):
    """One permutation for all sequences.

    Attributes:
        permutation: the rank of each site.
        shift: shift it cyclically at random, for stationary data.
    """

    permutation: tuple[int, ...]
    shift: bool = False
    name = "fixed"
    source = "this library"

    def __post_init__(self) -> None:
        object.__setattr__(self, "permutation", tuple(self.permutation))
        if sorted(self.permutation) != list(range(len(self.permutation))):
            raise ValueError("a fixed order needs every rank 0..L-1 once")

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        if length != len(self.permutation):
            raise ValueError(
                f"this order is for {len(self.permutation)} sites, the sequences have {length}"
            )
        ranks = torch.tensor(self.permutation, device=generator.device)
        return ranks[shifted(batch, length, generator)] if self.shift else ranks.expand(batch, -1)


@kinds_checked()
@dataclass(frozen=True)
class Mixture(RevealOrder):
    """One of several orders for each sequence, at random.

    Attributes:
        orders: the orders.
        weights: their probabilities, up to a factor; equal by default.
    """

    orders: tuple[RevealOrder, ...]
    weights: tuple[float, ...] | None = None
    name = "mixture"
    source = "this library"

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", tuple(self.orders))
        if not self.orders or (self.weights is not None and len(self.weights) != len(self.orders)):
            raise ValueError("a mixture needs at least one order, and a weight for each if any")
        check_orders(*self.orders)
        if self.weights is not None and not (
            all(0 <= weight < math.inf for weight in self.weights) and sum(self.weights) > 0
        ):
            raise ValueError(f"the weights of a mixture are zero or more, got {list(self.weights)}")

    def keys(self, batch: int, length: int, *, generator: Generator) -> Tensor:
        return self.mixed(
            batch, generator, lambda order: order.ranks(batch, length, generator=generator)
        )

    def free_ranks(self, free: Tensor, *, generator: Generator) -> Tensor:
        return self.mixed(
            len(free), generator, lambda order: order.free_ranks(free, generator=generator)
        )

    def mixed(
        self, batch: int, generator: Generator, ranks: Callable[[RevealOrder], Tensor]
    ) -> Tensor:
        """The ranks by the order that is drawn for each sequence, [B, L]."""
        weights = torch.tensor(
            self.weights or [1.0] * len(self.orders), dtype=torch.float64, device=generator.device
        )
        which = categorical(weights.expand(batch, -1), generator=generator)
        every = torch.stack([ranks(order) for order in self.orders])
        return every[which, torch.arange(batch, device=which.device)]


ORDERS: dict[str, type[RevealOrder]] = {
    kind.name: kind
    for kind in (Random, Spread, Dilated, Golden, Sequential, Blocks, Fixed, Mixture)
}
"""By name, for files."""


def order_to_json(order: RevealOrder) -> dict[str, Any]:
    """The JSON object of an order: its type and its settings."""
    content: dict[str, Any] = {"type": order.name}
    for part in fields(order):
        value = getattr(order, part.name)
        if isinstance(value, RevealOrder):
            value = order_to_json(value)
        elif part.name == "orders":
            value = [order_to_json(one) for one in value]
        content[part.name] = value
    return content


def order_from_json(content: Mapping[str, Any]) -> RevealOrder:
    """The order of ``order_to_json``.

    Raises:
        ValueError: an unknown type.
    """
    parts = dict(content)
    kind = parts.pop("type", None)
    if kind not in ORDERS:
        raise ValueError(
            f"unknown reveal order {kind!r}; this jumpsteps knows {', '.join(ORDERS)}; name one of "
            "your own with --order MODULE:NAME, or add its class to jumpsteps.schedules.orders."
            "ORDERS before reading"
        )
    for name, value in parts.items():
        if isinstance(value, Mapping):
            parts[name] = order_from_json(value)
        elif name == "orders":
            parts[name] = tuple(order_from_json(one) for one in value)
        elif isinstance(value, list):
            parts[name] = tuple(value)
    return ORDERS[kind](**parts)
