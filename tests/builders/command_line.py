"""Running the command line in a test, and files that it reads."""

from pathlib import Path

import numpy as np
import pytest

from jumpsteps.cli.main import main

EXACT = "countdown-exact"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command.

    Texts are cut into arguments at blanks; paths are arguments as they are.
    """
    words: list[str] = []
    for one in arguments:
        words += one.split() if isinstance(one, str) else [str(one)]
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def given_file(path: Path, rows: int, free: int) -> np.ndarray:
    """Countdowns from 31 that break off before ``free`` sites, whose tokens are invalid: -1.

    Writes the arrays tokens and mask, [256] for one row, else [rows, 256]; returns [rows, 256].
    """
    tokens = np.full((rows, 256), -1)
    tokens[:, :-free] = np.arange(256 - free)[::-1] % 32
    tokens[:, 0] = np.arange(rows)
    written = tokens[0] if rows == 1 else tokens
    np.savez(path, tokens=written, mask=written >= 0)
    return tokens


def countdowns(rows: int) -> np.ndarray:
    """Sequences [rows, 256] that count down from 31 over and over."""
    return np.tile(np.arange(256)[::-1] % 32, (rows, 1))
