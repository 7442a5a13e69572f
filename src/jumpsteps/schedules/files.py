"""Files of schedules: one JSON file holds several, each with its NFE and its provenance.

Schema version 2 writes a noise schedule as an object; version 1 wrote its text, and is read as
well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.files import read_json, write_json
from jumpsteps.schedules.orders import order_from_json, order_to_json
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import redraw_from_json, redraw_to_json
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule

__all__ = ["load_schedules", "read_schedule", "save_schedules", "schedule_to_json"]


FORMAT = "jumpsteps-schedules"
SCHEMA_VERSION = 2
READ_VERSIONS = (1, 2)


@kinds_checked(schedules="a dict such as {8: schedule}, keyed by NFE")
def save_schedules(path: Path | str, schedules: Mapping[int, Schedule]) -> None:
    """Write schedules, keyed by their NFE, to one JSON file.

    Raises:
        ValueError: one schedule in place of several by NFE.
    """
    content = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "schedules": [
            schedule_to_json(nfe, schedule) for nfe, schedule in sorted(schedules.items())
        ],
    }
    write_json(path, content)


def schedule_to_json(nfe: int, schedule: Schedule) -> dict[str, Any]:
    """The entry of a file of schedules; ``read_schedule`` reads it."""
    if isinstance(schedule, TimeSchedule):
        written: dict[str, Any] = {"times": list(schedule.times)}
    else:
        written = {"counts": list(schedule.counts), "order": order_to_json(schedule.order)}
    if schedule.redraws:
        written["redraws"] = [redraw_to_json(redraw) for redraw in schedule.redraws]
    return {"nfe": nfe, **written, "provenance": schedule.provenance.to_json()}


@kinds_checked()
def load_schedules(path: Path | str) -> dict[int, Schedule]:
    """Read a file of schedules, keyed by their NFE.

    Raises:
        ValueError: no such file, not a file of schedules, a newer schema, or invalid times or
            counts.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a file of schedules; write one with 'jumpsteps optimize MODEL -o FILE'"
        )
    if content.get("schema_version") not in READ_VERSIONS:
        raise ValueError(
            f"{path} has schema version {content.get('schema_version')}, "
            f"this jumpsteps reads up to {SCHEMA_VERSION}; update jumpsteps or optimise again"
        )
    try:
        return {int(entry["nfe"]): read_schedule(entry) for entry in content["schedules"]}
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path} is damaged: {error!r}; write it again with 'jumpsteps optimize'"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_schedule(entry: Mapping[str, Any]) -> Schedule:
    """The schedule of ``schedule_to_json``.

    Raises:
        ValueError: times or counts that are none, an unknown reveal order, or fewer model calls
            than steps.
        KeyError, TypeError: missing or misplaced parts.
    """
    provenance = Provenance.from_json(entry.get("provenance", {}))
    redraws = [redraw_from_json(redraw) for redraw in entry.get("redraws", [])]
    schedule: Schedule
    if "times" in entry:
        schedule = TimeSchedule(entry["times"], provenance, redraws)
    else:
        order = order_from_json(entry.get("order", {"type": "random"}))
        schedule = CountSchedule(entry["counts"], provenance, order, redraws)
    calls = schedule.steps + sum(redraw.calls for redraw in redraws)
    if entry["nfe"] < calls:
        corrected = " and corrections" if redraws else ""
        raise ValueError(
            f"NFE {entry['nfe']} is less than the {calls} steps{corrected} of its schedule; "
            "optimise again"
        )
    return schedule


def at_nfe(schedules: Mapping[int, Schedule], nfe: int, path: Path | str) -> Schedule:
    """The schedule with this NFE.

    Raises:
        ValueError: the file holds none with this NFE.
    """
    if nfe not in schedules:
        raise ValueError(
            f"{path} holds schedules for NFE {sorted(schedules)}, not {nfe}; "
            f"choose one of these, or run 'jumpsteps optimize MODEL --nfe {nfe} -o FILE'"
        )
    return schedules[nfe]
