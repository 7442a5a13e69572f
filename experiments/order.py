"""Measured order of weak convergence: exact distributions of whole runs on an enumerable model, no
sampling.

    python experiments/order.py [OUT]

A random distribution of two sites and three symbols; runs of every registered sampler that follows
times, from the true distribution at t = 1 in N equal steps, N = 16 to 256. Prints the slope of the
logarithm of the total variation from the true distribution against log N, and its value at N = 16,
for runs that end at t = 0.1 and runs that end at t = 0, where rates are infinite; writes
OUT/order.json. The figures are in docs/samplers.md. About 5 minutes on two cores.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from jumpsteps import (
    SAMPLERS,
    Absorbing,
    Constant,
    Enumerable,
    Exponential,
    ForwardProcess,
    Gaussian,
    LogLinear,
    PosteriorReverse,
    Sampler,
    TimeSchedule,
    Uniform,
)
from results import table, write_results

STEPS = (16, 32, 64, 128, 256)
LEFT_OUT = ("ancestral", "tweedie-gibbs", "tweedie-blocked-gibbs")
"""Of the table for two sites: the first has Tweedie's step, and the others are exact where they
correct, because the conditional distribution of one of two sites needs nothing but the other's
marginal."""

PROCESSES: dict[str, ForwardProcess] = {
    "absorbing, log-linear": Absorbing(vocab_size=4, noise=LogLinear()),
    "absorbing, constant": Absorbing(vocab_size=4, noise=Constant(4.0)),
    "uniform, log-linear": Uniform(vocab_size=3, noise=LogLinear()),
    "uniform, constant": Uniform(vocab_size=3, noise=Constant(4.0)),
    "gaussian, exponential": Gaussian(
        vocab_size=3, rate_sigma=1.0, q_sigma=1.0, noise=Exponential(base=10.0, scale=0.3)
    ),
    "gaussian, constant": Gaussian(vocab_size=3, rate_sigma=1.0, q_sigma=1.0, noise=Constant(2.0)),
}


def samplers_of(forward: ForwardProcess) -> list[Sampler]:
    """The registered samplers that follow times and serve the kernel."""
    found = []
    for name, sampler in SAMPLERS.items():
        try:
            sampler.check(forward)
        except ValueError:
            continue
        if sampler.takes is TimeSchedule and name not in LEFT_OUT:
            found.append(sampler)
    return found


def errors(truth: Enumerable, sampler: Sampler, end: float) -> list[float]:
    """Total variation from the true distribution at ``end``, for each number of steps."""
    reverse = PosteriorReverse(truth.forward, truth)
    target, found = truth.marginal(end), []
    for n in STEPS:
        schedule = TimeSchedule([1 - (1 - end) * i / n for i in range(n)] + [end])
        probs = sampler.run_distribution(reverse, truth.states, schedule, truth.marginal(1.0))
        found.append(0.5 * float((probs - target).abs().sum()))
    return found


def measure(truth: Enumerable, sampler: Sampler) -> list[float]:
    """Slope and error at N = 16, to t = 0.1 and to t = 0."""
    cells = []
    for end in (0.1, 0.0):
        found = errors(truth, sampler, end)
        cells += [-float(np.polyfit(np.log(STEPS), np.log(found), 1)[0]), found[0]]
    return cells


def rows_of(length: int, chosen: list[Sampler] | None = None) -> list[list[object]]:
    """A row for each process and sampler: of those that serve the process, unless some are
    ``chosen``.
    """
    rows: list[list[object]] = []
    for name, forward in PROCESSES.items():
        truth = Enumerable.random(forward, symbols=3, length=length, seed=0)
        for sampler in chosen or samplers_of(forward):
            slope, error, slope_to_0, error_to_0 = measure(truth, sampler)
            shown = [{"values": [value], "cell": "{:.1e}"} for value in (error, error_to_0)]
            rows.append([name, sampler.name, slope, shown[0], slope_to_0, shown[1]])
            numbers = f"{slope:7.2f}{error:10.1e}{slope_to_0:7.2f}{error_to_0:10.1e}"
            print(f"{name:24s}{sampler.name:22s}{numbers}", flush=True)
    return rows


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="a folder, for order.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    two = rows_of(2)
    three = rows_of(3, [SAMPLERS["tweedie"], SAMPLERS["tweedie-gibbs"]])
    if args.out is not None:
        head = ["process", "sampler", "slope to 0.1", "at N = 16", "slope to 0", "at N = 16"]
        found = {
            "convergence": table(head, two, cell="{:.2f}"),
            "three-sites": table(head, three, cell="{:.2f}"),
        }
        model = "random distributions of two and three sites and three symbols, seed 0"
        command = "python experiments/order.py OUT"
        write_results(args.out / "order.json", __file__, found, command=command, model=model)


if __name__ == "__main__":
    run()
