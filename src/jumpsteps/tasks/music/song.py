"""A melody as piano roll, MIDI file and sound. Needs the extras ``plots`` and ``music``."""

from pathlib import Path

from torch import Tensor

from jumpsteps.tasks.music.midi import write_steps
from jumpsteps.tasks.music.piano_roll import plot_rolls
from jumpsteps.tasks.music.synth import write_wav

__all__ = ["write_song"]


def write_song(
    path: Path,
    tokens: Tensor,
    given: Tensor | None = None,
    *,
    tempo: float = 120.0,
    onsets: Tensor | None = None,
) -> None:
    """Write PATH.png (piano roll), PATH.mid and PATH.wav, each of them atomically.

    Args:
        path: path of the files without their suffix. Its last part is the title of the picture.
        tokens: int64 [n], symbols 0..127 (MIDI pitch) and 128 (rest), 16 per bar.
        given: observed sites, bool [n], which the picture marks.
        tempo: beats per minute, 4..1000.
        onsets: bool [n], where further notes begin within runs of equal pitches; heard, and not in
            the picture.

    Raises:
        ValueError: invalid tokens or tempo, ``given`` of another shape, or an extra that is not
            installed.
    """
    write_wav(with_ending(path, ".wav"), tokens, tempo=tempo, onsets=onsets)
    write_steps(with_ending(path, ".mid"), tokens, beats_per_minute=tempo, onsets=onsets)
    plot_rolls(with_ending(path, ".png"), {path.name: tokens}, given=given)


def with_ending(path: Path, ending: str) -> Path:
    """The path with an ending appended to its name, which may contain dots."""
    return path.with_name(path.name + ending)
