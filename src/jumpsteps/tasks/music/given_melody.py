"""The bars of a MIDI file that a sample continues, and what writes the sample like the file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.tasks.music.melody import GIVEN, REST, STEPS_PER_BAR
from jumpsteps.tasks.music.midi import Steps, read_steps
from jumpsteps.tasks.music.song import write_song
from jumpsteps.tasks.task import WriteSample

__all__ = ["GivenMelody", "read_melody", "write_like"]

SLOWEST, FASTEST = 4.0, 1000.0
"""Beats per minute that are written."""


@dataclass(frozen=True)
class GivenMelody(Given):
    """Two bars of a melody as observed sites, [L], and what their symbols do not say.

    Attributes:
        tempo: beats per minute at the first note.
        onsets: bool [L], where notes of the given bars begin; a repeated note and a held one have
            the same symbols.
    """

    tempo: float = 120.0
    onsets: Tensor | None = None


def read_melody(path: Path, length: int) -> GivenMelody:
    """Two bars, 32 sixteenths, of a MIDI file's melody as observed sites.

    They begin with the bar of the first note. The melody is the first track that has notes; of
    several simultaneous pitches the highest is used.

    Raises:
        ValueError: the file cannot be read, or ends within these two bars.
    """
    song = read_steps(path)
    bar, first = sixteenths_of_bar(song), int((song.tokens != REST).nonzero()[0])
    known = slice(first // bar * bar, first // bar * bar + GIVEN)
    tokens = song.tokens[known]
    if len(tokens) < GIVEN:
        raise ValueError(
            f"{path} has {len(tokens)} sixteenths from the bar of its first note, "
            f"two bars are {GIVEN}; pass more"
        )
    rest = length - GIVEN
    return GivenMelody(
        torch.nn.functional.pad(tokens, (0, rest), value=REST),
        torch.arange(length) < GIVEN,
        remarks_on(song, path),
        tempo=min(max(song.beats_per_minute, SLOWEST), FASTEST),
        onsets=torch.nn.functional.pad(song.onsets[known], (0, rest)),
    )


def sixteenths_of_bar(song: Steps) -> int:
    """Of the first time signature; 4/4 without one."""
    numerator, denominator = song.signatures[0] if song.signatures else (4, 4)
    return max(STEPS_PER_BAR * numerator // denominator, 1)


def remarks_on(song: Steps, path: Path) -> tuple[str, ...]:
    """What the symbols cannot hold of the song."""
    found = []
    meters = list(dict.fromkeys(song.signatures))
    if any(STEPS_PER_BAR * above != STEPS_PER_BAR * below for above, below in meters):
        named = ", ".join(f"{above}/{below}" for above, below in meters)
        found.append(
            f"{path} is in {named}, and the model knows 4/4 alone: {GIVEN} sixteenths from the bar "
            "of the first note are given, and the music goes on with four beats to a bar"
        )
    if song.tempos > 1:
        found.append(
            f"{path} changes its tempo; samples keep the one at its first note, "
            f"{song.beats_per_minute:.4g} beats per minute"
        )
    if song.polyphonic:
        found.append(
            f"{path} has several notes at once in {song.polyphonic} sixteenths; the highest is read"
        )
    return tuple(found)


def write_like(given: Given) -> WriteSample:
    """What writes samples that continue these bars: in their tempo, and with their repeated notes.

    A run of equal symbols that was sampled is one held note.
    """
    if not isinstance(given, GivenMelody):
        return write_song
    return partial(write_song, tempo=given.tempo, onsets=given.onsets)
