"""Searches that are announced because they are long on a CPU, by a clock that the network moves."""

from dataclasses import replace

import pytest
import torch

from jumpsteps import JYS, AutoOrder, PosteriorReverse, ShortestPath, Tweedie, load
from jumpsteps.cli import long_searches
from jumpsteps.cli.long_searches import evaluated, note_long_search, seconds_of_sequence


class Slow(torch.nn.Module):
    """Takes a second for each sequence, and ten for its first call."""

    def __init__(self, clock):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(1_000_000))
        self.clock, self.called = clock, 0

    def forward(self, x, t):
        self.called += 1
        self.clock[0] += len(x) + 10 * (self.called == 1)
        return torch.zeros(*x.shape, 5)


@pytest.fixture
def slow(monkeypatch):
    """A model of 1 million parameters and 4 sites."""
    clock = [0.0]
    monkeypatch.setattr(long_searches, "perf_counter", lambda: clock[0])
    model = load("toy-absorbing")
    return replace(model, reverse=PosteriorReverse(model.reverse.forward, Slow(clock).eval()))


def test_a_network_is_timed_without_its_first_call(slow):
    assert seconds_of_sequence(slow) == 1.0
    assert slow.reverse.model.called == 2


def test_searches_above_two_minutes_are_announced(slow, capsys, monkeypatch):
    monkeypatch.setattr(long_searches, "TIMED", (4e6 * 100, 1e15))
    for evaluations, said in ((6, ""), (8, ", at most 2 minutes, on a CPU"), (60, "at most 16")):
        method = ShortestPath(evaluations=evaluations)
        note_long_search(slow, method, [2], Tweedie(), 16, 0)  # 6 x 16 s = 96 s, 128 s, 960 s.
        err = capsys.readouterr().err
        assert said in err
        assert bool(err) == bool(said)


def test_searches_that_are_surely_short_or_long_are_not_timed(slow, capsys, monkeypatch):
    note_long_search(slow, ShortestPath(), [2], Tweedie(), 16, 0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(long_searches, "TIMED", (1e3, 1e4))
    note_long_search(slow, ShortestPath(), [2], Tweedie(), 16, 0)
    assert "32 model calls of 16 sequences, on a CPU" in capsys.readouterr().err
    assert slow.reverse.model.called == 0


def test_a_network_that_fails_or_is_compiled_is_not_announced(slow, capsys, monkeypatch):
    monkeypatch.setattr(long_searches, "TIMED", (0, 1e15))
    broken = replace(slow, reverse=PosteriorReverse(slow.reverse.forward, torch.nn.Linear(3, 3)))
    note_long_search(broken, ShortestPath(), [2], Tweedie(), 1000, 0)
    slow.reverse.model._compiled_call_impl = slow.reverse.model.forward  # As compile() does.
    note_long_search(slow, ShortestPath(), [2], Tweedie(), 1000, 0)
    assert capsys.readouterr().err == ""
    assert slow.reverse.model.called == 0


def test_states_of_calls():
    """An order is chosen by two states in a call, a certificate by four of held-out sequences."""
    assert evaluated(JYS(), 20, 16, 0) == 20 * 16
    assert evaluated(ShortestPath(), 32 + 16, 32, 16) == 32 * 32 + 16 * 4 * 16
    assert evaluated(AutoOrder(), 48 + 16, 32, 16) == 48 * 2 * 32 + 16 * 4 * 16
