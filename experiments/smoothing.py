"""How many sequences the information profile needs, and what smoothing is worth: exact CountDown model, absorbing kernel.

    python experiments/smoothing.py

Prints, for each number of sequences, how much more the found schedules cost than the best ones on the same grid, in per cent at
NFE 4, 8, 16, 32, 64 (mean of 4 seeds), from the profile as measured and smoothed. The figures are in docs/schedules.md.
About 2 minutes on two cores.
"""

import numpy as np
import torch

from jumpsteps.search.costs.information_profile import (
    InformationProfile,
    information_profile,
    time_grid,
)
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown

NFE = (4, 8, 16, 32, 64)
REVERSE = countdown.exact_reverse()


def profile(sequences: int, knots: int, seed: int) -> InformationProfile:
    generator = torch.Generator().manual_seed(seed)
    data = countdown.sample_data(sequences, generator=generator)
    return information_profile(
        REVERSE, Paths.draw(REVERSE.forward, data, generator=generator), evaluations=knots
    )


def run() -> None:
    """Print the table."""
    truth, grid = profile(384, 128, seed=99), time_grid(REVERSE.forward, 512)
    best = {n: truth.predict(s)[0] for n, s in shortest_paths(truth.step_costs(grid), NFE).items()}
    for sequences in (8, 16, 32, 64, 128):
        measured = [profile(sequences, 32, seed) for seed in range(4)]
        for bandwidth in (0.0, 2.0):
            found = [shortest_paths(p.smoothed(bandwidth).step_costs(grid), NFE) for p in measured]
            excess = [[100 * (truth.predict(f[n])[0] / best[n] - 1) for n in NFE] for f in found]
            print(
                f"{sequences:4d} sequences, bandwidth {bandwidth}: ", *np.mean(excess, 0).round(1)
            )


if __name__ == "__main__":
    run()
