"""Late checks on a CPU: with its type among the late ones all is as on a GPU but for the copies."""

import math
from collections.abc import Sequence

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.core import draws
from jumpsteps.core.draws import RowDraws, categorical, poisson, poisson_times
from jumpsteps.core.late_checks import check_numbers, late_checks

CPU = ("cpu",)
BAD = [0.0, -1.0, math.nan, math.inf]


def refuse(numbers: Sequence[float]) -> None:
    raise ValueError(f"numbers {numbers}")


def test_a_check_is_made_when_the_next_step_has_been_asked_for() -> None:
    with late_checks(CPU) as checks:
        assert not check_numbers([torch.tensor(1.0), torch.tensor(2.0)], refuse)
        checks.next_step()
        with pytest.raises(ValueError, match=r"numbers \[1.0, 2.0\]"):
            checks.next_step()


@pytest.mark.parametrize("steps", [0, 1])
def test_no_check_is_lost_at_the_end(steps: int) -> None:
    run = late_checks(CPU)
    checks = run.__enter__()
    check_numbers([torch.tensor(1.0)], refuse)
    for _ in range(steps):
        checks.next_step()
    with pytest.raises(ValueError, match="numbers"):
        run.__exit__(None, None, None)


def test_an_error_names_the_step_of_its_numbers() -> None:
    """Not the step in which it is raised; before the first step there is none to name."""
    with late_checks(CPU) as checks:
        check_numbers([torch.tensor(0.0)], lambda numbers: None)
        for step in (1, 2):
            checks.step = f"step {step}"
            check_numbers([torch.tensor(float(step))], refuse)
            if step == 1:
                checks.next_step()
        with pytest.raises(ValueError, match=r"^step 2: numbers \[5.0\]"):
            check_numbers([torch.tensor(5.0)], refuse, now=True)
        with pytest.raises(ValueError, match=r"^step 2: cannot draw a Poisson number"):
            poisson_times(torch.tensor([math.nan]), generator=seeded(0))[1]()
        for step in (1, 2):
            with pytest.raises(ValueError, match=rf"^step {step}: numbers \[{step}.0\]"):
                checks.next_step()
    with late_checks(CPU), pytest.raises(ValueError, match=r"^numbers"):
        check_numbers([torch.tensor(1.0)], refuse, now=True)


def test_a_check_is_made_once() -> None:
    made: list[Sequence[float]] = []
    with late_checks(CPU) as checks:
        check_numbers([torch.tensor(1.0)], made.append)
        for _ in range(4):
            checks.next_step()
    assert made == [[1.0]]


def test_numbers_of_several_types_arrive_as_they_are() -> None:
    """Together in float32 the integer would lose its last digit."""
    made: list[Sequence[float]] = []
    with late_checks(CPU):
        for numbers in ([0.5, 0.25], [2**24 + 1], [1.5]):
            check_numbers([torch.tensor(number) for number in numbers], made.append)
    assert made == [[0.5, 0.25], [2**24 + 1], [1.5]]


def test_checks_are_made_at_once_elsewhere() -> None:
    number = [torch.tensor(1.0)]
    with pytest.raises(ValueError, match="numbers"):
        check_numbers(number, refuse)
    with late_checks(CPU), pytest.raises(ValueError, match="numbers"):
        check_numbers(number, refuse, now=True)
    with late_checks(("cuda",)), pytest.raises(ValueError, match="numbers"):
        check_numbers(number, refuse)
    with pytest.raises(ValueError, match="numbers"):
        check_numbers(number, refuse)


def test_another_error_is_not_replaced() -> None:
    def break_off() -> None:
        with late_checks(CPU):
            check_numbers([torch.tensor(1.0)], refuse)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        break_off()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("symbols", [2, 256, 300])
def test_symbols_of_bad_rows_are_in_range_until_they_are_refused(bad: float, symbols: int) -> None:
    weights = torch.ones(40, symbols)
    weights[1::2] = bad
    with late_checks(CPU) as checks:
        drawn = categorical(weights, generator=seeded(0))
        assert ((drawn >= 0) & (drawn < symbols)).all()
        assert (drawn[::2] > 0).any()
        with pytest.raises(ValueError, match="negative, not finite or sums to zero"):
            checks.settle()


@pytest.mark.parametrize("bad", BAD)
def test_symbols_of_bad_tables_are_in_range_until_they_are_refused(bad: float) -> None:
    weights = torch.ones(4, 3)
    weights[1::2] = bad
    with late_checks(CPU) as checks:
        drawn = RowDraws(weights).draw(torch.arange(4).repeat(50), generator=seeded(0))
        assert ((drawn >= 0) & (drawn < 3)).all()
        with pytest.raises(ValueError, match="a table to draw from"):
            checks.settle()


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_means_are_refused_late_or_at_once(bad: float) -> None:
    mean = torch.tensor([1.0, bad, 3.0])
    with late_checks(CPU) as checks:
        assert (poisson(mean, generator=seeded(0)) >= 0).all()
        with pytest.raises(ValueError, match="a mean is negative"):
            checks.settle()
        with pytest.raises(ValueError, match="a mean is negative"):
            poisson(mean, generator=seeded(0), now=True)
        with pytest.raises(ValueError, match="a mean is negative"):
            poisson_times(mean, generator=seeded(0))[1]()


@pytest.mark.parametrize("means", [[], [0.3, 2.0, 50.0, 0.0]])
def test_numbers_that_set_a_size_come_with_their_sum(means: list[float]) -> None:
    times, number = poisson_times(torch.tensor(means).repeat(100), generator=seeded(0))
    assert torch.equal(times, poisson(torch.tensor(means).repeat(100), generator=seeded(0)))
    assert number() == int(times.sum())


@pytest.mark.parametrize("symbols", [3, 7, 256, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_draws_are_the_same_by_columns_and_late(
    symbols: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.rand(500, symbols, generator=seeded(1)).to(dtype)
    weights[weights < 0.3] = 0
    weights[:, 1] += 0.1
    mean = torch.rand(500, generator=seeded(2))

    def drawn() -> list[torch.Tensor]:
        table = RowDraws(weights).draw(torch.arange(500), generator=seeded(4))
        numbers = poisson(mean, generator=seeded(5))
        return [categorical(weights, generator=seeded(3)), table, numbers]

    expected = drawn()
    with late_checks(CPU):
        assert all(map(torch.equal, drawn(), expected))
    monkeypatch.setattr(draws, "by_columns", lambda rows: True)
    assert all(map(torch.equal, drawn(), expected))


@pytest.mark.parametrize("symbols", [3, 256, 300])
@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_the_ends_of_a_row_by_columns(
    symbols: int, u: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.zeros(2, symbols)
    weights[:, 1] = 1
    monkeypatch.setattr(draws, "by_columns", lambda rows: True)
    numbers = torch.full((2,), u, dtype=torch.float64)
    monkeypatch.setattr(draws, "uniform", lambda shape, *, generator, device: numbers)
    assert (categorical(weights, generator=seeded(0)) == 1).all()


@pytest.mark.gpu
def test_a_gpu_draws_as_a_cpu_and_refuses_late() -> None:
    weights = torch.randint(1, 9, (2000, 300), generator=seeded(0)).double()
    weights[:, ::7] = 0
    u = torch.rand(2000, generator=seeded(1)).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            draws, "uniform", lambda shape, *, generator, device: u.to(device).reshape(shape)
        )
        expected = categorical(weights, generator=seeded(0))
        found = categorical(weights.cuda(), generator=seeded(0))
    assert torch.equal(found.cpu(), expected)
    weights[3] = math.nan
    with late_checks() as checks:
        checks.step = "step 1"
        categorical(weights.cuda(), generator=torch.Generator("cuda").manual_seed(0))
        checks.next_step()
        checks.step = "step 2"
        with pytest.raises(ValueError, match=r"^step 1: .* negative, not finite"):
            checks.next_step()
