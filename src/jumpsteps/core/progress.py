"""How far a long run is: a bar on a terminal, elsewhere one plain line a minute.

Both are on standard error, and say how many are done, how many a second, and how long it takes.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from tqdm import tqdm

__all__ = ["Progress", "tracked"]

PERIOD = 60.0
"""Seconds between two lines."""

T = TypeVar("T")


class Progress:
    """The progress of a run.

    Args:
        what: what is done, such as "sampling".
        unit: what is counted, in the plural.
        total: how many; None where that is not known.
        shown: whether anything is shown.
        done: how many an earlier run has done.
        tally: adds to what several processes have done in this run, and says how much that is.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int | None,
        *,
        shown: bool,
        done: int = 0,
        tally: Callable[[int], int] | None = None,
    ) -> None:
        self.what, self.unit, self.total, self.done, self.first = what, unit, total, done, done
        self.tally = tally
        self.bar: tqdm[Any] | None = None
        self.lines = shown and not interactive()
        self.start = self.last = time.monotonic()
        if shown and not self.lines:
            self.bar = tqdm(desc=what, unit=f" {unit}", total=total, initial=done)

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        before = self.done
        self.done += count if self.tally is None else self.first + self.tally(count) - before
        if self.bar is not None:
            self.bar.update(self.done - before)
        elif self.lines and time.monotonic() - self.last >= PERIOD:
            self.last = time.monotonic()
            print(self.line(self.last - self.start), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """The state after so many seconds of this run."""
        rate = (self.done - self.first) / max(seconds, 1e-9)
        of = "" if self.total is None else f" of {self.total}"
        line = f"{self.what}: {self.done}{of} {self.unit}, {rate:.3g} {self.unit}/s"
        if self.total is None or not rate:
            return line
        return f"{line}, {tqdm.format_interval((self.total - self.done) / rate)} left"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def tracked(
    items: Iterable[T], what: str, unit: str, total: int | None, *, shown: bool
) -> Iterator[T]:
    """The items, each counted when the next one is asked for."""
    with Progress(what, unit, total, shown=shown) as progress:
        for item in items:
            yield item
            progress.update()


def interactive() -> bool:
    """Whether standard error is a terminal, or belongs to a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
