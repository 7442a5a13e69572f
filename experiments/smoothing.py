"""What smoothing the information profile is worth: exact CountDown model, absorbing kernel.

    python experiments/smoothing.py OUT.json

Profiles of 8 to 128 sequences, as measured and smoothed: how much more the schedules found from
them cost than the best ones on the same grid, in per cent at NFE 4, 8, 16, 32, 64, mean of 4 seeds.
OUT.json holds the table of docs/schedules.md. About 2 minutes on two cores.
"""

import argparse
from pathlib import Path

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
from results import table, write_results

NFE = (4, 8, 16, 32, 64)
REVERSE = countdown.exact_reverse()


def profile(sequences: int, evaluations: int, seed: int) -> InformationProfile:
    generator = torch.Generator().manual_seed(seed)
    data = countdown.sample_data(sequences, generator=generator)
    return information_profile(
        REVERSE, Paths.draw(REVERSE.forward, data, generator=generator), evaluations=evaluations
    )


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out, rows = parser.parse_args().out, []
    truth, grid = profile(384, 128, seed=99), time_grid(REVERSE.forward, 512)
    best = {n: truth.predict(s)[0] for n, s in shortest_paths(truth.step_costs(grid), NFE).items()}
    for sequences in (8, 16, 32, 64, 128):
        measured = [profile(sequences, 32, seed) for seed in range(4)]
        row = [str(sequences)]
        for bandwidth in (0.0, 2.0):
            found = [shortest_paths(p.smoothed(bandwidth).step_costs(grid), NFE) for p in measured]
            excess = [[100 * (truth.predict(f[n])[0] / best[n] - 1) for n in NFE] for f in found]
            mean = np.mean(excess, 0)
            row.append(mean.tolist())
            print(f"{sequences:4d} sequences, bandwidth {bandwidth}: ", *mean.round(1))
        rows.append(row)
    head = ["sequences", f"as measured, NFE {' / '.join(map(str, NFE))}", "smoothed"]
    made = table(head, rows, " / ".join(["{:.1f}"] * len(NFE)))
    command = "python experiments/smoothing.py OUT.json"
    write_results(out, __file__, {"smoothing": made}, command=command, seeds=[0, 1, 2, 3])


if __name__ == "__main__":
    run()
