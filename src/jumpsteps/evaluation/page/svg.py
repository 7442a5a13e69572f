"""SVG by hand: elements, scales, and the frame of a chart.

Charts are narrow, so that their text stays readable where a page is 400 pixels wide. Colours come
from the page's style by class: ``s0``, ``s1``, ... for schedules and ``c0`` ... ``c9`` for steps.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "HEIGHT",
    "RAMP",
    "SERIES",
    "WIDTH",
    "Frame",
    "Scale",
    "colour_of_series",
    "colour_of_step",
    "element",
    "figure",
    "log_ticks",
    "marker",
    "number",
    "with_ends",
]

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 32, 46
RAMP = 10
"""Colours of the ramp from the first step to the last."""


def element(tag: str, content: str = "", **attributes: object) -> str:
    """One element; underscores in names stand for hyphens, ``class_`` for ``class``."""
    parts = [
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(shown(value))}"'
        for name, value in attributes.items()
        if value is not None
    ]
    return f"<{tag}{''.join(parts)}>{content}</{tag}>"


def shown(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def figure(content: str, label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """A drawing that scales with the page; ``label`` says what it shows."""
    return element(
        "svg", content, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label
    )


def number(value: float) -> str:
    """At most three digits, as on an axis, and all of those before the point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def with_ends(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """A mean and the ends of its interval, all to two digits of half the interval's length."""
    half = max(high - mean, mean - low)
    digits = 2 if half < 1e-6 else min(max(1 - math.floor(math.log10(half)), 0), 6)
    mean, low, high = (round(value, digits) + 0.0 for value in (mean, low, high))
    return f"{mean:,.{digits}f}", f"{low:,.{digits}f}", f"{high:,.{digits}f}"


def colour_of_step(step: int, steps: int) -> int:
    """The colour of the ramp, 0..RAMP - 1, of a step from 1 to ``steps``."""
    return 0 if steps < 2 else round((min(step, steps) - 1) / (steps - 1) * (RAMP - 1))


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Attributes:
        low, high: values at both ends.
        start, stop: pixels at both ends.
        log: logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values; powers alone if there would be many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= 7:
            break
    return ticks


def linear_ticks(low: float, high: float) -> list[float]:
    """About five round values between two others."""
    raw = (high - low) / 5 or 1.0
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * digit for digit in (1, 2, 5, 10) if size * digit >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """The axes of a chart.

    Attributes:
        x, y: from values to pixels.
        x_ticks, y_ticks: values with a grid line and a number.
    """

    x: Scale
    y: Scale
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    @classmethod
    def of(
        cls,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        log_x: bool = False,
        log_y: bool = False,
        marked: Sequence[float] = (),
        bottom: float = 0.0,
    ) -> "Frame":
        """Axes that hold these values.

        Args:
            marked: the ticks of the x axis.
            bottom: pixels left free below the smallest y.
        """
        pad = 10.0
        x = Scale(min(xs), max(xs), LEFT + pad, WIDTH - RIGHT - pad, log_x)
        low, high = min(ys), max(ys)
        if log_y:
            margin = 1.3 if high / low < 1.5 else 1.15
            low, high = low / margin, high * margin
        elif high == low:
            low, high = low - 0.5, high + 0.5
        y = Scale(low, high, HEIGHT - BOTTOM - 6 - bottom, TOP + 6, log_y)
        x_ticks = tuple(marked) or tuple((log_ticks if log_x else linear_ticks)(min(xs), max(xs)))
        return cls(x, y, x_ticks, tuple((log_ticks if log_y else linear_ticks)(low, high)))

    def draw(self, x_label: str, y_label: str) -> str:
        """Grid lines, numbers and labels."""
        floor = HEIGHT - BOTTOM
        parts = []
        for tick in self.y_ticks:
            at = self.y(tick)
            parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at))
            parts.append(element("text", number(tick), class_="tick end", x=LEFT - 7, y=at + 4.5))
        last = -math.inf
        for tick in self.x_ticks:
            at = self.x(tick)
            parts.append(element("line", class_="grid", x1=at, x2=at, y1=TOP, y2=floor))
            if at - last >= 24:
                parts.append(element("text", number(tick), class_="tick mid", x=at, y=floor + 17))
                last = at
        parts.append(element("line", class_="axis", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor))
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            element("text", html.escape(x_label), class_="label mid", x=middle, y=HEIGHT - 8)
        )
        parts.append(element("text", html.escape(y_label), class_="label", x=2, y=14))
        return "".join(parts)


SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.6 -3.6h7.2v7.2h-7.2z",
    "M0 -4.8L4.6 3.6H-4.6z",
    "M0 -5L5 0L0 5L-5 0z",
    "M0 4.8L4.6 -3.6H-4.6z",
    "M-1.6 -4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z",
    "M-5 0L3.6 -4.6V4.6z",
    "M5 0L-3.6 -4.6V4.6z",
)
SERIES = len(SHAPES)
"""Series with a colour and a shape of their own; a further one begins again."""


def colour_of_series(series: int) -> str:
    """The class of a series."""
    return f"s{series % SERIES}"


def marker(series: int, x: float, y: float, title: str = "", *, kind: str = "mark") -> str:
    """The mark of a series, its own colour and shape, with a title that a pointer shows."""
    return element(
        "path",
        element("title", html.escape(title)) if title else "",
        class_=f"{kind} {colour_of_series(series)}",
        d=SHAPES[series % SERIES],
        transform=f"translate({x:.1f} {y:.1f})",
    )
