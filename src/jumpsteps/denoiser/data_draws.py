r"""Draws of the data x_0 of sites that move in a step, by one model call.

A model's output is turned into weights of the V symbols of each site, a chunk of sites at a time
(``chunks``). Some heads draw without these weights: a ``DrawsSymbols`` from :math:`p(x_0 \mid
x_t)`, a ``DrawsWeighted`` also from its product with a table of the kernel, such as the rates of
leaving x_t given x_0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import Generator, at_rows, at_sites
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.chunks import in_chunks, read_in_chunks, rows_in_chunks
from jumpsteps.denoiser.model import DrawsSymbols, DrawsWeighted, Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.given_data import DrawData

__all__ = ["draw_data", "draw_jump_sum", "draw_leaving"]

REDRAWS = 4
"""Times that a symbol which cannot have become x_t is drawn again."""


def draw_data(
    reverse: ReverseProcess, x: Tensor, t: float, where: SiteMask, *, generator: Generator
) -> Tensor:
    """x_0 of the selected sites, each from p(x_0^l | x_t), int64 [K]; one model call."""

    def draw(output: Tensor, chunk: SiteMask, generator: Generator) -> Tensor:
        weights = reverse.data_weights_from(output, x, t, chunk)
        return categorical(weights, generator=generator)

    if not (isinstance(reverse, PosteriorReverse) and reverse.forward.revisable):
        return in_chunks(reverse, x, t, where, draw, generator=generator)
    evaluation, source = reverse.evaluate(x, t, where), at_sites(generator, where)
    head, symbols = evaluation.read, reverse.forward.vocab_size
    if isinstance(head, DrawsWeighted):
        table = reverse.forward.possible_table(t, x.device)
        if table is not None:
            weighted = draws_by(head, table)
            return rows_in_chunks(evaluation, x, where, symbols, weighted, source)[0]
    if isinstance(head, DrawsSymbols):
        x0, left = draw_possible(reverse, evaluation, head, x, t, where, source)
        if len(left):
            rest, own = SiteMask.at(where.sites[left], where.shape), at_rows(source, left)
            x0[left] = read_in_chunks(evaluation, x, t, rest, symbols, draw, own)
        return x0
    return read_in_chunks(evaluation, x, t, where, symbols, draw, source)


def draw_possible(
    reverse: ReverseProcess,
    evaluation: Evaluation,
    head: DrawsSymbols,
    x: Tensor,
    t: float,
    where: SiteMask,
    source: Generator,
) -> tuple[Tensor, Tensor]:
    """x_0 of the selected sites, int64 [K], drawn again a few times where it cannot have become
    x_t; and the sites where it still cannot, int64.
    """
    rows, sites = evaluation.rows_at(where), where.select(x)
    x0 = head.draw(rows, generator=at_rows(source, slice(None)))
    for _ in range(REDRAWS):
        left = (~reverse.forward.can_become(x0, sites, t)).nonzero()[:, 0]
        if not len(left):
            return x0, left
        x0[left] = head.draw(rows[left], generator=at_rows(source, left))
    return x0, (~reverse.forward.can_become(x0, sites, t)).nonzero()[:, 0]


def draws_by(
    head: DrawsWeighted, table: Tensor
) -> Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]:
    """``head.draw_weighted`` with this table, for chunks of rows and tokens."""

    def draw(rows: Tensor, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return head.draw_weighted(rows, x, table, generator=generator)

    return draw


def draw_leaving(
    reverse: ReverseProcess, x: Tensor, t: float, where: SiteMask, *, generator: Generator
) -> tuple[Tensor, Tensor]:
    """x_0 of the selected sites given that they jump at t, int64 [K], and their reverse rates of
    leaving x_t, [K]; one model call. The kernel jumps between all symbols.
    """

    def draw(output: Tensor, chunk: SiteMask, generator: Generator) -> tuple[Tensor, Tensor]:
        p = reverse.posterior_from(output, x, t, chunk)
        rates = reverse.forward.exits(p, chunk.select(x), t)
        return categorical(rates, generator=generator), rates.sum(-1)

    if not isinstance(reverse, PosteriorReverse):
        return in_chunks(reverse, x, t, where, draw, generator=generator)
    evaluation, source = reverse.evaluate(x, t, where), at_sites(generator, where)
    head, symbols = evaluation.read, reverse.forward.vocab_size
    if isinstance(head, DrawsWeighted):
        table = reverse.forward.leaving_table(t, x.device)
        if table is not None:
            weighted = draws_by(head, table)
            return rows_in_chunks(evaluation, x, where, symbols, weighted, source)
    return read_in_chunks(evaluation, x, t, where, symbols, draw, source)


def draw_jump_sum(
    reverse: ReverseProcess, x: Tensor, t: float, h: float, where: SiteMask, *, generator: Generator
) -> Tensor:
    """The selected sites of x plus the displacements of all their jumps in a duration h of the
    reverse rates of t, int64 [K]; one model call. The kernel jumps between all symbols.
    """

    def draw(output: Tensor, chunk: SiteMask, generator: Generator) -> Tensor:
        p = reverse.posterior_from(output, x, t, chunk)
        return reverse.forward.sample_jump_sum(p, chunk.select(x), t, h, generator=generator)

    if not isinstance(reverse, PosteriorReverse):
        return in_chunks(reverse, x, t, where, draw, generator=generator)
    evaluation, source = reverse.evaluate(x, t, where), at_sites(generator, where)
    head, symbols = evaluation.read, reverse.forward.vocab_size
    possible = None
    if isinstance(head, DrawsWeighted):
        possible = reverse.forward.possible_table(t, x.device)
    if isinstance(head, DrawsWeighted) and possible is not None:

        def sums(rows: Tensor, x: Tensor, generator: Generator) -> Tensor:
            data = HeadAtSites(head, rows, x, possible)
            return reverse.forward.sample_jump_sum_of(data, x, t, h, generator=generator)

        return rows_in_chunks(evaluation, x, where, symbols, sums, source)
    return read_in_chunks(evaluation, x, t, where, symbols, draw, source)


@dataclass(frozen=True)
class HeadAtSites:
    """p(x0 | x_t = x) of K sites as a head gives it: a ``given_data.DataAtSites``.

    Attributes:
        head: what reads the rows.
        rows: of the sites, [K, ...].
        x: int64 [K].
        possible: see ``ForwardProcess.possible_table``.
    """

    head: DrawsWeighted
    rows: Tensor
    x: Tensor
    possible: Tensor

    def weighted(self, table: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, DrawData]:
        both = [torch.where(self.possible < 0, -1.0, each) for each in (table, rates)]
        weights, mean = self.head.weighted(self.rows, self.x, *both)

        def draw(sites: Tensor, generator: Generator) -> Tensor:
            if rates is table:
                return categorical(weights[sites], generator=generator)
            rows, x = self.rows[sites], self.x[sites]
            return self.head.draw_weighted(rows, x, both[1], generator=generator)[0]

        return weights, mean, draw
