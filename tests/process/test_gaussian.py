"""The Gaussian kernel of tauLDR: its rates by hand and by definition, and CIFAR-10's."""

import math

import pytest
import torch
from scipy.linalg import expm

from builders.confident import Confident
from builders.kernels import gaussian_rates
from builders.processes import NOISE, SMALL, accurate, close, float64, relative
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential
from jumpsteps.process.rate_matrix import RateMatrix

CIFAR = Gaussian(
    vocab_size=256, rate_sigma=6.0, q_sigma=512.0, noise=Exponential(base=100.0, scale=3.0)
)


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
    """The reverse rates divide by them."""
    expected = accurate(forward, t)
    assert float(expected.min()) < 1e-15
    relative(forward.transition(0.0, t), expected, rtol=1e-9, smallest=1e-30)


@pytest.mark.parametrize("t", [1e-4, 1e-3, 0.01])
def test_reverse_rates_of_a_float32_network_that_is_sure(t: float) -> None:
    """They are the mean of those given x0, over the network's posterior, however small the
    likelihoods are that it is divided by."""
    x = torch.tensor([[0, 3, 128, 250, 255]])
    model = Confident((-1.0, 1.0), switch=0.002)
    rates = PosteriorReverse(CIFAR, model).rates(x, t)
    q = CIFAR.transition(0.0, t)
    given_data = torch.where(q[:, x[0], None] > 0, q[:, None] / q[:, x[0], None], 0)
    odds = (model(x, t)[0].double().exp()[..., None] * given_data.movedim(0, 1)).sum(1)
    expected = CIFAR.noise.rate(t) * CIFAR.rates_into(x[0]) * odds
    relative(rates[0], expected, rtol=1e-5, smallest=1e-250)


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
