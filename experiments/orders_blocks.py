"""Counts within blocks against equal counts: exact CountDown model, blocks of 32 of 256 sites.

    python experiments/orders_blocks.py OUT.json

Violation rate in per cent with 95% intervals, 256 samples, one schedule for each number of steps.
OUT.json holds the table of docs/orders.md. About a minute and a half on two cores.
"""

import argparse
from pathlib import Path

import torch

from jumpsteps import (
    Blocks,
    KGillespie,
    Random,
    ShortestPath,
    Spread,
    load,
    optimize_schedule,
    uniform_counts,
)
from jumpsteps.core.information import half_width, standard_error
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.schedules.schedule import Schedule
from results import device_name, table, write_results

NFE, SIZE, SAMPLES, SEQUENCES = (16, 32, 64), 32, 256, 64
MODEL = load("countdown-exact")


def violations(schedule: Schedule) -> list[float]:
    """Mean and half the 95% interval, per cent; sampling seed 1."""
    generator = torch.Generator().manual_seed(1)
    shape = (SAMPLES, MODEL.length)
    samples, nfe = sample_batches(
        MODEL.reverse, KGillespie(), schedule, shape, generator=generator, batch=64
    )
    assert nfe == schedule.steps
    rate = 100 * MODEL.task.metric(samples).double().numpy()
    return [float(rate.mean()), half_width(float(standard_error(rate)), SAMPLES)]


def found(order: Blocks, evaluations: int) -> dict[int, Schedule]:
    """Schedules within blocks; search seed 0."""
    generator = torch.Generator().manual_seed(0)
    data = MODEL.task.sample_data(SEQUENCES, generator)
    method = ShortestPath(order=order, within_blocks=True, evaluations=evaluations)
    return dict(
        optimize_schedule(MODEL.reverse, data, NFE, generator=generator, method=method, held_out=0)
    )


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out, columns = parser.parse_args().out, {}
    for inner in (Random(), Spread()):
        order = Blocks(SIZE, inner)
        schedules = {"equal": {n: uniform_counts(n, MODEL.length, order) for n in NFE}}
        for evaluations in (32, 64):
            schedules[f"{evaluations} evaluations"] = found(order, evaluations)
        for name, by_nfe in schedules.items():
            columns[f"{inner.name}, {name}"] = cells = [violations(by_nfe[n]) for n in NFE]
            print(inner.name, name, cells, by_nfe[NFE[-1]].blocks, flush=True)
    rows = [[str(n), *cells] for n, *cells in zip(NFE, *columns.values(), strict=True)]
    write_results(
        out,
        __file__,
        {"blocks": table(["NFE", *columns], rows)},
        command="python experiments/orders_blocks.py OUT.json",
        model="countdown-exact",
        seeds={"search": 0, "samples": 1},
        samples=SAMPLES,
        sequences=SEQUENCES,
        device=device_name("cpu"),
    )


if __name__ == "__main__":
    run()
