"""The entry point: from arguments to a command and an exit code."""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import torch

from jumpsteps.cli.commands import (
    demo_command,
    explain_command,
    optimize_command,
    sample_command,
    train_command,
)
from jumpsteps.cli.comparing import compare_command
from jumpsteps.cli.flags import parse
from jumpsteps.cli.options import (
    CompareOptions,
    DemoOptions,
    ExplainOptions,
    OptimizeOptions,
    PlayOptions,
    ReportOptions,
    SampleOptions,
    TrainOptions,
)
from jumpsteps.cli.play import play_command
from jumpsteps.cli.reporting import report_command
from jumpsteps.models.tokenizer import first_line
from jumpsteps.search.doubts import DoubtfulInput

__all__ = ["main"]

COMMANDS: dict[type, Callable[[Any], None]] = {
    DemoOptions: demo_command,
    OptimizeOptions: optimize_command,
    SampleOptions: sample_command,
    CompareOptions: compare_command,
    ReportOptions: report_command,
    PlayOptions: play_command,
    ExplainOptions: explain_command,
    TrainOptions: train_command,
}


def print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line on standard error, in place of Python's place and line of code."""
    print(f"warning: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 after an error that is printed, 130 if interrupted.

    argparse itself exits with code 2 for arguments that it cannot parse.
    """
    try:
        options = parse(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = print_warning
            warnings.simplefilter("always", DoubtfulInput)
            COMMANDS[type(options)](options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, torch.OutOfMemoryError) as error:
        print(
            f"error: not enough memory ({first_line(error)}); lower --nfe or --batch",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130
    return 0
