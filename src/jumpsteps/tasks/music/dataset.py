"""Data sets for the task ``piano``: folders and zips of MIDI files, such as POP909, and arrays, such as tauLDR's Lakh pianoroll.

Bars of MIDI files. Where a ``beat_midi.txt`` lies beside a song, as in POP909, its beats and bar lines are used: there the time
signatures in the MIDI files mean nothing (1/4 in most), and the beats are quarter notes apart in ticks but start anywhere. Without
such a file the first bar begins at tick 0, and every time signature must be 4/4. Only runs of bars of four beats are used.

Songs are the unit of everything: a song is for training or for testing by a hash of its name, so that no melody is in both.
"""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.files import replacing
from jumpsteps.tasks.music.melody import GIVEN, LENGTH, REST, STEPS_PER_BAR, STEPS_PER_BEAT, SYMBOLS
from jumpsteps.tasks.music.midi import LONGEST, Track, import_mido, quantise, read_track

__all__ = ["MidiOptions", "PianoData", "Report", "read_arrays", "read_midi", "read_songs"]

BEATS = "beat_midi.txt"
BARS = LENGTH // STEPS_PER_BAR
OFF_GRID = 0.125
"""In sixteenths: the mean distance of a song's notes from the nearest sixteenth above which it is left out. It is 0.125 where a
quarter of the notes fall half-way between, 0.22 for triplets of eighths, and 0.25 where there is no relation at all."""


@dataclass(frozen=True)
class Report:
    """What became of the files.

    Attributes:
        files: MIDI files found.
        songs: how many were used, for training and for testing.
        sixteenths, polyphonic: how many the used songs have, and in how many of them several pitches sounded.
        skipped: file -> why it was not used; what comes before a colon is the kind of reason.
    """

    files: int
    songs: tuple[int, int]
    sixteenths: int
    polyphonic: int
    skipped: Mapping[str, str]

    def reasons(self) -> dict[str, int]:
        """How many files were skipped for each kind of reason, the most frequent first."""
        return dict(Counter(reason.split(":")[0] for reason in self.skipped.values()).most_common())

    def __str__(self) -> str:
        skipped = "".join(
            f"\n  skipped {count}: {reason}" for reason, count in self.reasons().items()
        )
        return (
            f"{self.files} files, {self.songs[0]} songs for training and {self.songs[1]} for testing used; "
            f"several pitches at once in {self.polyphonic} of {self.sixteenths} sixteenths{skipped}"
        )


@dataclass(frozen=True)
class PianoData:
    """Sequences for training and for testing.

    Attributes:
        name: the data's name and a hash of the sequences.
        train: uint8 [N, 256], symbols 0..128.
        test: int64 [M, 256].
        test_song: int64 [M], the song that each test sequence is from: values of one song are averaged
            (``metrics.group_means``) before anything is said of their uncertainty.
        transpose: training sequences are shifted by up to so many semitones.
        report: what became of the files; None for arrays.
    """

    name: str
    train: Tensor
    test: Tensor
    test_song: Tensor
    transpose: int = 6
    report: Report | None = None

    def to(self, device: torch.device | str) -> "PianoData":
        """The same data, the training sequences on a device, so that drawing them there copies nothing."""
        return replace(self, train=self.train.to(device))

    def songs(self) -> Tensor:
        """The first test sequence of each song, int64 [S, 256]."""
        first = {song: row for row, song in reversed(list(enumerate(self.test_song.tolist())))}
        return self.test[sorted(first.values())]

    def sample_data(self, n: int, generator: torch.Generator) -> Tensor:
        """n training sequences drawn with replacement, each shifted at random, int64 [n, 256] on the generator's device.

        The shift is uniform on those of -``transpose``..``transpose`` semitones that keep all pitches in 0..127.
        """
        device = generator.device
        rows = torch.randint(len(self.train), (n,), generator=generator, device=device)
        x = self.train[rows.to(self.train.device)].to(device, torch.int64)
        sounds = x != REST
        most_up = 127 - x.masked_fill(~sounds, 0).amax(-1).clamp_min(127 - self.transpose)
        most_down = x.masked_fill(~sounds, 127).amin(-1).clamp_max(self.transpose)
        u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        shift = (u * (most_up + most_down + 1)).floor().to(torch.int64) - most_down
        return torch.where(sounds, x + shift[:, None], x)

    def save(self, folder: Path | str) -> None:
        """Write ``train.npy``, ``test.npy`` and ``test_song.npy``, which ``read_arrays`` reads without a MIDI library."""
        arrays = {
            "train": self.train,
            "test": self.test.to(torch.uint8),
            "test_song": self.test_song,
        }
        for file, tensor in arrays.items():
            with replacing(Path(folder) / f"{file}.npy") as temporary:
                np.save(temporary, tensor.cpu().numpy())


@dataclass(frozen=True)
class MidiOptions:
    """How sequences are made of MIDI files.

    Attributes:
        track: the track that holds the melody; None for the first with notes.
        hop, test_hop: bars from the start of one sequence of a song to the next.
        most_rest: the largest share of rests that a sequence may have.
        test_share: the share of songs kept for testing.
        transpose: see ``PianoData``.
    """

    track: str | None = "MELODY"
    hop: int = 1
    test_hop: int = BARS
    most_rest: float = 0.5
    test_share: float = 0.1
    transpose: int = 6


class Unused(ValueError):
    """Why a song cannot be used."""


@dataclass
class Found:
    """What is collected while songs are read."""

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


def read_songs(path: Path) -> PianoData:
    """``read_arrays`` of a folder with ``train.npy``, ``read_midi`` of anything else."""
    return read_arrays(path) if (path / "train.npy").exists() else read_midi(path)


def read_midi(
    path: Path | str, options: MidiOptions = MidiOptions(), *, progress: bool = False
) -> PianoData:
    """Melodies of a folder or zip of MIDI files; files that cannot be used are skipped and counted in the report.

    Where files are named after their folders, as POP909's ``001/001.mid``, only those are songs; otherwise every MIDI file is one.

    Raises:
        ValueError: no such folder or zip, no MIDI files in it, no songs left for training or for testing, or mido is not installed.
    """
    import_mido()
    path, found = Path(path), Found()
    with opened(path) as (names, read):
        songs = choose_songs(names)
        if not songs:
            raise ValueError(f"there are no MIDI files (.mid, .midi) in {path}; check the path")
        for song in tqdm(songs, desc="reading MIDI files", disable=not progress):
            try:
                beats = song.with_name(BEATS)
                track = load(unpack(song, read), options.track)
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
            f"{path} leaves songs {used[0]} for training and {used[1]} for testing; {' '.join(str(report).split())}"
        )
    train, test = (torch.from_numpy(np.concatenate(found.windows[part])) for part in (False, True))
    song_of = torch.arange(used[1]).repeat_interleave(
        torch.tensor([len(each) for each in found.windows[True]])
    )
    return PianoData(
        titled(path, train, test), train.to(torch.uint8), test, song_of, options.transpose, report
    )


@contextmanager
def opened(path: Path) -> Iterator[tuple[set[PurePosixPath], Callable[[PurePosixPath], bytes]]]:
    """The files of a folder or zip, and a function that reads one of them."""
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
    files = sorted(name for name in names if name.suffix.lower() in (".mid", ".midi"))
    return [name for name in files if name.stem == name.parent.name] or files


def unpack(name: PurePosixPath, read: Callable[[PurePosixPath], bytes]) -> bytes:
    try:
        return read(name)
    except Exception as error:  # Of a damaged zip zipfile raises anything at all.
        raise Unused(f"cannot be unpacked: {error}") from None


def load(content: bytes, track: str | None) -> Track:
    try:
        return read_track(content, track)
    except ValueError as error:
        raise Unused(f"no melody: {error}") from None


def song_bars(track: Track, beats: bytes | None) -> tuple[list[NDArray[np.int64]], int]:
    """The runs of bars of four beats of a song, each int64 [bars, 16], and in how many sixteenths several pitches sounded."""
    ticks, lines = bars_of_ticks(track) if beats is None else bars_of_beats(track, beats)
    steps = STEPS_PER_BEAT * np.arange(len(ticks), dtype=np.float64)
    inside = (track.end > ticks[0]) & (track.start < ticks[-1])
    start, end = (np.interp(edge[inside], ticks, steps) for edge in (track.start, track.end))
    if not inside.any() or np.abs(start - np.round(start)).mean() > OFF_GRID:
        raise Unused("notes are not on sixteenths")
    tokens, polyphonic = quantise(start, end, track.pitch[inside], int(steps[-1]))
    whole = np.diff(lines) == STEPS_PER_BAR // STEPS_PER_BEAT
    if np.count_nonzero(whole) <= len(whole) / 2:
        raise Unused("not in 4/4")
    cuts = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(np.int8)))
    edges = STEPS_PER_BEAT * lines[cuts].reshape(-1, 2)
    return [tokens[a:b].reshape(-1, STEPS_PER_BAR) for a, b in edges if b - a >= LENGTH], polyphonic


def bars_of_ticks(track: Track) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ticks of the beats, and the numbers of the beats that begin bars, with bars counted from tick 0."""
    if any(signature != (4, 4) for signature in track.signatures):
        raise Unused("not in 4/4")
    beats = 4 * -(-track.ticks // (4 * track.ticks_per_beat))
    if beats * STEPS_PER_BEAT > LONGEST:
        raise Unused(f"longer than {LONGEST // STEPS_PER_BAR} bars")
    return np.arange(beats + 1, dtype=np.float64) * track.ticks_per_beat, np.arange(0, beats + 1, 4)


def bars_of_beats(track: Track, content: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same from the lines of ``beat_midi.txt``: seconds, whether half a bar begins, whether a bar begins."""
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
    """Sequences of 16 bars, int64 [n, 256], from the first bar with a note on, every ``hop`` bars.

    One with too many rests, or with nothing but rests in its given bars, is left out.
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


def is_test(name: str, share: float) -> bool:
    """Whether a song is for testing: a hash of its name says so, whatever other songs there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) < share * 2**64


def titled(path: Path, train: Tensor, test: Tensor) -> str:
    digest = hashlib.sha256()
    for tokens in (train, test):
        digest.update(tokens.to(torch.uint8).contiguous().cpu().numpy().tobytes())
    return f"{path.name} sha256:{digest.hexdigest()}"


def read_arrays(folder: Path | str, *, scrambled: bool = False, transpose: int = 6) -> PianoData:
    """Sequences from ``train.npy`` and ``test.npy``, integers [n, 256] of 0..128, as of tauLDR's data set or of ``PianoData.save``.

    tauLDR's arrays hold symbols in a scrambled order. Where their ``descramble_key.txt`` lies beside them, it is applied: the
    number in its line i is the symbol meant by i, whose rest is taken to be 128. Without ``test_song.npy`` every test sequence
    is a song of its own.

    Args:
        scrambled: leave the symbols as they are, as tauLDR's published network wants them; they are not transposed then.

    Raises:
        ValueError: no such files, or not such arrays.
    """
    folder = Path(folder)
    train, test = (read_tokens(folder / f"{part}.npy") for part in ("train", "test"))
    key = folder / "descramble_key.txt"
    if key.exists() and not scrambled:
        train, test = (read_key(key)[tokens] for tokens in (train, test))
    song_of = torch.arange(len(test))
    if (folder / "test_song.npy").exists():
        song_of = read_array(folder / "test_song.npy").reshape(-1)
        if len(song_of) != len(test):
            raise ValueError(
                f"{folder} has {len(test)} test sequences and {len(song_of)} numbers of their songs; write it again"
            )
    return PianoData(
        titled(folder, train, test),
        train.to(torch.uint8),
        test,
        song_of,
        0 if scrambled else transpose,
    )


def read_tokens(path: Path) -> Tensor:
    tokens = read_array(path)
    if tokens.ndim != 2 or tokens.shape[1] != LENGTH or not len(tokens):
        raise ValueError(f"{path} holds an array {list(tokens.shape)}; expected [n, {LENGTH}]")
    if int(tokens.min()) < 0 or int(tokens.max()) >= SYMBOLS:
        raise ValueError(
            f"{path} holds symbols {int(tokens.min())}..{int(tokens.max())}; expected 0..{SYMBOLS - 1}"
        )
    return tokens


def read_array(path: Path) -> Tensor:
    """A .npy file of whole numbers as int64."""
    try:
        array = np.load(path)
    except FileNotFoundError:
        raise ValueError(
            f"there is no file {path}; expected train.npy and test.npy in the folder"
        ) from None
    except (ValueError, OSError, EOFError):
        raise ValueError(f"{path} is not a .npy file of integers; write it again") from None
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{path} is not a .npy file of integers; write it again")
    return torch.from_numpy(array.astype(np.int64))


def read_key(path: Path) -> Tensor:
    """The symbols meant by the scrambled ones, int64 [129]."""
    try:
        numbers = [float(word) for word in path.read_text(encoding="utf-8").split()]
    except ValueError:
        numbers = []
    if sorted(numbers) != list(range(SYMBOLS)):
        raise ValueError(
            f"{path} is not an order of the symbols 0..{SYMBOLS - 1}; download it again"
        )
    return torch.tensor(numbers).to(torch.int64)
