"""The recipe ``text``: documents to a masked model that writes the same words."""

import json

import pytest
import torch

from builders.command_line import run
from builders.text import save_words
from jumpsteps import load
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.training import text_recipe as module
from jumpsteps.training.recipes import RECIPES
from jumpsteps.training.text_recipe import read_text, text_recipe

VOCAB = ["[UNK]", "[END]", *(f"w{i}" for i in range(10))]
FORWARD = Absorbing(vocab_size=len(VOCAB) + 1, noise=LogLinear())
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The folder of a tokenizer of twelve words."""
    folder = tmp_path_factory.mktemp("words")
    save_words(folder, VOCAB, eos_token="[END]")
    return str(folder)


def test_the_tokenizer_decides_the_vocabulary(words):
    recipe = text_recipe(words)
    assert recipe.forward.vocab_size == recipe.network.vocab_size == len(VOCAB) + 1
    assert recipe.forward.mask_id == len(VOCAB)
    usual = RECIPES["text"]
    assert usual.forward.vocab_size == 8193
    assert usual.network.hidden_size == recipe.network.hidden_size


def test_one_document_in_twenty_is_held_out(tmp_path, words):
    # Documents 19 and 39 say w9, all others w1.
    rows = [{"text": " ".join(["w9" if i % 20 == 19 else "w1"] * 7)} for i in range(45)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    books = read_text(tmp_path / "a.jsonl", CPU, forward=FORWARD, length=8, tokenizer=words)
    end, held_out = VOCAB.index("[END]"), VOCAB.index("w9")
    assert books.test.tolist() == [[held_out] * 7 + [end]] * 2
    train = books.train.tokens.tolist()
    assert train == ([VOCAB.index("w1")] * 7 + [end]) * 43
    assert books.sample_data(5, torch.Generator().manual_seed(0)).shape == (5, 8)


def test_the_end_of_a_single_text_is_held_out(tmp_path, words):
    (tmp_path / "a.txt").write_text("w1 " * 190 + "w2 " * 9)
    books = read_text(tmp_path / "a.txt", CPU, forward=FORWARD, length=5, tokenizer=words)
    assert books.test.flatten().tolist() == [VOCAB.index("w2")] * 9 + [VOCAB.index("[END]")]
    assert set(books.train.tokens.tolist()) == {VOCAB.index("w1")}
    with pytest.raises(ValueError, match=r"holds 200 tokens, of which 10 are held out; training "):
        read_text(tmp_path / "a.txt", CPU, forward=FORWARD, length=11, tokenizer=words)


def test_training_and_sampling_on_the_command_line(tmp_path, words, monkeypatch, capsys):
    monkeypatch.setattr(module, "LENGTH", 16)
    monkeypatch.setattr(
        module, "SIZES", {"hidden_size": 16, "n_blocks": 1, "n_heads": 2, "cond_dim": 8}
    )
    (tmp_path / "a.txt").write_text("w1 w2 w3 " * 200)
    out = tmp_path / "model"
    asked = f"train text --tokenizer {words} --steps 2 --batch 4"
    code, printed, error = run(capsys, asked, "--data", tmp_path / "a.txt", "--out", out)
    assert code == 0, error
    assert "finished; checkpoint in" in printed
    model = load(str(out))
    assert model.length == 16
    assert model.text.decode(model.text.encode("w3 w1")) == "w3 w1"
    code, printed, error = run(
        capsys, "sample", out, "--nfe 2 -n 2 --prompt w1", "-o", tmp_path / "s"
    )
    assert code == 0, error
    assert printed.count("w1")


def test_a_tokenizer_is_for_text_only(tmp_path, words, capsys):
    asked = f"train countdown --tokenizer {words} --out"
    code, _, error = run(capsys, asked, tmp_path)
    assert code == 1
    assert "the recipe countdown has no text; leave out --tokenizer" in error
