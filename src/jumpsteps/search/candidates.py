"""Schedules to race: the fixed ones, and those of shortest paths under several assumptions.

A race measures which of them is best (``evaluation.race``). They cost few model calls:

* uniform and cosine, without any;
* times t_i = (1 - i/N)^p, between uniform ones and those of steep searches, without any;
* kernels that revise tokens: shortest paths with error correction as measured, weaker, and none,
  all from one pass over the data; and, for Tweedie's sampler and tau-leaping, those of the least
  few-step NLL (``costs.by_nll``) from another;
* the absorbing kernel: shortest paths in times, and in counts by the spread and golden orders, a
  pass for each. Orders are left out where a sampler of times is named.

Schedules of other searches, such as Jump Your Steps, can join them in a race.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.checks import every_call_checked
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import cosine, cosine_counts, power, uniform, uniform_counts
from jumpsteps.schedules.orders import Golden, Random, RevealOrder, Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.by_nll import nll_costs
from jumpsteps.search.costs.by_path import PathCosts
from jumpsteps.search.costs.correction import (
    NO_CORRECTION,
    ErrorCorrection,
    corruption_probability,
)
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["race_candidates"]

EXPONENTS = (0.75, 1.25, 1.5, 2.0)
"""p of the times t_i = (1 - i/N)^p."""

ORDERS: tuple[RevealOrder, ...] = (Random(), Spread(), Golden())

LIGHT_CORRECTION = ErrorCorrection(1.0)
"""Of few-step NLL: errors of early steps count a little less than half as much as those of late
ones. The measured probability would make it blind to what tau-leaping loses in early steps."""

WEAKER = (4.0, 16.0)
"""By how much the false-acceptance probability is raised above the measured one."""


def costed(sampler: Sampler) -> Sampler:
    """The sampler whose costs a search takes: another one where it has none of its own."""
    sampler = sampler.schedules_of
    if sampler.holds is not None:
        return sampler
    return KGillespie() if sampler.takes is CountSchedule else Tweedie()


@kinds_checked()
def race_candidates(
    reverse: ReverseProcess,
    data: Tensor,
    nfe: Iterable[int],
    *,
    sampler: Sampler | None = None,
    given_mask: Tensor | None = None,
    about: Provenance = Provenance(),
    generator: torch.Generator,
    progress: bool = False,
    workers: Workers = ALONE,
) -> dict[str, dict[int, Schedule]]:
    """Schedules to race, name -> NFE -> schedule.

    Args:
        data: int64 [B, L], for the shortest paths; a race needs other sequences.
        nfe: numbers of model calls of a run.
        sampler: that is raced. By default Tweedie's for times and k-Gillespie for counts.
        given_mask: bool [L] or [B, L], the observed sites.
        about: model and data, for the schedules' provenance.
        generator: draws the forward paths.
        progress: bars of model calls on stderr.
        workers: processes that make the same call, and share the sequences of each model call.

    Raises:
        ValueError: a sampler that chooses its own steps, or what ``optimize_schedule`` refuses.
    """
    raced = sampler or Tweedie()
    steps = {n: raced.steps(n) for n in sorted(set(nfe))}
    paths = Paths.draw(
        reverse.forward, data, generator=generator, given_mask=given_mask, workers=workers
    )
    counts = raced.takes is CountSchedule
    costs_of = costed(raced)

    options: dict[str, Any] = {"generator": generator, "given_mask": given_mask, "held_out": 0}
    options |= {"about": about, "progress": progress, "workers": workers}

    def searched(order: RevealOrder, by: Sampler) -> dict[int, Schedule]:
        path, numbers = ShortestPath(order=order), steps.values()
        found = optimize_schedule(reverse, paths.data, numbers, method=path, sampler=by, **options)
        return {n: found[k] for n, k in steps.items()}

    if counts:
        orders = ORDERS if raced.schedules_of.holds is Held.COUNT else ORDERS[:1]
        return fixed_counts(steps, paths.sites) | {
            ShortestPath(order=order).name: searched(order, costs_of) for order in orders
        }
    found = fixed_times(steps)
    if reverse.forward.revisable:
        found |= corrected_paths(reverse, paths, steps, costs_of, about, generator)
        return found | nll_paths(reverse, paths, steps, costs_of, about, generator)
    found["shortest-path"] = searched(Random(), costs_of)
    if sampler is None:
        for order in ORDERS[1:]:
            found[ShortestPath(order=order).name] = searched(order, KGillespie())
    return found


def fixed_times(steps: Mapping[int, int]) -> dict[str, dict[int, Schedule]]:
    """Uniform, cosine and powers; ``steps`` by NFE."""
    made: dict[str, dict[int, Schedule]] = {
        "uniform": {n: uniform(k) for n, k in steps.items()},
        "cosine": {n: cosine(k) for n, k in steps.items()},
    }
    for p in EXPONENTS:
        made[f"power {p:g}"] = {n: power(k, p) for n, k in steps.items()}
    return made


def fixed_counts(steps: Mapping[int, int], sites: int) -> dict[str, dict[int, Schedule]]:
    """Uniform and cosine counts in random order."""
    return {
        "uniform": {n: uniform_counts(k, sites) for n, k in steps.items()},
        "cosine": {n: cosine_counts(k, sites) for n, k in steps.items()},
    }


def corrected_paths(
    reverse: ReverseProcess,
    paths: Paths,
    steps: Mapping[int, int],
    sampler: Sampler,
    about: Provenance,
    generator: torch.Generator,
) -> dict[str, dict[int, Schedule]]:
    """Shortest paths of one table of path costs, with error correction as measured, weaker, and
    none.
    """
    with every_call_checked(MicroBatches(reverse.model)) as checked:
        counter = CallCounter(checked)
        budgets = sorted(set(steps.values()))
        costs = ShortestPath().costs(
            replace(reverse, model=counter),
            paths,
            sampler,
            max_steps=budgets[-1],
            generator=generator,
        )
    assert isinstance(costs, PathCosts)
    measured = costs.table.correction
    assert measured.false_acceptance is not None
    corrections = {"shortest-path": measured}
    for factor in WEAKER:
        weaker = replace(measured, false_acceptance=factor * measured.false_acceptance)
        corrections[f"shortest-path, {factor:g} x d"] = weaker
    corrections["shortest-path, no correction"] = NO_CORRECTION
    made: dict[str, dict[int, Schedule]] = {}
    for name, correction in corrections.items():
        table, final = (replace(one, correction=correction) for one in (costs.table, costs.final))
        weighed = PathCosts.on_grid(table, final, len(costs.grid) - 1)
        known = about.with_search(
            reverse.forward,
            method=name,
            sampler=sampler.name,
            sequences=len(paths.data),
            seed=generator.initial_seed(),
            model_calls=counter.calls,
        )
        by_steps = shortest_paths(weighed, budgets)
        made[name] = {}
        for n, k in steps.items():
            cost = known.with_error(*weighed.predict(by_steps[k]))
            made[name][n] = replace(by_steps[k], provenance=cost)
    return made


def nll_paths(
    reverse: ReverseProcess,
    paths: Paths,
    steps: Mapping[int, int],
    sampler: Sampler,
    about: Provenance,
    generator: torch.Generator,
) -> dict[str, dict[int, Schedule]]:
    """The schedules of the least few-step NLL of this sampler's steps, as it is and with a light
    error correction; none for other samplers than Tweedie's and tau-leaping, nor where the network
    excludes the data.
    """
    if sampler not in (Tweedie(), TauLeaping()):
        return {}
    costs = nll_costs(reverse, paths, sampler, generator=generator)
    if not np.isfinite(costs.value[np.triu_indices(len(costs.grid), 1)]).all():
        return {}
    known = about.with_search(
        reverse.forward,
        method="",
        sampler=sampler.name,
        sequences=len(paths.data),
        seed=generator.initial_seed(),
        model_calls=costs.model_calls,
    )
    surviving = LIGHT_CORRECTION.surviving_fraction(
        corruption_probability(reverse.forward, torch.from_numpy(costs.grid)).numpy()
    )
    made: dict[str, dict[int, Schedule]] = {}
    for name, table in (
        ("few-step-nll", costs),
        ("few-step-nll, corrected", replace(costs, value=surviving * costs.value)),
    ):
        found = shortest_paths(table, sorted(set(steps.values())))
        about_it = replace(known, method=name)
        made[name] = {n: replace(found[k], provenance=about_it) for n, k in steps.items()}
    return made
