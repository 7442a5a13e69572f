"""Blocked Gibbs at equal numbers of model calls, against steps alone and other correctors.

    python experiments/corrector.py MODEL OUT.json [--device cuda] [-n 256] [--long] [--others]

MODEL is `countdown-exact`, `countdown`, a folder of a CountDown network, or the folder of the
package antiberty (docs/antibodies.md). Measures of n samples (seed 1, the same for every plan):

* CountDown: violations in per cent; entropy of the symbols in nats;
* antibodies: the model's own any-order bound, nats; per cent of the samples without the hallmarks
  of a variable domain, and of those with the last motif of a heavy chain (WGxG) and of a light one
  (FGxG); the distance of the frequencies at every position, times 1e4;
* both: the mean Hamming distance of two samples, and the distance of all pair frequencies, times
  1e4; distances are from n sequences of data (antibodies: samples drawn one residue at a time).

Counts are the shortest path in golden order (64 sequences, seed 0). "8 + 8 of 1/4" is 8 steps and
then 8 calls that draw a quarter of the sites again. The second table has the cost of one call: the
total correlation of the redrawn sites given the rest on 64 other sequences, eight sets of sites for
each, nats.

OUT.json holds the tables of docs/corrector.md; it is written after every plan. On two CPU cores
`countdown-exact` takes 15 minutes.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import (
    SHARES,
    Comparison,
    Measure,
    add_flags,
    golden_counts,
    interval,
    plans,
    seeded,
    squared_discrepancy,
)
from jumpsteps import load
from jumpsteps.core.information import half_width
from jumpsteps.evaluation.agreement import agreement, hamming_distance
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.evaluation.two_sample import token_similarity
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform_counts
from jumpsteps.schedules.orders import Golden, Random, Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.search.costs.redraw_cost import redraw_cost
from jumpsteps.tasks.task import Task
from results import Json, Table, table

FORMATS = {
    "entropy": "{:.3f}",
    "Hamming": "{:.3f}",
    "nats": "{:.1f} ±{:.1f}",
    "heavy, %": "{:.1f}",
    "light, %": "{:.1f}",
}
DRAWS = 8
"""Sets of sites for each sequence whose cost is measured."""

HEAVY, LIGHT = (re.compile(f"C.{{10,20}}W.{{45,70}}C.{{3,40}}{x}G.G") for x in "WF")
"""The hallmarks of ``tasks.antibodies``, each with its own last motif."""


def is_antibodies(model: LoadedModel) -> bool:
    return model.task is not None and model.task.name == "antibodies"


def task_of(model: LoadedModel) -> Task:
    if model.task is None:
        raise SystemExit(
            f"{model.name} has no metric; pass a CountDown model or antiberty's folder"
        )
    return model.task


def countdown_measures(task: Task) -> tuple[list[str], Measure]:
    def measure(samples: Tensor) -> list[Json]:
        p = torch.bincount(samples.flatten(), minlength=task.symbols).double() / samples.numel()
        entropy = -float(torch.xlogy(p, p).sum())
        return [interval(100 * task.metric(samples).double()), entropy]

    return ["violations, %", "entropy"], measure


def antibody_measures(
    model: LoadedModel, task: Task, data: Tensor, device: str, batch: int
) -> tuple[list[str], Measure]:
    def measure(samples: Tensor) -> list[Json]:
        nll = any_order_nll(
            model.reverse,
            samples,
            evaluations=16,
            common=True,
            batch=batch,
            generator=seeded(2, device),
        )
        chains = [task.show(row) for row in samples.cpu()]
        families = [
            100 * sum(family.search(chain) is not None for chain in chains) / len(chains)
            for family in (HEAVY, LIGHT)
        ]
        broken = interval(100 * task.metric(samples))
        return [interval(nll), broken, *families, squared_discrepancy(samples, data, agreement)]

    return ["nats", "without hallmarks, %", "heavy, %", "light, %", "positions"], measure


def measures_of(
    model: LoadedModel, data: Tensor, device: str, batch: int
) -> tuple[list[str], Callable[[Tensor, bool], list[Json]]]:
    """Titles of the measures, and their values with half the intervals; without distances from
    data for the data themselves.
    """
    task = task_of(model)
    if is_antibodies(model):
        titles, own = antibody_measures(model, task, data, device, batch)
    else:
        titles, own = countdown_measures(task)

    def measure(samples: Tensor, distances: bool = True) -> list[Json]:
        values = [*own(samples), hamming_distance(samples)]
        if not distances:
            hidden = {"positions"}
            kept = zip([*titles, "Hamming"], values, strict=True)
            return [None if title in hidden else value for title, value in kept] + [None]
        return [*values, squared_discrepancy(samples, data, token_similarity)]

    return [*titles, "Hamming", "pairs"], measure


def data_of(
    model: LoadedModel, searched: int, n: int, device: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Sequences for searches and costs, and n others that samples are compared with."""
    if not is_antibodies(model):
        task = task_of(model)
        return task.sample_data(searched, seeded(0, device)), task.sample_data(n, seeded(3, device))
    one = uniform_counts(model.length, model.length, Random())
    own, _ = sample_batches(
        model.reverse,
        KGillespie(),
        one,
        (n + searched, model.length),
        generator=seeded(3, device),
        batch=batch,
    )
    return own[:searched], own[searched:]


def costs(model: LoadedModel, data: Tensor, device: str) -> Table:
    """The cost of one call, by share and sets."""
    rows = []
    for share in SHARES:
        row: list[Json] = [str(share)]
        for sets in (Golden(), Spread(), Random()):
            found = redraw_cost(
                model.reverse,
                data,
                Redraw(share=float(share), sets=sets),
                generator=seeded(5, device),
                draws=DRAWS,
            )
            print(share, sets.name, found.excess, found.excess_stderr, flush=True)
            row.append([found.excess, half_width(found.excess_stderr, len(data))])
        rows.append(row)
    return table(["share", "golden", "spread", "random"], rows)


def run() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=["plans", "costs"], help="one of the two tables")
    add_flags(parser, n=256, batch=64)
    args = parser.parse_args()
    model = load(args.model, device=args.device)
    n = args.sequences
    searched, data = data_of(model, 2 * n, args.n, args.device, args.batch)
    counts = golden_counts(model, searched[:n], args.device)
    titles, measure = measures_of(model, data, args.device, args.batch)
    cost = {} if args.only == "plans" else {"costs": costs(model, searched[n:], args.device)}
    comparison = Comparison(
        args.out,
        __file__,
        model,
        titles,
        lambda samples: measure(samples, True),
        (args.n, model.length),
        args.batch,
        args.device,
        formats=FORMATS,
        tables=cost,
    )
    if args.only == "costs":
        comparison.save({})
        return
    made = plans(counts, model.length, long=args.long, others=args.others)
    comparison.run(made, args.plans, ["data", None, *measure(data, False)])


if __name__ == "__main__":
    run()
