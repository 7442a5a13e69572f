"""Monophonic piano (Campbell et al. 2022, Sec. 6.3; Park et al. 2025, Sec. 4.3).

A sequence is 16 bars of 16 sixteenths, int64 [256], of which the first two bars are observed
(symbols: ``music.melody``). tauLDR's Lakh pianoroll arrays have the same shape and the same 129
symbols, also without a symbol for a held note. Their symbols are in a scrambled order, which
``music.arrays`` reverts.

Metrics compare the 14 generated bars. Every sixteenth counts once, so that notes are weighted by
their duration.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.metrics import hellinger_distance, histogram, outlier_share
from jumpsteps.evaluation.two_sample import histogram_similarity
from jumpsteps.tasks.music import dataset
from jumpsteps.tasks.music.given_melody import read_melody, write_like
from jumpsteps.tasks.music.melody import GIVEN, LENGTH, REST, STEPS_PER_BAR, SYMBOLS, note_name
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
    "show",
    "similarity",
]

MAJOR, HARMONIC_MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def given_bars(tokens: Tensor) -> Given:
    """The first two bars of sequences, int64 [B, 256] or [256], as observed sites."""
    return Given(
        tokens, (torch.arange(tokens.shape[-1], device=tokens.device) < GIVEN).expand_as(tokens)
    )


def note_distance(samples: Tensor, reference: Tensor) -> Tensor:
    """Hellinger distance of the symbol histograms of the generated bars, int64 [B, 256] -> [B].

    The reference is the song itself (Campbell et al. 2022), or another sample with the same given
    bars.
    """
    return hellinger_distance(samples[:, GIVEN:], reference[:, GIVEN:], SYMBOLS)


def note_outliers(samples: Tensor, reference: Tensor) -> Tensor:
    """Share of the generated notes whose pitch is absent from all 16 bars of the reference.

    int64 [B, 256] twice -> float64 [B]. This is the proportion of outliers of Campbell et al.
    (2022); rests do not count as notes, and the given bars count as part of the song. A sample
    without notes has the value 0.
    """
    return outlier_share(samples[:, GIVEN:], reference, SYMBOLS, ignored=REST)


def notes_in_key(samples: Tensor) -> Tensor:
    """Share of the generated notes that are in the key of the given bars, int64 [B, 256] -> [B].

    The key is the scale that contains most of the given notes, among 24: 12 major (each with the
    notes of its natural minor) and 12 harmonic minor. Ties, which include all scales if no note is
    given, are resolved by the number of generated notes in the scale. A sample without notes has
    the value 1.
    """
    given, made = (pitch_classes(part) for part in (samples[:, :GIVEN], samples[:, GIVEN:]))
    members = scales().to(samples.device)
    fits, found = given @ members.T, made @ members.T
    best = found.masked_fill(fits < fits.amax(-1, keepdim=True), -1).amax(-1)
    notes = made.sum(-1)
    return torch.where(notes > 0, best / notes.clamp_min(1), 1.0)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Minus the Hellinger distances of two features' histograms, added: int64 [n, 256], [m, 256] ->
    float64 [n, m].

    The features of the generated bars are the notes relative to the median note of the given bars,
    and the intervals between neighbouring sixteenths. Neither depends on the key, so that different
    songs can be compared.
    """
    return sum(
        (histogram_similarity(f(x), f(y)) for f in (notes_from_given, intervals)),
        torch.zeros(len(x), len(y), dtype=torch.float64, device=x.device),
    )


def notes_from_given(tokens: Tensor) -> Tensor:
    """Semitones from the median given note, or from middle C without one, as symbols 0..255, and
    256 for a rest: int64 [B, 256] -> int64 [B, 224].
    """
    given, made = tokens[:, :GIVEN], tokens[:, GIVEN:]
    notes = given.to(torch.float64).masked_fill(given == REST, torch.nan)
    centre = notes.nanmedian(1, keepdim=True).values.nan_to_num(60.0).to(torch.int64)
    return torch.where(made == REST, 256, made - centre + 128)


def intervals(tokens: Tensor) -> Tensor:
    """Semitones between neighbouring sixteenths as symbols 0..255; 256, 257 and 258 where the
    first, the second or both are rests: int64 [B, 256] -> int64 [B, 223].
    """
    before, after = tokens[:, GIVEN:-1], tokens[:, GIVEN + 1 :]
    rests = (before == REST).to(torch.int64) + 2 * (after == REST).to(torch.int64)
    return torch.where(rests > 0, 255 + rests, after - before + 128)


def pitch_classes(tokens: Tensor) -> Tensor:
    """Number of sixteenths in which C, C#, ..., B sound: int64 [B, L] -> float64 [B, 12]."""
    counts = histogram(tokens, SYMBOLS)[:, :REST]
    return torch.nn.functional.pad(counts, (0, -REST % 12)).unflatten(1, (-1, 12)).sum(1)


def scales() -> Tensor:
    """Membership of the 12 pitch classes in the 24 scales, 0 or 1, float64 [24, 12]."""
    members = torch.zeros(24, 12, dtype=torch.float64)
    for row in range(24):
        steps = MAJOR if row < 12 else HARMONIC_MINOR
        members[row, [(row + step) % 12 for step in steps]] = 1
    return members


def ngram_overlap(samples: Tensor, n: int = 3) -> Tensor:
    """Share of the generated n-grams of notes that occur in the given bars, int64 [B, 256] -> [B].

    A note is a run of equal pitches; durations and rests are ignored. The value is 0 if fewer than
    n notes are generated.
    """
    return torch.tensor([overlap(row, n) for row in samples.cpu()], dtype=torch.float64)


def overlap(tokens: Tensor, n: int) -> float:
    given, made = ngrams(tokens[:GIVEN], n), ngrams(tokens[GIVEN:], n)
    return sum(each in given for each in made) / len(made) if made else 0.0


def ngrams(tokens: Tensor, n: int) -> list[tuple[int, ...]]:
    notes = [pitch for pitch in tokens.unique_consecutive().tolist() if pitch != REST]
    return [tuple(notes[i : i + n]) for i in range(len(notes) - n + 1)]


def show(sample: Tensor) -> str:
    """One sequence as text, one line per bar: the note's name at its onset, '.' held, '-' rest."""
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


def no_data(n: int, generator: torch.Generator) -> Tensor:
    raise ValueError(
        "the task piano brings no data; pass --data PATH: a folder or zip of MIDI files such as "
        "POP909, a folder of arrays, or a .npy or .npz file of tokens [n, 256]"
    )


def read_data(path: Path, n: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """n training sequences, int64 [n, 256], and the data's name; see ``dataset.read_songs``."""
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
    read_given=read_melody,
    write_as=write_like,
    write_needs=("matplotlib", "mido"),
    read_data=read_data,
    similarity=similarity,
    gallery="piano-roll",
    given_name="First two bars (MIDI)",
    given_suffixes=(".mid", ".midi"),
)
