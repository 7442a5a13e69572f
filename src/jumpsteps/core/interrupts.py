"""Ctrl-C while the package is imported as a command: one word in place of a traceback."""

import os
import signal
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import FrameType

__all__ = ["await_command", "command_is_ready"]


def await_command() -> None:
    """If this process is the command ``jumpsteps``, end it without a traceback at Ctrl-C.

    Other programs that import the package keep their own handler.
    """
    if is_command() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, leave)


def command_is_ready() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, as usual."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_command() -> bool:
    """Whether this is ``jumpsteps`` or ``python -m jumpsteps``, with Python's handler of Ctrl-C."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    name = sys.argv[0] if sys.argv else ""  # "-m" while Python looks for the module.
    module = name == "-m" and ("-m", "jumpsteps") in pairwise(sys.orig_argv)
    return usual and (module or Path(name).name == "jumpsteps")


def leave(number: int, frame: FrameType | None) -> None:
    """The signal handler: code that is being imported gets no chance to catch an exception."""
    os.write(2, b"interrupted\n")
    os._exit(130)
