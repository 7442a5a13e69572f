"""Piano rolls: pictures of melodies, time to the right and pitch upwards.

Needs the extra ``plots`` (matplotlib).
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jumpsteps.evaluation.plots import COLOURS, new_figure, write
from jumpsteps.tasks.music.melody import REST, STEPS_PER_BAR, check_melody, note_name, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_rolls"]

BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
LABELLED = ((14, (0, 2, 4, 5, 7, 9, 11)), (30, (0, 4, 7)), (128, (0,)))
"""(largest span in pitches, pitch classes that are labelled), in increasing order of span."""
MADE, GIVEN, SHADE = COLOURS[1], "#444444", COLOURS[0]


def plot_rolls(
    path: Path | str, melodies: Mapping[str, Tensor], *, given: Tensor | None = None
) -> None:
    """Write a PNG of piano rolls, one below the other with shared axes.

    Args:
        melodies: title -> int64 [n], symbols 0..127 (MIDI pitch) and 128 (rest), 16 per bar.
        given: observed sites, bool [n]. They are shaded, and their notes are dark grey.

    Raises:
        ValueError: no melodies, invalid tokens, ``given`` of another shape, or matplotlib is not
            installed.
    """
    if not melodies:
        raise ValueError("there are no melodies to draw; pass at least one")
    for tokens in melodies.values():
        check_melody(tokens)
        if given is not None and (given.dtype != torch.bool or given.shape != tokens.shape):
            raise ValueError(
                f"given sites are bool {list(tokens.shape)}, one for each symbol, "
                f"got {given.dtype} {list(given.shape)}"
            )
    low, high = pitch_range(torch.cat([tokens.cpu() for tokens in melodies.values()]))
    figure = new_figure(10, 0.6 + 1.9 * len(melodies))
    panels = figure.subplots(len(melodies), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, tokens) in zip(panels, melodies.items(), strict=True):
        known = torch.zeros(len(tokens), dtype=torch.bool) if given is None else given.cpu()
        draw_keyboard(axes, low, high)
        draw_given(axes, known)
        draw_notes(axes, tokens.cpu(), known)
        axes.set_title(title, fontsize=10, loc="left")
    draw_bars(panels, max(len(tokens) for tokens in melodies.values()))
    write(figure, path)


def pitch_range(tokens: Tensor) -> tuple[int, int]:
    """The lowest and the highest pitch shown: all that sound, and at least an octave."""
    pitches = tokens[tokens != REST]
    low, high = (int(pitches.min()), int(pitches.max())) if len(pitches) else (60, 72)
    missing = max(12 - (high - low), 0)
    return low - missing // 2, high + (missing + 1) // 2


def draw_keyboard(axes: "Axes", low: int, high: int) -> None:
    """The rows of black keys in light grey, and the names of some notes."""
    for pitch in range(low - 1, high + 2):
        if pitch % 12 in BLACK_KEYS:
            axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    named = next(notes for span, notes in LABELLED if high - low <= span)
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in named]
    axes.set_yticks(ticks, [note_name(pitch) for pitch in ticks], fontsize=8)
    axes.set(ylim=(low - 1, high + 1), ylabel="pitch")


def draw_given(axes: "Axes", given: Tensor) -> None:
    """Shade the observed sites, and label their first run above the notes."""
    spans = [(start, stop) for start, stop, is_given in runs(given) if is_given]
    for span in spans:
        axes.axvspan(*span, color=SHADE, alpha=0.2, linewidth=0, zorder=1)
    if spans:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.12 * (high - low))
        axes.text(
            spans[0][0] + 1,
            0.97,
            "given",
            transform=axes.get_xaxis_transform(),
            va="top",
            fontsize=8,
        )


def draw_notes(axes: "Axes", tokens: Tensor, given: Tensor) -> None:
    """A bar for every note. A note held beyond the observed sites changes its colour there."""
    low, high = axes.get_ylim()
    # A bar of one row would be too thin to see if many pitches are shown.
    height = max(0.8, (high - low) / 60)
    for start, stop, value in runs(2 * tokens + given):
        pitch, is_given = divmod(value, 2)
        if pitch != REST:
            axes.barh(
                pitch,
                stop - start,
                left=start,
                height=height,
                color=GIVEN if is_given else MADE,
                zorder=3,
            )


def draw_bars(panels: "Iterable[Axes]", steps: int) -> None:
    """Bar lines, and bar numbers (at most about 32) below the last panel."""
    bars = range(math.ceil(steps / STEPS_PER_BAR))
    every = math.ceil(len(bars) / 32)
    middles = [
        (bar * STEPS_PER_BAR + min((bar + 1) * STEPS_PER_BAR, steps)) / 2 for bar in bars[::every]
    ]
    for axes in panels:
        axes.set_xticks([bar * STEPS_PER_BAR for bar in bars], [""] * len(bars))
        axes.set_xticks(middles, [str(bar + 1) for bar in bars[::every]], minor=True, fontsize=8)
        axes.tick_params(axis="x", which="both", length=0)
        axes.grid(axis="x", which="major", color="#bbbbbb", linewidth=0.8)
        axes.set(xlim=(0, steps), axisbelow=True)
    axes.set_xlabel("bar")
