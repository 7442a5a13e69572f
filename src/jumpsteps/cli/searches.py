"""Searches on the command line: which method, on which data, and the schedules that it finds."""

import sys
from dataclasses import replace

import torch
from torch import Tensor

from jumpsteps.cli.inputs import search_data
from jumpsteps.cli.long_searches import note_long_search
from jumpsteps.cli.named import is_search, order_named, search_named
from jumpsteps.cli.named_schedules import schedule_named
from jumpsteps.cli.options import ObservedOptions, SearchOptions
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import LoadedModel
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.schedules.orders import Blocks, Random
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.auto_order import LEAST_SEQUENCES, AutoOrder
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.method import Method, measures_by_data
from jumpsteps.search.optimize import CERTIFIES, optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["method_asked", "method_in_blocks", "method_named", "schedules_named", "search"]

EVALUATIONS_OF_BLOCK = 4
"""Model evaluations of each block at least."""


def method_asked(name: str | None, order: str | None) -> Method | None:
    """The search of this name or this order; None if neither is named."""
    if name is None and order is None:
        return None
    return method_named(name or ShortestPath().name, order)


def method_named(name: str, order: str | None) -> Method:
    """The search of this name, in this reveal order if there is one.

    Raises:
        ValueError: no such method or order, or a method that does not search in this order.
    """
    method, shortest_path = search_named(name), ShortestPath()
    if order is None or name in (order, f"{shortest_path.name}-{order}"):
        return method
    if name != shortest_path.name:
        raise ValueError(
            f"method {name} does not search in {order} order; use --method shortest-path, or "
            "leave out --order"
        )
    if order == "learned":
        return LearnedOrder()
    if order == AutoOrder().name:
        return AutoOrder()
    return replace(shortest_path, order=order_named(order))


def method_in_blocks(name: str | None, order: str | None, size: int, length: int) -> Method:
    """The shortest path whose steps keep to blocks of ``size`` tokens, each in this order.

    Raises:
        ValueError: another method, or an order that blocks do not have.
    """
    if name not in (None, ShortestPath().name):
        raise ValueError(f"method {name} knows no blocks; leave out --block-size, or --method")
    inner = Random() if order is None else order_named(order, "order within blocks")
    evaluations = max(ShortestPath.evaluations, EVALUATIONS_OF_BLOCK * -(-length // size))
    return ShortestPath(evaluations, order=Blocks(size, inner), within_blocks=True)


def default_method(
    model: LoadedModel, options: SearchOptions, sampler: Sampler | None, tolerance: float | None
) -> Method:
    """The best of several orders where a masked model's counts are searched by data, else the
    shortest path.
    """
    in_times = sampler is not None and sampler.holds is not Held.COUNT
    masked = isinstance(model.reverse.forward, Absorbing)
    by_data = options.measure in (None, Measure.DATA.value)
    if in_times or tolerance is not None or not (masked and by_data):
        return ShortestPath()
    return AutoOrder()


def measured(method: Method, measure: str | None) -> Method:
    """The search with costs by data or by the model, if it has such costs and one is named.

    Raises:
        ValueError: orders compared by the model.
    """
    if isinstance(method, AutoOrder) and measure == Measure.MODEL.value:
        raise ValueError("orders are compared by data; leave out --measure model, or name an order")
    if measure is None or not isinstance(method, ShortestPath):
        return method
    return replace(method, measure=Measure(measure))


def search(
    model: LoadedModel,
    method: Method | None,
    options: SearchOptions,
    observed: ObservedOptions,
    *,
    sampler: Sampler | None,
    generator: torch.Generator,
    tolerance: float | None = None,
    progress: bool = False,
    workers: Workers = ALONE,
) -> dict[int, Schedule]:
    """Schedules by ``method``, or by the default one: for each NFE, or the shortest within
    ``tolerance``.
    """
    forward = model.reverse.forward
    if sampler is not None and (counterpart := sampler.schedules_of) is not sampler:
        sampler.check(forward)
        text = f"note: searched for {counterpart.name}, whose costs and certificates these are"
        print(text, file=sys.stderr)
        sampler = counterpart
    searched = method or default_method(model, options, sampler, tolerance)
    searched = measured(searched, options.measure)
    held_out = 0
    if measures_by_data(searched, forward, sampler or searched.sampler):
        held_out = certificate_sequences(options.sequences)
    tokens, given_mask, name = search_data(model, options, observed, generator, held_out)
    if method is None and isinstance(searched, AutoOrder):
        searched = comparable(searched, tokens, given_mask)
    enough = len(tokens) == options.sequences + held_out
    if progress:
        by = sampler or searched.sampler
        steps = [by.steps(nfe) for nfe in options.nfe]
        note_long_search(model, searched, steps, by, len(tokens), held_out if enough else 0)
    return optimize_schedule(
        model.reverse,
        tokens,
        options.nfe,
        tolerance=tolerance,
        generator=generator,
        method=searched,
        sampler=sampler,
        given_mask=given_mask,
        held_out=held_out if enough else None,
        about=model.provenance(data=name),
        progress=progress,
        workers=workers,
    )


def comparable(method: AutoOrder, tokens: Tensor, given_mask: Tensor | None) -> Method:
    """The method, or the shortest path with a note where these data cannot compare orders."""
    if len(tokens) < LEAST_SEQUENCES:
        reason = f"it takes {LEAST_SEQUENCES} sequences to compare orders, the data have"
        reason = f"{reason} {len(tokens)}"
    elif given_mask is not None and given_mask.ndim == 2 and len(given_mask.sum(-1).unique()) > 1:
        reason = "the given sites leave different numbers of sites free"
    else:
        return method
    print(f"note: {reason}; times in random order are searched instead", file=sys.stderr)
    return ShortestPath()


def certificate_sequences(sequences: int) -> int:
    """How many sequences are drawn for certificates besides those of a search; 0 for none."""
    return 0 if sequences < CERTIFIES else max(CERTIFIES, sequences // 2)


def schedules_named(
    name: str,
    model: LoadedModel,
    options: SearchOptions,
    observed: ObservedOptions,
    given: Given | None,
    *,
    sampler: Sampler | None,
    order: str | None,
    generator: torch.Generator,
    progress: bool = False,
    workers: Workers = ALONE,
) -> dict[int, Schedule]:
    """A schedule for each NFE: from a search, if this is a method, else fixed or from a file."""
    if is_search(name):
        method = method_named(name, order)
        return search(
            model,
            method,
            options,
            observed,
            sampler=sampler,
            generator=generator,
            progress=progress,
            workers=workers,
        )
    return {
        nfe: schedule_named(name, nfe, model, given, sampler=sampler, order=order)
        for nfe in options.nfe
    }
