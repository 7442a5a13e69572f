"""``jumpsteps report``, and what ``compare`` and ``demo`` keep for it."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jumpsteps.cli.inputs import search_data, seeded
from jumpsteps.cli.options import ObservedOptions, ReportOptions, SearchOptions
from jumpsteps.cli.outputs import check_distinct, output_file
from jumpsteps.core.files import read_json
from jumpsteps.evaluation.calibration import CalibrationCurve, measure_calibration
from jumpsteps.evaluation.page.document import merged, write_report
from jumpsteps.evaluation.results import Results, Row, load_results, save_results
from jumpsteps.models import LoadedModel
from jumpsteps.schedules.files import load_schedules
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.galleries import gallery_facts, gallery_of

__all__ = [
    "EXAMPLES",
    "calibration_on_data",
    "calibration_on_task",
    "report_command",
    "report_file",
    "save_comparison",
]

EXAMPLES = 9
"""Samples of each schedule that a file of results keeps."""

CALIBRATED = 16
"""Sequences of data that measure the calibration."""

CALIBRATION_SEED = 2
"""Added to the seed of the searches; samples come from the next one."""


def report_command(options: ReportOptions) -> None:
    out = output_file(options.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{options.out} is not the name of a page; end it in .html")
    files = list(dict.fromkeys(results_file(Path(name)) for name in options.results))
    check_distinct(out, *files)
    write_report(out, merged([read_results(file) for file in files]), gallery_of)
    print(f"written to {out}; open it in a browser")


def results_file(path: Path) -> Path:
    """The file of results of a folder, such as the demo's; of a file, the file."""
    return path / "results.json" if path.is_dir() else path


def read_results(path: Path) -> Results:
    """A file of results, or one of schedules as results without rows.

    Raises:
        ValueError: a file of another kind, or a damaged one.
    """
    content = read_json(path)
    kind = content.get("format") if isinstance(content, dict) else None
    if kind != "jumpsteps-schedules":
        return load_results(path)
    found = load_schedules(path)
    if not found:
        raise ValueError(f"{path} holds no schedules; write some with 'jumpsteps optimize'")
    known = next(iter(found.values())).provenance
    facts = known.facts()
    about = {name: facts[name] for name in ("model", "model_hash", "kernel", "noise", "version")}
    return Results(about, (), {f"{known.method or 'schedule'} ({path.name})": found})


def report_file(results: Path) -> Path:
    """The page beside a file of results.

    Raises:
        ValueError: as ``output_file``, or the name of the results is that of the page.
    """
    if results.suffix.lower() in (".html", ".htm"):
        raise ValueError(f"{results} is where the report would go; end the results in .json")
    return output_file(str(results.with_suffix(".html")))


def save_comparison(
    out: Path,
    rows: list[Row],
    about: Mapping[str, Any],
    model: LoadedModel,
    schedules: Mapping[str, Mapping[int, Schedule]],
    calibration: CalibrationCurve | None,
    device: torch.device,
) -> Path:
    """Write a comparison as JSON and as a page beside it; the path of the page.

    Args:
        about: what the model does not know of itself.
    """
    task, forward = model.task, model.reverse.forward
    if model.text is not None:
        decode = model.text.decode
        rows = [
            replace(row, examples=row.examples and row.examples.with_text(decode)) for row in rows
        ]
    known = {
        "model_hash": model.digest,
        "kernel": forward.name,
        "noise": repr(forward.noise),
        "length": model.length,
        "symbols": forward.vocab_size,
        **gallery_facts(task),
        "metric": None if task is None else task.metric_name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
    }
    save_results(out, rows, {**known, **about}, schedules=schedules, calibration=calibration)
    page = report_file(out)
    write_report(page, [load_results(out)], gallery_of)
    return page


def calibration_on_data(
    model: LoadedModel,
    search: SearchOptions,
    observed: ObservedOptions,
    seed: int,
    device: torch.device,
) -> CalibrationCurve | None:
    """The model's calibration on a few sequences of the searches' data; None where there are none.

    The sequences are drawn from another seed than those of the searches.
    """
    generator = seeded(seed + CALIBRATION_SEED, device)
    few = replace(search, sequences=CALIBRATED)
    try:
        data, given_mask, _ = search_data(model, few, observed, generator)
    except ValueError as error:
        if search.data is not None or search.text is not None:
            note_no_calibration(error)
        return None
    try:
        return measure_calibration(model.reverse, data, generator=generator, given_mask=given_mask)
    except ValueError as error:
        note_no_calibration(error)
        return None


def note_no_calibration(error: ValueError) -> None:
    print(f"note: the report has no calibration ({error})", file=sys.stderr)


def calibration_on_task(
    model: LoadedModel, seed: int, device: torch.device
) -> CalibrationCurve | None:
    """The same on data of the model's task; None without a task."""
    if model.task is None:
        return None
    generator = seeded(seed + CALIBRATION_SEED, device)
    data = model.task.sample_data(CALIBRATED, generator)
    return measure_calibration(model.reverse, data, generator=generator)
