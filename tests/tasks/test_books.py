"""Tokens of books, cut into sequences within books."""

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.statistics import seeded
from jumpsteps.tasks.books import BookTokens, paragraphs, read_books

BOOKS = BookTokens(torch.arange(20, dtype=torch.int32), torch.tensor([3, 10, 20]))


def test_crops_stay_within_their_book_and_reach_every_place() -> None:
    crops = BOOKS.crops(2000, 5, seeded(0))
    assert crops.dtype == torch.int64
    assert torch.equal(crops - crops[:, :1], torch.arange(5).expand(2000, 5))
    # The first book is too short; the second has 3 places, the third 6.
    assert crops[:, 0].unique().tolist() == [3, 4, 5, 10, 11, 12, 13, 14, 15]


def test_sequences_are_cut_book_by_book() -> None:
    assert BOOKS.sequences(4)[:, 0].tolist() == [3, 10, 14]


def test_a_book_has_one_line_for_each_paragraph() -> None:
    text = "\n\nCHAPTER I\r\n\r\n\r\nIt was a _dark_\nand stormy  night.\n \nRain\nfell.\n"
    assert paragraphs(text) == "CHAPTER I\nIt was a dark and stormy night.\nRain fell."


def test_books_are_read_from_a_file(tmp_path: Path) -> None:
    path, tokens = tmp_path / "books.npz", np.arange(20, dtype=np.uint16)
    ends = np.array([10, 20])
    np.savez(path, name="n", train=tokens, train_ends=ends, validation=tokens, validation_ends=ends)
    books = read_books(path, 5)
    assert books.name == "n"
    assert books.test[:, 0].tolist() == [0, 5, 10, 15]
    assert books.sample_data(3, seeded(0)).shape == (3, 5)
    with pytest.raises(ValueError, match=r"no book of .* has 11 tokens"):
        read_books(path, 11)
    ends = np.array([4, 20])
    np.savez(path, name="n", train=tokens, train_ends=ends, validation=tokens, validation_ends=ends)
    assert len(read_books(path, 16).test) == 1
    np.savez(path, train=tokens)
    with pytest.raises(ValueError, match=r"holds no train books \('train_ends'\)"):
        read_books(path, 5)
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="holds no train books"):
        read_books(path, 5)
