"""The charts of a report."""

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise

from jumpsteps.core.information import half_width
from jumpsteps.evaluation.calibration import CalibrationCurve
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.page.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    Scale,
    colour_of_series,
    colour_of_step,
    element,
    figure,
    marker,
    number,
    with_ends,
)
from jumpsteps.evaluation.results import Row
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = [
    "confidence_chart",
    "cost_chart",
    "entropy_chart",
    "interval_parts",
    "known_costs",
    "quality_chart",
    "schedule_strips",
    "swatch",
]

LONGEST_NAME = 34
"""Characters of a name above a strip."""

ZERO = 26.0
"""Pixels below a logarithmic axis in which zeros are drawn."""


def interval_parts(interval: Interval, scale: float = 1.0) -> tuple[str, str, str]:
    """A mean and both ends of its interval as texts."""
    return with_ends(scale * interval.mean, scale * interval.low, scale * interval.high)


def swatch(series: int) -> str:
    """The mark of a series for a legend."""
    return figure(marker(series, 7, 7), "", 14, 14)


def error_bar(series: int, x: float, top: float, bottom: float) -> str:
    return element("line", class_=f"bar {colour_of_series(series)}", x1=x, x2=x, y1=top, y2=bottom)


def quality_chart(rows: Sequence[Row], names: Sequence[str], label: str, scale: float) -> str:
    """The metric against model calls, a line for each schedule, with intervals.

    The axis is logarithmic if the values span a factor of four; zeros stand below it.

    Args:
        scale: 100 for a metric in per cent.
    """
    values = [scale * row.metric.mean for row in rows]
    ends = [scale * end for row in rows for end in (row.metric.low, row.metric.high)]
    positive = [v for v in values if v > 0]
    log = min(values) >= 0 and bool(positive) and max(values) > 4 * min(values)
    below = log and min(values) == 0
    if log:
        ends = [v for v in ends if v > 0.5 * min(positive)]
    budgets = sorted({row.nfe for row in rows})
    frame = Frame.of(
        budgets,
        [*(positive if log else values), *ends],
        log_x=True,
        log_y=log,
        marked=budgets,
        bottom=ZERO if below else 0,
    )
    drawn = [frame.draw("model calls (NFE)", label)]
    floor = HEIGHT - BOTTOM - 6.0
    if below:
        drawn.append(
            element("line", class_="zero", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor)
            + element("text", "0", class_="tick end", x=LEFT - 7, y=floor + 4.5)
        )

    def height(value: float) -> float:
        if not log:
            return frame.y(value)
        return floor if value <= 0 else min(frame.y(value), floor)

    for i, name in enumerate(names):
        mine = sorted((row for row in rows if row.schedule == name), key=lambda row: row.nfe)
        shift = 3.0 * (i - (len(names) - 1) / 2)
        points = [(frame.x(row.nfe) + shift, height(scale * row.metric.mean)) for row in mine]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn.append(element("path", class_=f"line {colour_of_series(i)}", d=path))
        for row, (x, y) in zip(mine, points, strict=True):
            top, bottom = height(scale * row.metric.high), height(scale * row.metric.low)
            drawn.append(error_bar(i, x, top, bottom))
            title = "{}, NFE {}: {} ({} to {})".format(
                name, row.nfe, *interval_parts(row.metric, scale)
            )
            drawn.append(marker(i, x, y, title))
    return figure("".join(drawn), f"{label} against model calls for {', '.join(names)}")


def schedule_strips(
    schedules: Mapping[str, tuple[Sequence[float], Schedule | None]],
) -> str:
    """A strip for each schedule from noise to data, cut into its steps.

    Args:
        schedules: name -> times from 1 to 0, and the schedule if it is known.
    """
    row, bar = 54.0, 24.0
    height = row * len(schedules) + 34
    across = Scale(1.0, 0.0, 6.0, WIDTH - 6.0)
    drawn = []
    for i, (name, (times, schedule)) in enumerate(schedules.items()):
        top = 20 + row * i
        drawn.append(
            element(
                "text",
                html.escape(f"{shortened(name)} · {described(schedule, len(times) - 1)}"),
                class_="name",
                x=6,
                y=top - 5,
            )
        )
        counts = schedule.counts if isinstance(schedule, CountSchedule) else ()
        for k, (t, s) in enumerate(pairwise(times)):
            left, right = across(t), across(s)
            colour = colour_of_step(k + 1, len(times) - 1)
            what = f"{counts[k]} sites" if counts else f"t = {t:.3f} to {s:.3f}"
            drawn.append(
                element(
                    "rect",
                    element("title", f"step {k + 1}: {what}"),
                    class_=f"step c{colour}",
                    x=left,
                    y=top,
                    width=max(right - left - 1, 0.6),
                    height=bar,
                )
            )
            if counts and right - left > 10 + 8 * len(str(counts[k])):
                drawn.append(
                    element(
                        "text",
                        str(counts[k]),
                        class_=f"count mid c{colour}",
                        x=(left + right) / 2,
                        y=top + 16.5,
                    )
                )
    floor = height - 10
    drawn.append(element("text", "noise, t = 1", class_="tick", x=6, y=floor))
    drawn.append(element("text", "data, t = 0", class_="tick end", x=WIDTH - 6, y=floor))
    return figure("".join(drawn), f"the steps of {', '.join(schedules)}", WIDTH, height)


def shortened(name: str) -> str:
    """The end of a long name, such as that of a file."""
    return name if len(name) <= LONGEST_NAME else f"…{name[-LONGEST_NAME:]}"


def described(schedule: Schedule | None, steps: int) -> str:
    """What kind of schedule it is, in a few words."""
    if isinstance(schedule, CountSchedule):
        order = schedule.provenance.order or schedule.order.name
        text = f"{steps} steps in {order} order"
    else:
        text = f"{steps} steps"
    calls = 0 if schedule is None else sum(redraw.calls for redraw in schedule.redraws)
    return f"{text}, then {calls} corrections" if calls else text


def cost_chart(found: Mapping[str, Mapping[int, Schedule]], names: Sequence[str]) -> str:
    """What few steps cost against model calls, with 95% intervals and certificates.

    Only schedules whose provenance knows an error are drawn; "" if there are none.
    """
    costs = {name: known_costs(each) for name, each in found.items()}
    costs = {name: each for name, each in costs.items() if each}
    points = [point for each in costs.values() for point in each]
    if not points:
        return ""
    shown = [v for _, mean, low, high, limit in points for v in (mean, low, high, limit or mean)]
    positive = [mean for _, mean, *_ in points if mean > 0]
    log = bool(positive) and len(positive) == len(points) and max(positive) > 8 * min(positive)
    if log:
        shown = [v for v in shown if v > 0.4 * min(positive)]
    budgets = sorted({nfe for nfe, *_ in points})
    frame = Frame.of(
        budgets, [*shown, *([] if log else [0.0])], log_x=True, log_y=log, marked=budgets
    )
    drawn = [frame.draw("model calls (NFE)", "nats per sequence")]
    floor = float(HEIGHT - BOTTOM)

    def height(value: float) -> float:
        return floor if log and value <= frame.y.low else frame.y(value)

    for name, each in costs.items():
        i = list(names).index(name)
        path = "M" + "L".join(f"{frame.x(n):.1f} {height(mean):.1f}" for n, mean, *_ in each)
        drawn.append(element("path", class_=f"line {colour_of_series(i)}", d=path))
        for nfe, mean, low, high, limit in each:
            x = frame.x(nfe)
            drawn.append(error_bar(i, x, height(high), height(low)))
            title = f"{name}, NFE {nfe}: {number(mean)} nats"
            drawn.append(marker(i, x, height(mean), title))
            if limit is not None:
                at = height(limit)
                title = f"certificate of {name}, NFE {nfe}: at most {number(limit)} nats"
                drawn.append(
                    element(
                        "line",
                        element("title", html.escape(title)),
                        class_=f"limit {colour_of_series(i)}",
                        x1=x - 8,
                        x2=x + 8,
                        y1=at,
                        y2=at,
                    )
                )
    return figure("".join(drawn), f"cost against model calls for {', '.join(costs)}")


Cost = tuple[int, float, float, float, float | None]


def known_costs(found: Mapping[int, Schedule]) -> list[Cost]:
    """(NFE, cost, both ends of its 95% interval, certificate) where the provenance has them."""
    costs: list[Cost] = []
    for nfe, schedule in sorted(found.items()):
        known = schedule.provenance
        mean, stderr = known.error
        if mean is None:
            continue
        count = known.held_out or known.sequences or 2
        half = half_width(stderr or 0.0, max(count, 2))
        costs.append((nfe, mean, mean - half, mean + half, known.excess_limit))
    return costs


def entropy_chart(curve: CalibrationCurve, corrupted: str) -> str:
    """Entropy and -log p of data against the share of corrupted sites.

    Args:
        corrupted: what noise does to a site, such as "masked".
    """
    levels = sorted(curve.levels, key=lambda one: one.masked)
    xs = [100 * one.masked for one in levels]
    half = [half_width(one.stderr, curve.sequences) for one in levels]
    ends = [one.nll + h for one, h in zip(levels, half, strict=True)]
    frame = Frame.of([0, 100], [0, *ends, *(one.entropy for one in levels)])
    drawn = [frame.draw(f"sites {corrupted}, %", "nats per site")]
    for i, values in ((1, [one.entropy for one in levels]), (2, [one.nll for one in levels])):
        points = [(frame.x(x), frame.y(v)) for x, v in zip(xs, values, strict=True)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn.append(element("path", class_=f"line s{i}", d=path))
        for (x, y), value, h in zip(points, values, half, strict=True):
            if i == 2:
                top, bottom = frame.y(value + h), frame.y(value - h)
                drawn.append(error_bar(2, x, top, bottom))
            drawn.append(marker(i, x, y, f"{number(value)} nats"))
    return figure("".join(drawn), "entropy and negative log-likelihood of data by noise level")


def confidence_chart(curve: CalibrationCurve) -> str:
    """How often the likeliest token is right, against its probability."""
    frame = Frame.of([0, 100], [0, 100])
    drawn = [frame.draw("probability of the likeliest token, %", "how often it is right, %")]
    ends = [end for percent in (0, 100) for end in (frame.x(percent), frame.y(percent))]
    drawn.append(element("path", class_="zero", d="M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*ends)))
    for one in curve.bins:
        x, y = frame.x(100 * one.confidence), frame.y(100 * one.accuracy)
        half = 100 * half_width(one.stderr, curve.sequences)
        top, bottom = (
            max(min(frame.y(100 * one.accuracy + sign * half), HEIGHT - BOTTOM), TOP)
            for sign in (1, -1)
        )
        drawn.append(error_bar(1, x, top, bottom))
        title = f"{100 * one.accuracy:.1f}% right, {100 * one.share:.1f}% of the sites"
        drawn.append(marker(0, x, y, title, kind="mark s1"))
    return figure("".join(drawn), "accuracy against confidence")
