"""MIDI files to and from melodies of sixteenth notes. Needs the extra ``music`` (mido).

For the symbols see ``melody``. Files are read in ticks. A sixteenth is a quarter of the file's
beat, which is a quarter note, so that neither tempo nor time signature changes the symbols.
"""

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.files import replacing
from jumpsteps.tasks.music.melody import REST, STEPS_PER_BEAT, check_melody, notes

__all__ = ["LONGEST", "Steps", "Track", "quantise", "read_steps", "read_track", "write_steps"]

LONGEST = 1 << 16
"""The longest melody that is read, in sixteenths: 4096 bars."""
DRUMS = 9
"""The General MIDI channel (counted from 0) whose note numbers are drums, not pitches."""
VELOCITY = 80
"""Velocity (loudness) of written notes, at most 127."""
DEFAULT_TEMPO = 500_000
"""Microseconds per beat before the first change of tempo: 120 beats per minute."""


@dataclass(frozen=True)
class Track:
    """The notes of one track, and the tempos and time signatures of its file.

    Attributes:
        name: name of the track, possibly empty.
        start, end, pitch: the notes, int64 [n]; start and end in ticks.
        ticks_per_beat: ticks per quarter note.
        ticks: the tick of the file's last event.
        tempos: int64 [k, 2], (tick, microseconds per beat) in order, the first at tick 0.
        signatures: time signatures (numerator, denominator) in order, possibly none.
    """

    name: str
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    ticks_per_beat: int
    ticks: int
    tempos: NDArray[np.int64]
    signatures: tuple[tuple[int, int], ...]

    @property
    def beats_per_minute(self) -> float:
        """The tempo at the first note."""
        return 60e6 / float(self.tempos[self.tempos[:, 0] <= self.start.min()][-1, 1])

    def ticks_at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ticks, float64 [m], of times in seconds under the file's tempos."""
        changes = self.tempos[:, 0]
        pace = self.tempos[:, 1] / 1e6 / self.ticks_per_beat  # seconds per tick
        reached = np.concatenate([[0.0], np.cumsum(np.diff(changes) * pace[:-1])])
        piece = (np.searchsorted(reached, seconds, side="right") - 1).clip(0)
        return changes[piece] + (seconds - reached[piece]) / pace[piece]


@dataclass(frozen=True)
class Steps:
    """A track as a melody of sixteenths.

    Attributes:
        tokens: int64 [n], symbols 0..128.
        polyphonic: number of sixteenths with several pitches, of which the highest is kept.
        track: name of the track.
        beats_per_minute: the tempo at the first note.
        onsets: bool [n], where the notes of ``tokens`` begin.
        tempos: how many tempos the file has.
        signatures: its time signatures (numerator, denominator) in order, possibly none.
    """

    tokens: Tensor
    polyphonic: int
    track: str
    beats_per_minute: float
    onsets: Tensor
    tempos: int
    signatures: tuple[tuple[int, int], ...]


def read_steps(
    source: bytes | Path | str,
    track: str | None = None,
    *,
    least: int = 1,
    monophonic: bool = False,
) -> Steps:
    """The melody of a MIDI file, from its first tick to its last event.

    Args:
        source: path or content of the file.
        track: name of the track, case-insensitive. The default is the first track with notes.
        least: smallest number of sixteenths that is accepted.
        monophonic: refuse simultaneous pitches instead of keeping the highest.

    Raises:
        ValueError: no such file, not a MIDI file, no such track, no notes, shorter than ``least``,
            longer than ``LONGEST``, polyphonic and ``monophonic``, or mido is not installed.
    """
    found = read_track(source, track)
    step = found.ticks_per_beat / STEPS_PER_BEAT
    length = round(found.ticks / step)
    if length > LONGEST:
        raise ValueError(
            f"{named(source)} lasts {length} sixteenths, at most {LONGEST} are read; cut the file"
        )
    tokens, several = quantise(found.start / step, found.end / step, found.pitch, length)
    polyphonic = int(several.sum())
    if len(tokens) < least:
        raise ValueError(
            f"{named(source)} has {len(tokens)} sixteenths, {least} are needed; pass a longer file"
        )
    if monophonic and polyphonic:
        raise ValueError(
            f"{named(source)}: several pitches sound at once in {polyphonic} sixteenths of track "
            f"{found.name!r}; pass a melody"
        )
    begin = np.floor(found.start / step + 0.5).astype(np.int64)
    begin = begin[tokens[begin] == found.pitch]
    return Steps(
        torch.from_numpy(tokens),
        polyphonic,
        found.name,
        found.beats_per_minute,
        torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, torch.from_numpy(begin), True),
        len(np.unique(found.tempos[:, 1])),
        found.signatures,
    )


def quantise(
    start: NDArray[np.float64], end: NDArray[np.float64], pitch: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Quantise notes to sixteenths: round both ends, and keep the highest of several pitches.

    A note whose ends round to the same sixteenth is kept there if no other note sounds.

    Args:
        start, end: start and end of the notes in sixteenths, [n].
        length: smallest number of sixteenths of the result.

    Returns:
        Symbols, int64, and where several pitches sound, bool; both [max(length, last end)].
    """
    first, last = (np.floor(edge + 0.5).astype(np.int64) for edge in (start, end))
    sounding = np.zeros((128, max([length, *last, *(first + 1)])), bool)
    for a, b, p in zip(first, last, pitch, strict=True):
        sounding[p, a:b] = True
    for a, p in zip(first[first == last], pitch[first == last], strict=True):
        sounding[p, a] |= not sounding[:, a].any()
    highest = 127 - sounding[::-1].argmax(0)
    return np.where(sounding.any(0), highest, REST), sounding.sum(0) > 1


def read_track(source: bytes | Path | str, track: str | None = None) -> Track:
    """The notes of a MIDI file's track, without drums.

    Args:
        source: path or content of the file.
        track: name of the track, case-insensitive. The default is the first track with notes.

    Raises:
        ValueError: no such file, not a MIDI file or one with impossible times, no such track, no
            notes, or no mido installed.
    """
    file = parse(source)
    ends, tempos, signatures, names, found = [0], [], [], [], None
    for each in file.tracks:
        events = list(timed(each))
        ends.append(events[-1][0] if events else 0)
        tempos += [
            (tick, message.tempo)
            for tick, message in events
            if message.type == "set_tempo" and message.tempo
        ]
        signatures += [
            (m.numerator, m.denominator) for _, m in events if m.type == "time_signature"
        ]
        name = each.name.strip()
        names.append(name)
        if found is None and (track is None or name.lower() == track.strip().lower()):
            notes = notes_of(events)
            found = (name, notes) if notes else None
    if found is None:
        raise ValueError(no_notes(source, track, names))
    if max(ends) >= 1 << 62:
        raise ValueError(
            f"{named(source)} lasts {max(ends)} ticks, so it is damaged; export it again"
        )
    start, end, pitch = np.array(found[1], np.int64).T
    changes = {0: DEFAULT_TEMPO} | dict(sorted(tempos, key=lambda change: change[0]))
    return Track(
        found[0],
        start,
        end,
        pitch,
        file.ticks_per_beat,
        max(ends),
        np.array(list(changes.items())),
        tuple(signatures),
    )


def parse(source: bytes | Path | str) -> Any:
    """The file as a ``mido.MidiFile``."""
    mido = import_mido()
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {named(source)}; pass a MIDI file") from None
    except IsADirectoryError:
        raise ValueError(f"{named(source)} is a folder; pass a MIDI file") from None
    if not content:
        raise ValueError(f"{named(source)} is empty; pass a MIDI file")
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except Exception as error:  # A damaged file makes mido raise exceptions of many types.
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{named(source)} is not a MIDI file that can be read ({what}); export it again"
        ) from None
    if file.ticks_per_beat < 1:
        raise ValueError(
            f"{named(source)} counts time in SMPTE frames, not in beats; "
            "export it with ticks per quarter note"
        )
    return file


def import_mido() -> Any:
    """The library ``mido``; raises ValueError if it is not installed."""
    try:
        import mido
    except ModuleNotFoundError:
        raise ValueError("MIDI files need mido: pip install 'jumpsteps[music]'") from None
    return mido


def named(source: bytes | Path | str) -> str:
    return "the file" if isinstance(source, bytes) else str(source)


def timed(track: Any) -> Iterator[tuple[int, Any]]:
    """Every message of a track with its tick."""
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def notes_of(events: list[tuple[int, Any]]) -> list[tuple[int, int, int]]:
    """(start, end, pitch) of all notes, in ticks. A note never released ends with the track."""
    held: dict[tuple[int, int], deque[int]] = {}
    notes = []
    for tick, message in events:
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        starts = held.setdefault((message.channel, message.note), deque())
        if message.type == "note_on" and message.velocity > 0:
            starts.append(tick)
        elif starts:
            notes.append((starts.popleft(), tick, message.note))
    return notes + [
        (start, events[-1][0], pitch) for (_, pitch), starts in held.items() for start in starts
    ]


def no_notes(source: bytes | Path | str, track: str | None, names: list[str]) -> str:
    if track is None:
        return f"{named(source)} has no notes (drums are not counted); pass a file with a melody"
    if track.strip().lower() in [name.lower() for name in names]:
        return f"{named(source)} has no notes in track {track!r}; choose another track"
    known = ", ".join(repr(name) for name in names if name) or "none with a name"
    return f"{named(source)} has no track {track!r}; its tracks: {known}"


def write_steps(
    path: Path | str,
    tokens: Tensor,
    *,
    beats_per_minute: float = 120.0,
    program: int = 0,
    onsets: Tensor | None = None,
) -> None:
    """Write a melody as a MIDI file in 4/4 with one track, one note per run of equal pitches.

    ``read_steps`` of the file returns the same tokens.

    Args:
        tokens: int64 [n], symbols 0..128.
        onsets: bool [n], where further notes begin within runs.
        beats_per_minute: quarter notes per minute.
        program: General MIDI instrument, counted from 0 (0 is a grand piano).

    Raises:
        ValueError: invalid tokens, tempo or programme, or mido is not installed.
    """
    mido = import_mido()
    check_melody(tokens)
    if not 4 <= beats_per_minute <= 1000:
        raise ValueError(f"the tempo must be 4..1000 beats per minute, got {beats_per_minute}")
    if not 0 <= program <= 127:
        raise ValueError(f"the programme must be 0..127, got {program}")
    file = mido.MidiFile(type=0, ticks_per_beat=480)
    step = file.ticks_per_beat // STEPS_PER_BEAT
    head = [
        mido.MetaMessage("track_name", name="MELODY"),
        mido.MetaMessage("set_tempo", tempo=round(60e6 / beats_per_minute)),
        mido.MetaMessage("time_signature", numerator=4, denominator=4),
        mido.Message("program_change", program=program),
    ]
    messages, silent = [], 0
    for start, stop, pitch in notes(tokens, onsets):
        ticks = (stop - start) * step
        if pitch == REST:
            silent = ticks
            continue
        messages.append(mido.Message("note_on", note=pitch, velocity=VELOCITY, time=silent))
        messages.append(mido.Message("note_off", note=pitch, velocity=0, time=ticks))
        silent = 0
    file.tracks.append(
        mido.MidiTrack([*head, *messages, mido.MetaMessage("end_of_track", time=silent)])
    )
    with replacing(path) as temporary:
        file.save(temporary)
