import time

import pytest

from jumpsteps.core import progress
from jumpsteps.core.progress import Progress, tracked


class Clock:
    """Seconds that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_without_a_terminal_there_is_a_line_a_minute(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    with Progress("sampling", "samples", 1000, shown=True, done=400) as shown:
        for _ in range(5):
            clock.now += 25
            shown.update(50)
    assert capsys.readouterr() == (
        "",
        "sampling: 550 of 1000 samples, 2 samples/s, 03:45 left\n",
    )


def test_several_processes_are_counted_together(capsys, monkeypatch):
    clock, others = Clock(monkeypatch), [70, 300]

    def tally(count: int) -> int:
        return count + others.pop(0)

    with Progress("sampling", "samples", 1000, shown=True, done=400, tally=tally) as shown:
        for _ in range(2):
            clock.now += 60
            shown.update(50)
    assert capsys.readouterr().err == (
        "sampling: 520 of 1000 samples, 2 samples/s, 04:00 left\n"
        "sampling: 750 of 1000 samples, 2.92 samples/s, 01:25 left\n"
    )


def test_nothing_is_left_to_say_where_the_total_is_unknown(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    with Progress("search", "model calls", None, shown=True) as shown:
        clock.now = 60
        shown.update(0)
        clock.now = 120
        shown.update(3)
    assert capsys.readouterr().err == (
        "search: 0 model calls, 0 model calls/s\nsearch: 3 model calls, 0.025 model calls/s\n"
    )


@pytest.mark.parametrize("shown", [False, True])
def test_on_a_terminal_there_is_a_bar(shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(tracked(range(7), "likelihood", "evaluations", 7, shown=shown)) == list(range(7))
    err = capsys.readouterr().err
    assert ("7/7" in err) == ("likelihood" in err) == shown


def test_a_notebook_counts_as_a_terminal(monkeypatch):
    assert not progress.interactive()
    monkeypatch.setitem(__import__("sys").modules, "ipykernel", object())
    assert progress.interactive()
