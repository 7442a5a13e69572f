"""Data sets for the task ``piano``: numpy arrays or MIDI files."""

from pathlib import Path

from jumpsteps.tasks.music.arrays import read_arrays
from jumpsteps.tasks.music.midi_corpus import MidiOptions, read_midi
from jumpsteps.tasks.music.piano_data import PianoData, Report

__all__ = ["MidiOptions", "PianoData", "Report", "read_arrays", "read_midi", "read_songs"]


def read_songs(path: Path) -> PianoData:
    """Read a folder with ``train.npy`` by ``read_arrays``, any other path by ``read_midi``."""
    return read_arrays(path) if (path / "train.npy").exists() else read_midi(path)
