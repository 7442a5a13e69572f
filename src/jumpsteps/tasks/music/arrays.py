"""Melodies stored as numpy arrays, such as tauLDR's Lakh pianoroll data set."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.files import read_numpy
from jumpsteps.tasks.music.melody import LENGTH, SYMBOLS
from jumpsteps.tasks.music.piano_data import PianoData, hashed_name

__all__ = ["read_arrays"]


def read_arrays(folder: Path | str, *, scrambled: bool = False, transpose: int = 6) -> PianoData:
    """Read ``train.npy`` and ``test.npy``, integers [n, 256] in 0..128.

    Both tauLDR's data set and ``PianoData.save`` have this layout.

    tauLDR's arrays hold the symbols in a scrambled order. If ``descramble_key.txt`` lies beside
    them, it is applied: line i holds the symbol that i stands for, and 128 is taken to be the rest.
    Without ``test_song.npy`` every test sequence counts as a song of its own.

    Args:
        scrambled: keep the scrambled symbols, which tauLDR's published network was trained on.
            They are not transposed.
        transpose: see ``PianoData``.

    Raises:
        ValueError: a missing file, or an array of other shape, dtype or values.
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
                f"{folder} has {len(test)} test sequences and {len(song_of)} numbers of their "
                "songs; write it again"
            )
    return PianoData(
        hashed_name(folder, train, test),
        train.to(torch.uint8),
        test,
        song_of,
        0 if scrambled else transpose,
    )


def read_tokens(path: Path) -> Tensor:
    """Sequences of a .npy file, int64 [n, 256]."""
    tokens = read_array(path)
    if tokens.ndim != 2 or tokens.shape[1] != LENGTH or not len(tokens):
        raise ValueError(f"{path} holds an array {list(tokens.shape)}; expected [n, {LENGTH}]")
    if int(tokens.min()) < 0 or int(tokens.max()) >= SYMBOLS:
        raise ValueError(
            f"{path} holds symbols {int(tokens.min())}..{int(tokens.max())}; "
            f"expected 0..{SYMBOLS - 1}"
        )
    return tokens


def read_array(path: Path) -> Tensor:
    """A .npy file of integers, as int64."""
    try:
        array = read_numpy(path).get("")
    except FileNotFoundError:
        raise ValueError(
            f"there is no file {path}; expected train.npy and test.npy in the folder"
        ) from None
    except ValueError:
        array = None
    if array is None or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{path} is not a .npy file of integers; write it again")
    return torch.from_numpy(array.astype(np.int64))


def read_key(path: Path) -> Tensor:
    """The symbols that the scrambled ones stand for, int64 [129]."""
    try:
        numbers = [float(word) for word in path.read_text(encoding="utf-8").split()]
    except ValueError:
        numbers = []
    if sorted(numbers) != list(range(SYMBOLS)):
        raise ValueError(
            f"{path} is not an order of the symbols 0..{SYMBOLS - 1}; download it again"
        )
    return torch.tensor(numbers).to(torch.int64)
