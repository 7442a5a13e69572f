"""Kernels given by a matrix: rates, stationary distributions, and errors."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from builders.kernels import kernel, one_way_rates, series
from builders.processes import (
    NOISE,
    Plain,
    accurate,
    close,
    float64,
    relative,
)
from jumpsteps.process.noise import Geometric
from jumpsteps.process.rate_matrix import (
    MatrixKernel,
    RateMatrix,
    birth_death,
)
from jumpsteps.process.uniform import Uniform


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
def test_a_posterior_is_divided_by_likelihoods_however_small(name: str) -> None:
    """Without noise x0 is x; with little noise the least likely symbol has the largest weight."""
    forward = kernel(name, 5)
    x, flat = torch.arange(5), torch.zeros(5, 5)
    eye = torch.eye(5, dtype=torch.float64)
    assert torch.equal(forward.likelihood(x, 0.0), eye)
    assert torch.equal(forward.leave_out(flat, x, 0.0).softmax(-1), eye)
    w = forward.leave_out(flat, x, 1e-9).softmax(-1)
    assert w.dtype == torch.float64
    odds = 1 / forward.transition(0.0, 1e-9).T
    relative(w, odds / odds.sum(-1, keepdim=True), rtol=1e-12)


def test_symbols_without_a_likelihood_in_float64_are_left_out() -> None:
    """A walk of 256 states needs up to 255 jumps: their probabilities go down to 1e-1000."""
    ones = torch.ones(255)
    forward = RateMatrix(matrix=birth_death(ones, ones), noise=NOISE)
    x = torch.tensor([0, 100])
    found = forward.likelihood(x, 0.01)
    assert ((found == 0) | (found > 1e-281)).all()
    assert int((found[0] > 0).sum()) in range(50, 120)
    w = forward.leave_out(torch.zeros(2, 256), x, 0.01).softmax(-1)
    rates = forward.reverse_rates(w, x, 0.01)
    assert rates.isfinite().all()
    assert (w[found == 0] == 0).all()


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


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(2, 3), r"must be square, \[V, V\], got shape \[2, 3\]"),
        (torch.zeros(4), r"must be square, \[V, V\], got shape \[4\]"),
        (torch.zeros(2, 2, 2), r"must be square, \[V, V\], got shape \[2, 2, 2\]"),
        (float64([1, -1], [1, -1]), "has the rate -1 of 0 -> 1; rates off the diagonal must be z"),
        (float64([-0.5, 1, -0.5], [1, -2, 1], [1, 1, -2]), "has the rate -0.5 of 0 -> 2"),
        (float64([-1, 1], [1, -1.1]), "rows of the rate matrix must sum to zero; row 1 sums to -0"),
        (float64([-1, 1], [1, -1.0001]), "row 1 sums to -0.0001; set the diagonal to minus the"),
        (float64([0.2, 0.8], [0.5, 0.5]), "row 0 sums to 1; set"),
        (float64([-1, 2], [1, -2]), "must sum to zero, its columns do: transpose it; row 0 sums"),
        (float64([-1, 0, 1], [0.5, -1, 0.5], [math.nan, 1, -1]), "holds NaN or infinity"),
        (float64([-math.inf, math.inf], [1, -1]), "holds NaN or infinity"),
        (float64([math.nan, 1], [1, -1]), "holds NaN or infinity"),
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


@dataclass(frozen=True, kw_only=True)
class Own(MatrixKernel):
    """A kernel of one's own, as wrong as its arguments."""

    rates: Tensor
    probs: Tensor
    vocab_size: int = 3
    name = "own"

    def rate_matrix(self) -> Tensor:
        return self.rates

    def stationary(self) -> Tensor:
        return self.probs


DOWN = float64([-1, 1, 0], [2, -3, 1], [0, 2, -2])
"""Rates of a walk that goes down twice as fast as up, and its stationary distribution."""
DOWN_PROBS = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64) / 7
THIRDS = torch.full((3,), 1 / 3, dtype=torch.float64)

USES = {
    "a run": lambda forward: forward.sample_prior(
        (2, 3), generator=torch.Generator(), device=torch.device("cpu")
    ),
    "a search": lambda forward: forward.sample_path(
        torch.zeros(2, 3, dtype=torch.int64), generator=torch.Generator()
    ),
    "a step": lambda forward: forward.bridge(DOWN_PROBS[None], torch.zeros(1).long(), 1.0, 0.5),
    "rates": lambda forward: forward.rates_from(torch.zeros(1).long()),
    "tables": lambda forward: forward.announce([1.0, 0.5], torch.device("cpu")),
    "the prior": lambda forward: forward.prior(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize(
    ("rates", "probs", "message"),
    [
        (DOWN.T, THIRDS, r"of Own.rate_matrix\(\) must sum to zero, its columns do: transpose it"),
        (DOWN - 1e-3 * torch.eye(3), DOWN_PROBS, "row 0 sums to -0.001; set the diagonal"),
        (-DOWN, DOWN_PROBS, r"Own.rate_matrix\(\) has the rate -2 of 1 -> 0; rates off"),
        (
            DOWN.float(),
            DOWN_PROBS,
            r"Own.rate_matrix\(\) must be a torch.float64 tensor, got torch.f",
        ),
        (DOWN[:2, :2], DOWN_PROBS, r"must have the shape \[V, V\] = \[3, 3\], got \[2, 2\]"),
        (DOWN.tril(-1) - DOWN.tril(-1).sum(1).diag(), DOWN_PROBS, "must lead from every state to"),
        (DOWN, THIRDS, r"Own.stationary\(\) is not stationary: pi R is 0.333333 at state 0"),
        (DOWN, DOWN_PROBS.flip(0), "is not stationary"),
        (DOWN, DOWN_PROBS + float64([1e-5, -1e-5, 0])[0], "is not stationary"),
        (DOWN, 7 * DOWN_PROBS, "must be probabilities: its least number is 1, its sum 7"),
        (DOWN, -DOWN_PROBS, "must be probabilities"),
        (DOWN, DOWN_PROBS[:2], r"must have the shape \[V\] = \[3\], got \[2\]"),
        (DOWN, DOWN_PROBS * math.nan, r"Own.stationary\(\) holds NaN or infinity"),
    ],
)
def test_a_wrong_kernel_of_ones_own_is_refused_when_first_used(rates, probs, message, use) -> None:
    with pytest.raises(ValueError, match=message):
        use(Own(rates=rates, probs=probs, noise=NOISE))


def test_a_right_kernel_of_ones_own_is_that_of_the_matrix() -> None:
    """Its tensors are left as they are, though a method returns them themselves."""
    own, known = Own(rates=DOWN.clone(), probs=DOWN_PROBS, noise=NOISE), DOWN.clone()
    same = RateMatrix(matrix=DOWN, noise=NOISE)
    close(own.prior(), same.prior(), atol=1e-14)
    assert torch.equal(own.rates_between, same.rates_between)
    close(own.transition(0.1, 0.7), same.transition(0.1, 0.7), atol=1e-14)
    assert own.spectral_gap == pytest.approx(same.spectral_gap, abs=1e-12)
    assert torch.equal(own.rates, known)


def test_the_rates_of_a_kernel_with_closed_forms_are_checked() -> None:
    class Wrong(Plain):
        name = "wrong"

        def rate_matrix(self) -> Tensor:
            return Uniform.rate_matrix(self) + 0.1

    with pytest.raises(
        ValueError, match=r"the rows of Wrong.rate_matrix\(\) must sum to zero; row"
    ):
        Wrong(vocab_size=4, noise=NOISE).rates_into(torch.zeros(1).long())


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
