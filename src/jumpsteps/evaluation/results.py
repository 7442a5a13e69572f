"""Results of a comparison: one row for each schedule, and the JSON file that holds them.

Schema version 2 adds what a report shows beside the rows: the schedules, a few samples of each, and
what the model says of its own errors. Files of version 1 are read as well.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jumpsteps.core.files import read_json, write_json
from jumpsteps.evaluation.calibration import (
    CalibrationCurve,
    calibration_from_json,
    calibration_to_json,
)
from jumpsteps.evaluation.examples import Examples, examples_from_json, examples_to_json
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.schedules.files import read_schedule, schedule_to_json
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.version import __version__

__all__ = ["Results", "Row", "load_results", "save_results"]

FORMAT = "jumpsteps-results"
SCHEMA_VERSION = 2
READ_VERSIONS = (1, 2)

Schedules = Mapping[str, Mapping[int, Schedule]]


@dataclass(frozen=True)
class Row:
    """One schedule, measured.

    Attributes:
        nfe: number of function evaluations, the model calls of one run.
        schedule: name of the schedule.
        times: times of the steps, from 1 down to 0. For a schedule of counts, these are the times
            at which as many sites are expected to be masked as the schedule leaves masked.
        metric: mean of the metric over the samples, with its confidence interval.
        examples: the first samples.
        measures: others of the samples, by name: a value, a value and half its 95% interval, or
            nothing where it cannot be measured.
    """

    nfe: int
    schedule: str
    times: tuple[float, ...]
    metric: Interval
    examples: Examples | None = None
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """A comparison, or schedules without one.

    Attributes:
        about: model, task, metric, sampler, seed, command and so on.
        rows: one for each schedule that was measured.
        schedules: name -> NFE -> schedule.
        calibration: what the model's probabilities are worth on data, if that was measured.
    """

    about: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    schedules: Schedules = field(default_factory=dict)
    calibration: CalibrationCurve | None = None


def save_results(
    path: Path | str,
    rows: list[Row],
    about: Mapping[str, Any],
    *,
    schedules: Schedules | None = None,
    calibration: CalibrationCurve | None = None,
) -> None:
    """Write the rows and their description (model, sampler, seed ...) as JSON.

    Args:
        schedules: name -> NFE -> schedule, what was compared.
        calibration: of the model, on data.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        **about,
        "rows": [row_to_json(row) for row in rows],
        "schedules": {
            name: [schedule_to_json(nfe, schedule) for nfe, schedule in found.items()]
            for name, found in (schedules or {}).items()
        },
    }
    if calibration is not None:
        content["calibration"] = calibration_to_json(calibration)
    write_json(path, content)


def row_to_json(row: Row) -> dict[str, Any]:
    content = {
        "nfe": row.nfe,
        "schedule": row.schedule,
        "times": row.times,
        "metric": asdict(row.metric),
    }
    if row.measures:
        content["measures"] = {name: list(values) for name, values in row.measures.items()}
    if row.examples is not None:
        content["examples"] = examples_to_json(row.examples)
    return content


def load_results(path: Path | str) -> Results:
    """Read a file of results.

    Raises:
        ValueError: no such file, not a file of results, a newer schema, or a damaged file.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a file of results; write one with 'jumpsteps compare MODEL -o FILE'"
        )
    if content.get("schema_version") not in READ_VERSIONS:
        raise ValueError(
            f"{path} has schema version {content.get('schema_version')}, "
            f"this jumpsteps reads up to {SCHEMA_VERSION}; update jumpsteps or compare again"
        )
    try:
        return results_from_json(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged: {error!r}; write it again with 'jumpsteps compare'"
        ) from None


def results_from_json(content: Mapping[str, Any]) -> Results:
    """The results of a file's object.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: missing or misplaced parts.
    """
    parts = ("rows", "schedules", "calibration")
    about = {name: value for name, value in content.items() if name not in parts}
    schedules = {
        name: {int(entry["nfe"]): read_schedule(entry) for entry in entries}
        for name, entries in content.get("schedules", {}).items()
    }
    calibration = content.get("calibration")
    return Results(
        about,
        tuple(row_from_json(row) for row in content["rows"]),
        schedules,
        None if calibration is None else calibration_from_json(calibration),
    )


def row_from_json(content: Mapping[str, Any]) -> Row:
    examples = content.get("examples")
    return Row(
        int(content["nfe"]),
        str(content["schedule"]),
        tuple(map(float, content["times"])),
        Interval(**content["metric"]),
        None if examples is None else examples_from_json(examples),
        {name: tuple(values) for name, values in content.get("measures", {}).items()},
    )
