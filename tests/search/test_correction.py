"""The measured false-acceptance probability, against enumeration, and its use."""

import math

import numpy as np
import pytest
import torch

from builders.confident import CIFAR, Confident, log_odds
from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import Constant, Geometric
from jumpsteps.process.uniform import Uniform
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import (
    NO_CORRECTION,
    RARE_CORRUPTION,
    ErrorCorrection,
    corruption_probability,
    corruption_time,
    with_false_acceptance,
)
from jumpsteps.search.costs.divergence import PathEvaluations
from jumpsteps.search.costs.evaluation_times import first_times
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown


def truth_of(name: str) -> Enumerable:
    return Enumerable.random(kernel(name, 3), symbols=3, length=2, seed=5, concentration=0.3)


def leave_one_out_distributions(truth: Enumerable, site: int, t: float) -> torch.Tensor:
    """p(x_0^l = y | x_t at the other site), [states, V], by summing the enumerated joint table."""
    joint = truth.data_distribution()[:, None] * truth.transition(0.0, t)
    other = truth.states[:, 1 - site]
    same = (other[:, None] == other).to(torch.float64)
    symbol = torch.nn.functional.one_hot(truth.states[:, site], truth.forward.vocab_size).to(
        torch.float64
    )
    probs = (joint @ same).T @ symbol
    return probs / probs.sum(-1, keepdim=True)


def exact_false_acceptance(truth: Enumerable, s: float) -> float:
    """d = n K / (1 - K), all expectations enumerated."""
    q = truth.forward.transition(0.0, s)
    both = truth.marginal(s)[:, None] * truth.transition(s, 1.0)
    wrong, accepted = 0.0, 0.0
    for site in range(2):
        late, early = (
            leave_one_out_distributions(truth, site, s),
            leave_one_out_distributions(truth, site, 1.0),
        )
        for b in range(len(truth.states)):
            noised = late[b] @ q
            for c in range(len(truth.states)):
                for y in range(truth.forward.vocab_size):
                    excess = float(both[b, c]) * max(float(early[c, y] - late[b, y]), 0.0)
                    wrong += excess
                    accepted += excess * float(late[b, y] * q[y, y] / noised[y])
    return exact_corruption(truth, s) * accepted / (wrong - accepted)


def exact_corruption(truth: Enumerable, s: float) -> float:
    """The probability that a site was left by s, in the state that is left fastest."""
    return 1 - math.exp(
        float(truth.forward.rate_matrix().diagonal().min()) * float(truth.forward.noise.total(s))
    )


def evaluations_of(truth: Enumerable, times: list[float], sequences: int = 8000) -> PathEvaluations:
    paths = Paths.draw(
        truth.forward, truth.sample_data(sequences, generator=seeded(0)), generator=seeded(1)
    )
    return PathEvaluations.draw(
        PosteriorReverse(truth.forward, truth), paths, 10**6, generator=seeded(2)
    ).with_times(times)


@pytest.mark.parametrize("name", ["gaussian", "rate-matrix"])
def test_false_acceptance_is_that_of_enumeration(name):
    """8,000 sequences of two sites: within 5%.

    Of the evaluations only the first and that at rare corruption count.
    """
    truth = truth_of(name)
    s = corruption_time(truth.forward, RARE_CORRUPTION)
    assert exact_corruption(truth, s) == pytest.approx(RARE_CORRUPTION)
    evaluations = evaluations_of(truth, [1.0, 0.5, s, s / 10])
    assert with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance == pytest.approx(
        exact_false_acceptance(truth, s), rel=0.05
    )


def test_the_nearest_evaluation_stands_in_for_that_at_rare_corruption():
    """The corruption probability is that of its own time. A power stays as it was."""
    truth = truth_of("gaussian")
    found = with_false_acceptance(ErrorCorrection(power=2.0), evaluations_of(truth, [1.0, 0.5]))
    assert found.false_acceptance == pytest.approx(exact_false_acceptance(truth, 0.5), rel=0.05)
    assert found.power == 2


def test_chunks_of_sites_give_the_same_false_acceptance(monkeypatch):
    evaluations = evaluations_of(truth_of("gaussian"), [1.0, 0.5], sequences=50)
    whole = with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 4 * 3 * 7)
    assert with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance == pytest.approx(
        whole, rel=1e-9
    )


def test_the_uniform_kernel_counts_corruptions_that_change_nothing():
    """A corrupted site draws a new symbol, perhaps its own: at rate 1, it leaves at (V - 1) / V."""
    truth = truth_of("uniform")
    s = corruption_time(truth.forward, RARE_CORRUPTION)
    assert 1 - float(truth.forward.noise.alpha(s)) == pytest.approx(RARE_CORRUPTION)
    exact = exact_false_acceptance(truth, s) * RARE_CORRUPTION / exact_corruption(truth, s)
    assert with_false_acceptance(
        ErrorCorrection(), evaluations_of(truth, [1.0, s])
    ).false_acceptance == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "absorbing"])
def test_the_probability_that_a_site_has_its_symbol_still(name):
    forward = kernel(name, 4)
    assert torch.allclose(
        forward.stay_probability(0.3), forward.transition(0.0, 0.3).diagonal(), atol=1e-12
    )


def test_data_that_are_harder_to_tell_from_errors_have_more_false_acceptance():
    """CountDown with more smoothing breaks its rule more often."""
    forward, found = Uniform(vocab_size=8, noise=Constant(3.87)), []
    for smoothing in (0.001, 0.1):
        reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(8), smoothing))
        data = countdown.sample_data(
            32, generator=seeded(0), symbols=8, length=32, smoothing=smoothing
        )
        costs = path_costs(
            reverse,
            Paths.draw(forward, data, generator=seeded(1)),
            evaluations=8,
            generator=seeded(2),
        )
        found.append(costs.table.correction.false_acceptance)
    assert 0 < 5 * found[0] < found[1] < 1


def test_false_acceptance_is_measured_only_where_it_is_unknown():
    """Else no evaluation is moved to rare corruption. With the absorbing kernel all survives."""
    for name, correction, false_acceptance in (
        ("uniform", ErrorCorrection(0.01), 0.01),
        ("absorbing", None, math.inf),
        ("uniform", None, None),
    ):
        truth = truth_of(name)
        paths = Paths.draw(
            truth.forward, truth.sample_data(8, generator=seeded(0)), generator=seeded(1)
        )
        costs = path_costs(
            PosteriorReverse(truth.forward, truth),
            paths,
            evaluations=6,
            correction=correction,
            generator=seeded(2),
        )
        assert costs.table.correction.false_acceptance == false_acceptance or (
            false_acceptance is None and 0 < costs.table.correction.false_acceptance < math.inf
        )
        assert (corruption_time(truth.forward, RARE_CORRUPTION) in costs.table.times) == (
            false_acceptance is None
        )


def test_sites_that_do_not_depend_on_each_other_cost_nothing():
    """More context changes no distribution, so there are no errors; d is positive all the same."""
    truth = Enumerable(kernel("uniform", 3), torch.full((3, 3), 1 / 9, dtype=torch.float64))
    paths = Paths.draw(
        truth.forward, truth.sample_data(20, generator=seeded(0)), generator=seeded(1)
    )
    costs = path_costs(
        PosteriorReverse(truth.forward, truth), paths, evaluations=6, generator=seeded(2)
    )
    assert 0 < costs.table.correction.false_acceptance < math.inf
    assert np.abs(costs.value[0, 1:]).max() == pytest.approx(0, abs=1e-9)


def test_a_model_without_context_makes_no_errors():
    """The same distribution at all times: d is positive and finite."""
    forward = kernel("uniform", 3)
    reverse = LeaveOneOutReverse(
        forward, lambda x, t, where: torch.tensor([0.0, -1, -2]).expand(int(where.sum()), 3)
    )
    paths = Paths.draw(forward, torch.zeros(4, 2, dtype=torch.int64), generator=seeded(0))
    evaluations = PathEvaluations.draw(reverse, paths, 8, generator=seeded(1)).with_times(
        [1.0, 0.5]
    )
    assert 0 < with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance < math.inf


@pytest.mark.parametrize("count", [3, 4, 8])
def test_one_of_the_first_times_is_at_rare_corruption(count):
    forward = Uniform(vocab_size=3, noise=Constant(3.87))
    times, equal = (first_times(forward, count, rare_corruption=rare) for rare in (True, False))
    assert len(times) == count
    assert times[[0, -1]].tolist() == equal[[0, -1]].tolist()
    assert (np.diff(times) < 0).all()
    rare = corruption_time(forward, RARE_CORRUPTION)
    assert rare in times
    assert rare not in equal
    # It takes the place of the nearest one, and no other has moved.
    for late in (forward, Uniform(vocab_size=3, noise=Constant(0.06))):
        times, equal = (first_times(late, count, rare_corruption=rare) for rare in (True, False))
        rare = corruption_time(late, RARE_CORRUPTION)
        nearest = 1 + np.abs(equal[1:-1] - rare).argmin()
        assert times[nearest] == rare
        assert (np.delete(times, nearest) == np.delete(equal, nearest)).all()
    noisy = Uniform(vocab_size=3, noise=Geometric(lowest=0.05, highest=20.0))
    assert (np.diff(first_times(noisy, count, rare_corruption=True)) < 0).all()


def test_errors():
    assert corruption_time(Uniform(vocab_size=3, noise=Constant(0.01)), RARE_CORRUPTION) == 1
    assert NO_CORRECTION.surviving_fraction(np.array([0.5])) == 1
    with pytest.raises(
        ValueError, match="false_acceptance must be positive, or None to have it measured, got 0"
    ):
        ErrorCorrection(0.0)
    with pytest.raises(ValueError, match="not measured yet"):
        ErrorCorrection().surviving_fraction(np.array([0.5]))


def test_false_acceptance_of_a_network_that_is_sure():
    """Most symbols have a probability below float32; by sums of logarithms over all symbols."""
    reverse = PosteriorReverse(CIFAR, Confident((-2.0, 1.0)))
    paths = Paths.draw(CIFAR, torch.tensor([[3, 100], [255, 190]]), generator=seeded(0))
    times = [1.0, corruption_time(CIFAR, RARE_CORRUPTION)]
    evaluations = PathEvaluations.draw(reverse, paths, 100, generator=seeded(1)).with_times(times)
    found = with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance

    first, late = (
        log_odds(reverse.model(x, t), x, t, x, 0.0).softmax(-1)
        for x, t in ((paths(t).flatten(), t) for t in times)
    )
    x = paths(times[1]).flatten()
    noised = log_odds(reverse.model(x, times[1]), x, times[1], x, times[1]).softmax(-1)
    excess = (first - late).clamp_min(0)
    accepted = float((excess * late * CIFAR.stay_probability(times[1]) / noised).sum())
    wrong = float(excess.sum()) - accepted
    expected = float(corruption_probability(CIFAR, times[1])) * accepted / wrong
    assert found == pytest.approx(expected, rel=1e-6)
