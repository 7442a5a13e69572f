"""Cells and sentences of a report."""

from collections.abc import Sequence

from jumpsteps.evaluation.page.charts import interval_parts
from jumpsteps.evaluation.page.svg import with_ends
from jumpsteps.evaluation.results import Row

__all__ = ["cell", "cost_cell", "finding", "value_and_half"]


def value_and_half(values: Sequence[float] | None) -> str:
    """A value, with half its interval if that is known."""
    return "-" if not values else " ±".join(f"{value:.2f}" for value in values)


def cell(row: Row | None, best: float, scale: float) -> tuple[str, str, bool] | None:
    """Mean, interval, and whether the mean is the lowest with so many model calls."""
    if row is None:
        return None
    mean, low, high = interval_parts(row.metric, scale)
    return mean, f"{low} to {high}", row.metric.mean == best


def cost_cell(mean: float, low: float, high: float, limit: float | None) -> tuple[str, str]:
    """A cost, and its certificate or, without one, its interval."""
    if limit is None:
        middle, *ends = with_ends(mean, low, high)
        return middle, " to ".join(ends)
    middle, _, most = with_ends(mean, low, limit)
    return middle, f"at most {most}"


def finding(rows: Sequence[Row], metric: str, percent: bool) -> str:
    """What the rows of one number of model calls say, best and first."""
    if len(rows) < 2:
        return ""
    first, best = rows[0], min(rows, key=lambda row: row.metric.mean)
    near = [row.schedule for row in rows if row is not best and row.metric.low <= best.metric.high]
    unit, scale = ("%", 100.0) if percent else ("", 1.0)
    parts = [interval_parts(row.metric, scale) for row in (best, first)]
    lowest, other = (f"{mean}{unit} ({low} to {high})" for mean, low, high in parts)
    said = f"With {best.nfe} model calls {best.schedule} has the lowest {metric}, {lowest}"
    if first is not best:
        said += f"; {first.schedule} has {other}"
    if near:
        said += f". The interval of {' and of '.join(near)} overlaps with it"
    return f"{said}."
