"""Text to tokens and back, by the Hugging Face tokenizer of a model."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess

__all__ = ["Text", "has_tokenizer", "never_sampled", "read_tokenizer", "transformers"]

TOKENIZERS = ["tokenizer_config.json", "tokenizer.json", "vocab.txt", "vocab.json"]


@dataclass(frozen=True)
class Text:
    """Text to tokens and back, for one model.

    Attributes:
        tokenizer: a tokenizer of Hugging Face transformers.
        forward: the model's forward process, which defines its symbols and MASK.

    Raises:
        ValueError: the tokenizer has an id that is no symbol of the model.
    """

    tokenizer: Any
    forward: ForwardProcess

    def __post_init__(self) -> None:
        highest = max(self.tokenizer.get_vocab().values())
        if highest >= self.forward.vocab_size:
            raise ValueError(
                f"the tokenizer has token ids up to {highest}, "
                f"the model's symbols are 0..{self.forward.vocab_size - 1}; "
                "pass the tokenizer that the model was trained with"
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without the tokens that the tokenizer puts around it.

        Raises:
            ValueError: the text contains MASK, which is not a symbol of data, or bytes that are not
                UTF-8 (surrogates, as Python reads them from a command line).
        """
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError("the text holds bytes that are not UTF-8; convert it")
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        if isinstance(self.forward, Absorbing) and self.forward.mask_id in tokens:
            mask = self.tokenizer.convert_ids_to_tokens(self.forward.mask_id)
            raise ValueError(
                f"the text holds {mask!r}, the model's MASK (token {self.forward.mask_id}); "
                "take it out"
            )
        return tokens

    @property
    def separator(self) -> list[int]:
        """The tokens between two documents: the tokenizer's end of text, or a new line where it has
        none, or puts it around every text, so that no sample holds it.
        """
        end: int | None = getattr(self.tokenizer, "eos_token_id", None)
        if end is not None and end not in self.tokenizer("", verbose=False)["input_ids"]:
            return [end]
        return self.encode("\n")

    def unknown(self, text: str) -> list[str]:
        """The pieces of a text that the tokenizer does not know, or [UNK] for each of them."""
        unknown: int | None = getattr(self.tokenizer, "unk_token_id", None)
        if unknown is None or unknown not in self.encode(text):
            return []
        if not getattr(self.tokenizer, "is_fast", False):
            return [self.tokenizer.unk_token] * self.encode(text).count(unknown)
        read = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        pairs = zip(read["input_ids"], read["offset_mapping"], strict=True)
        return [text[first:last] for token, (first, last) in pairs if token == unknown]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of one sequence, special tokens such as [PAD] included."""
        text: str = self.tokenizer.decode(tokens)
        return text


def transformers() -> ModuleType:
    """The library ``transformers``.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"models of text need transformers ({reason}): pip install 'jumpsteps[text]'"
        ) from None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a file of a tokenizer."""
    return any((folder / name).exists() for name in TOKENIZERS)


def read_tokenizer(folder: Path, *, trusted: bool) -> Any:
    """The tokenizer in a folder; nothing is downloaded.

    Args:
        trusted: whether Python code in the folder may run.

    Raises:
        ValueError: transformers is not installed, or the folder has no tokenizer that it can read.
    """
    if not has_tokenizer(folder):
        raise ValueError(
            f"there is no tokenizer in {folder}; it should hold one of {', '.join(TOKENIZERS)}"
        )
    library = transformers()
    try:
        return library.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trusted, local_files_only=True
        )
    except Exception as error:  # The tokenizer's own code may raise any exception.
        raise ValueError(
            f"the tokenizer in {folder} cannot be read ({first_line(error)})"
        ) from error


def never_sampled(tokenizer: Any, around: Iterable[int]) -> set[int]:
    """Special tokens that no sample holds: padding, unknown, [CLS], [SEP], and those ``around``.

    The end-of-text token (``eos_token``) stays possible, because documents in training data end in
    it: GPT-2's and LLaDA's also serve as padding or for unknown text. It is excluded only if the
    tokenizer itself puts it around every text, as RoBERTa's does, so that the model adds it. Tokens
    that a tokenizer lists as additional, such as those of a chat, stay possible, too.

    Args:
        around: what the tokenizer puts before and after a text.
    """
    eos: int | None = getattr(tokenizer, "eos_token_id", None)
    named: set[int] = set(around)
    for role in ("pad", "unk", "cls", "sep"):
        token: int | None = getattr(tokenizer, f"{role}_token_id", None)
        if token is not None and token != eos:
            named.add(token)
    return named


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type if it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
