"""Melodies as sound: each note against the sum of sines written out, edges, level, and the file."""

import math
import wave
from fractions import Fraction

import numpy as np
import pytest
import torch

from jumpsteps.tasks.music.melody import runs
from jumpsteps.tasks.music.synth import RATE, render, write_wav

SIXTEENTH = 5512.5  # samples of a sixteenth at 120 beats per minute
MELODY = torch.tensor([60] * 4 + [64] * 2 + [128] * 2 + [100] + [33] * 3 + [127] * 2 + [0] * 2)


def read(path):
    with wave.open(str(path), "rb") as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        return form, np.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.mark.parametrize(
    ("pitch", "hertz"), [(69, 440.0), (45, 110.0), (60, 261.6256), (100, 2637.02), (127, 12543.85)]
)
def test_a_held_note_has_its_pitch(pitch, hertz):
    sound = render(torch.full((32,), pitch))
    spectrum = np.abs(np.fft.rfft(sound, 4 * len(sound)))
    assert abs(spectrum.argmax() * RATE / (4 * len(sound)) - hertz) < min(1.0, 0.005 * hertz)


@pytest.mark.parametrize("pitch", [30, 69, 105])
def test_a_note_is_the_sum_of_its_harmonics(pitch):
    samples = 22050
    t = np.arange(samples) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    decay = 1.2 * math.sqrt(frequency / 440)
    wanted = np.zeros(samples)
    for h in range(1, 9):
        if h * frequency < RATE / 2:
            wanted += np.exp(-h * decay * t) * np.sin(2 * math.pi * h * frequency * t) / h
    rise, fall = np.clip(t / (220 / RATE), 0, 1), np.clip(t[::-1] / (1323 / RATE), 0, 1)
    wanted *= (0.5 - 0.5 * np.cos(math.pi * rise)) * (0.5 - 0.5 * np.cos(math.pi * fall))
    sound = render(torch.full((4,), pitch))
    np.testing.assert_allclose(sound, wanted * 0.8 / np.abs(wanted).max(), atol=1e-9)


@pytest.mark.parametrize("tempo", [4, 97, 120, 133.7, 1000])
def test_the_length_is_right_to_the_sample(tmp_path, tempo):
    tokens = MELODY if tempo < 20 else MELODY.repeat(16)
    wanted = Fraction(60 * 44_100 * len(tokens)) / (4 * Fraction(tempo))
    write_wav(tmp_path / "x.wav", tokens, tempo=tempo)
    form, sound = read(tmp_path / "x.wav")
    assert form == (1, 2, 44_100)
    assert len(sound) == round(wanted)


def test_rests_are_silent_and_the_level_is_that_of_the_loudest_note(tmp_path):
    write_wav(tmp_path / "rests.wav", torch.full((16,), 128))
    assert not read(tmp_path / "rests.wav")[1].any()
    write_wav(tmp_path / "x.wav", MELODY)
    sound = read(tmp_path / "x.wav")[1]
    first, last = round(6 * SIXTEENTH), round(8 * SIXTEENTH)
    assert not sound[first:last].any()
    assert sound[first - 2000 : first].any()
    assert sound[last : last + 2000].any()
    assert np.abs(sound.astype(int)).max() == round(0.8 * 32767)
    quiet = render(MELODY)
    np.testing.assert_array_equal(sound, np.rint(quiet * 32767))


def test_notes_begin_and_end_without_clicks():
    """Around every edge of a note the sound is nearly 0, so that it does not jump there."""
    sound = np.pad(render(MELODY), 20)
    values = [*MELODY.tolist(), None]
    edges = [round(i * SIXTEENTH) for i in range(17) if i == 0 or values[i] != values[i - 1]]
    assert len(edges) == 8
    for edge in edges:
        assert np.abs(sound[20 + edge - 10 : 20 + edge + 10]).max() < 0.01
        assert abs(sound[20 + edge] - sound[20 + edge - 1]) < 1e-9
    assert np.abs(render(torch.tensor([60, 62] * 8), tempo=1000)).max() == pytest.approx(0.8)


def test_a_run_of_equal_pitches_is_one_note():
    edge, near = round(2 * SIXTEENTH), 200  # one period of C4 is 169 samples
    assert np.abs(render(torch.tensor([60] * 4))[edge - near : edge + near]).max() > 0.1
    assert list(runs(torch.tensor([60, 60, 128, 60, 61]))) == [
        (0, 2, 60),
        (2, 3, 128),
        (3, 4, 60),
        (4, 5, 61),
    ]


def test_the_same_melody_is_the_same_file(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, MELODY, tempo=140)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("tokens", "tempo", "message"),
    [
        (
            torch.tensor([60, 129]),
            120,
            "the symbols are 60..129; pitches are 0..127 and a rest is 128",
        ),
        (torch.tensor([-1, 60]), 120, "the symbols are -1..60"),
        (
            torch.zeros(2, 16, dtype=torch.int64),
            120,
            r"one sequence of symbols, got torch.int64 \[2, 16\]; pass one row",
        ),
        (torch.zeros(0, dtype=torch.int64), 120, r"got torch.int64 \[0\]"),
        (torch.zeros(4), 120, r"got torch.float32 \[4\]"),
        (torch.tensor([60]), 0, "the tempo must be 4..1000 beats per minute, got 0"),
        (torch.tensor([60]), 1001.0, "the tempo must be 4..1000 beats per minute, got 1001"),
        (torch.tensor([60]), math.nan, "the tempo must be 4..1000 beats per minute, got nan"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(tmp_path, tokens, tempo, message):
    with pytest.raises(ValueError, match=message):
        write_wav(tmp_path / "x.wav", tokens, tempo=tempo)
    assert not any(tmp_path.iterdir())
