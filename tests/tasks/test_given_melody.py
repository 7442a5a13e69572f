"""What a continuation keeps of the song that it continues: tempo, repeated notes; or names it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.midi import midi, note, signature, tempo, track
from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.tasks import piano
from jumpsteps.tasks.music.given_melody import GivenMelody, read_melody, write_like
from jumpsteps.tasks.music.melody import REST, notes
from jumpsteps.tasks.music.midi import read_steps, read_track
from jumpsteps.tasks.music.synth import render

pytest.importorskip("mido")
SIXTEENTH = 120
"""In ticks of 480 to a beat."""


def song(path, *events, first=0):
    """Eight quarter notes of one pitch, each held to the next, and a long note."""
    quarters = [
        one
        for i in range(8)
        for one in note((first + 4 * i) * SIXTEENTH, (first + 4 * i + 4) * SIXTEENTH, 60)
    ]
    last = note((first + 32) * SIXTEENTH, (first + 48) * SIXTEENTH, 64)
    Path(path).write_bytes(midi(track(*events, *quarters, *last)))
    return path


def onsets_of(path):
    """Where the notes of a file begin, in sixteenths."""
    found = read_track(path)
    return (found.start / SIXTEENTH * 480 / found.ticks_per_beat).astype(int).tolist()


def test_repeated_notes_and_the_tempo_are_read(tmp_path):
    given = read_melody(song(tmp_path / "s.mid", tempo(0, 400_000)), 256)
    assert given.tempo == pytest.approx(150)
    assert given.onsets.nonzero()[:, 0].tolist() == list(range(0, 32, 4))
    assert (given.tokens[:32] == 60).all()
    assert (given.tokens[32:] == REST).all()
    assert given.remarks == ()


def test_samples_keep_the_tempo_and_the_repeated_notes(tmp_path):
    """The given C is struck eight times, the one that was sampled after it is one note."""
    given = read_melody(song(tmp_path / "s.mid", tempo(0, 400_000)), 256)
    sample = torch.where(given.mask, given.tokens, 62)
    write_like(given)(tmp_path / "a", sample, given.mask)
    assert onsets_of(tmp_path / "a.mid") == [*range(0, 32, 4), 32]
    read = read_steps(tmp_path / "a.mid")
    assert torch.equal(read.tokens, sample)
    assert read.beats_per_minute == pytest.approx(150)
    seconds = 256 / 4 * 60 / 150
    assert (tmp_path / "a.wav").stat().st_size == pytest.approx(2 * 44_100 * seconds, rel=1e-3)
    write_like(Given(given.tokens, given.mask))(tmp_path / "b", sample, given.mask)
    assert onsets_of(tmp_path / "b.mid") == [0, 32]


def test_repeated_notes_are_heard():
    tokens = torch.full((8,), 60)
    once = render(tokens)
    twice = render(tokens, onsets=torch.arange(8) == 4)
    half = len(once) // 2
    assert np.array_equal(once[: half - 2000], twice[: half - 2000])
    assert abs(twice[half]) < 1e-6 < abs(once[half])


def test_notes_begin_at_onsets_within_a_run():
    tokens = torch.tensor([60, 60, 60, REST, REST, 62])
    assert [*notes(tokens)] == [(0, 3, 60), (3, 5, REST), (5, 6, 62)]
    onsets = torch.tensor([True, False, True, True, True, True])
    assert [*notes(tokens, onsets)] == [(0, 2, 60), (2, 3, 60), (3, 5, REST), (5, 6, 62)]
    random = torch.randint(60, 62, (99,), generator=seeded(0))
    everywhere = [*notes(random, torch.ones(99, dtype=torch.bool))]
    assert everywhere == [(i, i + 1, int(pitch)) for i, pitch in enumerate(random)]


def test_of_notes_at_once_only_those_that_are_read_have_onsets(tmp_path):
    low = [one for i in range(8) for one in note(4 * i * SIXTEENTH, 4 * (i + 1) * SIXTEENTH, 48)]
    held = note(0, 48 * SIXTEENTH, 67)
    (tmp_path / "s.mid").write_bytes(midi(track(*low, *held)))
    given = read_melody(tmp_path / "s.mid", 256)
    assert given.onsets.nonzero()[:, 0].tolist() == [0]
    (remark,) = given.remarks
    assert "several notes at once in 32 sixteenths; the highest is read" in remark


def test_a_meter_that_the_model_does_not_know_is_named(tmp_path):
    """Bars of 3/4 have 12 sixteenths: a song from the second bar on is given from there."""
    three = signature(0, 3, 2)
    given = read_melody(song(tmp_path / "s.mid", three, first=12), 256)
    assert (given.tokens[:32] == 60).all()
    (remark,) = given.remarks
    assert "s.mid is in 3/4, and the model knows 4/4 alone: 32 sixteenths" in remark
    four = read_melody(song(tmp_path / "t.mid", signature(0, 4, 2), first=12), 256)
    assert four.tokens[:16].tolist() == [REST] * 12 + [60] * 4
    assert four.remarks == ()
    assert read_melody(song(tmp_path / "u.mid", signature(0, 2, 1)), 256).remarks == ()


def test_changes_of_tempo_are_named(tmp_path):
    changes = tempo(0, 500_000), tempo(16 * SIXTEENTH, 250_000)
    (remark,) = read_melody(song(tmp_path / "s.mid", *changes), 256).remarks
    assert "changes its tempo; samples keep the one at its first note, 120 beats" in remark
    slow = read_melody(song(tmp_path / "t.mid", tempo(0, 16_000_000)), 256)
    assert slow.tempo == 4


def test_a_given_melody_stays_one_on_another_device():
    given = GivenMelody(torch.zeros(2, 4).long(), torch.ones(2, 4) > 0, ("a",), tempo=90.0)
    moved = given.to(torch.device("cpu")).at_rows(slice(1))
    assert (type(moved), moved.tempo, moved.remarks) == (GivenMelody, 90.0, ("a",))
    assert moved.tokens.shape == (1, 4)


def test_the_task_reads_and_writes_so():
    assert piano.TASK.read_given is read_melody
    assert piano.TASK.write_as is write_like
