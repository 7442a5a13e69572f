"""Results of a comparison: one row for each schedule, and the JSON file that holds them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jumpsteps.core.files import write_json
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.version import __version__

__all__ = ["Row", "save_results"]


@dataclass(frozen=True)
class Row:
    """One schedule, measured.

    Attributes:
        nfe: number of function evaluations, the model calls of one run.
        schedule: name of the schedule.
        times: times of the steps, from 1 down to 0. For a schedule of counts, these are the times
            at which as many sites are expected to be masked as the schedule leaves masked.
        metric: mean of the metric over the samples, with its confidence interval.
    """

    nfe: int
    schedule: str
    times: tuple[float, ...]
    metric: Interval


def save_results(path: Path | str, rows: list[Row], about: Mapping[str, Any]) -> None:
    """Write the rows and their description (model, sampler, seed ...) as JSON."""
    content = {
        "format": "jumpsteps-results",
        "schema_version": 1,
        "version": __version__,
        **about,
        "rows": [asdict(row) for row in rows],
    }
    write_json(path, content)
