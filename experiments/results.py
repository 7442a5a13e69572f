"""Results as JSON: the numbers that the tables of the documentation are made from.

A file of results, `docs/results/NAME.json`, is one object:

    source      "written by experiments/SCRIPT.py", or what it was transcribed from
    provenance  what it takes to repeat the run: command, seeds, samples, device
    tables      name -> table

A table has a `head` (one title for each column), a `cell` format and `rows` of cells. A cell is a
text, a number, a list of numbers or null (empty). Numbers are shown by the format of their cell,
else of their row, else of their column, else of the table, with one field for each number:

    {"head": ["NFE", "uniform", "calls"], "cell": "{:.2f} ±{:.2f}", "columns": {"calls": "{}"},
     "rows": [["8", [9.84, 0.14], 8],
              {"cell": "{:.1f} to {:.1f}", "cells": ["range", [9.7, 9.9], null]},
              ["16", {"values": [4.28, 0.09], "cell": "**{:.2f} ±{:.2f}**"}, 16]]}

This module needs the standard library alone, and torch to name a GPU; `tables.py` renders what it
writes.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Any
Table = dict[str, Json]

INTERVAL = "{:.2f} ±{:.2f}"
"""A mean and half its 95% interval."""


def table(
    head: Sequence[str],
    rows: Iterable[Json],
    cell: str = INTERVAL,
    columns: Mapping[str, str] | None = None,
) -> Table:
    """A table; ``columns`` maps titles to formats that differ from ``cell``."""
    made: Table = {"head": list(head), "cell": cell}
    if columns:
        made["columns"] = dict(columns)
    return made | {"rows": list(rows)}


def by_nfe(rows: Iterable[Json], titles: Mapping[str, str], scale: float = 100.0) -> Table:
    """A line for each NFE, a column for each schedule of ``titles`` (name -> title).

    Args:
        rows: with keys ``nfe``, ``schedule`` and ``metric``, which has ``mean`` and ``high``.
        scale: 100 for per cent.
    """
    cells = cells_of(rows, scale)
    budgets = dict.fromkeys(nfe for nfe, _ in cells)
    lines = [[str(nfe), *(cells.get((nfe, name)) for name in titles)] for nfe in budgets]
    return table(["NFE", *titles.values()], lines)


def by_schedule(
    rows: Iterable[Json], titles: Mapping[str, str], budgets: Sequence[int], scale: float = 100.0
) -> Table:
    """A line for each schedule of ``titles`` that was measured, a column for each NFE."""
    cells = cells_of(rows, scale)
    measured = {schedule for _, schedule in cells}
    lines = [
        [title, *(cells.get((nfe, name)) for nfe in budgets)]
        for name, title in titles.items()
        if name in measured
    ]
    return table(["NFE", *map(str, budgets)], lines)


def cells_of(rows: Iterable[Json], scale: float = 100.0) -> dict[tuple[int, str], list[float]]:
    """(NFE, schedule) -> mean and half the interval, times ``scale``."""
    return {(row["nfe"], row["schedule"]): mean_and_half(row["metric"], scale) for row in rows}


def mean_and_half(metric: Mapping[str, float], scale: float = 100.0) -> list[float]:
    """The mean and half the interval, times ``scale``."""
    return [scale * metric["mean"], scale * (metric["high"] - metric["mean"])]


def write_results(path: Path, script: str, tables: Mapping[str, Table], **provenance: Json) -> None:
    """Write a file of results; ``script`` is the experiment's ``__file__``."""
    source = f"written by experiments/{Path(script).name}"
    content = {"source": source, "provenance": provenance, "tables": dict(tables)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(content), encoding="utf-8")


def device_name(device: str) -> str:
    """ "NVIDIA H200", say, or "2 CPU cores"."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores"


def dumps(content: Mapping[str, Json]) -> str:
    """JSON with one line for each row of a table, so that a rerun's difference can be read."""
    lines = json.dumps(marked(content), ensure_ascii=False, indent=1).split("\n")
    return "\n".join(unmarked(line) for line in lines) + "\n"


ONE_LINE = "\u0000"


def marked(value: Json, key: str = "") -> Json:
    """``value`` with rows, heads and formats written out as texts that begin with ``ONE_LINE``."""
    if isinstance(value, Mapping) and key != "columns":
        return {k: marked(v, k) for k, v in value.items()}
    if key == "rows":
        return [ONE_LINE + json.dumps(row, ensure_ascii=False) for row in value]
    if isinstance(value, list | tuple | Mapping):
        return ONE_LINE + json.dumps(value, ensure_ascii=False)
    return value


def unmarked(line: str) -> str:
    """The line with a marked text as the JSON it holds."""
    start = line.find('"\\u0000')
    if start < 0:
        return line
    comma = "," if line.endswith(",") else ""
    text = line[start:].removesuffix(",")
    return line[:start] + json.loads(text).removeprefix(ONE_LINE) + comma
