"""Tables that are made ahead are those that are made one by one."""

from itertools import pairwise

import torch

from jumpsteps.process import time_tables
from jumpsteps.process.given_data import JumpTables
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.rate_matrix import birth_death
from jumpsteps.process.time_tables import TimeTables

TIMES = [1.0, 0.8, 0.55, 0.3, 0.2, 0.05, 0.0]


def tables(ahead: int, smallest: float = 0.0) -> TimeTables:
    rates = birth_death(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 1.0]))
    return TimeTables(rates, LogLinear().total, smallest, ahead)


def counted_exponentials(monkeypatch) -> list[int]:
    """How many matrices each call makes, from now on."""
    made: list[int] = []
    exponential = time_tables.exponential_of_rates

    def counted(rates, elapsed, **options):
        made.append(len(elapsed))
        return exponential(rates, elapsed, **options)

    monkeypatch.setattr(time_tables, "exponential_of_rates", counted)
    return made


def test_matrices_made_ahead_are_those_made_one_by_one(monkeypatch) -> None:
    made = counted_exponentials(monkeypatch)
    results, batches = [], []
    for ahead in (0, 2):
        kept = tables(ahead)
        kept.announce(TIMES)
        found = []
        for t, s in pairwise(TIMES[:-1]):
            found += [*kept.between((0.0, s), (s, t)), *kept.between((0.0, t))]
        results.append(torch.stack(found))
        batches.append(list(made))
        made.clear()
    assert torch.equal(*results)
    assert batches[0] == [2, 1, 2, 2, 2, 2]
    assert batches[1] == [6, 1, 4]


def test_a_schedule_that_comes_again_finds_its_tables(monkeypatch) -> None:
    """If all fit; else the latest are kept, and never more than the limit."""
    made = counted_exponentials(monkeypatch)
    times = [1 - 0.9 * k / 64 for k in range(65)]
    for limit, again in ((2 * 64, 0), (100, 64)):
        kept = tables(0)
        kept.kept = limit
        for runs in (64, again):
            made.clear()
            for t, s in pairwise(times):
                kept.between((0.0, s), (s, t))
            assert len(made) == runs
            assert len(kept.matrices) == limit


def test_as_many_tables_are_kept_as_have_the_same_size() -> None:
    for symbols, kept in ((2, 1024), (256, 256), (4096, 6)):
        rates = torch.zeros(1, 1, dtype=torch.float64).expand(symbols, symbols)
        for ahead in (0, 16):
            assert TimeTables(rates, LogLinear().total, 0.0, ahead).kept == kept + 2 * ahead


def test_other_times_than_those_announced_are_made_alone() -> None:
    kept = tables(3)
    kept.announce(TIMES)
    assert not list(kept.later(0.0, 0.7))
    assert not list(kept.later(0.3, 0.8))
    assert list(kept.later(0.0, 0.3)) == [(0.0, 0.2), (0.0, 0.05)]
    assert list(kept.later(0.3, 0.55)) == [(0.2, 0.3), (0.05, 0.2), (0.0, 0.05)]


def test_tables_of_jumps_made_ahead_are_those_made_one_by_one(monkeypatch) -> None:
    made: list[int] = []
    of_each = JumpTables.of_each

    def counted(q, rates_between):
        made.append(len(q))
        return of_each(q, rates_between)

    monkeypatch.setattr(JumpTables, "of_each", counted)
    results, batches = [], []
    for ahead in (0, 2):
        kept = tables(ahead)
        kept.announce(TIMES)
        found = []
        for t in TIMES[:-1]:
            near = kept.near(t)
            found += [kept.jumps(t).exits, kept.jumps(t).q, near.inverse, near.rare, near.likely]
        results.append(torch.stack([part.double() for part in found]))
        batches.append(list(made))
        made.clear()
    torch.testing.assert_close(*results, rtol=1e-6, atol=0)
    assert batches == [[1] * 12, [3] * 4]


def test_masks_of_impossible_symbols_made_ahead_are_those_made_one_by_one() -> None:
    alone, ahead = tables(0, smallest=0.05), tables(3, smallest=0.05)
    ahead.announce(TIMES)
    masks = [(alone.impossible(t), ahead.impossible(t)) for t in TIMES[:-1]]
    assert masks[0] == (None, None)
    assert all(torch.equal(one, other) for one, other in masks if one is not None)
    assert sum(one is not None for one, _ in masks) > 2
