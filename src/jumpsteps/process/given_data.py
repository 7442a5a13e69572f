r"""Steps of sites whose data x_0 are known, for kernels that are known by their matrix of rates.

A site that is drawn from a mixture over x_0 is drawn by its data first, :math:`x_0 \sim p(x_0 \mid
x_t)`, and then given them:

.. math:: p(x_s = y \mid x_t = x, x_0) \propto q_{s|0}(y \mid x_0)\, q_{t|s}(x \mid y), \qquad
    \hat R_t(x \to y \mid x_0) = R_t(y, x) \frac{q_{t|0}(y \mid x_0)}{q_{t|0}(x \mid x_0)}

(Campbell et al. 2022, Eq. 7 and App. H). No posterior is divided by a likelihood, so float32 is
enough for p, and no product of matrices is needed: the second draw reads one row of a table, which
is made once for each distinct pair (x_0, x_t).

``JumpTables`` serves sums of many jumps (ordinal tau-leaping). Jumps to the 2 W nearest symbols
have means that are read from one product of matrices,

.. math:: m(y) = h\, R_t(y, x) \sum_{x_0} \frac{p(x_0)}{q_{t|0}(x \mid x_0)} q_{t|0}(y \mid x_0),

over the x_0 whose likelihood float32 can divide by. All other jumps, farther ones and those of
unlikely x_0, are rare, and drawn one by one: a sum of Poisson processes is a Poisson process.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from jumpsteps.core.draws import (
    RowDraws,
    below,
    categorical,
    check_sums,
    poisson,
    poisson_times,
    uniform,
)
from jumpsteps.core.sample_generators import Generator
from jumpsteps.process.jump_lists import add_jumps

__all__ = [
    "DataAtSites",
    "DrawData",
    "JumpTables",
    "KnownPosterior",
    "NearJumps",
    "NearSymbols",
    "draw_pairs",
    "draw_products",
]

NUMBERS = 2**25
"""Numbers in the largest table of pairs."""

FEW = 16
"""So many sites for each symbol, at most, are drawn without looking for equal pairs, which a GPU
would have to be waited for."""

SMALLEST = 1e-25
"""The smallest likelihood, as a share of the largest of its site, that float32 divides by."""

RARE = 1e-8
"""The share of all jumps, at most, that are longer than the nearest 2 W in a forward process."""


def draw_pairs(
    x0: Tensor,
    x: Tensor,
    symbols: int,
    rows: Callable[[Tensor, Tensor], Tensor],
    *,
    generator: Generator,
) -> Tensor:
    """One symbol for each site, from a distribution that depends on its x0 and x alone, int64 [K].

    Args:
        x0, x: int64 [K].
        symbols: V.
        rows: pairs (x0, x), int64 [P] each, to their unnormalised distributions, float64 [P, V].
    """
    if len(x) <= FEW * symbols:
        table = RowDraws(rows(x0, x))
        return table.draw(torch.arange(len(x), device=x.device), generator=generator)
    # There are V^2 pairs at most; where their table would be too large, sites come in parts.
    most = max(len(x), 1) if symbols**3 <= NUMBERS else NUMBERS // symbols
    u = uniform(tuple(x.shape), generator=generator, device=x.device)
    drawn = []
    for part0, part, numbers in zip(x0.split(most), x.split(most), u.split(most), strict=True):
        pairs, which = (part0 * symbols + part).unique(return_inverse=True)
        table = RowDraws(rows(pairs // symbols, pairs % symbols))
        drawn.append(table.find(which, numbers))
    return torch.cat(drawn) if len(drawn) > 1 else drawn[0]


def draw_products(
    x0: Tensor, x: Tensor, left: Tensor, right: Tensor, *, generator: Generator
) -> Tensor:
    """One symbol for each site, with the weights ``left[x0] * right[x]``, int64 [K].

    Of many sites on a GPU a run of about sqrt(V) symbols is drawn first, from a table of the runs'
    sums for all pairs, and then a symbol of the run. Nothing waits for the GPU.

    Args:
        x0, x: int64 [K].
        left, right: float64 [V, V]; negative numbers are not checked.

    Raises:
        ValueError: the weights of a site sum to zero, or are not finite.
    """
    symbols = left.shape[1]
    width = math.isqrt(symbols)
    runs = -(-symbols // width)
    if x.device.type != "cuda" or len(x) < symbols**2 or symbols**2 * runs > NUMBERS:
        return draw_pairs(x0, x, symbols, lambda x0, x: left[x0] * right[x], generator=generator)
    u = uniform(tuple(x.shape), generator=generator, device=x.device)
    parts = zip(*(each.split(NUMBERS // runs) for each in (x0, x, u)), strict=True)
    return torch.cat([two_stage_products(x0, x, left, right, u) for x0, x, u in parts])


def two_stage_products(x0: Tensor, x: Tensor, left: Tensor, right: Tensor, u: Tensor) -> Tensor:
    """``draw_products`` by the uniform numbers u, float64 [K]."""
    symbols = left.shape[1]
    width = math.isqrt(symbols)
    left, right = (runs_of(each, width) for each in (left, right))
    cumulative = torch.bmm(left, right.mT).cumsum(0).flatten(1)  # [runs, V V]
    cumulative = cumulative[:, x0 * symbols + x]
    total = cumulative[-1]
    check_sums(total)
    threshold = below(u * total, total)
    run = (cumulative <= threshold).sum(0).clamp_max_(len(left) - 1)
    before = cumulative.gather(0, (run - 1).clamp_min(0)[None])[0] * (run > 0)
    share = (threshold - before) / (cumulative.gather(0, run[None])[0] - before)
    columns = torch.arange(width, device=x.device)[:, None]
    part = (left[run, x0, columns] * right[run, x, columns]).cumsum(0)
    place = (part <= below(share * part[-1], part[-1])).sum(0)
    return (run * width + place).clamp_max_(symbols - 1)


def runs_of(table: Tensor, width: int) -> Tensor:
    """The columns of a table [R, V] in runs, the last filled up with zeros, [runs, R, width]."""
    filled = torch.nn.functional.pad(table, (0, -table.shape[1] % width))
    return filled.unflatten(1, (-1, width)).movedim(1, 0).contiguous()


DrawData = Callable[[Tensor, Generator], Tensor]
"""Sites, int64 [J], to the x0 of a jump of each, int64 [J]."""


class DataAtSites(Protocol):
    """p(x0 | x_t = x) of K sites, in whatever form it is known."""

    def weighted(self, table: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, DrawData]:
        """p(x0) ``table[x, x0]``, float32 [K, V]; the mean of ``rates[x, x0]``, [K]; and what draws
        from p(x0) ``rates[x, x0]``. Both tables are float32 [V, V].
        """
        ...


@dataclass(frozen=True)
class KnownPosterior:
    """A ``DataAtSites`` whose numbers are known.

    Attributes:
        p: p(x0 | x_t = x), normalised, [K, V].
        x: int64 [K].
    """

    p: Tensor
    x: Tensor

    def weighted(self, table: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, DrawData]:
        p = self.p.to(table)
        leaving = rates[self.x].mul_(p)

        def draw(sites: Tensor, generator: Generator) -> Tensor:
            return categorical(leaving[sites], generator=generator)

        return table[self.x].mul_(p), leaving.sum(-1), draw


@dataclass(frozen=True)
class JumpTables:
    """The reverse jumps of one site at one time, given its data; rates are per unit of noise.

    Attributes:
        q: q_{t|0}, float64 [V, V].
        into: R_b(y, x) as row x and column y, zero at y = x, float64 [V, V].
        exits: the rate of leaving x given x0, row x, float32 [V, V].
    """

    q: Tensor
    into: Tensor
    exits: Tensor

    @classmethod
    def of(cls, q: Tensor, rates_between: Tensor) -> "JumpTables":
        """From q_{t|0} and R_b without its diagonal, both [V, V]."""
        return cls.of_each(q[None], rates_between)[0]

    @classmethod
    def of_each(cls, q: Tensor, rates_between: Tensor) -> "list[JumpTables]":
        """Those of several times, made together; q is [T, V, V]."""
        leaving = torch.where(q > 0, q @ rates_between / q, 0.0).mT.to(torch.float32)
        return [cls(each, rates_between.T, exits) for each, exits in zip(q, leaving, strict=True)]

    def jumps(self, x0: Tensor, x: Tensor) -> Tensor:
        """Where pairs (x0, x) [P] jump, unnormalised, float64 [P, V]."""
        return self.into[x] * self.q[x0]


@dataclass(frozen=True)
class NearSymbols:
    """Which jumps are to near symbols, at all times.

    Attributes:
        distance: of the near symbols, int64 [2 W].
        rates: R_b(x + distance, x), float32 [V, 2 W].
        far: R_b(y, x) as row x and column y, zero at the near y, float64 [V, V].
    """

    distance: Tensor
    rates: Tensor
    far: Tensor

    @classmethod
    def of(cls, into: Tensor) -> "NearSymbols":
        """From R_b(y, x) as row x and column y, zero at y = x, float64 [V, V]."""
        symbols = torch.arange(len(into), device=into.device)
        apart = (symbols - symbols[:, None]).abs()
        by_distance = torch.zeros(len(into), dtype=into.dtype, device=into.device)
        by_distance = by_distance.scatter_reduce(0, apart.flatten(), into.flatten(), "amax")
        beyond = by_distance.flip(0).cumsum(0).flip(0)
        width = max(int((beyond > RARE * beyond[0]).sum()) - 1, 1)
        steps = torch.arange(1, width + 1, device=into.device)
        distance = torch.cat([-steps.flip(0), steps])
        target = symbols[:, None] + distance
        inside = (target >= 0) & (target < len(into))
        rates = torch.where(inside, into.gather(1, target.clamp(0, len(into) - 1)), 0.0)
        return cls(distance, rates.to(torch.float32), torch.where(apart > width, into, 0.0))


@dataclass(frozen=True)
class NearJumps:
    """The means of jumps to the nearest symbols, see the module's docstring.

    Attributes:
        tables: all jumps.
        symbols: which symbols are near.
        likely: whether float32 divides by the likelihood of x0, row x, bool [V, V].
        inverse: 1 / q_{t|0}(x | x0) at the likely x0, zero elsewhere, row x, float32 [V, V].
        rare: the rate of all other jumps given x0, row x, float32 [V, V].
    """

    tables: JumpTables
    symbols: NearSymbols
    likely: Tensor
    inverse: Tensor
    rare: Tensor

    @classmethod
    def of(cls, tables: JumpTables) -> "NearJumps":
        return cls.of_each([tables], NearSymbols.of(tables.into))[0]

    @classmethod
    def of_each(cls, tables: list[JumpTables], symbols: NearSymbols) -> "list[NearJumps]":
        """Those of several times of a kernel, made together."""
        q, exits = (
            torch.stack([getattr(each, name) for each in tables]) for name in ("q", "exits")
        )
        likelihood = q.mT
        likely = likelihood >= SMALLEST * likelihood.amax(-1, keepdim=True)
        inverse = torch.where(likely, 1 / likelihood, 0.0).to(torch.float32)
        far = torch.where(likelihood > 0, symbols.far @ likelihood / likelihood, 0.0)
        rare = torch.where(likely, far, exits.to(q.dtype)).to(torch.float32)
        parts = zip(tables, likely, inverse, rare, strict=True)
        return [cls(table, symbols, *part) for table, *part in parts]

    def sums(self, data: DataAtSites, x: Tensor, noise: float, *, generator: Generator) -> Tensor:
        """The sum of all jumps' displacements, int64 [K].

        Args:
            data: p(x0 | x_t = x).
            x: int64 [K].
            noise: h sigma(t), the length of the step.
        """
        weights, rare, draw = data.weighted(self.inverse, self.rare)
        times, number = poisson_times(noise * rare, generator=generator)
        # A GPU does the next lines while the CPU waits for the number, which mostly is zero.
        symbols = len(self.likely)
        probs = weights @ self.tables.q.to(weights)
        target = (x[:, None] + self.symbols.distance).clamp_(0, symbols - 1)
        mean = probs.gather(-1, target).mul_(self.symbols.rates[x]).mul_(noise)
        total = (poisson(mean, generator=generator) * self.symbols.distance).sum(-1)

        def displacements(site: Tensor, generator: Generator) -> Tensor:
            x0, before = draw(site, generator), x[site]
            return draw_pairs(x0, before, symbols, self.rare_jumps, generator=generator) - before

        return add_jumps(total, times, number, displacements, generator=generator)

    def rare_jumps(self, x0: Tensor, x: Tensor) -> Tensor:
        """Where pairs (x0, x) [P] jump if not near, unnormalised, float64 [P, V]."""
        symbols = torch.arange(len(self.likely), device=x.device)
        width = len(self.symbols.distance) // 2
        near = self.likely[x, x0][:, None] & ((symbols - x[:, None]).abs() <= width)
        return self.tables.jumps(x0, x).masked_fill(near, 0)
