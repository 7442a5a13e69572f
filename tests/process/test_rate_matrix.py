"""Kernels given by a matrix: rates, exponentials that keep small probabilities, stationary
distributions, bounds and errors.

What they share with the other kernels is tested in test_forward.py.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import expm
from torch import Tensor

from helpers import gaussian_rates, kernel, one_way_rates, series
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.matrix_exponential import exponential_of_rates
from jumpsteps.process.noise import Constant, Exponential, Geometric, LogLinear, Time
from jumpsteps.process.rate_matrix import (
    MatrixKernel,
    RateMatrix,
    birth_death,
)

CIFAR = Gaussian(
    vocab_size=256, rate_sigma=6.0, q_sigma=512.0, noise=Exponential(base=100.0, scale=3.0)
)
SMALL = Gaussian(
    vocab_size=24, rate_sigma=2.0, q_sigma=8.0, noise=Exponential(base=100.0, scale=0.3)
)
NOISE = Constant(1.7)


def float64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def relative(actual: Tensor, expected: Tensor, rtol: float, smallest: float = 1e-280) -> None:
    """Every entry of at least ``smallest``, by its own size."""
    seen = expected >= smallest
    assert seen.any()
    torch.testing.assert_close(actual[seen], expected[seen], rtol=rtol, atol=0)


def accurate(forward: MatrixKernel, t: float) -> Tensor:
    """q_{t|0} with small entries as precise as large ones."""
    return torch.from_numpy(series(forward.rate_matrix().numpy(), float(forward.noise.total(t))))


def test_gaussian_rates_by_hand() -> None:
    """Four states, both widths 1: pi is proportional to e^(-1/2), 1, e^(-1/2), e^(-2)."""
    e = math.exp
    expected = float64(
        [0, 1, e(-1), e(-4)],
        [e(-0.5), 0, 1, e(-3)],
        [e(-1), e(0.5), 0, e(-1.5)],
        [e(-2.5), e(-1), 1, 0],
    )
    forward = Gaussian(vocab_size=4, rate_sigma=1.0, q_sigma=1.0, noise=NOISE)
    close(forward.rate_matrix(), expected - expected.sum(-1).diag(), atol=1e-14)
    probs = float64([e(-0.5), 1, e(-0.5), e(-2)])[0]
    close(forward.stationary(), probs / probs.sum(), atol=1e-15)


@pytest.mark.parametrize(
    ("size", "rate_sigma", "q_sigma"),
    [
        (2, 1.0, 1.0),
        (3, 0.8, 1.5),
        (8, 2.0, 3.0),
        (9, 2.0, 3.0),
        (256, 6.0, 512.0),
        (256, 3.0, 40.0),
    ],
)
def test_gaussian_rates_by_definition(size: int, rate_sigma: float, q_sigma: float) -> None:
    forward = Gaussian(vocab_size=size, rate_sigma=rate_sigma, q_sigma=q_sigma, noise=NOISE)
    rates = forward.rate_matrix()
    assert rates.dtype == torch.float64
    torch.testing.assert_close(
        rates, torch.from_numpy(gaussian_rates(size, rate_sigma, q_sigma)), rtol=1e-11, atol=0
    )
    flow = forward.stationary()[:, None] * (rates - rates.diagonal().diag())
    torch.testing.assert_close(flow, flow.T, rtol=1e-11, atol=0)  # detailed balance
    assert (flow >= 0).all()
    k = torch.arange(1, size + 1, dtype=torch.float64)
    weights = torch.exp(-((k - size / 2) ** 2) / (2 * q_sigma**2))
    close(forward.stationary(), weights / weights.sum(), atol=1e-15)


def test_the_defaults_are_those_of_cifar10() -> None:
    assert Gaussian() == CIFAR
    assert CIFAR.name == "gaussian"
    assert RateMatrix.name == "rate-matrix"


@pytest.mark.parametrize("t", [1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0])
def test_transitions_of_cifar10(t: float) -> None:
    q = CIFAR.transition(0.0, t)
    assert q.dtype == torch.float64
    assert (q >= 0).all()
    close(q.sum(-1), torch.ones(256, dtype=torch.float64), atol=1e-12)
    close(
        q,
        torch.from_numpy(expm(float(CIFAR.noise.total(t)) * gaussian_rates(256, 6.0, 512.0))),
        atol=1e-10,
    )


def test_cifar10_ends_at_the_prior() -> None:
    probs = CIFAR.stationary()
    end = CIFAR.transition(0.0, 1.0)
    assert float(0.5 * (end - probs).abs().sum(-1).max()) < 2e-3
    start = CIFAR.transition(0.0, 0.1)
    assert float(0.5 * (start - probs).abs().sum(-1).min()) > 0.5


@pytest.mark.parametrize(
    ("forward", "t"),
    [(CIFAR, 0.01), (CIFAR, 0.1), (SMALL, 0.003), (SMALL, 0.02)],
    ids=["256-0.01", "256-0.1", "24-0.003", "24-0.02"],
)
def test_small_gaussian_probabilities_are_precise(forward: Gaussian, t: float) -> None:
    """The reverse rates divide by them. ``likelihood`` keeps what is above 1e-30 of its site."""
    expected = accurate(forward, t)
    assert float(expected.min()) < 1e-15
    relative(forward.transition(0.0, t), expected, rtol=1e-9, smallest=1e-30)


@pytest.mark.parametrize("t", [0.02, 0.1, 0.3])
def test_rates_of_a_rough_model_stay_in_their_bound(t: float) -> None:
    """A network leaves some probability at symbols far from x_t, where w divides by a tiny
    q_{t|0}."""
    q, off = accurate(SMALL, t), SMALL.rates_between
    assert float(q.min()) > 1e-30
    posterior = 0.9 * q.T / q.T.sum(-1, keepdim=True) + 0.1 / 24

    def network(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return posterior[x].log() if where is None else posterior[x][where].log()

    x = torch.arange(24)[:, None]
    rates = PosteriorReverse(SMALL, network).rates(x, t).squeeze(1) / SMALL.noise.rate(t)
    expected = off.T * (
        (posterior / q.T) @ q
    )  # sum over x0 of p(x0 | x) R(y, x) q(y | x0) / q(x | x0)
    torch.testing.assert_close(rates, expected, rtol=1e-8, atol=1e-12)
    assert float(rates.sum(-1).max()) <= float(SMALL.exit_rate_bound.rate(SMALL.noise.total(t)))


def pure_birth(size: int, elapsed: float) -> Tensor:
    """x -> x + 1 at rate 1 up to the last state: Poisson probabilities, their tail in the last
    column."""
    x = np.arange(size)
    probs = stats.poisson.pmf(x[None] - x[:, None], elapsed)
    probs[:, -1] = stats.poisson.sf(size - 2 - x, elapsed)
    return torch.from_numpy(probs)


@pytest.mark.parametrize("elapsed", [1e-12, 1e-3, 0.05, 0.25, 0.3, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("size", [2, 6, 40])
def test_small_probabilities_of_a_pure_birth_chain(size: int, elapsed: float) -> None:
    """In closed form, down to 1e-60: as many as 39 jumps in no time."""
    rates = torch.diag(torch.ones(size - 1, dtype=torch.float64), 1)
    rates -= rates.sum(-1).diag()
    q = exponential_of_rates(rates, torch.tensor([elapsed], dtype=torch.float64))[0]
    relative(q, pure_birth(size, elapsed), rtol=1e-11, smallest=1e-60)
    assert (q.tril(-1) == 0).all()


def decimal_exponential(rates: Tensor, elapsed: float) -> Tensor:
    """The Taylor series of exp(elapsed R) in 100 decimals."""
    size = len(rates)
    with localcontext() as context:
        context.prec = 100
        step = [
            [Decimal(float(rates[i, j])) * Decimal(elapsed) for j in range(size)]
            for i in range(size)
        ]
        term = [[Decimal(int(i == j)) for j in range(size)] for i in range(size)]
        total = term
        for order in range(1, 250):
            term = [
                [sum(term[i][k] * step[k][j] for k in range(size)) / order for j in range(size)]
                for i in range(size)
            ]
            total = [[total[i][j] + term[i][j] for j in range(size)] for i in range(size)]
        return torch.tensor([[float(value) for value in row] for row in total], dtype=torch.float64)


STIFF = birth_death(float64([1e-18, 3.0, 1e-16, 0.2])[0], float64([2.0, 1e-15, 0.7, 1.1])[0])
STIFF[0, 4] += 1e-30
STIFF[0, 0] -= 1e-30


@pytest.mark.parametrize("elapsed", [1e-6, 0.03, 1.0, 10.0])
@pytest.mark.parametrize(
    "rates", [STIFF, one_way_rates(4), one_way_rates(7)], ids=["stiff", "circle-4", "circle-7"]
)
def test_small_probabilities_against_decimals(rates: Tensor, elapsed: float) -> None:
    expected = decimal_exponential(rates, elapsed)
    close(expected.sum(-1), torch.ones(len(rates), dtype=torch.float64), atol=1e-14)
    q = exponential_of_rates(rates, torch.tensor([elapsed], dtype=torch.float64))[0]
    relative(q, expected, rtol=1e-11)
    torch.testing.assert_close(
        torch.from_numpy(series(rates.numpy(), elapsed)), expected, rtol=1e-11, atol=0
    )


def test_the_smallest_probabilities_of_these_tests() -> None:
    """The other tests have small numbers to keep: the largest is near 1, others are far below
    1e-50."""
    assert 1e-60 < float(decimal_exponential(STIFF, 1e-6).min()) < 1e-40
    assert float(decimal_exponential(one_way_rates(7), 1e-6).min()) > 1e-60
    chain = pure_birth(40, 0.3)
    assert ((chain > 1e-60) & (chain < 1e-50)).any()


def test_many_times_at_once_are_each_alone() -> None:
    rates = one_way_rates(6)
    elapsed = torch.tensor([0.0, 1e-9, 0.3, 0.3, 2.0, 50.0], dtype=torch.float64)
    together = exponential_of_rates(rates, elapsed)
    assert together.shape == (6, 6, 6)
    assert torch.equal(together[0], torch.eye(6, dtype=torch.float64))
    assert torch.equal(together[2], together[3])
    for q, time in zip(together, elapsed, strict=True):
        relative(q, torch.from_numpy(series(rates.numpy(), float(time))), rtol=1e-10)
        close(q.sum(-1), torch.ones(6, dtype=torch.float64), atol=1e-14)
    assert exponential_of_rates(rates, elapsed[:0]).shape == (0, 6, 6)
    assert torch.equal(exponential_of_rates(rates, elapsed[:1]), together[:1])


@pytest.mark.parametrize("elapsed", [1e3, 1e6])
def test_no_drift_after_many_squarings(elapsed: float) -> None:
    q = exponential_of_rates(one_way_rates(5), torch.tensor([elapsed], dtype=torch.float64))[0]
    close(
        q, RateMatrix(matrix=one_way_rates(5), noise=NOISE).stationary().expand(5, -1), atol=1e-13
    )


def test_birth_death_rates() -> None:
    rates = birth_death(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]))
    expected = float64([-1, 1, 0, 0], [4, -6, 2, 0], [0, 5, -8, 3], [0, 0, 6, -6])
    assert rates.dtype == torch.float64
    assert torch.equal(rates, expected)
    probs = RateMatrix(matrix=rates, noise=NOISE).stationary()
    weights = float64([1, 1 / 4, 1 / 10, 1 / 20])[0]
    close(probs, weights / weights.sum(), atol=1e-15)


@pytest.mark.parametrize("size", [2, 3, 17, 256])
def test_equal_rates_have_a_uniform_distribution(size: int) -> None:
    """D3PM's walk to the nearest neighbours."""
    ones = torch.full((size - 1,), 0.7, dtype=torch.float64)
    forward = RateMatrix(matrix=birth_death(ones, ones), noise=NOISE)
    assert forward.vocab_size == size
    probs = forward.stationary()
    assert probs.dtype == torch.float64
    torch.testing.assert_close(probs, torch.full_like(probs, 1 / size), rtol=1e-10, atol=0)


@pytest.mark.parametrize("size", [3, 4, 9])
def test_stationary_distributions_without_detailed_balance(size: int) -> None:
    rates = one_way_rates(size)
    probs = RateMatrix(matrix=rates, noise=NOISE).stationary()
    assert (probs > 0).all()
    assert float(probs.sum()) == pytest.approx(1, abs=1e-14)
    close(probs @ rates, torch.zeros(size, dtype=torch.float64), atol=1e-13)
    flow = probs[:, None] * rates
    assert float((flow - flow.T).abs().max()) > 0.01


def test_rates_of_a_small_matrix() -> None:
    forward = RateMatrix(matrix=float64([-1, 1, 0], [0, -2, 2], [5, 0, -5]), noise=NOISE)
    assert forward.max_exit_rate == 5
    assert torch.equal(forward.rates_between, float64([0, 1, 0], [0, 0, 2], [5, 0, 0]))
    x = torch.tensor([[2, 0], [1, 1]])
    assert torch.equal(forward.rates_from(x)[0], float64([5, 0, 0], [0, 1, 0]))
    assert torch.equal(forward.rates_into(x)[0], float64([0, 2, 0], [0, 0, 5]))
    assert forward.movable(x).all()
    assert forward.movable(x).shape == x.shape


@pytest.mark.parametrize("name", ["gaussian", "rate-matrix"])
def test_likelihoods_can_be_divided_by(name: str) -> None:
    """At t = 0 all but one are zero; they are raised to 1e-30 of the largest."""
    forward = kernel(name, 5)
    x = torch.arange(5)
    likelihood = forward.likelihood(x, 0.0)
    assert torch.equal(likelihood, torch.eye(5, dtype=torch.float64).clamp_min(1e-30))
    assert (forward.likelihood(x, 1e-9) >= 1e-30).all()


@pytest.mark.parametrize("name", ["gaussian", "rate-matrix"])
def test_a_time_for_each_site(name: str) -> None:
    forward = kernel(name, 5)
    x = torch.randint(5, (3, 4), generator=torch.Generator().manual_seed(0))
    w = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor([0.1, 0.1, 0.4, 0.9])[
        torch.randint(4, (3, 4), generator=torch.Generator().manual_seed(2))
    ].double()
    probs, likelihood = forward.push(w, t), forward.likelihood(x, t)
    for row, site in np.ndindex(3, 4):
        q = accurate(forward, float(t[row, site]))
        close(probs[row, site], w[row, site] @ q)
        close(likelihood[row, site], q[:, x[row, site]])


@pytest.mark.parametrize("name", ["gaussian", "rate-matrix"])
def test_pull_is_refused(name: str) -> None:
    forward = kernel(name, 4)
    with pytest.raises(
        ValueError,
        match=rf"log-score .* for the {name} kernel: .*; use a model .* with PosteriorReverse",
    ):
        forward.pull(torch.full((2, 4), 0.25), 0.5)


def test_noise_that_comes_at_once() -> None:
    """Geometric noise: nothing at t = 0, its lowest at any later time, and a path that agrees."""
    forward = RateMatrix(matrix=one_way_rates(4), noise=Geometric(lowest=0.5, highest=3.0))
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.equal(forward.transition(0.0, 0.0), eye)
    first = torch.from_numpy(series(one_way_rates(4).numpy(), 0.5))
    close(forward.transition(0.0, 1e-9), first, atol=1e-8)
    x0 = torch.zeros(20_000, dtype=torch.int64)
    at = forward.sample_path(x0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(at(0.0), x0)
    kept = int((at(1e-9) == 0).sum())
    assert stats.binomtest(kept, 20_000, float(first[0, 0])).pvalue > 1e-4


SLOW_LINK = one_way_rates(6)
SLOW_LINK[2, 3], SLOW_LINK[2, 2] = 1e-6, -0.2 - 1e-6
BOUNDED = {
    "gaussian": SMALL,
    "gaussian-narrow": Gaussian(vocab_size=12, rate_sigma=0.7, q_sigma=2.0, noise=Constant(5.0)),
    "walk": RateMatrix(matrix=birth_death(torch.ones(11), torch.ones(11)), noise=Constant(20.0)),
    "uneven-walk": RateMatrix(
        matrix=birth_death(torch.logspace(-3, 1, 9), torch.logspace(1, -2, 9)), noise=Constant(2.0)
    ),
    "one-way": RateMatrix(matrix=one_way_rates(10), noise=LogLinear()),
    "slow-link": RateMatrix(matrix=SLOW_LINK, noise=Constant(3.0)),
    "long-walk-in-little-noise": RateMatrix(
        matrix=birth_death(torch.ones(39), torch.ones(39)), noise=Constant(0.1)
    ),
}


@pytest.mark.parametrize("forward", BOUNDED.values(), ids=BOUNDED.keys())
def test_exit_bounds_of_larger_matrices(forward: MatrixKernel) -> None:
    """For every x0, at noise levels on and between those that the bound was made from; and it is
    not far above."""
    most, off = float(forward.noise.total(1.0)), forward.rates_between
    shares = []
    for e in [*np.linspace(-9, 0, 60), *-2 * np.random.default_rng(0).random(60)]:
        total = most * 10**e
        q = torch.from_numpy(series(forward.rate_matrix().numpy(), total))
        leaving = float(torch.where(q > 1e-280, q @ off / q, 0.0).max())
        shares.append(
            leaving / float(forward.exit_rate_bound.rate(torch.tensor(total, dtype=torch.float64)))
        )
    assert max(shares) <= 1 + 1e-9
    assert max(shares) > 0.95
    assert min(shares) > 1 / 3


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(2, 3), r"must be square, \[V, V\], got shape \[2, 3\]"),
        (torch.zeros(4), r"must be square, \[V, V\], got shape \[4\]"),
        (torch.zeros(2, 2, 2), r"must be square, \[V, V\], got shape \[2, 2, 2\]"),
        (
            float64([1, -1], [1, -1]),
            "needs finite rates >= 0 off the diagonal, and rows that sum to zero",
        ),
        (float64([-0.5, 1, -0.5], [1, -2, 1], [1, 1, -2]), "needs finite rates >= 0"),
        (float64([-1, 1], [1, -1.1]), "rows that sum to zero"),
        (float64([-1, 1], [1, -1.0001]), "rows that sum to zero"),
        (float64([0.2, 0.8], [0.5, 0.5]), "rows that sum to zero"),
        (float64([-1, 0, 1], [0.5, -1, 0.5], [math.nan, 1, -1]), "needs finite rates"),
        (float64([-math.inf, math.inf], [1, -1]), "needs finite rates"),
        (float64([math.nan, 1], [1, -1]), "needs finite rates"),
        (
            torch.zeros(3, 3),
            "must lead from every state to every other; for a MASK state use Absorbing",
        ),
        (float64([-1, 1], [0, 0]), "must lead from every state to every other"),
        (
            float64([-1, 1, 0, 0], [1, -1, 0, 0], [0, 0, -1, 1], [0, 0, 1, -1]),
            "must lead from every state to every other",
        ),
        (float64([-1, 1, 0], [1, -1, 0], [0, 1, -1]), "must lead from every state to every other"),
        (torch.zeros(1, 1), "RateMatrix needs at least 2 states, got vocab_size=1"),
    ],
)
def test_bad_matrices_are_refused(matrix: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateMatrix(matrix=matrix, noise=NOISE)


@pytest.mark.parametrize("size", [3, 63, 64, 65, 100])
def test_the_longest_way_around_is_a_way(size: int) -> None:
    x = torch.arange(size)
    rates = -torch.eye(size, dtype=torch.float64)
    rates[x, (x + 1) % size] = 1
    assert RateMatrix(matrix=rates, noise=NOISE).vocab_size == size
    rates[-1] = 0
    with pytest.raises(ValueError, match="from every state to every other"):
        RateMatrix(matrix=rates, noise=NOISE)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.float32])
def test_a_matrix_of_other_dtypes(dtype: torch.dtype) -> None:
    rates = RateMatrix(
        matrix=torch.tensor([[-1, 1], [2, -2]], dtype=dtype), noise=NOISE
    ).rate_matrix()
    assert rates.dtype == torch.float64
    assert torch.equal(rates, float64([-1, 1], [2, -2]))


def test_the_matrix_is_its_own() -> None:
    """Neither the tensor that was given nor those that it answers with can change it."""
    given = one_way_rates(3)
    forward = RateMatrix(matrix=given, noise=NOISE)
    gaussian = kernel("gaussian", 4)
    before = [forward.rate_matrix(), gaussian.rate_matrix()]
    forward.rate_matrix().zero_()
    gaussian.rate_matrix().zero_()
    given.zero_()
    assert torch.equal(forward.rate_matrix(), before[0])
    assert torch.equal(gaussian.rate_matrix(), before[1])


@pytest.mark.parametrize(
    ("rate_sigma", "q_sigma"),
    [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -2.0), (math.nan, 1.0), (1.0, math.inf)],
)
def test_gaussian_refuses(rate_sigma: float, q_sigma: float) -> None:
    with pytest.raises(ValueError, match=r"Gaussian needs rate_sigma > 0 and q_sigma > 0, got "):
        Gaussian(vocab_size=4, rate_sigma=rate_sigma, q_sigma=q_sigma, noise=NOISE)


def test_gaussian_needs_two_states() -> None:
    with pytest.raises(ValueError, match="Gaussian needs at least 2 states, got vocab_size=1"):
        Gaussian(vocab_size=1)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "rate-matrix"])
def test_the_gap_is_how_fast_the_largest_correlation_falls(name):
    """The second singular value of the transition in its stationary distribution is exp(-gap total)
    for reversible rates, and below it for others."""
    forward = kernel(name, 5)
    probs = (
        forward.stationary() if name != "uniform" else torch.full((5,), 0.2, dtype=torch.float64)
    )
    for t in (0.2, 0.7):
        q = forward.transition(0.0, t)
        largest = float(torch.linalg.svdvals(probs.sqrt()[:, None] * q / probs.sqrt())[1])
        bound = math.exp(-forward.spectral_gap * float(forward.noise.total(t)))
        if name == "rate-matrix":
            assert largest < bound * (1 + 1e-9)
        else:
            assert largest == pytest.approx(bound, rel=1e-9)
    leaving = -forward.rate_matrix().diagonal()
    assert forward.max_exit_rate == pytest.approx(
        float(leaving.max()), rel=0.3 if name == "uniform" else 1e-12
    )
    assert forward.max_exit_rate >= float(leaving.max()) - 1e-12
