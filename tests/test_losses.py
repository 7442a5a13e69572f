import pytest
import torch

from helpers import ExactLogScore, seeded
from jumpsteps.exact import Enumerable, kl_divergence
from jumpsteps.forward import Absorbing, Uniform
from jumpsteps.losses import MaskedCrossEntropy, ScoreEntropy, spread_times
from jumpsteps.noise import Constant, LogLinear
from jumpsteps.reverse import LogScoreReverse, PosteriorReverse

N = 10_000


def evidence_bound(model: Enumerable) -> float:
    """H(p_0) less what the noise at t = 1 leaves: the integral over [0, 1] of either bound at the exact model.

    By the chain rule of path measures, E[-log p(x0)] = E KL(q_{1|0} || p_1) + the bound, so the bound is H(p_0) - I(x_0; x_1).
    """
    law = model.data_law()
    entropy = -float(torch.xlogy(law, law).sum())
    information = float(law @ kl_divergence(model.transition(0.0, 1.0), model.marginal(1.0)))
    return entropy - information


def within(values: torch.Tensor, exact: float) -> bool:
    """Whether the mean agrees with ``exact`` within 4 standard errors, which must be small enough to say something."""
    error = 4 * float(values.std()) / len(values) ** 0.5
    assert error < 0.2 * exact
    return abs(float(values.mean()) - exact) < error


@pytest.mark.parametrize("noise", [LogLinear(1e-3), Constant(2.0)], ids=repr)
def test_masked_cross_entropy_of_the_exact_model_is_the_entropy(noise):
    forward = Absorbing(vocab_size=4, noise=noise)
    model = Enumerable.random(forward, symbols=3, length=3, seed=1)
    data = model.sample_data(N, generator=seeded(0))
    values = MaskedCrossEntropy(t_min=1e-5)(PosteriorReverse(forward, model), data, generator=seeded(1))
    assert within(values, evidence_bound(model))


@pytest.mark.parametrize("forward", [Absorbing(vocab_size=4, noise=LogLinear()), Uniform(vocab_size=3, noise=Constant(2.0))])
def test_score_entropy_of_the_exact_model_is_the_entropy(forward):
    model = Enumerable.random(forward, symbols=3, length=2, seed=1)
    data = model.sample_data(N, generator=seeded(0))
    values = ScoreEntropy(t_min=1e-5)(LogScoreReverse(forward, ExactLogScore(model)), data, generator=seeded(1))
    assert within(values, evidence_bound(model))


@pytest.mark.parametrize(
    ("loss", "reverse_of"),
    [
        (MaskedCrossEntropy(), lambda model: PosteriorReverse(model.forward, model)),
        (ScoreEntropy(), lambda model: LogScoreReverse(model.forward, ExactLogScore(model))),
    ],
)
def test_the_exact_model_is_the_minimum(loss, reverse_of):
    """Wrong models do worse on the same noise."""
    forward = Absorbing(vocab_size=4, noise=LogLinear())
    model = Enumerable.random(forward, symbols=3, length=2, seed=1)
    data = model.sample_data(1000, generator=seeded(0))
    best = loss(reverse_of(model), data, generator=seeded(1)).mean()
    for seed in range(4):
        other = Enumerable.random(forward, symbols=3, length=2, seed=100 + seed)
        assert loss(reverse_of(other), data, generator=seeded(1)).mean() > best


def test_masked_cross_entropy_refuses_other_kernels():
    forward = Uniform(vocab_size=3, noise=LogLinear())
    with pytest.raises(ValueError, match="use ScoreEntropy"):
        MaskedCrossEntropy()(
            PosteriorReverse(forward, lambda x, t, where: x), torch.zeros(1, 1, dtype=torch.int64), generator=seeded(0)
        )


def test_times_are_spread_evenly():
    t = spread_times(100, t_min=0.1, generator=seeded(0))
    assert t.dtype == torch.float64
    assert t.min() >= 0.1
    assert t.max() < 1
    cells = ((t - 0.1) / 0.9 * 100 - (t[0] - 0.1) / 0.9 * 100) % 100
    assert torch.allclose(cells.sort().values, torch.arange(100, dtype=torch.float64), atol=1e-6)
