"""Files of tokens, texts and observed sites, by a text whose tokens are the numbers in it."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jumpsteps.cli.sequence_files import (
    document_tokens,
    given_prompt,
    given_template,
    load_given,
    load_tokens,
    may_hold_tokens,
    random_run,
)
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

SEPARATOR = 77


class Numbers:
    """Text of numbers between blanks; 99 is unknown."""

    separator = [SEPARATOR]  # noqa: RUF012
    tokenizer = SimpleNamespace(unk_token="[UNK]")

    def encode(self, text):
        return [int(word, 36) for word in text.split()]

    def unknown(self, text):
        return [word for word in text.split() if word == "99"]


class Letters(Numbers):
    """One token for each character."""

    def encode(self, text):
        return [ord(letter) for letter in text]


class Words(Numbers):
    """One token for a word and the blank before it, if there is one; one for another blank."""

    def encode(self, text):
        return [sum(map(ord, piece)) for piece in re.findall(r" ?\w+| ", text)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_names_of_files_that_may_hold_tokens(tmp_path):
    np.savez(tmp_path / "tokens.npz", tokens=[1])
    np.savez(tmp_path / "samples.npz", samples=[1], other=[2])
    np.savez(tmp_path / "other.npz", other=[2])
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    for name in ("tokens.npz", "samples.npz", "broken.npz", "none.npz", "none.npy", "A.NPY"):
        assert may_hold_tokens(tmp_path / name), name
    for name in ("other.npz", "song.mid", "folder", "x.fasta"):
        assert not may_hold_tokens(tmp_path / name), name


def test_rows_are_drawn_without_replacement(tmp_path):
    np.save(tmp_path / "d.npy", np.arange(12, dtype=np.int32).reshape(6, 2))
    found, name = load_tokens(tmp_path / "d.npy", 4, seeded(0))
    assert (found.shape, found.dtype) == ((4, 2), torch.int64)
    assert len(found.unique(dim=0)) == 4
    assert (found[:, 1] == found[:, 0] + 1).all()
    assert name.startswith("d.npy sha256:")
    every, _ = load_tokens(tmp_path / "d.npy", 99, seeded(0))
    assert every[:, 0].sort().values.tolist() == [0, 2, 4, 6, 8, 10]
    assert every[:, 0].tolist() != sorted(every[:, 0].tolist())
    assert torch.equal(every[:4], found)


def test_documents_are_joined_by_separators():
    documents = ["1 1 1", "", "2 2", "3"]
    for seed in range(8):
        joined = document_tokens(documents, Numbers(), 7, 9, seeded(seed))
        assert joined.count(SEPARATOR) == 2
        runs = " ".join(map(str, joined)).split(f" {SEPARATOR} ")
        assert sorted(runs) == ["1 1 1", "2 2", "3"]
    assert document_tokens(["1 2 3"], Numbers(), 1, 1, seeded(0)) == [1, 2, 3]


def test_no_more_documents_are_read_than_needed():
    """One of 3 tokens or less, as soon as there are n times L."""
    documents = [" ".join(["1"] * 20), " ".join(["2"] * 20)]
    joined = document_tokens(documents, Numbers(), 1, 4, seeded(0))
    assert joined in ([1] * 4, [2] * 4)  # Four sequences' worth of one of them.
    joined = document_tokens(documents, Numbers(), 1, 5, seeded(0))
    assert sorted(joined) == [1] * 4 + [2] * 4 + [SEPARATOR]
    joined = document_tokens(documents, Numbers(), 1, 40, seeded(0))
    assert sorted(joined) == [1] * 20 + [2] * 20 + [SEPARATOR]


def test_every_run_of_a_document_may_be_taken():
    tokens = list(range(5))
    found = {tuple(random_run(tokens, 3, seeded(seed))) for seed in range(40)}
    assert found == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}
    for most in (None, 5, 9):
        assert random_run(tokens, most, seeded(0)) == tokens
    assert len({tuple(random_run(tokens, 4, seeded(seed))) for seed in range(20)}) == 2


def test_a_prompt_and_a_suffix_are_the_ends(capsys):
    given = given_prompt("1 2", Numbers(), 5, suffix="3")
    assert given.mask.tolist() == [True, True, False, False, True]
    assert given.tokens[given.mask].tolist() == [1, 2, 3]
    assert given_prompt("", Numbers(), 3, suffix="3 4").mask.tolist() == [False, True, True]
    assert capsys.readouterr().err == ""
    given_prompt("99 1", Numbers(), 9, suffix="99")
    assert capsys.readouterr().err == "note: the tokenizer reads '99' as [UNK]\n"


@pytest.mark.parametrize(
    ("prompt", "suffix", "message"),
    [
        ("1 2 3", "", "the prompt has 3 tokens; with 3 sites there must be 1..2, so that at least"),
        ("", "1 2 3", "the suffix has 3 tokens"),
        ("1 2", "3", "prompt and suffix have 3 tokens"),
        ("", "", "the prompt has 0 tokens"),
    ],
)
def test_prompts_leave_a_site_free(prompt, suffix, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        given_prompt(prompt, Numbers(), 3, suffix=suffix)


@pytest.mark.parametrize(
    ("template", "sites"),
    [
        ("1 [MASK] 2 [MASK 3]", [1, None, 2, None, None, None]),
        ("[MASK][MASK 2]", [None] * 3),
        ("[MASK] 1 2", [None, 1, 2]),
    ],
)
def test_gaps_of_a_template(template, sites):
    given = given_template(template, Numbers())
    assert given.mask.tolist() == [site is not None for site in sites]
    assert given.tokens[given.mask].tolist() == [site for site in sites if site is not None]


def test_a_blank_before_a_gap_is_of_the_token_that_fills_it_or_one_of_its_own():
    """Where a blank and a letter are one token, and where they are two."""
    template = "1 [MASK] 2 [MASK]"
    known = [ord(letter) for letter in "1  2 "]
    assert given_template(template, Letters()).tokens.tolist() == [*known[:2], 0, *known[2:], 0]
    assert given_template(template, Words()).tokens.tolist() == [
        ord("1"),
        0,
        ord(" ") + ord("2"),
        0,
    ]


def test_templates_that_cannot_be():
    largest = given_template("[MASK 1048576]", Numbers())
    assert len(largest.mask) == 1 << 20
    for template, message in (
        ("1 2", r"the template has no \[MASK\]; put one where a token is to be sampled"),
        ("1 [MASK 0]", r"the template holds '\[MASK 0\]', a gap of no token; leave it out"),
        ("[MASK 1048577]", "a gap has at most 1048576 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            given_template(template, Numbers())


def test_observed_sites_that_cannot_be(tmp_path):
    forward, file = Absorbing(vocab_size=6, noise=LogLinear()), tmp_path / "g.npz"
    rows, free = np.zeros((2, 4), int), np.zeros((2, 4), bool)
    for tokens, mask, message in (
        (rows[0], free[:, :3], "expected arrays 'tokens' int and 'mask' bool, each"),
        (rows, free[:1], r"holds tokens int64 \[2, 4\] and mask bool \[1, 4\]; expected arrays"),
        (rows[0] + 0.5, free[0], "holds tokens float64"),
        (rows[0], free[0].astype(int), r"mask int64 \[4\]"),
        (rows[None], free[None], "expected arrays"),
        (rows[:0], free[:0], "expected arrays"),
        (rows, free | [[True], [False]], "gives every site of a sequence, so there is nothing to"),
        (rows + 7, free | [True, False, False, False], r"g.npz holds tokens 7..7"),
    ):
        np.savez(file, tokens=tokens, mask=mask)
        with pytest.raises(ValueError, match=message):
            load_given(file, 4, forward)
    np.savez(file, tokens=rows[0])
    with pytest.raises(ValueError, match=r"g.npz holds no given sites; expected .npz with arrays"):
        load_given(file, 4, forward)
    with pytest.raises(ValueError, match=r"there is no file .*; pass --given a .npz file with arr"):
        load_given(tmp_path / "none.npz", 4, forward)
    np.savez(file, tokens=rows[0], mask=free)
    load_given(file, 4, forward)
