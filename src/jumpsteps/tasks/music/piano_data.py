"""A data set of melodies: training sequences, test sequences and the songs that these are from."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.files import replacing
from jumpsteps.tasks.music.melody import REST

__all__ = ["PianoData", "Report", "hashed_name"]


@dataclass(frozen=True)
class Report:
    """Which files of a MIDI data set were used.

    Attributes:
        files: number of MIDI files found.
        songs: number of songs used for training and for testing.
        sixteenths: number of sixteenths of the used songs.
        polyphonic: number of these in which several pitches sound.
        skipped: file -> reason. The part of the reason before a colon is its kind.
    """

    files: int
    songs: tuple[int, int]
    sixteenths: int
    polyphonic: int
    skipped: Mapping[str, str]

    def reasons(self) -> dict[str, int]:
        """Number of files skipped for each kind of reason, the most frequent first."""
        return dict(Counter(reason.split(":")[0] for reason in self.skipped.values()).most_common())

    def __str__(self) -> str:
        skipped = "".join(
            f"\n  skipped {count}: {reason}" for reason, count in self.reasons().items()
        )
        return (
            f"{self.files} files, {self.songs[0]} songs for training and {self.songs[1]} for "
            f"testing used; several pitches at once in {self.polyphonic} of {self.sixteenths} "
            f"sixteenths{skipped}"
        )


@dataclass(frozen=True)
class PianoData:
    """Sequences for training and for testing.

    Attributes:
        name: name of the data with a hash of the sequences.
        train: uint8 [N, 256], symbols 0..128.
        test: int64 [M, 256].
        test_song: int64 [M], the song of each test sequence. Values of one song are not
            independent: average them (``metrics.group_means``) before computing an interval.
        transpose: largest random transposition of a training sequence, in semitones.
        report: which files were used; None for arrays.
    """

    name: str
    train: Tensor
    test: Tensor
    test_song: Tensor
    transpose: int = 6
    report: Report | None = None

    def to(self, device: torch.device | str) -> "PianoData":
        """The same data with the training sequences on a device, where batches are then drawn."""
        return replace(self, train=self.train.to(device))

    def songs(self) -> Tensor:
        """The first test sequence of each song, int64 [S, 256]."""
        first = {song: row for row, song in reversed(list(enumerate(self.test_song.tolist())))}
        return self.test[sorted(first.values())]

    def sample_data(self, n: int, generator: torch.Generator) -> Tensor:
        """n training sequences drawn with replacement and transposed at random.

        The transposition is uniform over those of -``transpose``..``transpose`` semitones that
        keep all pitches of the sequence in 0..127.

        Returns:
            int64 [n, 256] on the generator's device.
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
        """Write ``train.npy``, ``test.npy`` and ``test_song.npy`` for ``arrays.read_arrays``."""
        arrays = {
            "train": self.train,
            "test": self.test.to(torch.uint8),
            "test_song": self.test_song,
        }
        for file, tensor in arrays.items():
            with replacing(Path(folder) / f"{file}.npy") as temporary:
                np.save(temporary, tensor.cpu().numpy())


def hashed_name(path: Path, train: Tensor, test: Tensor) -> str:
    """Name of a folder or zip, followed by the SHA-256 of its sequences."""
    digest = hashlib.sha256()
    for tokens in (train, test):
        digest.update(tokens.to(torch.uint8).contiguous().cpu().numpy().tobytes())
    return f"{path.name} sha256:{digest.hexdigest()}"
