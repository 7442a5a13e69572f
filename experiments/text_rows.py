"""Rows of text.py: a file that grows row by row, is continued, and is joined with others.

OUT.json holds the tables `rows`, `reach` and `searches`. A row is known by its method and its
budget, the NFE that was asked for; samplers that choose their own steps differ from it a little.
Beside it OUT.samples.npz keeps the first sequences of every row: METHOD/BUDGET/tokens, integers
[8, L], and METHOD/BUDGET/steps, the steps in which the tokens of the first 4 of them came.
"""

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from corrector_plans import command_line
from jumpsteps.core.files import read_json, replacing
from jumpsteps.schedules.schedule import Schedule
from results import Json, Table, table, write_results
from text_judge import Judge

BASELINE = ("tweedie:uniform", 256)
EQUAL_ENTROPY = 0.1
"""Nats of unigram entropy within which perplexities are compared."""

KEPT, MAPPED = 8, 4
"""Sequences of a row that are kept, and how many of them with their steps."""

SETTINGS = ("weights", "evaluator", "data", "seeds", "samples", "searched", "precision", "device")
"""What rows of one file have in common."""

REAL = "real text"
MAUVE, WITH_MAUVE = "mauve, %", "factor with MAUVE"
"""Titles of columns."""

Row = dict[str, Json]
Samples = dict[str, np.ndarray]


def records(rows: Table) -> list[Row]:
    """Title -> cell of each row."""
    return [dict(zip(rows["head"], row, strict=True)) for row in rows["rows"]]


def score(row: Row) -> tuple[float, float]:
    """The evaluator's mean and half its interval."""
    return next(cell for title, cell in row.items() if title.startswith("evaluator"))


def samples_file(out: Path) -> Path:
    return out.with_suffix(".samples.npz")


def reach(rows: Iterable[Row]) -> Table:
    """The fewest model calls with which each method is as good as the baseline.

    As good is a mean of the evaluator that is no higher, or no higher within the intervals of both;
    a unigram entropy that differs by more than ``EQUAL_ENTROPY`` does not count. With MAUVE it is
    also one that is no lower within the intervals of both. A factor is the baseline's NFE over the
    method's, within the intervals.
    """
    rows = [row for row in rows if row["budget"]]
    based = [row for row in rows if (row["method"], row["budget"]) == BASELINE]
    made = []
    for method in dict.fromkeys(row["method"] for row in rows if based):
        own = [row for row in rows if row["method"] == method]
        within = [row for row in own if as_good(row, based[0], 1)]
        means = [row for row in own if as_good(row, based[0], 0)]
        near = [row for row in within if as_near(row, based[0])]
        fewest = [min((row["NFE"] for row in good), default=None) for good in (within, near)]
        factors = [None if n is None else BASELINE[1] / n for n in fewest]
        least = min((row["NFE"] for row in means), default=None)
        made.append([method, least, fewest[0], factors[0], fewest[1], factors[1]])
    head = ["method", "NFE", "NFE within the intervals", "factor", "NFE with MAUVE", WITH_MAUVE]
    return table(head, made, "{:g}", columns={"factor": "{:.1f}", WITH_MAUVE: "{:.1f}"})


def as_good(row: Row, base: Row, slack: float) -> bool:
    """Whether a row reaches the baseline at equal entropy; ``slack`` times both intervals off."""
    (mean, width), (best, half) = score(row), score(base)
    equal = abs(row["entropy"] - base["entropy"]) <= EQUAL_ENTROPY
    return equal and mean <= best + slack * math.hypot(half, width)


def as_near(row: Row, base: Row) -> bool:
    """Whether MAUVE is no lower than the baseline's within the intervals of both."""
    (mean, width), (best, half) = row[MAUVE], base[MAUVE]
    return mean >= best - math.hypot(half, width)


@dataclass
class Report:
    """Rows as they come, and the files that hold them.

    Attributes:
        formats: title -> format of the judge's columns.
        provenance: of the file, with all of ``SETTINGS``.
        searches: name of a search -> its model calls and seconds.
    """

    out: Path
    formats: Mapping[str, str]
    provenance: Mapping[str, Json]
    rows: list[Row] = field(default_factory=list)
    searches: dict[str, list[float]] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)

    @classmethod
    def opened(cls, out: Path, formats: Mapping[str, str], provenance: Mapping[str, Json]):
        """A report with the rows that are in the file already.

        Raises:
            SystemExit: the file is of other settings.
        """
        report = cls(out, formats, provenance)
        if out.exists():
            tables, samples = read_rows([out], provenance)
            report.rows, report.samples = records(tables["rows"]), samples
            report.searches = {name: found for name, *found in tables["searches"]["rows"]}
        return report

    def __contains__(self, key: tuple[str, int]) -> bool:
        return any((row["method"], row["budget"]) == key for row in self.rows)

    def add(self, row: Row, judge: Judge, tokens: Tensor, steps: Tensor | None = None) -> None:
        """Measure samples int64 [n, L], and write the files."""
        began = time.monotonic()
        self.rows.append(row | dict(zip(self.formats, judge.measure(tokens), strict=True)))
        name = f"{row['method']}/{row['budget']}"
        self.samples[f"{name}/tokens"] = tokens[:KEPT].cpu().numpy().astype(np.uint16)
        if steps is not None:
            self.samples[f"{name}/steps"] = steps[:MAPPED].cpu().numpy().astype(np.uint16)
        print([*self.rows[-1].values()], f"judged in {time.monotonic() - began:.1f} s", flush=True)
        self.write()

    def write(self) -> None:
        with replacing(samples_file(self.out)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **self.samples)
        with replacing(self.out) as temporary:
            write_results(
                temporary, "text.py", self.tables(), command=command_line(), **self.provenance
            )

    def tables(self) -> dict[str, Table]:
        columns = {"budget": "{}", "NFE": "{:g}", "seconds": "{:.1f}"} | dict(self.formats)
        head = ["method", *list(columns)[:2], "sampler", *list(columns)[2:]]
        rows = [[row[title] for title in head] for row in self.rows]
        searches = [[name, *found] for name, found in self.searches.items()]
        return {
            "rows": table(head, rows, columns=columns),
            "reach": reach(self.rows),
            "searches": table(["search", "model calls", "seconds"], searches, "{:.0f}"),
        }


def read_rows(
    paths: Sequence[Path],
    settings: Mapping[str, Json] | None = None,
    methods: Collection[str] | None = None,
) -> tuple[dict[str, Table], Samples]:
    """Tables and samples of several files, as if one had all rows; of a row that several have the
    first counts.

    Args:
        settings: those that the files must have; by default those of the first.
        methods: those whose rows are read, beside real text; all by default.

    Raises:
        SystemExit: files of different settings.
    """
    rows, searches, samples = {}, {}, {}
    for path in paths:
        content = read_json(path)
        settings = settings or content["provenance"]
        check_settings(path, content["provenance"], settings)
        with np.load(samples_file(path)) as file:
            samples = dict(file) | samples
        for row in records(content["tables"]["rows"]):
            if methods is None or row["method"] in (REAL, *methods):
                rows.setdefault((row["method"], row["budget"]), row)
        for row in content["tables"]["searches"]["rows"]:
            searches.setdefault(row[0], row)
        tables = content["tables"]
    found = [[row[title] for title in tables["rows"]["head"]] for row in rows.values()]
    joined = {
        "rows": tables["rows"] | {"rows": found},
        "reach": reach(rows.values()),
        "searches": tables["searches"] | {"rows": list(searches.values())},
    }
    return joined, samples


def check_settings(path: Path, found: Mapping[str, Json], wanted: Mapping[str, Json]) -> None:
    """Raises SystemExit if a file was written with other settings."""
    for name in SETTINGS:
        if found.get(name) != wanted[name]:
            raise SystemExit(
                f"{path} was written with {name} {found.get(name)}, not {wanted[name]}; "
                "name another file"
            )


def fits(schedule: Schedule, digest: str) -> bool:
    """Whether a schedule was found for the model of these weights."""
    return schedule.provenance.model_hash == digest
