"""Results of a comparison, as a report shows them."""

from jumpsteps.evaluation.calibration import CalibrationCurve, ConfidenceBin
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Results, Row
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Golden
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.costs.table import Calibration

__all__ = ["interval", "small_results"]

ABOUT = {
    "model": "countdown <&> more",
    "model_hash": "abc",
    "task": "countdown",
    "kernel": "absorbing",
    "metric": "violation rate",
    "samples": 9,
    "seed": 0,
    "command": "jumpsteps compare countdown --nfe 2 4",
}


def interval(mean: float, half: float) -> Interval:
    return Interval(mean, mean - half, mean + half, 0.95, 9)


def small_results() -> Results:
    """Two schedules at 2 and 4 model calls; 4 sites, whose samples break the rule once."""
    known = Provenance(
        method="shortest-path-golden",
        sequences=20,
        held_out=16,
        excess=0.5,
        excess_stderr=0.1,
        excess_limit=0.71,
    )
    counts = {
        2: CountSchedule([1, 3], known, Golden()),
        4: CountSchedule([1, 3], known, Golden(), (Redraw(calls=2),)),
    }
    right = Examples(((3, 2, 1, 0),), ((1, 2, 2, 2),))
    wrong = Examples(((3, 2, 0, 3),), ((2, 2, 1, 2),))
    rows = (
        Row(2, "uniform", (1.0, 0.5, 0.0), interval(0.2, 0.05), wrong),
        Row(2, "golden", (1.0, 0.75, 0.0), interval(0.0, 0.0), right),
        Row(4, "uniform", (1.0, 0.75, 0.5, 0.25, 0.0), interval(0.1, 0.04), wrong),
        Row(4, "golden", (1.0, 0.75, 0.0), interval(0.01, 0.01), right),
    )
    curve = CalibrationCurve(
        (Calibration(0.9, 1.0, 0.1, 0.05), Calibration(0.5, 0.4, 0.0, 0.05)),
        (ConfidenceBin(0.35, 0.4, 0.1, 0.3), ConfidenceBin(0.95, 0.9, 0.02, 0.7)),
        16,
    )
    schedules = {"uniform": {n: uniform(n) for n in (2, 4)}, "golden": counts}
    return Results(ABOUT, rows, schedules, curve)
