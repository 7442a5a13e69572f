"""Entropy, repetition and words of texts whose values can be counted by hand."""

import math

import pytest
import torch

from jumpsteps.evaluation.text_measures import (
    distinct_share,
    known_share,
    repeated_share,
    unigram_entropy,
    whole_words,
    word_entropy,
)

X = torch.tensor([[0, 1, 0, 1], [2, 3, 2, 3]])


def test_entropy_of_tokens() -> None:
    assert unigram_entropy(X) == pytest.approx(math.log(4))
    assert unigram_entropy(torch.zeros(2, 3, dtype=torch.int64)) == 0


def test_runs_of_tokens() -> None:
    # 01, 10, 23 and 32 of six pairs; in each sequence the third pair is the first one again.
    assert distinct_share(X, 2) == pytest.approx(4 / 6)
    assert repeated_share(X, 2).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert repeated_share(X, 3).tolist() == [0, 0]


def test_runs_of_more_values_than_an_integer_has() -> None:
    repeated = X.repeat(1, 2) + 150_000
    assert repeated_share(repeated, 4).tolist() == pytest.approx([3 / 5, 3 / 5])
    assert distinct_share(repeated, 4) == pytest.approx(4 / 10)
    # In base 2^17 the runs 0 1 2 3 and 8192 1 2 3 differ by 2^64.
    x = torch.tensor([[0, 1, 2, 3, 2**17 - 1, 8192, 1, 2, 3]])
    assert repeated_share(x, 4).tolist() == [0]
    assert distinct_share(x, 4) == 1


def test_words() -> None:
    words = whole_words("ght. \"It was Don't, he said--twice, in 1850; the e")
    assert words == ["it", "was", "don't", "he", "said", "twice", "in", "the"]
    assert word_entropy(["a", "a", "b", "c"]) == pytest.approx(1.5 * math.log(2))
    assert known_share(["a", "a", "b", "c"], {"a", "b"}) == 0.75


def test_a_text_without_words_is_named() -> None:
    for measure in (word_entropy, lambda words: known_share(words, {"a"})):
        with pytest.raises(ValueError, match=r"there is no word to .*; pass longer texts"):
            measure([])
