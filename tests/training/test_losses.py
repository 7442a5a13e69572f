import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from builders.models import ExactLogScore
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.training import losses as losses
from jumpsteps.training.losses import (
    MaskedCrossEntropy,
    ScoreEntropy,
    bell_times,
    score_entropy,
    spread_times,
)

N = 10_000
UNIFORM = Uniform(vocab_size=3, noise=Constant(2.0))
ABSORBING = Absorbing(vocab_size=4, noise=LogLinear())
PIANO = Uniform(vocab_size=129, noise=Constant(3.87))


class ExactLeaveOneOut:
    """log p(x0^l | x_t^-l) by Bayes' rule from the enumerated posterior."""

    def __init__(self, truth):
        self.truth = truth

    def __call__(self, x, t, where=None):
        likelihood = torch.stack(
            [
                self.truth.forward.transition(0.0, float(time)).T[row]
                for row, time in zip(x, t, strict=True)
            ]
        )
        return self.truth(x, t) - likelihood.log()


class GivenFirst:
    """The exact posterior given the clean first site, NaN at that site; records its inputs."""

    def __init__(self, forward, table):
        self.models = [Enumerable(forward, part / part.sum()) for part in table]

    def __call__(self, x, t, where=None):
        self.asked = x, t
        out = torch.full(
            (*x.shape, self.models[0].forward.vocab_size), torch.nan, dtype=torch.float64
        )
        for first, model in enumerate(self.models):
            rows = x[:, 0] == first
            out[rows, 1:] = model(x[rows, 1:], t[rows])
        return out


def elbo_bound(model: Enumerable) -> float:
    """H(p_0) - I(x_0; x_1): the mean over data of either bound at the exact model, on [0, 1].

    By the chain rule of path measures, E[-log p(x_0)] = E KL(q_{1|0} || p_1) + E bound.
    """
    probs = model.data_distribution()
    entropy = -float(torch.xlogy(probs, probs).sum())
    information = float(probs @ kl_divergence(model.transition(0.0, 1.0), model.marginal(1.0)))
    return entropy - information


def within(values: torch.Tensor, exact: float) -> bool:
    """Whether the mean is within 4 standard errors of ``exact``, which must be small."""
    error = 4 * float(values.std()) / len(values) ** 0.5
    assert error < 0.2 * exact
    return abs(float(values.mean()) - exact) < error


@pytest.mark.slow
@pytest.mark.parametrize("noise", [LogLinear(1e-3), Constant(2.0)], ids=repr)
def test_masked_cross_entropy_of_the_exact_model_is_the_entropy(noise):
    forward = Absorbing(vocab_size=4, noise=noise)
    model = Enumerable.random(forward, symbols=3, length=3, seed=1)
    data = model.sample_data(N, generator=seeded(0))
    values = MaskedCrossEntropy(t_min=1e-5)(
        PosteriorReverse(forward, model), data, generator=seeded(1)
    )
    assert within(values, elbo_bound(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward",
    [Absorbing(vocab_size=4, noise=LogLinear()), Uniform(vocab_size=3, noise=Constant(2.0))],
)
def test_score_entropy_of_the_exact_model_is_the_entropy(forward):
    model = Enumerable.random(forward, symbols=3, length=2, seed=1)
    data = model.sample_data(N, generator=seeded(0))
    values = ScoreEntropy(t_min=1e-5)(
        LogScoreReverse(forward, ExactLogScore(model)), data, generator=seeded(1)
    )
    assert within(values, elbo_bound(model))


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


def integral(reverse, model, x0, t_min=0.0):
    """``ScoreEntropy`` integrated over x_t and [t_min, 1] exactly: all states, 60 Gauss nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    root = torch.from_numpy((nodes + 1) / 2)
    times, count = t_min + (1 - t_min) * root**4, len(model.states)
    weights = (1 - t_min) * torch.from_numpy(weights) / 2 * 4 * root**3
    probs = torch.stack([model.transition(0.0, float(t))[model.index(x0[None])][0] for t in times])
    x = model.states.repeat(60, 1)
    value = score_entropy(
        reverse, reverse.call_model(x, t := times.repeat_interleave(count)), x0.expand_as(x), x, t
    )
    return float(weights @ (probs * value.view(60, count)).sum(-1))


def test_score_entropy_is_the_integral_from_the_smallest_time():
    """1,500 sequences, within 4 standard errors."""
    model = Enumerable.random(UNIFORM, symbols=3, length=2, seed=1)
    reverse = LogScoreReverse(UNIFORM, ExactLogScore(model))
    data = model.sample_data(1500, generator=seeded(0))
    found = ScoreEntropy(t_min=0.5)(reverse, data, generator=seeded(1))
    each = torch.tensor([integral(reverse, model, x0, 0.5) for x0 in model.states])
    exact = float(model.data_distribution() @ each.double())
    error = 4 * float(found.std()) / 1500**0.5
    assert float(found.mean()) == pytest.approx(exact, abs=error)
    assert error < 0.2 * exact


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_the_bound_of_each_sequence_is_its_likelihood(leave_one_out):
    """For the exact model -log p(x_0) = KL(q_{1|0}(. | x_0) || p_1) + bound, for each x_0."""
    model = Enumerable.random(UNIFORM, symbols=3, length=2, seed=1)
    reverse = (
        LeaveOneOutReverse(UNIFORM, ExactLeaveOneOut(model))
        if leave_one_out
        else PosteriorReverse(UNIFORM, model)
    )
    mismatch = kl_divergence(model.transition(0.0, 1.0), model.marginal(1.0))
    for number, x0 in enumerate(model.states):
        exact = float(-model.data_distribution()[number].log() - mismatch[number])
        assert integral(reverse, model, x0) == pytest.approx(exact, abs=1e-5)


def tauldr_integrand(forward, model, x0, t):
    """The integrand of Campbell et al. (2022), Prop. 2, at one time, enumerated."""
    size, length = forward.vocab_size, len(x0)
    q, rate, states = forward.transition(0.0, t), forward.rate(t), model.states
    posterior = model(states, t).exp()

    def back(x, site, y):
        """The reverse rate from state number x to symbol y at a site."""
        own = states[x, site]
        return rate[y, own] * sum(q[k, y] / q[k, own] * posterior[x, site, k] for k in range(size))

    total = 0.0
    for number, x in enumerate(states):
        jumps = [(site, y) for site in range(length) for y in range(size) if y != x[site]]
        value = sum(back(number, site, y) for site, y in jumps)
        for site, y in jumps:
            there = x.clone()
            there[site] = y
            value -= rate[x[site], y] * back(int(model.index(there)), site, x[site]).log()
        total += math.prod(q[x0[site], x[site]] for site in range(length)) * value
    return total


@pytest.mark.parametrize("t", [0.03, 0.7])
def test_score_entropy_of_a_posterior_model_is_the_bound_of_tauldr(t):
    """Equal up to a constant: differences between two inexact models are the same."""
    models = [Enumerable.random(UNIFORM, symbols=3, length=2, seed=seed) for seed in (1, 2)]
    states = models[0].states
    times = torch.full((len(states),), t, dtype=torch.float64)
    for x0 in states[[1, 5]]:
        probs = models[0].transition(0.0, t)[models[0].index(x0[None])][0]
        ours = [
            probs
            @ score_entropy(
                PosteriorReverse(UNIFORM, m), m(states, times), x0.expand_as(states), states, times
            )
            for m in models
        ]
        theirs = [tauldr_integrand(UNIFORM, m, x0, t) for m in models]
        assert abs(float(theirs[0] - theirs[1])) > 0.01
        assert float(ours[0] - ours[1]) == pytest.approx(float(theirs[0] - theirs[1]), abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "loss"),
    [
        (UNIFORM, ScoreEntropy(t_min=1e-5, given=1)),
        (ABSORBING, MaskedCrossEntropy(t_min=1e-5, given=1)),
    ],
)
def test_given_sites_are_not_noised_and_do_not_count(forward, loss):
    """The bound is the entropy of the other sites given these, less I of the noise at t = 1."""
    whole = Enumerable.random(forward, symbols=3, length=3, seed=1)
    exact = GivenFirst(forward, whole.table)
    data = whole.sample_data(N, generator=seeded(0))
    values = loss(PosteriorReverse(forward, exact), data, generator=seeded(1))
    share = whole.table.sum((1, 2))
    assert within(
        values,
        sum(float(p) * elbo_bound(model) for p, model in zip(share, exact.models, strict=True)),
    )
    assert torch.equal(exact.asked[0][:, 0], data[:, 0])


@pytest.mark.parametrize(
    "loss", [ScoreEntropy(given=2), MaskedCrossEntropy(given=2), ScoreEntropy(given=-1)]
)
def test_a_site_must_be_free(loss):
    forward = UNIFORM if isinstance(loss, ScoreEntropy) else ABSORBING
    with pytest.raises(ValueError, match=r"has -?\d given sites, sequences have 2"):
        loss(
            PosteriorReverse(forward, None),
            torch.zeros(1, 2, dtype=torch.int64),
            generator=seeded(0),
        )


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_cross_entropy_is_added(leave_one_out):
    """Adds weight times -log p(x_0 | x_t) at the free sites, for unnormalised models, too."""
    exact = GivenFirst(UNIFORM, Enumerable.random(UNIFORM, symbols=3, length=3, seed=1).table)

    def unnormalised(x, t, where=None):
        out = exact(x, t) + 3.0
        if not leave_one_out:
            return out
        likelihood = torch.stack(
            [UNIFORM.transition(0.0, float(time)).T[row] for row, time in zip(x, t, strict=True)]
        )
        return out - likelihood.log()

    reverse = (LeaveOneOutReverse if leave_one_out else PosteriorReverse)(UNIFORM, unnormalised)
    data = torch.randint(3, (50, 3), generator=seeded(0))
    bound, both = (
        ScoreEntropy(given=1, cross_entropy=c)(reverse, data, generator=seeded(1))
        for c in (0.0, 0.5)
    )
    log_p = exact(*exact.asked)[:, 1:].gather(-1, data[:, 1:, None])
    torch.testing.assert_close(both - bound, -0.5 * log_p.sum((1, 2)))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("output", ["posterior", "leave-one-out"])
def test_small_times_and_sure_networks_are_finite(monkeypatch, output, autocast):
    """Times from 1e-7 and wrong logits of some hundred nats: loss and gradient are finite."""
    times = torch.logspace(-7, 0, 16, dtype=torch.float64)
    monkeypatch.setattr(losses, "spread_times", lambda n, **kwargs: times)
    torch.manual_seed(0)
    network, reverse = build(
        DiTConfig(vocab_size=129, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8), PIANO, output
    )
    torch.nn.init.normal_(network.output_layer.linear.weight, std=40)
    data = torch.randint(129, (16, 8), generator=seeded(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert reverse.model(data, times).min() < -200
        values = ScoreEntropy(given=2, cross_entropy=0.1)(reverse, data, generator=seeded(1))
    values.mean().backward()
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


class Largest(TorchDispatchMode):
    """Counts the numbers of the largest float64 or int64 result."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype in (torch.float64, torch.int64):
            self.most = max(self.most, out.numel())
        return out


def test_nothing_as_large_as_the_output_has_64_bits():
    _, reverse = build(
        DiTConfig(vocab_size=129, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8),
        PIANO,
        "leave-one-out",
    )
    data = torch.randint(129, (4, 8), generator=seeded(0))
    with Largest() as seen:
        ScoreEntropy(given=2, cross_entropy=0.1)(
            reverse, data, generator=seeded(1)
        ).mean().backward()
    assert 4 * 8 <= seen.most < 4 * 6 * 129


def test_score_entropy_refuses_models_that_have_no_score_or_no_posterior():
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="use MaskedCrossEntropy"):
        ScoreEntropy()(PosteriorReverse(ABSORBING, None), tokens, generator=seeded(0))
    with pytest.raises(ValueError, match="pass cross_entropy=0"):
        ScoreEntropy(cross_entropy=0.1)(LogScoreReverse(UNIFORM, None), tokens, generator=seeded(0))


def test_masked_cross_entropy_refuses_other_kernels():
    forward = Uniform(vocab_size=3, noise=LogLinear())
    with pytest.raises(ValueError, match="use ScoreEntropy"):
        MaskedCrossEntropy()(
            PosteriorReverse(forward, lambda x, t, where: x),
            torch.zeros(1, 1, dtype=torch.int64),
            generator=seeded(0),
        )


def test_times_are_spread_evenly():
    t = spread_times(100, t_min=0.1, generator=seeded(0))
    assert t.dtype == torch.float64
    assert t.min() >= 0.1
    assert t.max() < 1
    cells = ((t - 0.1) / 0.9 * 100 - (t[0] - 0.1) / 0.9 * 100) % 100
    assert torch.allclose(cells.sort().values, torch.arange(100, dtype=torch.float64), atol=1e-6)


def test_bell_shaped_times_have_their_density():
    """Beta(2, 2) between t_min and 1: its quantiles are taken at evenly spread places."""
    n, t_min = 100_000, 0.1
    t = (bell_times(n, t_min=t_min, generator=seeded(0)).sort().values - t_min) / (1 - t_min)
    cdf = 3 * t**2 - 2 * t**3
    assert float((cdf - (torch.arange(n) + 0.5) / n).abs().max()) < 1 / n
    assert 0 <= float(t.min()) < float(t.max()) < 1


def test_the_loss_at_bell_shaped_times_is_weighted_by_their_density():
    """With a model of equal probabilities the loss at t is log 3 times the number of masked sites
    over t; its mean over times of any density is log 3 times the number of sites.
    """
    x0 = torch.zeros(20_000, 4, dtype=torch.int64)
    asked = []

    def model(x, t, where=None):
        asked.append(t)
        return torch.zeros(*x.shape, 4, dtype=torch.float64)

    loss = MaskedCrossEntropy(bell=True)(
        PosteriorReverse(ABSORBING, model), x0, generator=seeded(0)
    )
    expected = 4 * math.log(3) * (1 - 1e-3)
    assert float(loss.mean()) == pytest.approx(expected, rel=0.02)
    assert float(asked[0].std()) == pytest.approx(math.sqrt(1 / 20), rel=0.01)
