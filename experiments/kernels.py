"""Schedules for three kernels with two noise schedules each, exact CountDown models: violation rates, NFE 4 to 64.

    python experiments/kernels.py OUT.json [--device cuda] [-n 4096] [--nfe 4 8 16 32 64]

Tweedie's sampler, but for the reveal orders (k-gillespie); searches on 64 sequences, seed 100; samples of seed 1. The shortest path
is searched three times, with seeds 100 to 102. The tables are in docs/kernels.md. About 6 minutes on an H200.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from jumpsteps.core.files import write_json
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


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=4096, help="samples for each schedule")
    parser.add_argument(
        "--nfe", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="powers of two"
    )
    args = parser.parse_args()
    results = {}
    for name, forward in CASES.items():
        rows = measure(forward, args.nfe, args.n, torch.device(args.device))
        results[name] = [asdict(row) for row in rows]
        print(f"{name}\n{table(rows, countdown.TASK.metric_name)}\n", flush=True)
        write_json(args.out, {"samples": args.n, "sequences": SEQUENCES, "cases": results})


if __name__ == "__main__":
    run()
