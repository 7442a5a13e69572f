"""Books as tokens, divided into training, validation and test books.

An .npz file holds for each split an integer array of all tokens, book after book, and under
``SPLIT_ends`` where each book ends; ``alphabet`` or ``tokenizer`` say what the tokens mean.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.files import read_numpy

__all__ = ["BookTokens", "Books", "paragraphs", "read_books", "read_split"]

HELD_OUT = 2048
"""Largest number of held-out sequences."""


def paragraphs(text: str) -> str:
    """A book with one line for each paragraph, without blank lines and marks of italics.

    Paragraphs end in blank lines; lines that were wrapped within one are joined by a blank.
    """
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text.replace("_", "")))
    return "\n".join(part for part in found if part)


@dataclass(frozen=True)
class BookTokens:
    """The tokens of several books.

    Attributes:
        tokens: int32 [N], book after book.
        ends: int64 [books]: where each book ends; the last is N.
    """

    tokens: Tensor
    ends: Tensor

    def crops(self, n: int, length: int, generator: torch.Generator) -> Tensor:
        """int64 [n, length]: random runs of tokens, none of which reaches beyond its book."""
        begins = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        places = (self.ends - begins - length + 1).clamp_min(0)
        device = self.tokens.device
        drawn = torch.randint(int(places.sum()), (n,), generator=generator, device=device)
        until = places.cumsum(0)
        book = torch.searchsorted(until, drawn, right=True)
        first = begins[book] + drawn - (until - places)[book]
        return self.tokens[first[:, None] + torch.arange(length, device=device)].long()

    def sequences(self, length: int) -> Tensor:
        """int64 [n, length]: the books cut into sequences, without what is left of each."""
        parts, begin = [], 0
        for end in self.ends.tolist():
            n = (end - begin) // length
            parts.append(self.tokens[begin : begin + n * length].view(n, length))
            begin = end
        return torch.cat(parts).long()

    def to(self, device: torch.device) -> "BookTokens":
        return BookTokens(self.tokens.to(device), self.ends.to(device))


@dataclass(frozen=True)
class Books:
    """Training books and held-out sequences.

    Attributes:
        name: of the data, with its SHA-256.
        length: L of the sequences.
        train: the training books.
        test: held-out sequences, int64 [N, L].
    """

    name: str
    length: int
    train: BookTokens
    test: Tensor

    def sample_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Random runs of the training books, int64 [n, L] on the generator's device."""
        return self.train.crops(n, self.length, generator)

    def to(self, device: torch.device) -> "Books":
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def thinned(x: Tensor, most: int = HELD_OUT) -> Tensor:
    """At most so many rows, evenly spread."""
    return x[torch.linspace(0, len(x) - 1, min(len(x), most)).long()]


def read_split(path: Path | str, split: str) -> BookTokens:
    """The books of one split in an .npz file.

    Raises:
        ValueError: no such file, or it does not hold the split.
    """
    try:
        found = read_numpy(path, split, f"{split}_ends")
        return BookTokens(
            torch.from_numpy(found[split].astype(np.int32)),
            torch.from_numpy(found[f"{split}_ends"].astype(np.int64)),
        )
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} holds no {split} books ({error}); write it by experiments/text_models.py "
            "--prepare"
        ) from None


def read_books(path: Path | str, length: int, *, held_out: str = "validation") -> Books:
    """Training books and held-out sequences in an .npz file, whose ``name`` says what they are.

    Args:
        length: L of the sequences.
        held_out: the split from which ``test`` is cut, at most ``HELD_OUT`` sequences.

    Raises:
        ValueError: as ``read_split``, or a split without a book of ``length`` tokens.
    """
    train, test = read_split(path, "train"), read_split(path, held_out).sequences(length)
    longest = int(train.ends.diff(prepend=train.ends.new_zeros(1)).max())
    if longest < length or len(test) == 0:
        raise ValueError(f"no book of {path} has {length} tokens in each split; take longer books")
    name = str(read_numpy(path, "name")["name"])
    return Books(name, length, train, thinned(test))
