"""Rows as a table of text."""

from jumpsteps.evaluation.compare import Row
from jumpsteps.evaluation.metrics import Interval

__all__ = ["factors", "table"]


def table(rows: list[Row], metric_name: str) -> str:
    """A line for each NFE, a column for each schedule; mean and half the 95% interval, in per cent."""
    names = list(dict.fromkeys(row.schedule for row in rows))
    cells = {(row.nfe, row.schedule): per_cent(row.metric) for row in rows}
    width = max(14, *(len(name) + 2 for name in names))
    lines = [f"{metric_name}, % (95% interval, {rows[0].metric.count} samples)"]
    lines.append("NFE".rjust(5) + "".join(name.rjust(width) for name in names))
    for nfe in dict.fromkeys(row.nfe for row in rows):
        lines.append(
            f"{nfe:5d}" + "".join(cells.get((nfe, name), "-").rjust(width) for name in names)
        )
    return "\n".join(lines)


def per_cent(interval: Interval) -> str:
    return f"{100 * interval.mean:.2f} ±{100 * (interval.high - interval.mean):.2f}"


def factors(rows: list[Row], schedule: str, baseline: str) -> dict[int, float]:
    """NFE -> mean of ``baseline`` over mean of ``schedule``."""
    mean = {(row.nfe, row.schedule): row.metric.mean for row in rows}
    budgets = sorted(
        {row.nfe for row in rows if (row.nfe, schedule) in mean and (row.nfe, baseline) in mean}
    )
    return {
        nfe: mean[nfe, baseline] / mean[nfe, schedule] for nfe in budgets if mean[nfe, schedule] > 0
    }
