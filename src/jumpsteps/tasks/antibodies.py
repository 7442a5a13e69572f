r"""Antibodies: sequences of residues, templates with residues to design, FASTA files.

A variable domain is a sequence of L residues, each one of 20 letters. A template is a sequence in
which ``?`` stands for a residue to design; all other residues are observed. The token of each
letter is the model's choice, so a task is made for a model by ``antibody_task``.

Models learn from sequences alone, and this package brings none. The metric needs neither data nor
a model: the share of samples in which the pattern that every variable domain has is broken, that
is two cysteines (residues 23 and 104 in IMGT's numbering), a tryptophan between them (41), and
[W or F] G x G behind them (118 to 121), at distances that occur in nature (Lefranc et al. 2003).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.core.files import replacing
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.tasks.task import Task

__all__ = [
    "DESIGNED",
    "LENGTH",
    "RESIDUES",
    "ResidueTokens",
    "antibody_task",
    "read_sequences",
    "without_hallmarks",
    "write_fasta",
]

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
DESIGNED = "?"
LENGTH = 118
"""L unless chosen: within the usual lengths of heavy chains' variable domains, 110 to 130."""

HALLMARKS = re.compile("C.{10,20}W.{45,70}C.{3,40}[WF]G.G")
SUFFIXES = (".fasta", ".fa")


@dataclass(frozen=True)
class ResidueTokens:
    """Sequences to tokens and back.

    Attributes:
        ids: the token of each of the 20 letters.
    """

    ids: Mapping[str, int]

    def encode(self, sequence: str, what: str = "the sequence") -> list[int]:
        """The tokens of a sequence; ``what`` names it in the message.

        Raises:
            ValueError: a character that is no residue.
        """
        for site, letter in enumerate(sequence, 1):
            if letter not in self.ids:
                raise ValueError(
                    f"{what} holds {letter!r} at residue {site}; residues are {RESIDUES}"
                )
        return [self.ids[letter] for letter in sequence]

    def decode(self, tokens: Sequence[int]) -> str:
        """The letters of a sequence; ``?`` for a token that is no residue, such as MASK."""
        letters = {token: letter for letter, token in self.ids.items()}
        return "".join(letters.get(token, DESIGNED) for token in tokens)

    def template(self, text: str, what: str = "the template") -> Given:
        """Observed sites [L] from a template of L characters.

        Raises:
            ValueError: a character that is neither a residue nor ``?``, or no ``?``.
        """
        text = text.strip()
        mask = torch.tensor([letter != DESIGNED for letter in text], dtype=torch.bool)
        if mask.all():
            raise ValueError(
                f"{what} has no {DESIGNED}, so there is no residue to design; write {DESIGNED} for "
                "each of them"
            )
        self.encode(text.replace(DESIGNED, ""), what)
        tokens = [self.ids.get(letter, 0) for letter in text]
        return Given(torch.tensor(tokens), mask)


def read_sequences(path: Path | str) -> list[tuple[str, str]]:
    """The name and the sequence of each record of a file.

    The file is FASTA if its first line that is not empty begins with ``>``. Otherwise each line is
    a sequence, and its number the name. Letters are turned into capitals.

    Raises:
        ValueError: no such file, no text, or no sequence.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; pass FASTA, or one sequence a line") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; pass FASTA, or one sequence a line") from None
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line]
    if not numbered:
        raise ValueError(f"{path} holds no sequence; pass FASTA, or one sequence a line")
    if not numbered[0][1].startswith(">"):
        return [(f"line {i}", line.upper()) for i, line in numbered]
    records: list[tuple[str, str]] = []
    for _, line in numbered:
        if line.startswith(">"):
            records.append((line[1:].strip(), ""))
        else:
            name, sequence = records.pop()
            records.append((name, sequence + line.upper()))
    return records


def read_data(
    path: Path, n: int, generator: torch.Generator, *, tokens: ResidueTokens, length: int
) -> tuple[Tensor, str]:
    """n sequences of L residues, int64 [n, L], drawn without replacement, and the data's name.

    Sequences of other lengths are left out. The name says how many were used.

    Raises:
        ValueError: as ``read_sequences``; a sequence with another letter; none of L residues.
    """
    records = read_sequences(path)
    rows = [tokens.encode(sequence, f"{path}, {name}") for name, sequence in records]
    fitting = [row for row in rows if len(row) == length]
    if not fitting:
        lengths = sorted({len(row) for row in rows})
        raise ValueError(
            f"{path} holds sequences of {lengths[0]} to {lengths[-1]} residues and none of "
            f"{length}; choose a length that occurs with --length, or --template"
        )
    chosen = torch.randperm(len(fitting), generator=generator, device=generator.device)[:n]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    used = f"{len(fitting)} of {len(rows)} sequences have {length} residues"
    data = torch.tensor(fitting)[chosen.cpu()].to(generator.device)
    return data, f"{path.name} sha256:{digest}, {used}"


def read_given(path: Path, length: int, *, tokens: ResidueTokens) -> Given:
    """Observed sites [n, L] from a file of n templates of L characters, FASTA or one a line.

    Raises:
        ValueError: as ``read_sequences`` and ``ResidueTokens.template``, or another length.
    """
    given = []
    for name, text in read_sequences(path):
        one = tokens.template(text, f"{path}, {name}")
        if len(one.mask) != length:
            raise ValueError(
                f"{path}, {name} has {len(one.mask)} residues, the model {length}; pass --length "
                f"{len(one.mask)}, and templates of one length"
            )
        given.append(one)
    return Given(torch.stack([g.tokens for g in given]), torch.stack([g.mask for g in given]))


def write_fasta(path: Path | str, sequences: Sequence[str], headers: Sequence[str]) -> None:
    """Write sequences, one line each, below their headers."""
    records = [f">{header}\n{text}\n" for header, text in zip(headers, sequences, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text("".join(records), encoding="utf-8", newline="\n")


def without_hallmarks(samples: Tensor, *, tokens: ResidueTokens) -> Tensor:
    """1 for each sample that lacks the pattern of a variable domain, else 0; float64 [B].

    Shorter distances than 10 residues from cysteine to tryptophan, 45 from there to the second
    cysteine and 3 to the last motif, or longer ones than 20, 70 and 40, count as a broken pattern.
    """
    broken = [HALLMARKS.search(tokens.decode(row)) is None for row in samples.tolist()]
    return torch.tensor(broken, dtype=torch.float64, device=samples.device)


def no_data(n: int, generator: torch.Generator) -> Tensor:
    raise ValueError(
        "the task antibodies brings no data; pass --data FILE: FASTA, one sequence a line, or "
        ".npy or .npz tokens"
    )


def antibody_task(ids: Mapping[str, int], length: int) -> Task:
    """The task of a model with these tokens of residues, for sequences of L = ``length``."""
    tokens = ResidueTokens(ids)

    def write(path: Path, samples: Tensor, headers: Sequence[str]) -> None:
        write_fasta(path, [tokens.decode(row) for row in samples.tolist()], headers)

    return Task(
        name="antibodies",
        length=length,
        symbols=len(RESIDUES),
        sample_data=no_data,
        metric=partial(without_hallmarks, tokens=tokens),
        metric_name="samples without the hallmarks of a variable domain",
        show=lambda sample: tokens.decode(sample.tolist()),
        read_given=partial(read_given, tokens=tokens),
        read_data=partial(read_data, tokens=tokens, length=length),
        given_name="Templates (FASTA, with gaps)",
        given_suffixes=SUFFIXES,
        read_template=tokens.template,
        file_suffixes=SUFFIXES,
        write_file=write,
    )
