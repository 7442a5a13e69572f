"""Weights of step costs for error correction, against the best schedules: enumerable models.

    python experiments/correction.py OUT.json

Five models whose distributions are enumerated: CountDown with 4 symbols at 4 sites and random
tables, with uniform and Gaussian kernels. For each weight, the exact KL divergence of the data from
the samples of Tweedie's sampler along the shortest path, over that of the best schedule, which a
Nelder-Mead search on the divergence itself finds; NFE 2 to 8. Costs are estimated on 400 sequences,
three times. OUT.json holds the table of docs/theory.md. Needs scipy; 1 minute on one core.
"""

import argparse
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant, Exponential
from jumpsteps.process.uniform import Uniform
from jumpsteps.search.costs.by_path import PathCosts, path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import toy
from results import table, write_results

NFE = (2, 3, 4, 6, 8)
UNIFORM = Uniform(vocab_size=3, noise=Constant(3.87))
GAUSSIAN = Gaussian(
    vocab_size=3, rate_sigma=1.0, q_sigma=1.5, noise=Exponential(base=100.0, scale=0.05)
)
MODELS = {
    "CountDown, uniform": Enumerable(toy.KERNELS["uniform"], toy.table()),
    "CountDown, Gaussian": Enumerable(toy.KERNELS["gaussian"], toy.table()),
    "random 1, uniform": Enumerable.random(
        UNIFORM, symbols=3, length=4, seed=1, concentration=0.15
    ),
    "random 2, uniform": Enumerable.random(
        UNIFORM, symbols=3, length=4, seed=2, concentration=0.15
    ),
    "random 1, Gaussian": Enumerable.random(
        GAUSSIAN, symbols=3, length=4, seed=1, concentration=0.15
    ),
}
WEIGHTS = {
    "none": NO_CORRECTION,
    "measured d": ErrorCorrection(),
    "rho^2": ErrorCorrection(math.inf, 2.0),
    "rho^4": ErrorCorrection(math.inf, 4.0),
    "rho^8": ErrorCorrection(math.inf, 8.0),
    **{f"d = {d:g}": ErrorCorrection(d) for d in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)},
    "d = 0.005, rho^2": ErrorCorrection(0.005, 2.0),
    "d = 0.01, rho^4": ErrorCorrection(0.01, 4.0),
}


def divergence(model: Enumerable, times: list[float]) -> float:
    """KL(p_0 || q_0) of a run from the true distribution at t = 1, nats."""
    probs = model.marginal(1.0)
    for t, s in pairwise(times):
        probs = probs @ model.tweedie_transition(t, s)
    return float(kl_divergence(model.data_distribution(), probs))


def best(model: Enumerable, starts: list[list[float]]) -> float:
    """The least divergence that Nelder-Mead finds from these schedules.

    It searches over the logarithms of the integrated noise at the inner times.
    """
    noise = model.forward.noise

    def objective(z: np.ndarray) -> float:
        times = [1.0, *noise.inverse(torch.from_numpy(np.exp(z))).tolist(), 0.0]
        return math.log(divergence(model, times)) if all(s < t for t, s in pairwise(times)) else 1e3

    found = []
    for times in starts:
        z = noise.total(torch.tensor(times[1:-1], dtype=torch.float64)).log().numpy()
        limits = {"maxfev": 60 * len(times), "xatol": 1e-2, "fatol": 1e-3}
        found.append(minimize(objective, z, method="Nelder-Mead", options=limits).fun)
    return math.exp(min(found))


def measure(model: Enumerable) -> dict[str, object]:
    reverse, excess, least = (
        PosteriorReverse(model.forward, model),
        {name: [] for name in WEIGHTS},
        {},
    )
    for seed in range(3):
        made = [torch.Generator().manual_seed(10 * seed + k) for k in range(3)]
        paths = Paths.draw(
            model.forward, model.sample_data(400, generator=made[0]), generator=made[1]
        )
        costs = path_costs(reverse, paths, max_steps=None, generator=made[2])
        found = {}
        for name, correction in WEIGHTS.items():
            weighted = (
                costs.table
                if correction.false_acceptance is None
                else replace(costs.table, correction=correction)
            )
            found[name] = shortest_paths(PathCosts.on_grid(weighted, weighted, 256), NFE)
        if not least:
            least = {
                n: best(model, [list(found[name][n].times) for name in ("rho^4", "d = 0.01")])
                for n in NFE
            }
        for name in WEIGHTS:
            excess[name].append(
                [divergence(model, list(found[name][n].times)) / least[n] - 1 for n in NFE]
            )
    return {
        "best": list(least.values()),
        "excess": {name: np.mean(rows, 0).tolist() for name, rows in excess.items()},
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    results = {name: measure(model) for name, model in MODELS.items()}
    for name, result in results.items():
        print(f"{name:22s} least divergence at NFE {NFE}:", *(f"{v:.4f}" for v in result["best"]))
    print("excess over the least, %, mean over models at NFE", *NFE, "and over all")
    rows: list[list[str | float]] = []
    for name in WEIGHTS:
        excess = 100 * np.array([result["excess"][name] for result in results.values()])
        numbers = [*excess.mean(0).tolist(), float(excess.mean()), float(excess.max())]
        rows.append([name, *numbers])
        print(f"{name:18s}", *(f"{v:6.1f}" for v in numbers))
    head = ["weight", f"NFE {NFE[0]}", *map(str, NFE[1:]), "mean", "largest"]
    made = table(head, rows, "{:.0f}")
    command = "python experiments/correction.py OUT.json"
    write_results(out, __file__, {"weights": made}, command=command, sequences=400, seeds=[0, 1, 2])


if __name__ == "__main__":
    run()
