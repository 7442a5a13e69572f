"""Files of sequences: tokens, texts and observed sites that users bring, and samples.

Tokens are .npy or .npz arrays, texts are in UTF-8. Functions that read return int64 tokens, and
raise a ValueError that names the file and says what it should hold.
"""

import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.files import read_numpy, replacing
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models.loaded import file_hash
from jumpsteps.models.tokenizer import Text
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.tasks.text_files import Documents, read_documents

__all__ = [
    "given_prompt",
    "given_template",
    "load_given",
    "load_text",
    "load_tokens",
    "may_hold_tokens",
    "save_samples",
    "save_text",
]

LONGEST_GAP = 1 << 20
RUN = 4
"""Sequences' worth of tokens that are taken of one of several documents."""

GAP = re.compile(r"\[MASK(?: (\d+))?\]")


def may_hold_tokens(path: Path | str) -> bool:
    """Whether a file's name is that of an array, and it is no .npz file of other arrays."""
    suffix = Path(path).suffix.lower()
    if suffix != ".npz" or not Path(path).is_file():
        return suffix in (".npy", ".npz")
    try:
        with zipfile.ZipFile(path) as content:
            return not {"samples.npy", "tokens.npy"}.isdisjoint(content.namelist())
    except (ValueError, OSError, NotImplementedError, zipfile.BadZipFile):
        return True


def load_tokens(path: Path | str, n: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """n rows of a .npy array, or of the array ``samples`` or ``tokens`` of a .npz file.

    Returns:
        int64 [n, L] on the generator's device, drawn without replacement (all rows if there are
        fewer than n), and the data's name with its SHA-256.

    Raises:
        ValueError: no such file, or no such array in it.
    """
    path = Path(path)
    try:
        (array, *_) = read_numpy(path, "samples", "tokens").values()
    except FileNotFoundError:
        raise ValueError(
            f"there is no file {path}; pass --data a task's name, or a .npy or .npz file of tokens"
        ) from None
    except ValueError:
        raise ValueError(
            f"{path} holds no tokens; expected .npy, or .npz with an array 'samples' or 'tokens', "
            "int [n, L]"
        ) from None
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or not len(array):
        raise ValueError(
            f"{path} holds an array {array.dtype} {list(array.shape)}; tokens are integers [n, L], "
            "of one sequence at least"
        )
    tokens = torch.from_numpy(array.astype(np.int64))
    return draw(tokens, n, generator), f"{path.name} sha256:{file_hash(path)}"


def draw(tokens: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n rows without replacement, or all of them in random order, on the generator's device."""
    rows = torch.randperm(len(tokens), generator=generator, device=generator.device)[:n].cpu()
    return tokens[rows].to(generator.device)


def load_text(
    path: Path | str,
    text: Text,
    length: int,
    n: int,
    generator: torch.Generator,
    column: str = "text",
) -> tuple[Tensor, str]:
    """n pieces of L = ``length`` tokens of a text file in UTF-8, or of documents.

    A text is tokenised as a whole and cut into pieces one after another. Of several documents
    random ones are, with a token for the end of a document between them (``document_tokens``).
    A last piece of fewer than L tokens is dropped.

    Args:
        path: what ``read_documents`` reads.
        column: of the documents in a table.

    Returns:
        int64 [n, L] on the generator's device, drawn without replacement (all pieces if there are
        fewer than n), and the data's name with its SHA-256.

    Raises:
        ValueError: as ``read_documents``, text that holds MASK, or fewer than L tokens.
    """
    documents = read_documents(path, column)
    tokens = document_tokens(documents, text, length, n, generator)
    if len(tokens) < length:
        raise ValueError(
            f"{path} holds {len(tokens)} tokens, and one sequence needs {length}; pass a longer "
            "text"
        )
    pieces = torch.tensor(tokens[: len(tokens) // length * length]).reshape(-1, length)
    return draw(pieces, n, generator), documents.name


def document_tokens(
    documents: Documents, text: Text, length: int, n: int, generator: torch.Generator
) -> list[int]:
    """The tokens of a single document, or of random ones until there are n times L.

    Of long documents a random run is taken, so that there are many; all of them, if the runs of
    all are not enough.
    """
    if len(documents) == 1:
        return text.encode(documents[0])
    order = torch.randperm(len(documents), generator=generator, device=generator.device).tolist()
    tokens: list[int] = []
    for most in (RUN * length, None):
        tokens = []
        for i in order:
            own = random_run(text.encode(documents[i]), most, generator)
            tokens += text.separator * bool(tokens and own) + own
            if len(tokens) >= n * length:
                return tokens
    return tokens


def random_run(tokens: list[int], most: int | None, generator: torch.Generator) -> list[int]:
    """A random run of so many of the tokens, or all of them."""
    if most is None or len(tokens) <= most:
        return tokens
    starts = len(tokens) - most + 1
    start = int(torch.randint(starts, (), generator=generator, device=generator.device))
    return tokens[start : start + most]


def given_prompt(words: str, text: Text, length: int, *, suffix: str = "") -> Given:
    """The tokens of a text as observed sites at the start of sequences of L = ``length`` sites, and
    those of ``suffix`` at their end.

    Raises:
        ValueError: texts without tokens, with MASK, or so long that no site is left to sample.
    """
    tokens, last = text.encode(words), text.encode(suffix)
    known = len(tokens) + len(last)
    if not 0 < known < length:
        both = "prompt and suffix have" if words and suffix else "the prompt has"
        what = "the suffix has" if suffix and not words else both
        raise ValueError(
            f"{what} {known} tokens; with {length} sites there must be 1..{length - 1}, so that at "
            "least one site is free"
        )
    note_unknown(words + " " * (words != "" and suffix != "") + suffix, text)
    filled = torch.tensor(tokens + [0] * (length - known) + last)
    site = torch.arange(length)
    return Given(filled, (site < len(tokens)) | (site >= length - len(last)))


def note_unknown(words: str, text: Text) -> None:
    """Say on standard error which words of a text the tokenizer does not know."""
    if unknown := list(dict.fromkeys(text.unknown(words))):
        listed = ", ".join(map(repr, unknown))
        print(f"note: the tokenizer reads {listed} as {text.tokenizer.unk_token}", file=sys.stderr)


def given_template(template: str, text: Text) -> Given:
    """A text with gaps as observed sites, [L], L the number of its tokens and gaps.

    [MASK] is a gap of one token, [MASK 20] of 20. Where tokens begin with a blank, a blank before a
    gap belongs to the token that fills it.

    Raises:
        ValueError: a text without a gap, or a gap of no token or of more than ``LONGEST_GAP``.
    """
    begins_with_blank = len(text.encode(" a")) == 1
    tokens: list[int] = []
    gaps: list[bool] = []
    end = 0
    for gap in GAP.finditer(template):
        piece = template[end : gap.start()]
        known = text.encode(piece.rstrip(" ") if begins_with_blank else piece)
        size = int(gap[1] or 1)
        if size < 1:
            raise ValueError(f"the template holds {gap[0]!r}, a gap of no token; leave it out")
        if size > LONGEST_GAP:
            raise ValueError(
                f"the template holds {gap[0]!r}; a gap has at most {LONGEST_GAP} tokens"
            )
        tokens += known + [0] * size
        gaps += [False] * len(known) + [True] * size
        end = gap.end()
    if not any(gaps):
        raise ValueError("the template has no [MASK]; put one where a token is to be sampled")
    known = text.encode(template[end:])
    note_unknown(GAP.sub(" ", template), text)
    return Given(torch.tensor(tokens + known), ~torch.tensor(gaps + [False] * len(known)))


def load_given(path: Path | str, length: int, forward: ForwardProcess) -> Given:
    """Observed sites from a .npz file.

    Its arrays are ``tokens``, int [L] or [n, L], and ``mask``, bool [L] or [n, L], true where a
    site is observed; one that is [L] serves all sequences of the other. Tokens at other sites are
    ignored.

    Raises:
        ValueError: no such file, no such arrays, another L, a sequence without a free site, or
            tokens that data cannot hold.
    """
    path = Path(path)
    wanted = f"arrays 'tokens' int and 'mask' bool, each [{length}] or [n, {length}]"
    try:
        found = read_numpy(path, "tokens", "mask")
        tokens, mask = found["tokens"], found["mask"]
    except FileNotFoundError:
        raise ValueError(
            f"there is no file {path}; pass --given a .npz file with {wanted}"
        ) from None
    except (KeyError, ValueError):
        raise ValueError(f"{path} holds no given sites; expected .npz with {wanted}") from None
    fits = all(
        each.ndim in (1, 2) and each.size > 0 and each.shape[-1] == length
        for each in (tokens, mask)
    )
    alike = tokens.ndim != mask.ndim or tokens.shape == mask.shape
    if not (fits and alike and np.issubdtype(tokens.dtype, np.integer) and mask.dtype == bool):
        raise ValueError(
            f"{path} holds tokens {tokens.dtype} {list(tokens.shape)} and mask {mask.dtype} "
            f"{list(mask.shape)}; expected {wanted}"
        )
    if mask.all(-1).any():
        raise ValueError(
            f"{path} gives every site of a sequence, so there is nothing to sample; leave one free"
        )
    given = Given(torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(mask))
    forward.check_data(given.tokens[given.mask], str(path))
    return given


def save_samples(path: Path | str, samples: Tensor, nfe: int) -> None:
    """Write ``samples`` int64 [n, L] and ``nfe`` to a .npz file."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, samples=samples.cpu().numpy(), nfe=np.int64(nfe))


def save_text(path: Path | str, texts: list[str]) -> None:
    """Write texts to a file in UTF-8, each below a line with its number."""
    entries = [
        f"===== sample {i} of {len(texts)} =====\n{text}\n" for i, text in enumerate(texts, 1)
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(entries), encoding="utf-8", newline="\n")
