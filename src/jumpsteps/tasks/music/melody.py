"""Monophonic sequences of sixteenth notes.

Symbols 0..127 are the MIDI pitch that sounds during a sixteenth, ``REST`` = 128 is silence. A held
note repeats its pitch, so that held and repeated notes look the same; where they are told apart,
``onsets`` says where notes begin.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

__all__ = [
    "GIVEN",
    "LENGTH",
    "REST",
    "STEPS_PER_BAR",
    "STEPS_PER_BEAT",
    "SYMBOLS",
    "check_melody",
    "note_name",
    "notes",
    "runs",
]

REST = 128
STEPS_PER_BEAT = 4
STEPS_PER_BAR = 16
LENGTH = 16 * STEPS_PER_BAR
"""Sites of a sequence: 16 bars."""
GIVEN = 2 * STEPS_PER_BAR
"""Sites of the two observed bars."""
SYMBOLS = REST + 1
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def note_name(pitch: int) -> str:
    """The name of a MIDI pitch; middle C, 60, is C4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def runs(values: Tensor) -> Iterator[tuple[int, int, int]]:
    """(start, stop, value) of the runs of equal values, int [n], in order."""
    found, lengths = torch.unique_consecutive(values.cpu(), return_counts=True)
    stops = lengths.cumsum(0)
    yield from zip((stops - lengths).tolist(), stops.tolist(), found.tolist(), strict=True)


def notes(tokens: Tensor, onsets: Tensor | None = None) -> Iterator[tuple[int, int, int]]:
    """(start, stop, symbol) of the notes and rests of a melody, int64 [n], in order.

    A run of equal symbols is one note, unless ``onsets`` (bool [n]) says that another begins in it.
    """
    for start, stop, symbol in runs(tokens):
        begins = [] if onsets is None or symbol == REST else onsets[start + 1 : stop].tolist()
        edges = [start, *(start + i for i, begun in enumerate(begins, 1) if begun), stop]
        yield from ((first, last, symbol) for first, last in pairwise(edges))


def check_melody(tokens: Tensor) -> None:
    """Raise ValueError unless tokens are one sequence of symbols 0..128, int64 [n]."""
    if tokens.ndim != 1 or not tokens.numel() or tokens.dtype != torch.int64:
        raise ValueError(
            f"a melody is int64 [n], one sequence of symbols, "
            f"got {tokens.dtype} {list(tokens.shape)}; pass one row"
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high > REST:
        raise ValueError(f"the symbols are {low}..{high}; pitches are 0..127 and a rest is {REST}")
