"""From the MIDI track of one song to training sequences: bars, quantising, filtering.

Bars come from ``beat_midi.txt`` if such a file lies beside the song, as in POP909. There the time
signatures of the MIDI files are not usable (1/4 in most), and beats are a quarter note apart in
ticks but start at any tick. Without that file the first bar begins at tick 0, and every time
signature must be 4/4. Only runs of bars of four beats are used.
"""

import numpy as np
from numpy.typing import NDArray

from jumpsteps.tasks.music.melody import GIVEN, LENGTH, REST, STEPS_PER_BAR, STEPS_PER_BEAT
from jumpsteps.tasks.music.midi import LONGEST, Track, quantise

__all__ = ["BARS", "BEATS", "Unused", "song_bars", "windows"]

BEATS = "beat_midi.txt"
"""Name of the file of beats and bar lines that POP909 has beside each song."""
BARS = LENGTH // STEPS_PER_BAR
"""Bars of a sequence."""
OFF_GRID = 0.125
"""Largest mean distance of a song's notes from the nearest sixteenth, in sixteenths.

A quarter of the notes half-way between two sixteenths give 0.125, triplets of eighths 0.22, and
notes unrelated to the grid 0.25.
"""


class Unused(ValueError):
    """A song that cannot be used; the message is the reason."""


def song_bars(track: Track, beats: bytes | None) -> tuple[list[NDArray[np.int64]], int]:
    """Quantise a song and cut it into runs of bars of four beats.

    Args:
        beats: content of ``beat_midi.txt``; None if the song has none.

    Returns:
        The runs of at least 16 bars, int64 [bars, 16] each, and the number of their sixteenths in
        which several pitches sound.

    Raises:
        Unused: notes off the sixteenth grid, a song mostly not in 4/4, or unusable beats.
    """
    ticks, lines = bars_of_ticks(track) if beats is None else bars_of_beats(track, beats)
    steps = STEPS_PER_BEAT * np.arange(len(ticks), dtype=np.float64)
    inside = (track.end > ticks[0]) & (track.start < ticks[-1])
    start, end = (np.interp(edge[inside], ticks, steps) for edge in (track.start, track.end))
    if not inside.any() or np.abs(start - np.round(start)).mean() > OFF_GRID:
        raise Unused("notes are not on sixteenths")
    tokens, several = quantise(start, end, track.pitch[inside], int(steps[-1]))
    whole = np.diff(lines) == STEPS_PER_BAR // STEPS_PER_BEAT
    if np.count_nonzero(whole) <= len(whole) / 2:
        raise Unused("not in 4/4")
    cuts = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(np.int8)))
    edges = STEPS_PER_BEAT * lines[cuts].reshape(-1, 2)
    runs = [slice(a, b) for a, b in edges.tolist() if b - a >= LENGTH]
    polyphonic = sum(int(several[run].sum()) for run in runs)
    return [tokens[run].reshape(-1, STEPS_PER_BAR) for run in runs], polyphonic


def bars_of_ticks(track: Track) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Beats and bar lines of a song in 4/4 whose first bar begins at tick 0.

    Returns:
        The tick of each beat, and the indices of the beats that begin a bar.

    Raises:
        Unused: another time signature, or a song that is too long.
    """
    if any(signature != (4, 4) for signature in track.signatures):
        raise Unused("not in 4/4")
    beats = 4 * -(-track.ticks // (4 * track.ticks_per_beat))
    if beats * STEPS_PER_BEAT > LONGEST:
        raise Unused(f"longer than {LONGEST // STEPS_PER_BAR} bars")
    return np.arange(beats + 1, dtype=np.float64) * track.ticks_per_beat, np.arange(0, beats + 1, 4)


def bars_of_beats(track: Track, content: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same as ``bars_of_ticks`` from the lines of ``beat_midi.txt``.

    Columns: time in seconds, whether half a bar begins (not used), whether a bar begins.

    Raises:
        Unused: a damaged file, times that do not increase, or no bars.
    """
    try:
        table = np.array(
            [
                [float(word) for word in line.split()]
                for line in content.decode().splitlines()
                if line.strip()
            ]
        )
        seconds, _, begins = table.T
    except ValueError:  # Not UTF-8, not numbers, lines of different lengths, or not three columns.
        raise Unused(f"no beats: {BEATS} is not three columns of numbers") from None
    lines = np.flatnonzero(begins == 1)
    in_order = bool(np.isfinite(seconds).all() and (np.diff(seconds) > 0).all())
    if not in_order or len(lines) < 2 or len(seconds) * STEPS_PER_BEAT > LONGEST:
        raise Unused(f"no beats: the times of {BEATS} do not increase, or it has no bars")
    return track.ticks_at(seconds), lines


def windows(runs: list[NDArray[np.int64]], hop: int, most_rest: float) -> NDArray[np.int64]:
    """Sequences of 16 bars, one every ``hop`` bars from the first bar with a note on.

    Left out are sequences whose share of rests exceeds ``most_rest``, and those whose given bars
    are all rests.

    Returns:
        int64 [n, 256].

    Raises:
        Unused: no sequence is left.
    """
    found = []
    for run in runs:
        first = int((run != REST).any(1).argmax())
        found += [
            run[bar : bar + BARS].reshape(-1) for bar in range(first, len(run) - BARS + 1, hop)
        ]
    kept = [
        each
        for each in found
        if (each == REST).mean() <= most_rest and (each[:GIVEN] != REST).any()
    ]
    if not kept:
        raise Unused("fewer than 16 bars of 4/4 in a row" if not found else "mostly rests")
    return np.stack(kept)
