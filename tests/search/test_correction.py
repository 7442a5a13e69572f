"""How likely data look like a mistake, against enumeration."""

import math

import numpy as np
import pytest
import torch

from helpers import kernel, seeded
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
    """p(x0^l = y | x_t at the other site), [states, V], by summing the enumerated joint distribution."""
    joint = truth.data_distribution()[:, None] * truth.transition(0.0, t)
    other = truth.states[:, 1 - site]
    same = (other[:, None] == other).to(torch.float64)
    symbol = torch.nn.functional.one_hot(truth.states[:, site], truth.forward.vocab_size).to(
        torch.float64
    )
    probs = (joint @ same).T @ symbol
    return probs / probs.sum(-1, keepdim=True)


def exact_false_acceptance(truth: Enumerable, s: float) -> float:
    q = truth.forward.transition(0.0, s)
    both = truth.marginal(s)[:, None] * truth.transition(s, 1.0)
    wrong, kept = 0.0, 0.0
    for site in range(2):
        late, early = (
            leave_one_out_distributions(truth, site, s),
            leave_one_out_distributions(truth, site, 1.0),
        )
        for b in range(len(truth.states)):
            seen = late[b] @ q
            for c in range(len(truth.states)):
                for y in range(truth.forward.vocab_size):
                    excess = float(both[b, c]) * max(float(early[c, y] - late[b, y]), 0.0)
                    wrong += excess
                    kept += excess * float(late[b, y] * q[y, y] / seen[y])
    return truth_hit(truth, s) * kept / (wrong - kept)


def truth_hit(truth: Enumerable, s: float) -> float:
    """The probability that a site in the state which is left fastest was left by s, jumps to itself counted."""
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
def test_the_false_acceptance_is_that_of_enumeration(name):
    """8,000 sequences of two sites: within 5%. Views at earlier and later times than that of rare noise are not looked at."""
    truth = truth_of(name)
    s = corruption_time(truth.forward, RARE_CORRUPTION)
    assert truth_hit(truth, s) == pytest.approx(RARE_CORRUPTION)
    evaluations = evaluations_of(truth, [1.0, 0.5, s, s / 10])
    assert with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance == pytest.approx(
        exact_false_acceptance(truth, s), rel=0.05
    )


def test_noise_is_that_of_the_evaluation_that_there_is():
    """Where no view is at the time of rare noise. A power stays as it was."""
    truth = truth_of("gaussian")
    found = with_false_acceptance(ErrorCorrection(power=2.0), evaluations_of(truth, [1.0, 0.5]))
    assert found.false_acceptance == pytest.approx(exact_false_acceptance(truth, 0.5), rel=0.05)
    assert found.power == 2


def test_sites_are_summed_over_blocks(monkeypatch):
    evaluations = evaluations_of(truth_of("gaussian"), [1.0, 0.5], sequences=50)
    whole = with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 4 * 3 * 7)
    assert with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance == pytest.approx(
        whole, rel=1e-9
    )


def test_the_uniform_kernel_counts_hits_that_change_nothing():
    """sigma is the rate of being hit, the symbol itself included: its fastest rate is 1, that of leaving is (V - 1) / V."""
    truth = truth_of("uniform")
    s = corruption_time(truth.forward, RARE_CORRUPTION)
    assert 1 - float(truth.forward.noise.alpha(s)) == pytest.approx(RARE_CORRUPTION)
    exact = exact_false_acceptance(truth, s) * RARE_CORRUPTION / truth_hit(truth, s)
    assert with_false_acceptance(
        ErrorCorrection(), evaluations_of(truth, [1.0, s])
    ).false_acceptance == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "absorbing"])
def test_the_probability_of_showing_the_symbol_still(name):
    forward = kernel(name, 4)
    assert torch.allclose(
        forward.stay_probability(0.3), forward.transition(0.0, 0.3).diagonal(), atol=1e-12
    )


def test_data_that_are_harder_to_tell_from_mistakes_have_more_false_acceptance():
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


def test_nothing_is_measured_where_a_false_acceptance_is_given_and_nothing_is_revised_with_the_absorbing_kernel():
    """Nor is the model asked where noise is rare."""
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
    """Knowing more changes no distribution: there are no mistakes to judge, and the doubt is a number all the same."""
    truth = Enumerable(kernel("uniform", 3), torch.full((3, 3), 1 / 9, dtype=torch.float64))
    paths = Paths.draw(
        truth.forward, truth.sample_data(20, generator=seeded(0)), generator=seeded(1)
    )
    costs = path_costs(
        PosteriorReverse(truth.forward, truth), paths, evaluations=6, generator=seeded(2)
    )
    assert 0 < costs.table.correction.false_acceptance < math.inf
    assert np.abs(costs.value[0, 1:]).max() == pytest.approx(0, abs=1e-9)


def test_a_model_that_says_the_same_at_all_times_makes_no_mistakes_at_all():
    forward = kernel("uniform", 3)
    reverse = LeaveOneOutReverse(
        forward, lambda x, t, where: torch.tensor([0.0, -1, -2]).expand(int(where.sum()), 3)
    )
    paths = Paths.draw(forward, torch.zeros(4, 2, dtype=torch.int64), generator=seeded(0))
    evaluations = PathEvaluations.draw(reverse, paths, 8, generator=seeded(1)).with_times(
        [1.0, 0.5]
    )
    assert 0 < with_false_acceptance(ErrorCorrection(), evaluations).false_acceptance < math.inf


@pytest.mark.parametrize("points", [3, 4, 8])
def test_the_model_is_asked_where_noise_is_rare(points):
    forward = Uniform(vocab_size=3, noise=Constant(3.87))
    times, equal = (first_times(forward, points, rare_corruption=rare) for rare in (True, False))
    assert len(times) == points
    assert times[[0, -1]].tolist() == equal[[0, -1]].tolist()
    assert (np.diff(times) < 0).all()
    assert corruption_time(forward, RARE_CORRUPTION) in times
    assert corruption_time(forward, RARE_CORRUPTION) not in equal
    noisy = Uniform(vocab_size=3, noise=Geometric(lowest=0.05, highest=20.0))
    assert (np.diff(first_times(noisy, points, rare_corruption=True)) < 0).all()


def test_what_cannot_be_is_refused():
    assert corruption_time(Uniform(vocab_size=3, noise=Constant(0.01)), RARE_CORRUPTION) == 1
    assert NO_CORRECTION.surviving_fraction(np.array([0.5])) == 1
    with pytest.raises(
        ValueError, match="false_acceptance must be positive, or None to have it measured, got 0"
    ):
        ErrorCorrection(0.0)
    with pytest.raises(ValueError, match="not measured yet"):
        ErrorCorrection().surviving_fraction(np.array([0.5]))
