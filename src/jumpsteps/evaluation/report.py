"""Rows of a comparison as a plain-text table."""

from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Row

__all__ = ["factors", "table"]


def table(rows: list[Row], metric_name: str) -> str:
    """One line per NFE, one column per schedule: mean ± half the 95% interval, in per cent."""
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
    """NFE -> ratio of the mean metric of ``baseline`` to that of ``schedule``.

    NFEs at which either is missing, or at which the mean of ``schedule`` is zero, are left out.
    """
    mean = {(row.nfe, row.schedule): row.metric.mean for row in rows}
    budgets = sorted(
        {row.nfe for row in rows if (row.nfe, schedule) in mean and (row.nfe, baseline) in mean}
    )
    return {
        nfe: mean[nfe, baseline] / mean[nfe, schedule] for nfe in budgets if mean[nfe, schedule] > 0
    }
