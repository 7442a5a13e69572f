"""The entry point: from arguments to a command and an exit code."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
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
from jumpsteps.cli.inputs import device_named
from jumpsteps.cli.options import (
    CompareOptions,
    DemoOptions,
    ExplainOptions,
    OptimizeOptions,
    Options,
    PlayOptions,
    ReportOptions,
    SampleOptions,
    TrainOptions,
)
from jumpsteps.cli.play import play_command
from jumpsteps.cli.reporting import report_command
from jumpsteps.cli.your_own import place_of
from jumpsteps.core.distributed import Stopped, Workers, workers_of_launcher
from jumpsteps.core.memory import out_of_memory
from jumpsteps.search.doubts import DoubtfulInput

__all__ = ["main"]

SHARED: dict[type, Callable[[Any, torch.device, Workers], None]] = {
    OptimizeOptions: optimize_command,
    SampleOptions: sample_command,
    CompareOptions: compare_command,
}
"""Commands that several processes share."""

COMMANDS: dict[type, Callable[[Any], None]] = {
    DemoOptions: demo_command,
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

    argparse itself exits with code 2 for arguments that it cannot parse. Of several processes the
    first one speaks, and another one if it alone fails.
    """
    speaks = True
    try:
        with workers_of_launcher() as workers, warnings.catch_warnings():
            speaks = workers.is_first
            warnings.showwarning = print_warning
            warnings.simplefilter("always", DoubtfulInput)
            with nullcontext() if speaks else silence():
                run_command(parse(arguments), workers)
    except Stopped:
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}{place_of(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
        print(
            f"error: not enough memory ({reason}); lower --batch, --sequences or --nfe",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as error:
        if speaks:
            print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130
    return 0


def run_command(options: Options, workers: Workers) -> None:
    """Run the command of these options, shared by these processes if it can be.

    Raises:
        ValueError: several processes for a command of one.
    """
    kind = type(options)
    if isinstance(options, OptimizeOptions | SampleOptions | CompareOptions):
        device = workers.device(device_named(options.model.device))
        SHARED[kind](options, device, workers)
        return
    if workers.count > 1 and kind is not TrainOptions:
        raise ValueError("this command runs in one process; start it without a launcher")
    COMMANDS[kind](options)


@contextmanager
def silence() -> Iterator[None]:
    """Print nothing."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
