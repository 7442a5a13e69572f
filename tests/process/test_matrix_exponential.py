"""Exponentials of matrices of rates: small probabilities are as precise as large ones."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from builders.kernels import one_way_rates, series
from builders.processes import NOISE, close, float64, relative
from jumpsteps.process.matrix_exponential import exponential_of_rates
from jumpsteps.process.rate_matrix import (
    RateMatrix,
    birth_death,
)


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
