"""Rows of a comparison as a plain-text table."""

from collections.abc import Mapping

from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Row

__all__ = ["factors", "measures_table", "table"]


def table(rows: list[Row], metric_name: str, *, percent: bool = True) -> str:
    """One line per NFE, one column per schedule: mean ± half the 95% interval."""
    names = list(dict.fromkeys(row.schedule for row in rows))
    scale = 100 if percent else 1
    cells = {(row.nfe, row.schedule): with_half(row.metric, scale) for row in rows}
    width = max(14, *(len(name) + 2 for name in names))
    unit = ", %" if percent else ""
    lines = [f"{metric_name}{unit} (95% interval, {rows[0].metric.count} samples)"]
    lines.append("NFE".rjust(5) + "".join(name.rjust(width) for name in names))
    for nfe in dict.fromkeys(row.nfe for row in rows):
        lines.append(
            f"{nfe:5d}" + "".join(cells.get((nfe, name), "-").rjust(width) for name in names)
        )
    return "\n".join(lines)


def with_half(interval: Interval, scale: float) -> str:
    return f"{scale * interval.mean:.2f} ±{scale * (interval.high - interval.mean):.2f}"


def measures_table(measured: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    """One line for each name, one column for each measure: a value, or ± half its interval."""
    titles = list(dict.fromkeys(title for one in measured.values() for title in one))
    first = max(map(len, measured))
    width = [max(14, len(title) + 2) for title in titles]
    head = "".join(title.rjust(n) for title, n in zip(titles, width, strict=True))
    lines = [" " * first + head]
    for name, values in measured.items():
        cells = (" ±".join(f"{value:.2f}" for value in values.get(title, ())) for title in titles)
        shown = "".join((cell or "-").rjust(n) for cell, n in zip(cells, width, strict=True))
        lines.append(name.ljust(first) + shown)
    return "\n".join(lines)


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
