"""Plots of comparisons and error curves. Needs the extra ``plots`` (matplotlib)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jumpsteps.core.files import replacing
from jumpsteps.evaluation.results import Row
from jumpsteps.evaluation.reveals import plot_orders
from jumpsteps.schedules.schedule import CountSchedule, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

__all__ = ["COLOURS", "MARKERS", "new_figure", "plot_comparison", "plot_error_curve", "write"]

COLOURS = ("#8c8c8c", "#4477aa", "#cc6677", "#228833", "#aa3377", "#ccbb44")
TICKS = tuple(digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5))
"""Per cents that an axis may name."""
MARKERS = ("o", "s", "^", "D", "v", "P")


def plot_comparison(
    path: Path | str,
    rows: list[Row],
    *,
    metric_name: str,
    title: str,
    percent: bool = True,
    orders: Mapping[str, CountSchedule] | None = None,
) -> None:
    """Write a PNG of the metric against NFE, beside the schedules at the NFE nearest to 16.

    Args:
        percent: whether the metric is a share, to be shown in per cent.
        orders: schedules whose reveals are drawn below, by their titles.

    Raises:
        ValueError: matplotlib is not installed.
    """
    names, scale = list(dict.fromkeys(row.schedule for row in rows)), 100.0 if percent else 1.0
    figure = new_figure(10, 6.4 if orders else 4)
    top: FigureBase = figure
    if orders:
        top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(4, 2.4))[:, 0]
        plot_orders(below, orders, seed=0)
    left, right = top.subplots(1, 2, width_ratios=(3, 2))
    zero = place_of_zero(rows) if percent else None
    for i, name in enumerate(names):
        plot_metric(left, [row for row in rows if row.schedule == name], name, i, scale, zero)
    budgets = sorted({row.nfe for row in rows})
    left.set(
        xscale="log",
        yscale="log" if percent else "linear",
        xlabel="model calls (NFE)",
        ylabel=f"{metric_name}, %" if percent else metric_name,
        title=title,
    )
    left.set_xticks(budgets, [str(n) for n in budgets])
    left.minorticks_off()
    if zero is not None:
        ticks = ticks_of(left.get_ylim(), zero, any(row.metric.mean <= 0 for row in rows))
        left.set_yticks([*ticks], [*ticks.values()])
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    plot_schedules(right, rows, names, min(budgets, key=lambda n: (abs(n - 16), n)))
    write(figure, path)


def plot_error_curve(path: Path | str, found: Mapping[int, Schedule], *, title: str) -> None:
    """Write a PNG of the errors of schedules against NFE, with 95% intervals.

    Raises:
        ValueError: the schedules have no known error, or matplotlib is not installed.
    """
    known = [schedule.provenance for schedule in found.values()]
    by_data = all(one.excess is not None for one in known)
    cost = [one.error[0] for one in known if one.error[0] is not None]
    error = [1.96 * (one.error[1] or 0.0) for one in known]
    if len(cost) < len(known):
        raise ValueError(
            f"method {known[0].method} does not estimate errors, so there is no curve; "
            "use the shortest path"
        )
    figure = new_figure(5, 4)
    axes = figure.subplots()
    axes.errorbar(
        list(found), cost, error, color=COLOURS[3], marker=MARKERS[3], capsize=3, markersize=4
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="model calls (NFE)",
        ylabel=f"{'excess' if by_data else 'estimated error'}, nats per sequence",
        title=title,
    )
    axes.set_xticks(list(found), [str(n) for n in found])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    write(figure, path)


def new_figure(width: float, height: float) -> "Figure":
    """A figure of this size in inches.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError("pictures need matplotlib: pip install 'jumpsteps[plots]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def write(figure: "Figure", path: Path | str) -> None:
    """Write a PNG atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def place_of_zero(rows: list[Row]) -> float:
    """Where zero is drawn on a logarithmic axis of per cents: at half of the smallest other value,
    and below all upper ends.
    """
    ends = [100 * (row.metric.mean or row.metric.high) for row in rows]
    return min((0.5 * end for end in ends if end > 0), default=0.05)


def ticks_of(limits: tuple[float, float], zero: float, has_zero: bool) -> dict[float, str]:
    """Per cents that a logarithmic axis names, and where it names zero, if something is there."""
    ticks = {v: f"{v:g}" for v in TICKS if limits[0] <= v <= limits[1]}
    if not has_zero:
        return ticks
    return {v: text for v, text in ticks.items() if v > 1.2 * zero} | {zero: "0"}


def plot_metric(
    axes: "Axes", rows: list[Row], name: str, i: int, scale: float, zero: float | None
) -> None:
    """One schedule's metric against NFE, in the i-th colour; a ``scale`` of 100 is per cent.

    On a logarithmic axis nothing is drawn below ``zero``, which stands for zero.
    """
    least = -math.inf if zero is None else zero
    mean, low, high = (
        [max(scale * value, least) for value in values]
        for values in zip(*((m.mean, m.low, m.high) for m in (r.metric for r in rows)), strict=True)
    )
    below = [a - b for a, b in zip(mean, low, strict=True)]
    above = [a - b for a, b in zip(high, mean, strict=True)]
    axes.errorbar(
        [row.nfe for row in rows],
        mean,
        [below, above],
        label=name,
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        capsize=3,
        markersize=5,
    )


def plot_schedules(axes: "Axes", rows: list[Row], names: list[str], nfe: int) -> None:
    """The times of the schedules with this NFE, one line per schedule."""
    for i, name in enumerate(names):
        for row in rows:
            if row.schedule == name and row.nfe == nfe:
                axes.plot(
                    row.times,
                    [-i] * len(row.times),
                    marker="|",
                    markersize=16,
                    linewidth=1,
                    color=COLOURS[i % len(COLOURS)],
                )
    axes.set(xlim=(1.03, -0.03), ylim=(0.7 - len(names), 0.7))
    axes.set(xlabel="time t (1 noise, 0 data)", title=f"times of the steps, NFE {nfe}")
    axes.set_yticks([-i for i in range(len(names))], names)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
