"""Ctrl-C during a run: the step is finished, so that the state that is saved is a whole one."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed; pressed again, it is a KeyboardInterrupt at once."""

    pressed: bool = False

    def press(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        print("\nstopping after this step; Ctrl-C again stops at once", file=sys.stderr)

    def stop(self, step: int, steps: int) -> None:
        """Raises KeyboardInterrupt if it was pressed; the state of this step has been saved."""
        if self.pressed:
            raise KeyboardInterrupt(
                f"saved at step {step} of {steps}; run the same command to continue"
            )


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Note Ctrl-C in place of raising KeyboardInterrupt; not in threads, which get no signals."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
