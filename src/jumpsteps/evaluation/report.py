"""Rows of a comparison as a plain-text table."""

import math
from collections.abc import Mapping

from jumpsteps.evaluation.intervals import ratio_interval
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Row

__all__ = ["factor", "factors", "measures_table", "table"]


def table(rows: list[Row], metric_name: str, *, percent: bool = True) -> str:
    """One line per NFE, one column per schedule: mean ± half the 95% interval."""
    names = list(dict.fromkeys(row.schedule for row in rows))
    scale = 100 if percent else 1
    cells = {(row.nfe, row.schedule): with_ends(row.metric, scale) for row in rows}
    width = max(14, *(len(text) + 2 for text in (*names, *cells.values())))
    unit = ", %" if percent else ""
    lines = [f"{metric_name}{unit} (95% interval, {rows[0].metric.count} samples)"]
    lines.append("NFE".rjust(5) + "".join(name.rjust(width) for name in names))
    for nfe in dict.fromkeys(row.nfe for row in rows):
        lines.append(
            f"{nfe:5d}" + "".join(cells.get((nfe, name), "-").rjust(width) for name in names)
        )
    return "\n".join(lines)


def with_ends(interval: Interval, scale: float) -> str:
    """Mean ± half the interval, or mean and both ends where the interval is not symmetric."""
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    if abs((high - mean) - (mean - low)) < 0.1 * (high - low):
        return f"{mean:.2f} ±{high - mean:.2f}"
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


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


def factors(rows: list[Row], schedule: str, baseline: str) -> dict[int, Interval]:
    """NFE -> ratio of the mean metric of ``baseline`` to that of ``schedule``, with its interval.

    NFEs at which either is missing, or at which both means are zero, are left out.
    """
    metric = {(row.nfe, row.schedule): row.metric for row in rows}
    pairs = {
        nfe: (metric[nfe, baseline], metric[nfe, schedule])
        for nfe in sorted({row.nfe for row in rows})
        if (nfe, baseline) in metric and (nfe, schedule) in metric
    }
    return {
        nfe: ratio_interval(top, bottom)
        for nfe, (top, bottom) in pairs.items()
        if (top.mean, bottom.mean) != (0, 0)
    }


def factor(ratio: Interval) -> str:
    """A ratio in words, such as "57.6 (40 to 90)" or "more than 12"."""
    if math.isinf(ratio.mean):
        return f"more than {ratio.low:.3g}"
    if math.isinf(ratio.high):
        return f"{ratio.mean:.3g} (more than {ratio.low:.3g})"
    return f"{ratio.mean:.3g} ({ratio.low:.3g} to {ratio.high:.3g})"
