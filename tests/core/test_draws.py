import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core import draws as random
from jumpsteps.core.draws import (
    RowDraws,
    categorical,
    exponential,
    gumbel,
    poisson,
    uniform,
)


def instead_of_uniform(values: Tensor) -> Callable[..., Tensor]:
    """A stand-in for ``draws.uniform`` that returns these numbers: the inverse of the CDF is left
    to test."""
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
def test_draws_have_the_distribution_of_the_weights(dtype: torch.dtype, scale: float) -> None:
    weights = scale * torch.tensor([0.05, 0.0, 3.0, 1.0, 0.4, 2.2, 0.0], dtype=torch.float64)
    weights = weights.to(dtype)
    probs = weights.double() / weights.double().sum()
    draws = categorical(weights.expand(100_000, -1), generator=seeded(1))
    assert draws.dtype == torch.int64
    assert draws.shape == (100_000,)
    assert chi_square_p(draws, probs) > LEVEL


def test_rows_are_drawn_from_their_own_weights_and_independently() -> None:
    weights = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 0.0, 1.0]]], dtype=torch.float64)
    draws = categorical(weights.expand(100_000, 2, 3), generator=seeded(2))
    assert draws.shape == (100_000, 2)
    probs = (weights[0] / weights[0].sum(-1, keepdim=True)).double()
    assert chi_square_p(draws[:, 0] * 3 + draws[:, 1], torch.kron(probs[0], probs[1])) > LEVEL


@pytest.mark.parametrize("v", [4, 5, 7, 9, 12])
def test_two_stages_draw_what_one_does(v: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers add up without rounding: both are equal at every uniform number, steps of the
    CDF included."""
    weights = torch.randint(0, 3, (40, v), generator=seeded(v)).to(torch.float32)
    weights[:, -1] += weights.sum(-1) == 0
    u = torch.linspace(0, 1, 241, dtype=torch.float64)[:-1]
    monkeypatch.setattr(random, "uniform", instead_of_uniform(u.repeat(40)))
    each = weights.repeat_interleave(len(u), 0)
    one = categorical(each, generator=seeded(0))
    monkeypatch.setattr(random, "MANY", 2)
    assert torch.equal(categorical(each, generator=seeded(0)), one)
    assert torch.equal(
        categorical(each.reshape(40, len(u), v), generator=seeded(0)), one.reshape(40, len(u))
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_draws_of_many_symbols_have_the_distribution_of_the_weights(
    dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "MANY", 2)
    weights = (
        scale * torch.tensor([0.05, 0.0, 3.0, 1.0, 0.4, 2.2, 0.0, 0.7], dtype=torch.float64)
    ).to(dtype)
    draws = categorical(weights.expand(100_000, -1), generator=seeded(1))
    assert chi_square_p(draws, weights.double() / weights.double().sum()) > LEVEL
    assert categorical(weights.expand(0, -1), generator=seeded(1)).shape == (0,)


@pytest.mark.parametrize("many", [random.MANY, 2])
@pytest.mark.parametrize("zeros", [[0], [4], [0, 4], [1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4]])
def test_a_symbol_of_weight_zero_is_never_drawn(
    zeros: list[int], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "MANY", many)
    weights = torch.tensor([0.3, 1.0, 0.1, 7.0, 0.2], dtype=torch.float64)
    weights[zeros] = 0
    # the ends of [0, 1) and both sides of every step of the CDF, where an off-by-one shows
    steps = weights.cumsum(0) / weights.sum()
    below, above = torch.nextafter(steps, torch.zeros(())), torch.nextafter(steps, torch.ones(()))
    u = torch.cat(
        [torch.tensor([0.0, 2**-53, 1 - 2**-53], dtype=torch.float64), steps, below, above]
    )
    u = u[u < 1]
    monkeypatch.setattr(random, "uniform", instead_of_uniform(u))
    draws = categorical(weights.expand(len(u), -1), generator=seeded(0))
    assert (weights[draws] > 0).all()


@pytest.mark.parametrize("weight", [1.0, 1e-3, 0.3333333333333333, 7e5, 1e-300])
def test_the_largest_uniform_number_stays_inside(
    weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        random, "uniform", instead_of_uniform(torch.tensor([1 - 2**-53], dtype=torch.float64))
    )
    weights = torch.tensor([[weight / 3, weight, 0.0]], dtype=torch.float64)
    assert categorical(weights, generator=seeded(0)).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_symbol_of_a_long_tail_keeps_its_interval(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """49,999 symbols of 1e-7 after one heavy one: float32 sums or uniform numbers would merge
    neighbours."""
    weights = torch.full((50_000,), 1e-7, dtype=torch.float64)
    weights[0] = 1 - weights[1:].sum()
    weights = weights.to(dtype)
    wanted = torch.randperm(49_999, generator=seeded(3))[:100] + 1
    inside = 0.25 + 0.5 * torch.rand(100, generator=seeded(4), dtype=torch.float64)
    ends = weights.double().cumsum(0)
    u = (ends[wanted - 1] + inside * weights[wanted].double()) / ends[-1]
    monkeypatch.setattr(random, "uniform", instead_of_uniform(u))
    assert torch.equal(categorical(weights.expand(100, -1), generator=seeded(0)), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1e-7, 3e-8])
def test_a_long_tail_is_drawn_at_its_rate(weight: float) -> None:
    """49,999 symbols of 1e-7 are 100 +- 10 of 20,000 draws, anywhere among them; of 3e-8, 30 +- 5.

    Float32 Gumbel noise ends at 16.6. It draws 73% of the first tail, which this test cannot tell
    from all of it, and 32% of the second, which it can.
    """
    weights = torch.full((50_000,), weight, dtype=torch.float32)
    weights[0] = 1 - 49_999 * weight
    generator = seeded(5)
    # Two rows at a time: larger tensors are allocated anew each time, which takes three times as
    # long.
    draws = torch.cat(
        [categorical(weights.expand(2, -1), generator=generator) for _ in range(10_000)]
    )
    tail = draws[draws > 0]
    probs = weights.double() / weights.double().sum()
    assert stats.binomtest(len(tail), len(draws), float(1 - probs[0])).pvalue > LEVEL
    assert stats.kstest(tail.numpy(), stats.uniform(0, 50_000).cdf).pvalue > LEVEL


def test_many_equal_bfloat16_weights_do_not_saturate() -> None:
    """A bfloat16 sum of ones stops at 256."""
    draws = categorical(
        torch.ones(1000, dtype=torch.bfloat16).expand(10_000, -1), generator=seeded(6)
    )
    assert chi_square_p(draws, torch.full((1000,), 1e-3, dtype=torch.float64)) > LEVEL


@pytest.mark.parametrize(
    "bad",
    [
        [1.0, math.nan],
        [1.0, -0.1],
        [0.0, 0.0],
        [math.inf, 1.0],
        [2.0, -math.inf],
        [-1.0, 2.0],
        [math.nan, math.nan],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bad_rows_are_refused(bad: list[float], dtype: torch.dtype) -> None:
    weights = torch.tensor([[0.5, 0.5], bad, [1.0, 0.0]], dtype=dtype)
    with pytest.raises(ValueError, match="negative, not finite or sums to zero"):
        categorical(weights, generator=seeded(0))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("symbols", [256, 300])
def test_bad_rows_of_many_symbols_are_refused(bad: float, symbols: int) -> None:
    weights = torch.ones(3, symbols)
    weights[1] = bad
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


def test_weights_are_not_changed_and_may_be_a_strided_evaluation() -> None:
    weights = torch.rand(4, 60, generator=seeded(10), dtype=torch.float64)
    kept = weights.clone()
    evaluation = weights.T
    assert not evaluation.is_contiguous()
    assert torch.equal(
        categorical(evaluation, generator=seeded(1)),
        categorical(evaluation.contiguous(), generator=seeded(1)),
    )
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


@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.3, 5.0, 80.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_poisson_numbers_have_their_distribution(mean: float, dtype: torch.dtype) -> None:
    means = torch.full((100_000,), mean, dtype=dtype)
    numbers = poisson(means, generator=seeded(20))
    assert numbers.dtype == torch.int64
    assert numbers.shape == (100_000,)
    probs = stats.poisson(float(means[0]))
    last = int(probs.ppf(1 - 1e-12)) + 2
    pmf = torch.tensor([*probs.pmf(range(last)), probs.sf(last - 1)], dtype=torch.float64)
    assert chi_square_p(numbers.clamp_max(last), pmf) > LEVEL
    assert torch.equal(numbers, poisson(means, generator=seeded(20)))


def test_each_poisson_number_has_its_own_mean_and_is_independent() -> None:
    means = torch.tensor([[0.0, 0.4], [2.0, 30.0]], dtype=torch.float64)
    numbers = poisson(means.expand(50_000, 2, 2), generator=seeded(21)).reshape(-1, 4).double()
    assert (numbers[:, 0] == 0).all()
    sums = numbers.sum(0)
    for total, mean in zip(sums[1:].tolist(), [0.4, 2.0, 30.0], strict=True):
        probs = stats.poisson(50_000 * mean)
        assert min(probs.cdf(total), probs.sf(total - 1)) > LEVEL / 2
    assert float(numbers[:, 1:].T.corrcoef().fill_diagonal_(0).abs().max()) < 4 / math.sqrt(50_000)
    assert poisson(means[:0], generator=seeded(0)).shape == (0, 2)


@pytest.mark.parametrize("bad", [-1e-9, -3.0, math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bad_poisson_means_are_refused(bad: float, dtype: torch.dtype) -> None:
    with pytest.raises(
        ValueError, match=r"cannot draw a Poisson number: a mean is negative or not finite"
    ):
        poisson(torch.tensor([1.0, bad, 0.0], dtype=dtype), generator=seeded(0))


@pytest.mark.parametrize("rate", [1e-4, 1.0, 250.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_waiting_times_have_their_distribution(rate: float, dtype: torch.dtype) -> None:
    rates = torch.full((2, 50_000), rate, dtype=dtype)
    times = exponential(rates, generator=seeded(22))
    assert times.dtype == torch.float64
    assert times.shape == rates.shape
    assert (times >= 0).all()
    assert (times != times.float().double()).double().mean() > 0.99
    assert (
        stats.kstest(times.flatten().numpy(), stats.expon(scale=1 / float(rates[0, 0])).cdf).pvalue
        > LEVEL
    )
    assert torch.equal(times, exponential(rates, generator=seeded(22)))


def test_each_waiting_time_has_its_own_rate() -> None:
    """Whole numbers, too: a sampler passes a number of sites."""
    times = exponential(torch.tensor([0, 1, 7]).expand(50_000, 3), generator=seeded(23))
    assert times.dtype == torch.float64
    assert (times[:, 0] == torch.inf).all()
    for column, rate in ((1, 1), (2, 7)):
        assert (
            stats.kstest(times[:, column].numpy(), stats.expon(scale=1 / rate).cdf).pvalue > LEVEL
        )
    assert abs(float(times[:, 1:].T.corrcoef()[0, 1])) < 4 / math.sqrt(50_000)


@pytest.mark.parametrize("u", [0.0, 2**-53, 0.5, 1 - 2**-53])
def test_waiting_times_at_the_ends(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rate, no event: whatever the uniform number. And tiny numbers are not rounded off."""
    monkeypatch.setattr(
        random, "uniform", instead_of_uniform(torch.full((2,), u, dtype=torch.float64))
    )
    times = exponential(torch.tensor([0.0, 2.0]), generator=seeded(0))
    assert times[0] == torch.inf
    assert times[1] == pytest.approx(-math.log1p(-u) / 2, rel=1e-14)


def test_gumbel_numbers_have_their_distribution() -> None:
    g = gumbel((200, 1000), generator=seeded(24), device=torch.device("cpu"))
    assert g.dtype == torch.float64
    assert g.shape == (200, 1000)
    assert g.isfinite().all()
    assert (g != g.float().double()).double().mean() > 0.99
    assert stats.kstest(g.flatten().numpy(), stats.gumbel_r.cdf).pvalue > LEVEL
    # the largest of 1000 is a Gumbel number moved by log(1000), the argument that draws categories
    assert stats.kstest(g.amax(-1).numpy(), stats.gumbel_r(math.log(1000)).cdf).pvalue > LEVEL
    assert torch.equal(g, gumbel((200, 1000), generator=seeded(24), device=torch.device("cpu")))


def test_gumbel_noise_reaches_beyond_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 noise ends at 16.6, where 1 - 2^-24 is."""
    monkeypatch.setattr(
        random,
        "uniform",
        instead_of_uniform(torch.tensor([2**-53, 1e-12, 1 - 2**-53], dtype=torch.float64)),
    )
    g = gumbel((3,), generator=seeded(0), device=torch.device("cpu"))
    expected = [53 * math.log(2), 12 * math.log(10), -math.log(53 * math.log(2))]
    torch.testing.assert_close(g, torch.tensor(expected, dtype=torch.float64), rtol=1e-11, atol=0)


def test_draws_from_the_rows_of_a_table() -> None:
    table = torch.tensor([[0.0, 2.0, 1.0, 0.0], [5.0, 0.0, 0.0, 3.0], [0.0, 0.0, 7.0, 0.0]])
    rows = torch.arange(3).repeat(60_000).reshape(-1, 3)
    draws = RowDraws(table).draw(rows, generator=seeded(4))
    assert draws.shape == rows.shape
    for row in range(3):
        assert chi_square_p(draws[:, row], table[row].double() / table[row].sum()) > LEVEL


def test_the_ends_of_a_row_stay_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least and the largest uniform number; symbols of weight zero at both ends."""
    table = torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(300, 1)
    for value, symbol in ((0.0, 1), (1 - 2.0**-53, 2)):
        ends = torch.full((300,), value, dtype=torch.float64)
        monkeypatch.setattr(random, "uniform", instead_of_uniform(ends))
        assert (RowDraws(table).draw(torch.arange(300), generator=seeded(0)) == symbol).all()


@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_a_table_with_a_row_that_is_no_distribution_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="a table to draw from has a row that is no distribution"):
        RowDraws(torch.tensor([[1.0, 1.0], row]))
