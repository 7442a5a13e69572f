"""The table of samplers in docs/samplers.md, from the registry: nothing is measured.

    python experiments/sampler_table.py && make tables

Writes docs/results/sampler-list.json. A line for each sampler by name: the kernels that it serves,
the schedule that it follows, its model calls, the order of convergence and the source, as its class
says.
"""

from pathlib import Path

import torch

from jumpsteps import (
    SAMPLERS,
    Absorbing,
    Constant,
    CountSchedule,
    Gaussian,
    RateMatrix,
    Sampler,
    TimeSchedule,
    Uniform,
)
from results import Table, table, write_results

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "sampler-list.json"
NOISE = Constant(1.0)
KERNELS = [
    Absorbing(vocab_size=3, noise=NOISE),
    Uniform(vocab_size=3, noise=NOISE),
    Gaussian(vocab_size=3, noise=NOISE, rate_sigma=1.0, q_sigma=1.0),
    RateMatrix(matrix=1 - 3 * torch.eye(3, dtype=torch.float64), noise=NOISE),
]
SCHEDULES = {TimeSchedule: "times", CountSchedule: "counts", None: "none"}


def kernels_of(sampler: Sampler) -> str:
    """The kernels that pass the sampler's own check, in words."""
    served = []
    for forward in KERNELS:
        try:
            sampler.check(forward)
        except ValueError:
            continue
        served.append(forward.name)
    missing = [forward.name for forward in KERNELS if forward.name not in served]
    if not missing:
        return "all"
    return f"all but {missing[0]}" if len(missing) == 1 else ", ".join(served)


def list_of_samplers() -> Table:
    rows = [
        [
            f"`{name}`",
            kernels_of(sampler),
            SCHEDULES[sampler.takes],
            sampler.calls_in_words,
            sampler.order,
            sampler.source,
        ]
        for name, sampler in SAMPLERS.items()
    ]
    head = ["name (`--sampler`)", "kernels", "schedule", "model calls per step", "order", "source"]
    return table(head, rows, cell="{}")


if __name__ == "__main__":
    command = "python experiments/sampler_table.py"
    write_results(OUT, __file__, {"samplers": list_of_samplers()}, command=command)
