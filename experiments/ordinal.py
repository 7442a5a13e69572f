"""Weights of step costs for symbols that are numbers, on enumerable models of two or three sites.

    python experiments/ordinal.py OUT.json

Sites are neighbouring pixels of dark and light images that differ by about ``width`` intensities;
in "shuffled" models the same table is over symbols in random order, which the kernel moves as if
they were numbers. The kernel is that of tauLDR for images, narrower by the number of intensities.
For each weight and NFE 4, 8 and 16 the exact distribution of Tweedie's samples along the shortest
path gives the KL divergence of the data from it, and the Frechet distance of the intensities
themselves, whose features are the pixels. Costs are estimated on 200 sequences, seed 0. Without
noise of sampling; the search's seed is the only chance. Four minutes on one core.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.features import Moments, frechet_distance
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.costs.by_path import PathCosts, path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths
from results import Json, table, write_results

NFE = (4, 8, 16)
NOISE_POWERS = (0.25, 0.5, 1.0)
WEIGHTS = {
    "measured d": ErrorCorrection(),
    "none": NO_CORRECTION,
    **{f"noise, q = {q:g}": ErrorCorrection(math.inf, noise_power=q) for q in NOISE_POWERS},
}


def pixels(intensities: int, sites: int, width: float, *, shuffled: bool = False) -> Enumerable:
    x = torch.arange(intensities, dtype=torch.float64) / intensities
    first = torch.exp(-((x - 0.3) ** 2) / (2 * 0.12**2))
    first = first + 0.6 * torch.exp(-((x - 0.72) ** 2) / (2 * 0.07**2))
    apart = (x - x[:, None]) * intensities / width
    near = torch.exp(-(apart**2) / 2) + 1e-4
    made = first
    for _ in range(sites - 1):
        made = made[..., None] * (near / near.sum(-1, keepdim=True))
    if shuffled:
        order = torch.randperm(intensities, generator=torch.Generator().manual_seed(0))
        for site in range(sites):
            made = made.index_select(site, order)
    noise = Exponential(base=100.0, scale=3.0 * intensities / 32)
    forward = Gaussian(
        vocab_size=intensities,
        rate_sigma=max(6 * intensities / 256, 0.5),
        q_sigma=2.0 * intensities,
        noise=noise,
    )
    return Enumerable(forward, made / made.sum())


MODELS = {
    "32 intensities, 2 sites, width 1": pixels(32, 2, 1.0),
    "32 intensities, 2 sites, width 3": pixels(32, 2, 3.0),
    "16 intensities, 2 sites, width 0.7": pixels(16, 2, 0.7),
    "12 intensities, 3 sites, width 0.7": pixels(12, 3, 0.7),
    "16 shuffled symbols, 2 sites": pixels(16, 2, 0.7, shuffled=True),
    "10 shuffled symbols, 3 sites": pixels(10, 3, 0.7, shuffled=True),
}


def samples(model: Enumerable, times: Sequence[float]) -> Tensor:
    """The distribution of a run along these times, [S]."""
    probs = model.marginal(1.0)
    for t, s in pairwise(times):
        probs = probs @ model.tweedie_transition(t, s)
    return probs


def moments(model: Enumerable, probs: Tensor) -> Moments:
    mean = probs @ model.states.double()
    centred = model.states - mean
    return Moments(mean, centred.T @ (centred * probs[:, None]))


def measure(model: Enumerable) -> tuple[float, dict[str, np.ndarray]]:
    """The measured d, and for each weight the divergence and the distance, [2, NFE]."""
    reverse = PosteriorReverse(model.forward, model)
    seeds = [torch.Generator().manual_seed(k) for k in range(3)]
    data = model.sample_data(200, generator=seeds[0])
    paths = Paths.draw(model.forward, data, generator=seeds[1])
    costs = path_costs(reverse, paths, max_steps=None, generator=seeds[2])
    runs = {"uniform times": {n: uniform(n) for n in NFE}}
    measured = costs.table.correction
    for name, correction in WEIGHTS.items():
        weight = measured if correction.false_acceptance is None else correction
        tables = (replace(one, correction=weight) for one in (costs.table, costs.final))
        runs[name] = shortest_paths(PathCosts.on_grid(*tables, 256), NFE)
    truth = model.data_distribution()
    about = moments(model, truth)
    found = {}
    for name, by_nfe in runs.items():
        made = [samples(model, by_nfe[n].times) for n in NFE]
        found[name] = np.array(
            [
                [float(kl_divergence(truth, probs)) for probs in made],
                [frechet_distance(moments(model, probs), about) for probs in made],
            ]
        )
    return measured.false_acceptance or 0.0, found


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rows: list[Json] = []
    for title, model in MODELS.items():
        d, found = measure(model)
        print(f"{title}: measured d {d:.3f}", flush=True)
        for name, values in found.items():
            print(f"  {name:16}", *(f"{v:.4f}" for v in values.ravel()), flush=True)
            rows.append([title, name, *values.ravel().tolist()])
    head = ["model", "weight", *(f"{kind}, NFE {n}" for kind in ("KL", "FD") for n in NFE)]
    command = "python experiments/ordinal.py OUT.json"
    tables = {"weights": table(head, rows, "{:.3f}")}
    write_results(out, __file__, tables, command=command, sequences=200, seed=0)


if __name__ == "__main__":
    run()
