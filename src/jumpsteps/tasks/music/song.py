"""A melody to see, to edit and to hear: a picture, a MIDI file and a sound. Needs the extras of the first two."""

from pathlib import Path

from torch import Tensor

from jumpsteps.tasks.music.midi import write_steps
from jumpsteps.tasks.music.piano_roll import plot_rolls
from jumpsteps.tasks.music.synth import write_wav

__all__ = ["write_song"]


def write_song(
    path: Path, tokens: Tensor, given: Tensor | None = None, *, tempo: float = 120.0
) -> None:
    """Write PATH.png (piano roll), PATH.mid and PATH.wav; each of them whole or not at all.

    Args:
        path: of the files, without their suffix; its last part is the picture's title.
        tokens: int64 [n], symbols 0..127 (MIDI pitch) and 128 (rest), 16 to a bar.
        given: bool [n], the sites that were given, which the picture marks.
        tempo: beats per minute, 4..1000.

    Raises:
        ValueError: tokens or a tempo that are none, ``given`` of another shape, or what an extra brings is not installed.
    """
    write_wav(with_ending(path, ".wav"), tokens, tempo=tempo)
    write_steps(with_ending(path, ".mid"), tokens, beats_per_minute=tempo)
    plot_rolls(with_ending(path, ".png"), {path.name: tokens}, given=given)


def with_ending(path: Path, ending: str) -> Path:
    """The path with this behind its name, in which a dot begins no suffix."""
    return path.with_name(path.name + ending)
