"""Galleries: what a report shows of samples, against the files that other programs read."""

import base64
import io
import re
import wave

import numpy as np
import pytest
import torch

from jumpsteps.evaluation.examples import Examples
from jumpsteps.tasks.galleries import (
    SOUND_RATE,
    countdown_gallery,
    piano_gallery,
)
from jumpsteps.tasks.music.melody import REST
from jumpsteps.tasks.music.synth import render


def test_both_sites_of_a_broken_pair_are_marked():
    content, note = countdown_gallery(Examples(((3, 2, 0, 3, 2),), ((1, 1, 2, 2, 2),)), 2)
    assert re.findall(r'<i class="(\w+)"', content) == ["c0", "wrong", "wrong", "c9", "c9"]
    assert note == "1 of 4 pairs broken"
    assert countdown_gallery(Examples(((1, 0),), ((1, 1),)), 1)[1] == "no pair broken"


def test_a_note_is_cut_where_its_step_changes_and_sounds_as_it_was_written():
    tokens, steps = (60, 60, 60, REST, 64), (-1, 1, 1, 2, 2)
    content, note = piano_gallery(Examples((tokens,), (steps,)), 2)
    notes = re.findall(r'<rect class="note (\w+)" data-s="(\d)" x="([\d.]+)"', content)
    assert notes == [("given", "0", "0"), ("c0", "1", "96"), ("c9", "2", "384")]
    assert note == "given bars in grey"
    data = base64.b64decode(re.search(r"audio/wav;base64,([^\"]+)", content)[1])
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == SOUND_RATE
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / (2**15 - 1)
    expected = render(torch.tensor(tokens), rate=SOUND_RATE)
    assert np.allclose(sound, expected, atol=1e-4)


def test_the_rate_of_a_sound_changes_neither_length_nor_pitch():
    tokens = torch.tensor([69] * 16)
    for rate in (SOUND_RATE, 44_100):
        sound = render(tokens, rate=rate)
        assert len(sound) == 2 * rate
        assert np.argmax(np.abs(np.fft.rfft(sound))) == pytest.approx(880, abs=1)
    assert not render(torch.tensor([127] * 4), rate=SOUND_RATE).any()


def test_a_melody_of_rests_is_a_picture_without_notes():
    content, note = piano_gallery(Examples(((REST,) * 4,), ((1, 1, 1, 1),)), 1)
    assert "note c" not in content
    assert note == ""
