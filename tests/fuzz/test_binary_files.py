"""Damaged weights, pickles with code in them, MIDI files, and templates."""

import io
import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from builders.checkpoints import SEDD, sedd_folder
from builders.fuzzing import changed, damaged, fuzzed, refused_in_one_line
from builders.midi import midi, note, signature, tempo, track
from builders.tauldr_checkpoints import tauldr_folder
from builders.text import save_words
from jumpsteps.cli.sequence_files import given_template
from jumpsteps.models.load import load
from jumpsteps.models.tokenizer import Text, read_tokenizer
from jumpsteps.models.unread import read_safetensors
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.tasks.antibodies import RESIDUES, ResidueTokens
from jumpsteps.tasks.image_files import read_batch
from jumpsteps.tasks.music.midi import read_steps, write_steps
from jumpsteps.training.loop import read_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


WEIGHTS = save({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)})
HEADER = json.loads(WEIGHTS[8 : 8 + struct.unpack("<Q", WEIGHTS[:8])[0]])


@st.composite
def safetensors_files(draw):
    """A header whose JSON is changed, or whose bytes or length are."""
    if draw(st.booleans()):
        return draw(damaged(WEIGHTS))
    header = json.dumps(draw(changed(HEADER))).encode()
    size = draw(st.sampled_from([len(header)] * 4 + [0, len(header) + 1, 2**63, 2**64 - 1]))
    return struct.pack("<Q", size) + header + bytes(draw(st.sampled_from([0, 31, 32, 33])))


@given(content=safetensors_files())
@fuzzed(14)
def test_safetensors(folder, content):
    path = folder / "model.safetensors"
    path.write_bytes(content)
    refused_in_one_line(lambda: read_safetensors(path))


class Payload:
    """Pickled, it is code that creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def pickled(content, plain):
    """As ``torch.save`` writes it, or as pickle alone does."""
    if plain:
        return pickle.dumps(content)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def with_code(folder):
    """Files of weights or of a training state; one or another value is code in most of them."""
    weight = {"vocab_embed.embedding": torch.ones(2, 3)}
    state = dict.fromkeys(("step", "seconds", "config", "network", "optimizer", "average"), 1)
    state |= {"model": weight, "data": b"", "ema_shadow_params": []}
    code = Payload(folder / "marker")
    places = [weight, code, [code], {"model": code}, {**weight, "code": code}, {code: 1}]
    places += [{**state, name: code} for name in state] + [state]
    return [pickled(content, plain) for content in places for plain in (False, True)]


@given(data=st.data())
@fuzzed(8)
def test_no_code_in_a_pickle_is_run(folder, with_code, data):
    marker = folder / "marker"
    marker.unlink(missing_ok=True)
    content = data.draw(st.sampled_from(with_code))
    if data.draw(st.booleans()):
        content = data.draw(damaged(content))
    sedd, tauldr = folder / "sedd", folder / "tauldr"
    if not sedd.exists():
        sedd_folder(sedd, SEDD, pickled=True)
        tauldr_folder(tauldr, "piano")
    state, batch = folder / "training.pt", folder / "data_batch_1"
    for path in (sedd / "pytorch_model.bin", tauldr / "ckpt_0000000007.pt", state, batch):
        path.write_bytes(content)
    refused_in_one_line(lambda: load(sedd))
    refused_in_one_line(lambda: load(tauldr))
    refused_in_one_line(lambda: read_state(state))
    refused_in_one_line(lambda: read_batch(batch))
    assert not marker.exists()


def test_the_code_in_the_pickles_would_run(folder):
    marker = folder / "would"
    pickle.loads(pickled(Payload(marker), plain=True))
    assert marker.exists()


SONGS = [
    midi(
        track((*tempo(0, 500_000),), signature(0, 4, 2), tempo(960, 400_000)),
        track(*note(0, 480, 60), *note(480, 600, 64), *note(480, 960, 67), name="MELODY", at=1920),
    ),
    midi(track(*note(0, 120, 60, channel=9), *note(120, 130, 127)), ticks=96),
]


@given(content=st.sampled_from(SONGS).flatmap(damaged) | st.binary(max_size=60))
@fuzzed(14)
def test_midi(folder, content):
    steps = refused_in_one_line(lambda: read_steps(content))
    if steps is not None:
        assert 0 <= int(steps.tokens.min()) <= int(steps.tokens.max()) <= 128
        refused_in_one_line(
            lambda: write_steps(
                folder / "again.mid",
                steps.tokens,
                beats_per_minute=steps.beats_per_minute,
                onsets=steps.onsets,
            )
        )


@pytest.fixture(scope="module")
def words(folder):
    save_words(folder / "words", ["[UNK]", "[MASK]", "one", "two"], mask_token="[MASK]")
    forward = Absorbing(vocab_size=4, mask_id=1, noise=LogLinear())
    return Text(read_tokenizer(folder / "words", trusted=False), forward)


LETTERS = ResidueTokens({letter: i for i, letter in enumerate(RESIDUES)})
PIECES = ["[MASK]", "[MASK 3]", "[MASK 0]", "[MASK 99999999999]", "[MASK -1]", "[MASK", " ", "one"]
PIECES += ["two", "\n", "?", "A", "C", "*", "\0", "\ud800", "é", "[MASK ٣]", "[MASK " + "9" * 5000]


@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6))
@fuzzed(8)
def test_templates(words, pieces):
    template = "".join(pieces)
    for read in (lambda: given_template(template, words), lambda: LETTERS.template(template)):
        given_sites = refused_in_one_line(read)
        assert given_sites is None or 0 < int((~given_sites.mask).sum()) <= 6 << 20
