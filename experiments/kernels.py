"""Three kernels with two noise schedules each, exact CountDown models: violation rates by schedule.

    python experiments/kernels.py OUT.json [--device cuda] [-n 4096] [--nfe 4 8 16 32 64]

Tweedie's sampler, but for the reveal order (k-gillespie). Searches see 64 sequences of seed 100;
samples have seed 1. The shortest path is searched three times, with seeds 100 to 102. OUT.json
holds the tables of docs/kernels.md. About 6 minutes on an H200.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.report import table
from jumpsteps.evaluation.results import Row
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Cosine, Exponential, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown
from results import Table, by_schedule, cells_of, device_name, write_results

V, SEQUENCES, SEED = countdown.SYMBOLS, 64, 100
CASES: dict[str, ForwardProcess] = {
    "absorbing, log-linear": Absorbing(vocab_size=V + 1, noise=LogLinear()),
    "absorbing, cosine": Absorbing(vocab_size=V + 1, noise=Cosine()),
    "uniform, constant": Uniform(vocab_size=V, noise=Constant(3.87)),
    "uniform, log-linear": Uniform(vocab_size=V, noise=LogLinear()),
    "gaussian, exponential": Gaussian(
        vocab_size=V, rate_sigma=3.0, q_sigma=16.0, noise=Exponential(base=100.0, scale=0.25)
    ),
    "gaussian, constant": Gaussian(
        vocab_size=V, rate_sigma=3.0, q_sigma=16.0, noise=Constant(24.75)
    ),
}
FOR_ALL: list[tuple[str, Method, int]] = [
    ("jys", JYS(), SEED),
    *((f"shortest-path, seed {seed}", ShortestPath(), seed) for seed in range(SEED, SEED + 3)),
]
FOR_ABSORBING: list[tuple[str, Method, int]] = [
    ("equal-error", ClosedForm("equal-error", equal_error), SEED),
    ("equal-entropy", ClosedForm("equal-entropy", equal_entropy), SEED),
    ("shortest-path-spread", ShortestPath(order=Spread()), SEED),
]
FOR_OTHERS: list[tuple[str, Method, int]] = [
    ("jys-full-context", JYS(full=True, hold_time=False), SEED)
]
SEARCHES = [f"shortest-path, seed {seed}" for seed in range(SEED, SEED + 3)]
TITLES = {
    "uniform": "uniform times",
    "cosine": "cosine",
    "jys": "JYS as published",
    "jys-full-context": "JYS, context frozen alone",
    "equal-entropy": "equal entropy",
    "equal-error": "equal error",
    SEARCHES[0]: "**shortest path**",
    "shortest-path-spread": "shortest path, spread order",
}


def search(
    reverse: PosteriorReverse, method: Method, seed: int, nfe: list[int], device: torch.device
) -> dict[int, Schedule]:
    generator = torch.Generator(device).manual_seed(seed)
    data = countdown.sample_data(SEQUENCES, generator=generator)
    return optimize_schedule(reverse, data, nfe, generator=generator, method=method)


def measure(forward: ForwardProcess, nfe: list[int], n: int, device: torch.device) -> list[Row]:
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain()))
    schedules: dict[str, dict[int, Schedule]] = {
        "uniform": {k: uniform(k) for k in nfe},
        "cosine": {k: cosine(k) for k in nfe},
    }
    for name, method, seed in FOR_ALL + (
        FOR_ABSORBING if isinstance(forward, Absorbing) else FOR_OTHERS
    ):
        schedules[name] = search(reverse, method, seed, nfe, device)
    size = {"seed": 1, "device": device, "batch": 16 if device.type == "cpu" else 2048}
    return compare(
        reverse, None, schedules, (n, countdown.LENGTH), metric=countdown.violations, **size
    )


def table_of(rows: list[Row], nfe: list[int]) -> Table:
    """A line for each schedule, and one for the range of the three searches."""
    found = [asdict(row) for row in rows]
    made = by_schedule(found, TITLES, nfe)
    cells = cells_of(found)
    means = [[cells[n, name][0] for name in SEARCHES] for n in nfe]
    between = ["three searches, from to", *([min(m), max(m)] for m in means)]
    after = 1 + [line[0] for line in made["rows"]].index(TITLES[SEARCHES[0]])
    made["rows"].insert(after, {"cell": "{:.2f} to {:.2f}", "cells": between})
    return made


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=4096, help="samples for each schedule")
    parser.add_argument(
        "--nfe", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="powers of two"
    )
    args = parser.parse_args()
    tables: dict[str, Table] = {}
    for name, forward in CASES.items():
        rows = measure(forward, args.nfe, args.n, torch.device(args.device))
        tables[name.replace(", ", "-")] = table_of(rows, args.nfe)
        print(f"{name}\n{table(rows, countdown.TASK.metric_name)}\n", flush=True)
        write_results(
            args.out,
            __file__,
            tables,
            command=f"python experiments/kernels.py OUT.json --device {args.device}",
            device=device_name(args.device),
            samples=args.n,
            sequences=SEQUENCES,
            search_seeds=[SEED, SEED + 1, SEED + 2],
            sampling_seed=1,
        )


if __name__ == "__main__":
    run()
