"""The recipe ``text``: a masked model of any documents, with any tokenizer."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.progress import tracked
from jumpsteps.models.built_in import checkpoint_folder
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.tokenizer import Text, read_tokenizer
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.tasks.books import HELD_OUT, Books, BookTokens, thinned
from jumpsteps.tasks.text_files import read_documents
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.losses import MaskedCrossEntropy
from jumpsteps.training.recipe import FromFiles, Recipe

__all__ = ["read_text", "text_recipe", "text_tokenizer"]

LENGTH, SYMBOLS = 512, 8192
SIZES = {"hidden_size": 256, "n_blocks": 9, "n_heads": 4, "cond_dim": 64}
EVERY = 20
"""One document in so many is held out; of fewer, so large a part of the tokens, the last ones."""

FEW = 64
"""Held-out sequences that are evaluated on a CPU, at most."""

MANY = 1000
"""Documents from which on the progress of reading is shown."""


def text_tokenizer(folder: str | None) -> Any:
    """The tokenizer in a folder, by default that of text-small.

    Raises:
        ValueError: there is none.
    """
    if folder is None:
        return read_tokenizer(checkpoint_folder("text-small", "pass --tokenizer"), trusted=False)
    return read_tokenizer(Path(folder), trusted=False)


def text_recipe(tokenizer: str | None = None, column: str = "text") -> Recipe:
    """A masked diffusion model of the size of text-small, its vocabulary aside.

    Args:
        tokenizer: folder of a tokenizer; by default that of text-small.
        column: of documents in tables.

    Raises:
        ValueError: no tokenizer in the folder.
    """
    symbols = SYMBOLS
    if tokenizer is not None:
        symbols = max(text_tokenizer(tokenizer).get_vocab().values()) + 1
    forward = Absorbing(vocab_size=symbols + 1, noise=LogLinear())
    return Recipe(
        task="text",
        length=LENGTH,
        forward=forward,
        network=DiTConfig(symbols + 1, **SIZES),
        output="posterior",
        loss=MaskedCrossEntropy(),
        data=FromFiles(
            partial(read_text, forward=forward, length=LENGTH, tokenizer=tokenizer, column=column),
            "a text in UTF-8, a data set that Hugging Face datasets saved to a folder, .parquet, "
            ".jsonl, or a folder of texts",
        ),
        config=TrainConfig(
            steps=20_000,
            batch=256,
            learning_rate=2e-3,
            warmup=500,
            weight_decay=0.05,
            ema=0.999,
        ),
    )


def read_text(
    path: Path,
    device: torch.device,
    *,
    forward: Absorbing,
    length: int,
    tokenizer: str | None = None,
    column: str = "text",
) -> Books:
    """Documents as tokens, one after the other with the tokenizer's separator between them.

    Raises:
        ValueError: as ``read_documents`` and ``Text``, or too few tokens.
    """
    text, documents = Text(text_tokenizer(tokenizer), forward), read_documents(path, column)
    rows = tracked(
        range(len(documents)), "reading", "documents", len(documents), shown=len(documents) > MANY
    )
    separator = text.separator
    parts = [np.array(text.encode(documents[i]) + separator, dtype=np.int32) for i in rows]
    if len(parts) >= EVERY:
        end = joined(parts[EVERY - 1 :: EVERY])
        del parts[EVERY - 1 :: EVERY]
        train = joined(parts)
    else:
        tokens = joined(parts)
        train, end = tokens.split([len(tokens) - len(tokens) // EVERY, len(tokens) // EVERY])
    if min(len(train), len(end)) < length:
        raise ValueError(
            f"{path} holds {len(train) + len(end)} tokens, of which {len(end)} are held out; "
            f"training takes sequences of {length} of both kinds, so pass a longer text"
        )
    books = BookTokens(train, torch.tensor([len(train)]))
    held_out = BookTokens(end, torch.tensor([len(end)])).sequences(length)
    test = thinned(held_out, FEW if device.type == "cpu" else HELD_OUT)
    return Books(documents.name, length, books, test).to(device)


def joined(parts: list[NDArray[np.int32]]) -> Tensor:
    """int32 [N]."""
    return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int32), *parts]))
