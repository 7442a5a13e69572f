"""Bounds of the rate of leaving a state in the time reversal, their integrals and inverses."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import one_way_rates, series
from builders.processes import (
    BUILDERS,
    SMALL,
    accurate,
    all_states,
    base_matrix,
    data_weights,
    every_process,
)
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, LogLinear, Time
from jumpsteps.process.rate_matrix import (
    MatrixKernel,
    RateMatrix,
    birth_death,
)
from jumpsteps.process.uniform import Uniform


def leaving_rates(forward: ForwardProcess, total: float, w: Tensor) -> Tensor:
    """sum_y R_b(y, x) (w q)(y) / (w q)(x), from the definition, [len(w), X].

    One row for each distribution w, one column for each movable x.
    """
    rates = torch.from_numpy(base_matrix(forward)).fill_diagonal_(0)
    probs = w @ torch.from_numpy(series(base_matrix(forward), total))
    return (probs @ rates / probs)[:, forward.movable(all_states(forward))]


@every_process
def test_no_site_leaves_faster_than_the_exit_bound(forward: ForwardProcess) -> None:
    """Whether the distribution of x0 is certain, nearly certain or broad; and one of them comes
    near the bound."""
    v, most = forward.vocab_size, float(forward.noise.total(1.0))
    certain = torch.eye(v, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        certain = certain[all_states(forward) != forward.mask_id]
    broad = data_weights(forward, 20)
    w = torch.cat(
        [
            certain,
            broad,
            *((1 - part) * certain + part * broad[: len(certain)] for part in (1e-12, 1e-6, 1e-2)),
        ]
    )
    # Below, on and between the noise levels of a matrix kernel.
    exponents = torch.cat(
        [torch.linspace(-10, 0, 101), -8 * torch.rand(100, generator=seeded(1))]
    ).double()
    for total in (most * 10**exponents).tolist():
        bound = float(forward.exit_rate_bound.rate(torch.tensor(total, dtype=torch.float64)))
        fastest = float(leaving_rates(forward, total, w).max())
        assert fastest <= bound * (1 + 1e-9)
        assert fastest > bound / 3
        if isinstance(forward, Absorbing):
            assert bound == pytest.approx(fastest, rel=1e-9)
        if isinstance(forward, Uniform):
            assert bound - 1 / v == pytest.approx(fastest, rel=1e-9)


@every_process
def test_the_exit_bound_is_attained_at_some_noise(forward: ForwardProcess) -> None:
    """A matrix kernel adds 2% to the largest rate that it finds."""
    if isinstance(forward, Uniform):
        return  # 1/V above it, everywhere
    most = float(forward.noise.total(1.0))
    certain = torch.eye(forward.vocab_size, dtype=torch.float64)
    shares = [
        float(
            leaving_rates(forward, most * 10**e, certain[data_weights(forward) > 0]).max()
            / forward.exit_rate_bound.rate(torch.tensor(most * 10**e))
        )
        for e in np.linspace(-8, 0, 200)
    ]
    assert max(shares) > 0.98 - 1e-3


@every_process
def test_the_exit_bound_is_the_slope_of_its_integral(forward: ForwardProcess) -> None:
    total = float(forward.noise.total(1.0)) * torch.logspace(-6, 0, 60, dtype=torch.float64)
    step = 1e-4 * total
    f = forward.exit_rate_bound.integral
    slope = (
        8 * (f(total + step) - f(total - step)) - f(total + 2 * step) + f(total - 2 * step)
    ) / (12 * step)
    torch.testing.assert_close(slope, forward.exit_rate_bound.rate(total), rtol=1e-8, atol=0)
    assert (forward.exit_rate_bound.rate(total) > 0).all()
    assert f(torch.zeros(1, dtype=torch.float64)) == -torch.inf


@every_process
def test_the_exit_bound_time_inverts_the_integral(forward: ForwardProcess) -> None:
    most = float(forward.noise.total(1.0))
    total = torch.cat(
        [
            torch.logspace(-6, math.log10(most), 60, dtype=torch.float64),
            torch.tensor([most], dtype=torch.float64),
        ]
    )
    value = forward.exit_rate_bound.integral(total)
    torch.testing.assert_close(forward.exit_rate_bound.inverse(value), total, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        forward.exit_rate_bound.inverse(value.reshape(1, -1, 1)),
        total.reshape(1, -1, 1),
        rtol=1e-10,
        atol=0,
    )
    far_back = forward.exit_rate_bound.inverse(value - 1e4)
    assert (far_back >= 0).all()
    assert (far_back < 1e-6).all()


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian-4", "circle"])
def test_exit_bounds_at_the_ends(name: str) -> None:
    """Very much noise, and sequences without movable sites, whose next candidate never comes."""
    forward = BUILDERS[name](Constant(900.0))
    waiting = torch.tensor([1e-3, 1.0, 10.0], dtype=torch.float64)
    value = forward.exit_rate_bound.integral(torch.tensor(900.0, dtype=torch.float64)) - waiting
    total = forward.exit_rate_bound.inverse(value)
    assert (total >= 0).all()
    assert (total < 900).all()
    torch.testing.assert_close(
        forward.exit_rate_bound.integral(total), value, rtol=1e-10, atol=1e-12
    )
    assert forward.exit_rate_bound.inverse(torch.tensor([-torch.inf], dtype=torch.float64)) == 0


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
