"""Standard output that may lose its reader, as in ``jumpsteps sample ... | head``."""

import os
from typing import Any, TextIO

__all__ = ["OutputUntilClosed"]


class OutputUntilClosed:
    """A stream of text that goes on without its reader: what nobody reads is thrown away.

    The command still writes its files, and Python can flush the stream when it exits.

    Args:
        stream: of a file descriptor, such as ``sys.stdout``.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            self.throw_away()
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self.throw_away()

    def throw_away(self) -> None:
        """Send what is left, and all that follows, to the null device."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
