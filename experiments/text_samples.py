"""Samples of text side by side, every token in the colour of the step in which it came."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jumpsteps.cli.colouring import on_page, share
from jumpsteps.core.files import replacing
from jumpsteps.evaluation.plots import new_figure
from jumpsteps.tasks.image_files import image_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, LEADING, COLUMN, LINES = 7.0, 10.0, 46, 13
"""Points of the font and between lines, characters of a line, and lines of a sample."""

SHADES = 64
"""Colours of a picture, whose file is a third of one with all."""

ADVANCE = 0.602 * SIZE
"""The width of a character of DejaVu Sans Mono in points."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 serif; margin: 2em }}
table {{ border-spacing: 1.5em 1em; table-layout: fixed; width: 100% }}
td, th {{ vertical-align: top; text-align: left; white-space: pre-wrap }}
</style>
<h1>{title}</h1>
<p>Blue tokens came in the first step, red ones in the last. Rows have the same seeds.</p>
<table>
<tr>{head}</tr>
{rows}
</table>
</html>
"""

Character = tuple[str, int]


@dataclass(frozen=True)
class Column:
    """Samples of one method.

    Attributes:
        pieces: the texts of each sample's tokens.
        steps: the steps in which they came, from 1; empty for texts that no model wrote.
    """

    pieces: Sequence[Sequence[str]]
    steps: Sequence[Sequence[int]] = ()

    @property
    def last(self) -> int:
        return max((max(row) for row in self.steps), default=1)


def wrapped(pieces: Sequence[str], steps: Sequence[int], width: int) -> list[list[Character]]:
    """Lines of at most ``width`` characters, each with its step; words are kept together."""
    lines: list[list[Character]] = [[]]
    for piece, step in zip(pieces, steps, strict=True):
        for letter in piece:
            if letter == "\n":
                lines.append([])
                continue
            lines[-1].append((letter, step))
            if len(lines[-1]) > width:
                line = lines.pop()
                blank = max((i for i, (one, _) in enumerate(line) if one == " "), default=0)
                lines += [line[:blank], line[blank + 1 :]] if blank else [line[:-1], line[-1:]]
    return lines


def draw(axes: "Axes", lines: Sequence[Sequence[Character]], last: int, x: float, y: float) -> None:
    """Draw lines with their upper left corner at (x, y), in points; step 0 has no colour."""
    from matplotlib.colors import hsv_to_rgb
    from matplotlib.patches import Rectangle

    for line in lines:
        for i, (_, step) in enumerate(line):
            if step:
                colour = hsv_to_rgb(((240 - 240 * share(step, last)) / 360, 0.3, 1.0))
                corner = (x + i * ADVANCE, y - 0.15 * LEADING)
                axes.add_patch(Rectangle(corner, ADVANCE, LEADING, color=colour, linewidth=0))
        text = "".join(letter for letter, _ in line).replace("$", r"\$")
        axes.text(x, y, text, family="monospace", fontsize=SIZE, va="top")
        y += LEADING


def picture(path: Path, columns: Mapping[str, Column], rows: Sequence[int]) -> None:
    """Write a PNG of the beginnings of these samples, a column for each method."""
    across, down = (COLUMN + 3) * ADVANCE, (LINES + 1) * LEADING
    width, height = len(columns) * across, len(rows) * down + 2 * LEADING
    figure = new_figure((width + 12) / 72, (height + 8) / 72)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-6, width + 6), ylim=(height, -8))
    axes.axis("off")
    for i, (title, column) in enumerate(columns.items()):
        axes.text(i * across, 0, title, fontsize=SIZE, weight="bold", va="top")
        for j, row in enumerate(rows):
            pieces = column.pieces[row]
            steps = column.steps[row] if column.steps else [0] * len(pieces)
            lines = wrapped(pieces, steps, COLUMN)[:LINES]
            draw(axes, lines, column.last, i * across, 2 * LEADING + j * down)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
        image = image_module().open(temporary).convert("RGB")
        image.quantize(SHADES).save(temporary, optimize=True)


def page(path: Path, title: str, columns: Mapping[str, Column], rows: Sequence[int]) -> None:
    """Write an HTML page of these samples, whole."""
    lines = []
    for row in rows:
        cells = []
        for column in columns.values():
            pieces = column.pieces[row]
            if column.steps:
                text = on_page(pieces, column.steps[row], [False] * len(pieces), column.last)
            else:
                text = html.escape("".join(pieces))
            cells.append(f"<td>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    content = PAGE.format(title=html.escape(title), head=head, rows="\n".join(lines))
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")
