import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from helpers import LEVEL, chi_square_p, seeded
from jumpsteps import random
from jumpsteps.random import categorical, uniform


def instead_of_uniform(values: Tensor) -> Callable[..., Tensor]:
    """A stand-in for ``random.uniform`` that returns these numbers: what is left is the inverse of the CDF alone."""
    return lambda shape, *, generator, device: values.reshape(shape)


def test_uniform_is_float64_and_finer_than_float32() -> None:
    u = uniform((50, 1000), generator=seeded(0), device=torch.device("cpu"))
    assert u.dtype == torch.float64
    assert u.shape == (50, 1000)
    assert (u >= 0).all()
    assert (u < 1).all()
    assert (u != u.float().double()).double().mean() > 0.99
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > LEVEL


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_draws_have_the_law_of_the_weights(dtype: torch.dtype, scale: float) -> None:
    weights = scale * torch.tensor([0.05, 0.0, 3.0, 1.0, 0.4, 2.2, 0.0], dtype=torch.float64)
    weights = weights.to(dtype)
    law = weights.double() / weights.double().sum()
    draws = categorical(weights.expand(100_000, -1), generator=seeded(1))
    assert draws.dtype == torch.int64
    assert draws.shape == (100_000,)
    assert chi_square_p(draws, law) > LEVEL


def test_rows_are_drawn_from_their_own_weights_and_independently() -> None:
    weights = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 0.0, 1.0]]], dtype=torch.float64)
    draws = categorical(weights.expand(100_000, 2, 3), generator=seeded(2))
    assert draws.shape == (100_000, 2)
    law = (weights[0] / weights[0].sum(-1, keepdim=True)).double()
    assert chi_square_p(draws[:, 0] * 3 + draws[:, 1], torch.kron(law[0], law[1])) > LEVEL


@pytest.mark.parametrize("zeros", [[0], [4], [0, 4], [1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4]])
def test_a_symbol_of_weight_zero_is_never_drawn(zeros: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.tensor([0.3, 1.0, 0.1, 7.0, 0.2], dtype=torch.float64)
    weights[zeros] = 0
    # the ends of [0, 1) and both sides of every step of the CDF, where an off-by-one shows
    steps = weights.cumsum(0) / weights.sum()
    below, above = torch.nextafter(steps, torch.zeros(())), torch.nextafter(steps, torch.ones(()))
    u = torch.cat([torch.tensor([0.0, 2**-53, 1 - 2**-53], dtype=torch.float64), steps, below, above])
    u = u[u < 1]
    monkeypatch.setattr(random, "uniform", instead_of_uniform(u))
    draws = categorical(weights.expand(len(u), -1), generator=seeded(0))
    assert (weights[draws] > 0).all()


@pytest.mark.parametrize("weight", [1.0, 1e-3, 0.3333333333333333, 7e5, 1e-300])
def test_the_largest_uniform_number_stays_inside(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", instead_of_uniform(torch.tensor([1 - 2**-53], dtype=torch.float64)))
    weights = torch.tensor([[weight / 3, weight, 0.0]], dtype=torch.float64)
    assert categorical(weights, generator=seeded(0)).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_symbol_of_a_long_tail_keeps_its_interval(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """49,999 symbols of 1e-7 after one heavy one: float32 sums, or float32 uniform numbers, would merge neighbours."""
    weights = torch.full((50_000,), 1e-7, dtype=torch.float64)
    weights[0] = 1 - weights[1:].sum()
    weights = weights.to(dtype)
    wanted = torch.randperm(49_999, generator=seeded(3))[:100] + 1
    inside = 0.25 + 0.5 * torch.rand(100, generator=seeded(4), dtype=torch.float64)
    ends = weights.double().cumsum(0)
    u = (ends[wanted - 1] + inside * weights[wanted].double()) / ends[-1]
    monkeypatch.setattr(random, "uniform", instead_of_uniform(u))
    assert torch.equal(categorical(weights.expand(100, -1), generator=seeded(0)), wanted)


def test_a_long_tail_is_drawn_at_its_rate() -> None:
    """49,999 symbols of 4e-7 weigh 0.02 in all: 40 +- 6 draws of 2,000, anywhere among them."""
    weights = torch.full((50_000,), 4e-7, dtype=torch.float32)
    weights[0] = 1 - 49_999 * 4e-7
    generator = seeded(5)
    draws = torch.cat([categorical(weights.expand(50, -1), generator=generator) for _ in range(40)])
    tail = draws[draws > 0]
    law = weights.double() / weights.double().sum()
    assert stats.binomtest(len(tail), len(draws), float(1 - law[0])).pvalue > LEVEL
    assert stats.kstest(tail.numpy(), stats.uniform(0, 50_000).cdf).pvalue > LEVEL


def test_many_equal_bfloat16_weights_do_not_saturate() -> None:
    """A bfloat16 sum of ones stops at 256."""
    draws = categorical(torch.ones(1000, dtype=torch.bfloat16).expand(10_000, -1), generator=seeded(6))
    assert chi_square_p(draws, torch.full((1000,), 1e-3, dtype=torch.float64)) > LEVEL


@pytest.mark.parametrize(
    "bad", [[1.0, math.nan], [1.0, -0.1], [0.0, 0.0], [math.inf, 1.0], [2.0, -math.inf], [-1.0, 2.0], [math.nan, math.nan]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bad_rows_are_refused(bad: list[float], dtype: torch.dtype) -> None:
    weights = torch.tensor([[0.5, 0.5], bad, [1.0, 0.0]], dtype=dtype)
    with pytest.raises(ValueError, match="negative, not finite or sums to zero"):
        categorical(weights, generator=seeded(0))


def test_the_seed_decides() -> None:
    weights = torch.rand(200, 7, generator=seeded(7), dtype=torch.float64)
    first, second = (categorical(weights, generator=seeded(8)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, categorical(weights, generator=seeded(9)))
    generator = seeded(8)
    assert torch.equal(first, categorical(weights, generator=generator))
    assert not torch.equal(first, categorical(weights, generator=generator))


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    categorical(torch.ones(5, 3), generator=seeded(0))
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_not_changed_and_may_be_a_strided_view() -> None:
    weights = torch.rand(4, 60, generator=seeded(10), dtype=torch.float64)
    kept = weights.clone()
    view = weights.T
    assert not view.is_contiguous()
    assert torch.equal(categorical(view, generator=seeded(1)), categorical(view.contiguous(), generator=seeded(1)))
    assert torch.equal(weights, kept)


@pytest.mark.parametrize("shape", [(0, 5), (0, 3, 5), (2, 0, 5)])
def test_no_rows_no_draws(shape: tuple[int, ...]) -> None:
    draws = categorical(torch.empty(shape), generator=seeded(0))
    assert draws.shape == shape[:-1]
    assert draws.dtype == torch.int64


def test_denormal_weights_stay_in_range() -> None:
    """The product of a denormal total and a number near 1 rounds up to the total."""
    weights = torch.tensor([[0.0, 5e-324, 0.0]], dtype=torch.float64).expand(1000, 3)
    assert (categorical(weights, generator=seeded(0)) == 1).all()
