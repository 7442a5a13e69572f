"""A folder or zip of MIDI files, such as POP909, as a data set.

A song is used either for training or for testing, by a hash of its name, so that no melody is in
both. How a song becomes sequences: ``song_bars``.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from jumpsteps.tasks.music.midi import Track, import_mido, read_track
from jumpsteps.tasks.music.piano_data import PianoData, Report, hashed_name
from jumpsteps.tasks.music.song_bars import BARS, BEATS, Unused, song_bars, windows

__all__ = ["MidiOptions", "is_test", "read_midi"]


@dataclass(frozen=True)
class MidiOptions:
    """How sequences are made from MIDI files.

    Attributes:
        track: name of the track that holds the melody; None for the first track with notes.
        hop, test_hop: bars from the start of one sequence of a song to the next.
        most_rest: largest share of rests in a sequence.
        test_share: share of the songs used for testing.
        transpose: see ``PianoData``.
    """

    track: str | None = "MELODY"
    hop: int = 1
    test_hop: int = BARS
    most_rest: float = 0.5
    test_share: float = 0.1
    transpose: int = 6


@dataclass
class Collected:
    """Sequences and statistics collected while songs are read; ``windows`` by "is for testing"."""

    windows: dict[bool, list[NDArray[np.int64]]] = field(
        default_factory=lambda: {False: [], True: []}
    )
    skipped: dict[str, str] = field(default_factory=dict)
    sixteenths: int = 0
    polyphonic: int = 0

    def add(
        self, name: str, tokens: list[NDArray[np.int64]], polyphonic: int, options: MidiOptions
    ) -> None:
        test = is_test(name, options.test_share)
        found = windows(tokens, options.test_hop if test else options.hop, options.most_rest)
        self.windows[test].append(found)
        self.sixteenths += sum(run.size for run in tokens)
        self.polyphonic += polyphonic


def read_midi(
    path: Path | str, options: MidiOptions = MidiOptions(), *, progress: bool = False
) -> PianoData:
    """Melodies of a folder or zip of MIDI files.

    Files that cannot be used are skipped and counted in the report. If some files are named after
    their folders, as ``001/001.mid`` in POP909, only those are songs; otherwise all MIDI files are.

    Raises:
        ValueError: no such folder or zip, no MIDI files in it, no songs left for training or for
            testing, or mido is not installed.
    """
    import_mido()
    path, found = Path(path), Collected()
    with opened(path) as (names, read):
        songs = choose_songs(names)
        if not songs:
            raise ValueError(f"there are no MIDI files (.mid, .midi) in {path}; check the path")
        for song in tqdm(songs, desc="reading MIDI files", disable=not progress):
            try:
                beats = song.with_name(BEATS)
                track = load_track(unpack(song, read), options.track)
                tokens, polyphonic = song_bars(
                    track, unpack(beats, read) if beats in names else None
                )
                found.add(song.stem, tokens, polyphonic, options)
            except Unused as reason:
                found.skipped[str(song)] = str(reason)
    used = (len(found.windows[False]), len(found.windows[True]))
    report = Report(len(songs), used, found.sixteenths, found.polyphonic, found.skipped)
    if 0 in used:
        raise ValueError(
            f"{path} leaves songs {used[0]} for training and {used[1]} for testing; "
            f"{' '.join(str(report).split())}"
        )
    train, test = (torch.from_numpy(np.concatenate(found.windows[part])) for part in (False, True))
    song_of = torch.arange(used[1]).repeat_interleave(
        torch.tensor([len(each) for each in found.windows[True]])
    )
    name = hashed_name(path, train, test)
    return PianoData(name, train.to(torch.uint8), test, song_of, options.transpose, report)


@contextmanager
def opened(path: Path) -> Iterator[tuple[set[PurePosixPath], Callable[[PurePosixPath], bytes]]]:
    """The names of the files of a folder or zip, and a function that reads one of them."""
    if path.is_dir():
        names = {
            PurePosixPath(file.relative_to(path).as_posix())
            for file in path.rglob("*")
            if file.is_file()
        }
        yield names, lambda name: (path / name).read_bytes()
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ValueError(f"there is no folder or zip {path}; pass one of MIDI files") from None
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is neither a folder nor a zip; pass one of MIDI files") from None
    with archive:
        yield (
            {PurePosixPath(name) for name in archive.namelist()},
            lambda name: archive.read(str(name)),
        )


def choose_songs(names: set[PurePosixPath]) -> list[PurePosixPath]:
    """The MIDI files named after their folders, or all MIDI files if none is."""
    files = sorted(name for name in names if name.suffix.lower() in (".mid", ".midi"))
    return [name for name in files if name.stem == name.parent.name] or files


def unpack(name: PurePosixPath, read: Callable[[PurePosixPath], bytes]) -> bytes:
    try:
        return read(name)
    except Exception as error:  # A damaged zip makes zipfile raise exceptions of many types.
        raise Unused(f"cannot be unpacked: {error}") from None


def load_track(content: bytes, track: str | None) -> Track:
    try:
        return read_track(content, track)
    except ValueError as error:
        raise Unused(f"no melody: {error}") from None


def is_test(name: str, share: float) -> bool:
    """Whether a song is for testing: decided by a hash of its name, whatever the other songs."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) < share * 2**64
