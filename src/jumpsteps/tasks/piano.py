"""Monophonic piano (Campbell et al. 2022, Sec. 6.3; Park et al. 2025, Sec. 4.3): 16 bars of 16 sixteenths, the first two given.

A sequence is int64 [256] (symbols: ``melody``). tauLDR's Lakh pianoroll arrays have the same shape, the same 129 symbols
and no symbol for holding either, but their symbols are in a scrambled order, for which a key is published beside them:
``tasks.music.dataset``.

Metrics compare the generated 14 bars; notes are weighed by their length, as every sixteenth counts once.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.metrics import hellinger, histogram, outlier_share
from jumpsteps.tasks.music import dataset
from jumpsteps.tasks.music.melody import GIVEN, LENGTH, REST, STEPS_PER_BAR, SYMBOLS, note_name
from jumpsteps.tasks.music.midi import read_steps
from jumpsteps.tasks.music.song import write_song
from jumpsteps.tasks.task import Task

__all__ = [
    "GIVEN",
    "LENGTH",
    "STEPS_PER_BAR",
    "SYMBOLS",
    "TASK",
    "given_bars",
    "ngram_overlap",
    "note_distance",
    "note_outliers",
    "notes_in_key",
    "read_given",
    "show",
]

MAJOR, HARMONIC_MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def given_bars(tokens: Tensor) -> Given:
    """The first two bars of sequences, int64 [B, 256] or [256], as given sites."""
    return Given(
        tokens, (torch.arange(tokens.shape[-1], device=tokens.device) < GIVEN).expand_as(tokens)
    )


def note_distance(samples: Tensor, reference: Tensor) -> Tensor:
    """The Hellinger distance of the histograms of the 129 symbols in the generated bars, int64 [B, 256] twice -> float64 [B].

    The reference is the song itself (Campbell et al. 2022), or another sample with the same given bars.
    """
    return hellinger(samples[:, GIVEN:], reference[:, GIVEN:], SYMBOLS)


def note_outliers(samples: Tensor, reference: Tensor) -> Tensor:
    """The share of the generated notes whose pitch the reference has in none of its 16 bars, int64 [B, 256] twice -> float64 [B].

    This is the proportion of outliers of Campbell et al. (2022), read so that rests are no notes and the given bars belong to the
    song. A sample without notes has none.
    """
    return outlier_share(samples[:, GIVEN:], reference, SYMBOLS, ignored=REST)


def notes_in_key(samples: Tensor) -> Tensor:
    """The share of the generated notes that are in the key of the given bars, int64 [B, 256] -> float64 [B].

    The key is that of 24 scales, 12 major (each with the notes of its natural minor) and 12 harmonic minor, which has most of the
    given notes. Few notes fit many scales: of equally good ones that with most of the generated notes is taken, and with no note
    given it is chosen among all. A sample without notes has no note out of key: 1.
    """
    given, made = (pitch_classes(part) for part in (samples[:, :GIVEN], samples[:, GIVEN:]))
    members = scales().to(samples.device)
    fits, found = given @ members.T, made @ members.T
    best = found.masked_fill(fits < fits.amax(-1, keepdim=True), -1).amax(-1)
    notes = made.sum(-1)
    return torch.where(notes > 0, best / notes.clamp_min(1), 1.0)


def pitch_classes(tokens: Tensor) -> Tensor:
    """How many sixteenths each of C, C#, ..., B sounds: int64 [B, L] -> float64 [B, 12]."""
    counts = histogram(tokens, SYMBOLS)[:, :REST]
    return torch.nn.functional.pad(counts, (0, -REST % 12)).unflatten(1, (-1, 12)).sum(1)


def scales() -> Tensor:
    """Which notes belong to each of the 24 scales, float64 [24, 12]."""
    members = torch.zeros(24, 12, dtype=torch.float64)
    for row in range(24):
        steps = MAJOR if row < 12 else HARMONIC_MINOR
        members[row, [(row + step) % 12 for step in steps]] = 1
    return members


def ngram_overlap(samples: Tensor, n: int = 3) -> Tensor:
    """The share of the generated bars' n-grams of notes that occur in the given bars, int64 [B, 256] -> float64 [B].

    Notes are the runs of equal pitches, whatever their length and the rests between them. 0 where no n notes were generated.
    """
    return torch.tensor([overlap(row, n) for row in samples.cpu()], dtype=torch.float64)


def overlap(tokens: Tensor, n: int) -> float:
    given, made = ngrams(tokens[:GIVEN], n), ngrams(tokens[GIVEN:], n)
    return sum(each in given for each in made) / len(made) if made else 0.0


def ngrams(tokens: Tensor, n: int) -> list[tuple[int, ...]]:
    notes = [pitch for pitch in tokens.unique_consecutive().tolist() if pitch != REST]
    return [tuple(notes[i : i + n]) for i in range(len(notes) - n + 1)]


def show(sample: Tensor) -> str:
    """One sequence as text, a line for each bar: a note by its name where it begins, '.' while it is held, '-' for rests."""
    cells = [name(pitch) for pitch in sample[:1].tolist()]
    cells += [
        ("-" if now == REST else ".") if now == before else name(now)
        for before, now in pairwise(sample.tolist())
    ]
    return "\n".join(
        " ".join(f"{cell:3s}" for cell in cells[i : i + STEPS_PER_BAR]).rstrip()
        for i in range(0, len(cells), STEPS_PER_BAR)
    )


def name(symbol: int) -> str:
    return "-" if symbol == REST else note_name(symbol)


def read_given(path: Path, length: int) -> Given:
    """The first two bars of a MIDI file's melody as given sites, [L]: from the bar in which the first note begins.

    The melody is the first track that has notes; of several pitches at once the highest is kept.

    Raises:
        ValueError: a file that cannot be read, or that ends within these two bars.
    """
    tokens = read_steps(path).tokens
    known = tokens[int((tokens != REST).nonzero()[0]) // STEPS_PER_BAR * STEPS_PER_BAR :][:GIVEN]
    if len(known) < GIVEN:
        raise ValueError(
            f"{path} has {len(known)} sixteenths from the bar of its first note, two bars are {GIVEN}; pass more"
        )
    filled = torch.full((length,), REST)
    filled[:GIVEN] = known
    return given_bars(filled)


def no_data(n: int, generator: torch.Generator) -> Tensor:
    raise ValueError(
        "the task piano brings no data; pass --data PATH: a folder or zip of MIDI files such as POP909, a folder of arrays, or a "
        ".npy or .npz file of tokens [n, 256]"
    )


def read_data(path: Path, n: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """n training sequences of a folder or zip, int64 [n, 256], and the data's name; see ``dataset.read_songs``."""
    data = dataset.read_songs(path)
    return data.sample_data(n, generator), data.name


TASK = Task(
    name="piano",
    length=LENGTH,
    symbols=SYMBOLS,
    sample_data=no_data,
    metric=lambda samples: 1 - notes_in_key(samples),
    metric_name="notes out of key",
    show=show,
    write=write_song,
    read_given=read_given,
    read_data=read_data,
)
