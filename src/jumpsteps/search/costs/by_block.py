"""Count costs within blocks: for decoding that finishes a block before it begins the next.

In a ``Blocks`` order the ranks of a block follow each other, and the blocks before it are known
when it begins. A step within a block costs what ``by_count`` says. Steps that cross from one block
into the next have no cost here, so every boundary is a point of each path, and the steps of a
budget are divided between the blocks by what they save in each.

The evaluations are divided equally between the blocks. Each has the blocks before its own revealed.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from jumpsteps.core.information import Floats
from jumpsteps.core.tensors import sent
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.schedules.orders import Blocks, Random
from jumpsteps.search.costs.by_count import (
    Counts,
    OrderEvaluations,
    check_counted,
    evaluate_orders,
    grid_counts,
    revealed_counts,
)
from jumpsteps.search.costs.count_table import CountCosts
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.paths import Paths

__all__ = ["block_costs"]


@torch.no_grad()
def block_costs(
    reverse: ReverseProcess,
    paths: Paths,
    order: Blocks,
    *,
    evaluations: int = 32,
    bandwidth: float = 2.0,
    grid_intervals: int = 512,
    measure: Measure = Measure.MODEL,
    generator: torch.Generator,
) -> CountCosts:
    """Estimate the table of count costs within blocks from data.

    Args:
        reverse: an absorbing reverse process.
        paths: B >= 2 sequences with the same number of free sites.
        order: the blocks.
        evaluations: model evaluations at most; one for each block at least, two to see how its
            sites depend on each other.
        bandwidth: of the smoothing over the evaluations of a block; see ``count_costs``.
        grid_intervals: of the grid of the table, at most, or one for each block.
        measure: of the uncertainty of a site: the model's entropy, or -log p of data.
        generator: draws the order.

    Raises:
        ValueError: as ``count_costs``; fewer evaluations than blocks.
    """
    check_counted(reverse, paths)
    sites, ranks = paths.sites, paths.free_ranks(order, generator=generator)
    blocks = [slice(first, min(first + order.size, sites)) for first in range(0, sites, order.size)]
    if evaluations < len(blocks):
        raise ValueError(
            f"{len(blocks)} blocks need as many model evaluations, got evaluations={evaluations}; "
            "raise it to two for each block, or make the blocks larger"
        )
    exchangeable = isinstance(order.inner, Random)
    each = evaluations // len(blocks)
    counts = [
        block.start + revealed_counts(block.stop - block.start, each, exchangeable=exchangeable)
        for block in blocks
    ]
    (whole,) = evaluate_orders(reverse, paths, [(order, ranks, np.concatenate(counts))], measure)
    tables = [
        block_table(whole, block, points, bandwidth, max(1, grid_intervals // len(blocks)))
        for block, points in zip(blocks, counts, strict=True)
    ]
    calibration = () if whole.gap is None else whole.calibration()
    return replace(
        joined(tables), order=order, model_calls=len(whole.counts), calibration=calibration
    )


def block_table(
    whole: OrderEvaluations, block: slice, counts: Counts, bandwidth: float, grid_intervals: int
) -> CountCosts:
    """The table of one block, whose sites are the ranks ``block``, from its own evaluations."""
    assert isinstance(whole.order, Blocks)
    mine = sent(torch.from_numpy(np.isin(whole.counts, counts).nonzero()[0]), whole.entropy.device)
    entropy, gap = (
        None if values is None else values[mine][..., block]
        for values in (whole.entropy, whole.gap)
    )
    assert entropy is not None
    part = replace(
        whole, order=whole.order.inner, counts=counts - block.start, entropy=entropy, gap=gap
    )
    return part.costs(grid_counts(block.stop - block.start, grid_intervals), bandwidth)


def joined(tables: list[CountCosts]) -> CountCosts:
    """One table of all blocks, which no step crosses."""
    offsets = np.cumsum([0, *(len(table.grid) - 1 for table in tables)])
    points = int(offsets[-1]) + 1
    value = np.full((points, points), np.inf)
    after = sum(float(table.grid[0]) for table in tables)
    grid: list[Floats] = []
    for table, offset in zip(tables, offsets.tolist(), strict=False):
        there = slice(offset, offset + len(table.grid))
        value[there, there] = np.minimum(value[there, there], table.value)
        after -= float(table.grid[0])
        grid.append(table.grid[:-1] + after)
    alone = [table.alone for table in tables if table.alone is not None]
    return replace(
        tables[0],
        grid=np.append(np.concatenate(grid), 0.0),
        value=value,
        per_sequence=partial(row_of_block, tables, offsets),
        alone=sum(alone[1:], alone[0]) if alone else None,
        blocks=len(tables),
    )


def row_of_block(tables: list[CountCosts], offsets: Counts, i: int) -> Floats:
    """Each sequence's cost of the steps from the i-th grid point of all blocks to every later one,
    [G - 1 - i, B]; zero beyond the block.
    """
    block = int(np.searchsorted(offsets, i, side="right")) - 1
    costs = tables[block].per_sequence(i - int(offsets[block]))
    return np.pad(costs, ((0, int(offsets[-1]) - i - len(costs)), (0, 0)))
