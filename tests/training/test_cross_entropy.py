"""The cross-entropy of x_0 against enumerated entropies, and the U-Net's two numbers per site."""

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant, Exponential
from jumpsteps.process.uniform import Uniform
from jumpsteps.training.cross_entropy import CrossEntropy, drawn_times

FORWARD = Gaussian(
    vocab_size=4, rate_sigma=1.5, q_sigma=1.8, noise=Exponential(base=20.0, scale=0.1)
)
LOSS = CrossEntropy(times=8)


class ByTime:
    """An enumerated posterior that is asked for a time per sequence."""

    def __init__(self, truth):
        self.truth = truth

    def __call__(self, x, t, where=None):
        out = torch.empty(*x.shape, 4, dtype=torch.float64)
        for time in t.unique():
            out[t == time] = self.truth(x[t == time], float(time))
        return out


def test_the_exact_posterior_has_the_conditional_entropy():
    """The mean loss is the mean over the times of the sum over sites of H(x_0^l | x_t)."""
    truth = Enumerable.random(FORWARD, symbols=4, length=2, seed=0)
    u = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    expected = 0.0
    for t in (0.002 + 0.998 * u**2).tolist():
        log_p = truth(truth.states, t)
        entropy = -(log_p.exp() * log_p).sum((-1, -2))
        expected += float((truth.marginal(t) * entropy).sum()) / 8
    rows = torch.multinomial(truth.table.flatten(), 40_000, replacement=True, generator=seeded(1))
    values = LOSS(PosteriorReverse(FORWARD, ByTime(truth)), truth.states[rows], generator=seeded(2))
    error = float(values.std()) / 200
    assert abs(float(values.mean()) - expected) < 4 * error
    assert error < 0.01 * expected


def unet(symmetric):
    torch.manual_seed(0)
    config = UNetConfig(
        vocab_size=4, shape=(1, 4, 4), channels=4, multipliers=(1,), n_blocks=1, symmetric=symmetric
    )
    network, reverse = build(config, FORWARD, "posterior")
    return network.eval(), reverse


@pytest.mark.parametrize("symmetric", [True, False])
def test_two_numbers_per_site_give_the_same_loss(symmetric):
    _, reverse = unet(symmetric)
    x0 = torch.randint(4, (6, 16), generator=seeded(3))
    with torch.no_grad():
        one = LOSS(reverse, x0, generator=seeded(4))
        whole = LOSS(
            PosteriorReverse(FORWARD, lambda x, t, where=None: reverse.model(x, t)),
            x0,
            generator=seeded(4),
        )
    torch.testing.assert_close(one, whole, atol=2e-4, rtol=1e-5)


def test_times_are_one_in_each_cell():
    which = drawn_times(16, 64, generator=seeded(0))
    assert torch.equal(which // 4, torch.arange(16))
    many = torch.cat([drawn_times(4, 8, generator=seeded(seed)) for seed in range(500)])
    counts = torch.bincount(many, minlength=8)
    assert len(counts) == 8
    assert (counts - 250).abs().max() < 4 * (500 * 0.25) ** 0.5


def test_kernels_and_models_that_it_does_not_serve():
    x0 = torch.zeros(1, 2, dtype=torch.int64)
    forward = Uniform(vocab_size=4, noise=Constant(1.0))
    with pytest.raises(ValueError, match="given by a matrix, got uniform; use ScoreEntropy"):
        LOSS(PosteriorReverse(forward, lambda x, t: x), x0, generator=seeded(0))
    with pytest.raises(ValueError, match="a model with output 'posterior'"):
        LOSS(LeaveOneOutReverse(FORWARD, lambda x, t: x), x0, generator=seeded(0))
