"""Divergence rates of pairs of evaluated times, against enumeration; which sites they compare."""

import math

import numpy as np
import pytest
import torch

from builders.confident import CIFAR, Confident, log_odds
from builders.kernels import kernel
from builders.search import paths_of, random_truth
from builders.statistics import seeded
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.model import evaluate
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION
from jumpsteps.search.costs.divergence import PathEvaluations, common_odds, some_free_sites
from jumpsteps.search.paths import Paths

ALL = ("absorbing", "uniform", "gaussian", "rate-matrix")


def exact_rate(truth: Enumerable, t: float, s: float, *, hold_time: bool) -> float:
    """E sum phi per unit of noise at s, from the enumerated time reversal.

    The expectation is over the enumerated joint distribution of (x_t, x_s).
    """
    forward, v, length = truth.forward, truth.forward.vocab_size, truth.table.ndim
    joint = truth.marginal(s)[:, None] * truth.transition(s, t)
    states = truth.states
    level = t if hold_time else s
    speed = float(forward.noise.rate(level))
    q = forward.transition(0.0, level)
    data, noised = truth.data_distribution(), truth.transition(0.0, t)
    reversal, rates = truth.reverse_rates(s), forward.rate_matrix()
    total = 0.0
    for site in range(length):
        others = [j for j in range(length) if j != site]
        same = (states[:, None, others] == states[None, :, others]).all(-1)
        # p(x_0^l | x_t^{-l}): the joint distribution of x_0 and x_t, summed over x_t^l
        first = torch.nn.functional.one_hot(states[:, site], v).to(torch.float64)
        w = ((data[:, None] * noised) @ same.to(torch.float64)).T @ first
        probs = (w / w.sum(-1, keepdim=True)) @ q
        for b, c in (same & ~torch.eye(len(states), dtype=torch.bool)).nonzero().tolist():
            own, y = int(states[b, site]), int(states[c, site])
            fine = float(reversal[b] @ (same[b] & (states[:, site] == y)).to(torch.float64))
            if fine == 0:
                continue
            coarse = speed * rates[y, own] * probs[:, y] / probs[:, own]
            phi = fine * torch.log(fine / coarse) - fine + coarse
            total += float((joint[b] * phi).sum())
    return total / float(forward.noise.rate(s))


@pytest.mark.statistical
@pytest.mark.parametrize("hold_time", [False, True], ids=["context", "rates"])
@pytest.mark.parametrize("name", ALL)
def test_divergence_rates_are_those_of_enumeration(name, hold_time):
    """6,000 sequences of two sites, three times: within 4 standard errors for every pair."""
    truth = random_truth(name, length=2)
    paths, times = paths_of(truth, 6000), [0.9, 0.6, 0.2]
    reverse = PosteriorReverse(truth.forward, truth)
    evaluations = PathEvaluations.draw(reverse, paths, 10**6, generator=seeded(2))
    (rates,) = evaluations.with_times(times).divergence_rates(hold_time)
    assert np.array_equal(rates.mean(-1)[np.tril_indices(3)], np.zeros(6))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        exact = exact_rate(truth, times[i], times[j], hold_time=hold_time)
        error = rates[i, j].std(ddof=1) / np.sqrt(6000)
        assert rates[i, j].mean() == pytest.approx(exact, abs=4 * error)
        assert error < 0.2 * exact


def test_chunks_of_sites_give_the_same_rates_and_observed_sites_do_not_count(monkeypatch):
    truth = random_truth("absorbing", length=4)
    reverse = PosteriorReverse(truth.forward, truth)
    data = truth.sample_data(60, generator=seeded(0))
    known = torch.tensor([True, False, False, False])
    paths = Paths.draw(truth.forward, data, generator=seeded(1), given_mask=known)
    whole = path_costs(reverse, paths, evaluations=8, generator=seeded(2))
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 8 * 4 * 7)
    chunked = path_costs(reverse, paths, evaluations=8, generator=seeded(2))
    assert chunked.table.rates == pytest.approx(whole.table.rates, rel=1e-12)
    all_free = Paths.draw(truth.forward, data, generator=seeded(1))
    free = path_costs(reverse, all_free, evaluations=8, generator=seeded(2))
    assert whole.predict(uniform(2))[0] < free.predict(uniform(2))[0]


def test_every_sequence_has_as_many_sites_and_one_at_least():
    paths = paths_of(random_truth("uniform"), 5)
    for most, each in ((1, 1), (9, 1), (10, 2), (1000, 3)):
        where = some_free_sites(paths, most, generator=seeded(0))
        assert where.sum(-1).tolist() == [each] * 5


@pytest.mark.statistical
def test_a_third_of_the_sites_gives_the_same_cost():
    """4,000 sequences: within 4 standard errors, which are larger."""
    truth = random_truth("uniform")
    reverse, paths = PosteriorReverse(truth.forward, truth), paths_of(truth, 4000)
    some, every = (
        path_costs(
            reverse, paths, evaluations=6, sites=n, correction=NO_CORRECTION, generator=seeded(2)
        )
        for n in (4000, 12000)
    )
    assert int(PathEvaluations.draw(reverse, paths, 4000, generator=seeded(2)).where.sum()) == 4000
    (a, error), (b, other) = some.predict(uniform(3)), every.predict(uniform(3))
    assert a == pytest.approx(b, abs=4 * np.hypot(error, other))
    assert error > 1.2 * other


@pytest.mark.parametrize(
    ("name", "output"),
    [("absorbing", "posterior"), ("uniform", "posterior"), ("uniform", "log-score")],
)
def test_a_network_is_evaluated_by_its_hidden_states(name, output):
    """One call of the trunk, then the head at some of the sites, agree with the model there."""
    config = DiTConfig(
        vocab_size=kernel(name, 5).vocab_size, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8
    )
    torch.manual_seed(0)
    network, reverse = build(config, kernel(name, 5), output)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(config.vocab_size, (3, 7), generator=seeded(0))
    where = torch.rand(3, 7, generator=seeded(1)) < 0.7
    some = where & (torch.rand(3, 7, generator=seeded(2)) < 0.5)
    counter = CallCounter(reverse.model)
    evaluation = evaluate(counter, x, 0.3, where)
    assert evaluation.rows.shape == (int(where.sum()), 16)
    assert torch.allclose(evaluation(x, 0.3, some), reverse.model(x, 0.3, some), atol=1e-5)
    assert counter.calls == 1


def test_odds_of_masked_sites_differ_from_time_to_time_by_one_factor():
    forward = Absorbing(vocab_size=4, noise=LogLinear())
    w = torch.tensor([0.5, 0.2, 0.3, 0.0], dtype=torch.float64)
    odds = [forward.push(w, t)[:3] / forward.push(w, t)[3] for t in (0.3, 0.8)]
    factor = common_odds(forward, torch.tensor([0.3, 0.8], dtype=torch.float64))
    assert torch.allclose(odds[0] / odds[1], (factor[0] / factor[1]).expand(3), rtol=1e-12)
    assert common_odds(Uniform(vocab_size=4, noise=LogLinear()), torch.ones(1)) is None


@pytest.mark.parametrize("hold_time", [False, True])
def test_rates_of_a_network_that_is_sure(hold_time: bool) -> None:
    """Most symbols have a probability below float32; by sums of logarithms over all jumps."""
    reverse = PosteriorReverse(CIFAR, Confident((-1.0, 1.0), switch=0.003))
    paths = Paths.draw(CIFAR, torch.tensor([[3, 100, 190]]), generator=seeded(0))
    t, s = 0.004, 0.001
    evaluations = PathEvaluations.draw(reverse, paths, 100, generator=seeded(1)).with_times([t, s])
    (found,) = evaluations.divergence_rates(hold_time)

    x_t, x_s, level = paths(t)[0], paths(s)[0], t if hold_time else s
    own = log_odds(reverse.model(x_s, s), x_s, s, x_s, s)
    step = log_odds(reverse.model(x_t, t), x_t, t, x_s, level)
    faster = float(CIFAR.noise.rate(level) / CIFAR.noise.rate(s)) if hold_time else 1.0
    into = CIFAR.rates_into(x_s)
    fine, coarse = into * own.exp(), faster * into * step.exp()
    phi = fine * (own - step - math.log(faster)) - fine + coarse
    assert found[0, 1, 0] == pytest.approx(float(phi.sum()), rel=1e-6)
