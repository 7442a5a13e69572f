"""The novels as tokens, and tokens as text, from an .npz file of text_models.py.

No tokenizer library is needed: the file holds the tokenizer as JSON.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from jumpsteps.evaluation.text_measures import whole_words
from jumpsteps.tasks.books import read_split

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Novels:
    """Books of an .npz file, and what their tokens mean."""

    path: Path

    @cached_property
    def tokenizer(self) -> dict:
        with np.load(self.path) as file:
            return json.loads(str(file["tokenizer"]))

    @cached_property
    def name(self) -> str:
        """The name of the training data, with its digest."""
        with np.load(self.path) as file:
            return str(file["name"])

    @property
    def characters(self) -> bool:
        """Whether a token is a character, and not a piece of a word."""
        return self.tokenizer["model"]["type"] == "WordLevel"

    @cached_property
    def decode(self) -> Decode:
        """Tokens to text."""
        return decoder(self.tokenizer)

    def sequences(self, split: str, length: int) -> Tensor:
        """int64 [N, length]: the books of a split, cut one after the other."""
        return read_split(self.path, split).sequences(length)

    def words(self, split: str = "train") -> set[str]:
        """All words of a split."""
        books, begin, found = read_split(self.path, split), 0, set()
        for end in books.ends.tolist():
            found |= set(whole_words(self.decode(books.tokens[begin:end].tolist())))
            begin = end
        return found


def decoder(tokenizer: dict) -> Decode:
    """Tokens to text, by the content of a ``tokenizer.json``."""
    pieces = {i: piece for piece, i in tokenizer["model"]["vocab"].items()}
    if tokenizer["model"]["type"] == "WordLevel":
        return lambda tokens: "".join(pieces[token] for token in tokens)
    value = {character: byte for byte, character in byte_characters().items()}

    def decode(tokens: Sequence[int]) -> str:
        text = "".join(pieces[token] for token in tokens)
        return bytes(value[character] for character in text).decode("utf-8", "replace")

    return decode


def byte_characters() -> dict[int, str]:
    """The character that stands for each byte in a byte-level BPE (Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {
        byte: chr(256 + i) for i, byte in enumerate(hidden)
    }
