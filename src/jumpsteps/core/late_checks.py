"""Checks of numbers that are on a GPU, which a run reads a step late.

To read a number the CPU waits until the GPU has done all that was asked of it, and meanwhile it
asks for nothing more. At small batches that costs more than the step's own work. Inside
``late_checks`` numbers are copied in the background, and read when the next step has been asked
for. A failed check then raises its error one step later, and names the step that it is of; until
then what depends on it must be in range, because an index that is not would end the process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LateChecks", "check_numbers", "errors_of_step", "late_checks", "read_later"]

Verify = Callable[[Sequence[float]], None]
"""Takes numbers, and raises an error if they are not as they must be."""


class Check(NamedTuple):
    """Numbers of one type and device, [] each, what checks them, and the step they are of."""

    numbers: Sequence[Tensor]
    verify: Verify
    step: str

    @property
    def kind(self) -> tuple[torch.device, torch.dtype]:
        return self.numbers[0].device, self.numbers[0].dtype


def read_later(numbers: Tensor) -> Callable[[], list[float]]:
    """Copies numbers [n] from a GPU in the background; what it returns reads them, and waits for
    what the GPU had been asked for until now, not for what comes after.
    """
    if numbers.device.type != "cuda":
        return numbers.tolist
    copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    copy.copy_(numbers, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(numbers.device))

    def read() -> list[float]:
        copied.synchronize()
        found: list[float] = copy.tolist()
        return found

    return read


class Waiting:
    """Checks whose numbers are on their way to the CPU: all of one kind in one copy."""

    def __init__(self, checks: list[Check]) -> None:
        self.checks = checks
        self.reads = {
            kind: read_later(
                torch.stack(
                    [number for one in checks if one.kind == kind for number in one.numbers]
                )
            )
            for kind in dict.fromkeys(one.kind for one in checks)
        }

    def make(self) -> None:
        found = {kind: iter(read()) for kind, read in self.reads.items()}
        for check in self.checks:
            with named(check.step):
                check.verify([next(found[check.kind]) for _ in check.numbers])


class LateChecks:
    """The checks of a run.

    Attributes:
        devices: types of device whose numbers are read late.
        step: the step that is made now, as errors of its checks name it; empty before the first.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = frozenset(devices)
        self.step = ""
        self.earlier = Waiting([])
        self.latest: list[Check] = []

    def add(self, numbers: Sequence[Tensor], verify: Verify) -> None:
        """Check numbers, [] each, that nothing changes until they are copied."""
        self.latest.append(Check(numbers, verify, self.step))

    def next_step(self) -> None:
        """Copy the numbers of the checks in the background, and make those that were copied when it
        was called before.
        """
        due, self.earlier, self.latest = self.earlier, Waiting(self.latest), []
        due.make()

    def settle(self) -> None:
        """Make all checks."""
        self.next_step()
        self.next_step()


@contextmanager
def named(step: str) -> Iterator[None]:
    """A ValueError within it begins with the step, unless that is empty."""
    try:
        yield
    except ValueError as error:
        if not step:
            raise
        raise ValueError(f"{step}: {error}") from error


CURRENT: ContextVar[LateChecks | None] = ContextVar("late_checks", default=None)


@contextmanager
def late_checks(devices: Sequence[str] = ("cuda",)) -> Iterator[LateChecks]:
    """Within it checks of this thread are late; all that are left are made at its end."""
    checks = LateChecks(devices)
    token = CURRENT.set(checks)
    try:
        yield checks
    finally:
        CURRENT.reset(token)
    checks.settle()


def errors_of_step() -> AbstractContextManager[None]:
    """A check that is made at once: its ValueError names the step of the run, if there is one."""
    checks = CURRENT.get()
    return named("" if checks is None else checks.step)


def check_numbers(numbers: Sequence[Tensor], verify: Verify, *, now: bool = False) -> bool:
    """Check numbers of one type and device, [] each, in a run on a GPU later: nothing may change
    them until then. ``now`` is for those that set a size. Returns whether they have been checked.

    Raises:
        What ``verify`` raises.
    """
    checks = CURRENT.get()
    if checks is None or now or numbers[0].device.type not in checks.devices:
        with errors_of_step():
            verify(torch.stack(tuple(numbers)).cpu().tolist())
        return True
    checks.add(numbers, verify)
    return False
