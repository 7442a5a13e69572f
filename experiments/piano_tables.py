"""The tables of docs/piano.md from the results of `piano.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import Table, device_name, mean_and_half, table, write_results

Results = Mapping[str, list[dict[str, Any]]]
"""Kernel and sampler -> rows with ``schedule``, ``nfe`` and the metrics."""

NFE = (2, 4, 8, 16, 32, 64)
ALL = "all schedules"
SHOWN = {
    "uniform": "uniform",
    "cosine": "cosine",
    "jys": "JYS as published",
    "shortest-path": "shortest path",
    "spread": "**spread order**",
}
FOUR = ["uniform", "cosine", "JYS as published", "shortest path"]
HELLINGER = {
    "uniform, tau-leaping": FOUR,
    "uniform, euler": ["uniform", "JYS as published", "shortest path"],
    "uniform, tweedie": [ALL],
    "absorbing, tweedie": [ALL],
    "absorbing, k-gillespie": ["**spread order**"],
}
ENERGY = {
    "uniform, tau-leaping": FOUR,
    "uniform, tweedie": FOUR,
    "absorbing, tweedie": FOUR,
    "absorbing, k-gillespie": ["uniform", "shortest path", "**spread order**"],
}
"""Kernel and sampler -> schedules: the lines of the tables of docs/piano.md."""


def table_of(results: Results, metric: str, rows: Mapping[str, list[str]]) -> Table:
    """A line for each schedule of each run, or one for the range of all schedules (ALL)."""
    lines: list[Any] = []
    for run, names in rows.items():
        for title in names:
            found = [row for row in results.get(run, []) if title in (ALL, SHOWN[row["schedule"]])]
            cells = {n: [mean_and_half(r[metric]) for r in found if r["nfe"] == n] for n in NFE}
            if title == ALL:
                ends = [[min(means)[0], max(means)[0]] for means in cells.values() if means]
                lines.append({"cell": "{:.1f} to {:.1f}", "cells": [run, title, *ends]})
            else:
                lines.append(
                    [run, title, *(means[0] if means else None for means in cells.values())]
                )
    head = ["kernel, sampler", "times", f"NFE {NFE[0]}", *map(str, NFE[1:])]
    return table(head, lines, "{:.1f} ±{:.1f}")


def write_tables(path: Path, results: Results, device: str, sizes: Mapping[str, int]) -> None:
    """The tables of docs/piano.md."""
    tables = {
        "hellinger": table_of(results, "hellinger", HELLINGER),
        "energy": table_of(results, "pairs", ENERGY),
    }
    options = "--uniform piano-uniform --absorbing piano-absorbing --data pop909.zip"
    command = f"python experiments/piano.py OUT {options} --device {device}"
    seeds = {"sampling_seed": 1, "reference_seed": 0}
    write_results(
        path, "piano.py", tables, command=command, device=device_name(device), **seeds, **sizes
    )
