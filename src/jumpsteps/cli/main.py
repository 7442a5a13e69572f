"""The entry point: from arguments to a command and an exit code."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from jumpsteps.cli.commands import (
    compare_command,
    demo_command,
    explain_command,
    optimize_command,
    sample_command,
    train_command,
)
from jumpsteps.cli.flags import parse
from jumpsteps.cli.options import (
    CompareOptions,
    DemoOptions,
    ExplainOptions,
    OptimizeOptions,
    SampleOptions,
    TrainOptions,
)
from jumpsteps.models.tokenizer import first_line

__all__ = ["main"]

COMMANDS: dict[type, Callable[[Any], None]] = {
    DemoOptions: demo_command,
    OptimizeOptions: optimize_command,
    SampleOptions: sample_command,
    CompareOptions: compare_command,
    ExplainOptions: explain_command,
    TrainOptions: train_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 after an error that is printed, 130 if interrupted.

    argparse itself exits with code 2 for arguments that it cannot parse.
    """
    try:
        options = parse(arguments)
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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
