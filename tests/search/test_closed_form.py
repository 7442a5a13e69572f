"""Schedules in closed form, against the optimum and the rule that defines them."""

import numpy as np
import pytest

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.one_stage import Euler
from jumpsteps.search.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.search.costs.information_profile import InformationProfile, time_grid
from jumpsteps.search.dynamic_programming import shortest_path
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.tasks import countdown

STEP = (np.exp(-2.5) - np.exp(-0.0025)) / 32


def profile(curve, power: float = 1.0) -> InformationProfile:
    alpha = 1e-3 + 0.999 * np.linspace(0, 1, 400)[:-1] ** power
    return InformationProfile(
        kernel("absorbing", 4), 100.0, alpha, curve(alpha), np.zeros((399, 2)), 399
    )


def alphas(found, schedule) -> np.ndarray:
    return found.alphas(np.asarray(schedule.times))


def test_with_many_steps_equal_errors_are_the_optimum():
    found = profile(lambda a: 3 * np.exp(-5 * a))
    costs = found.step_costs(time_grid(found.forward, 1024))
    best, closed = shortest_path(costs, 32), equal_error(found, 32)
    assert costs.predict(closed)[0] == pytest.approx(costs.predict(best)[0], rel=0.01)
    # integral of sqrt(15 exp(-5 a)): equal steps of exp(-5 a / 2)
    assert np.diff(np.exp(-2.5 * alphas(found, closed))) == pytest.approx(
        np.full(32, STEP), rel=0.02
    )


def test_equal_entropy_takes_equal_shares_of_the_entropy():
    found = profile(lambda a: 2 * (1 - a))
    closed = equal_entropy(found, 5)
    assert closed.steps == 5
    assert np.diff((1 - alphas(found, closed)) ** 2) == pytest.approx(
        np.full(5, -0.2 * 0.999**2), rel=1e-3
    )


@pytest.mark.parametrize("rule", [equal_error, equal_entropy])
@pytest.mark.parametrize("power", [1.0, 3.0])
def test_without_information_steps_are_equal(rule, power):
    """Also where evaluations are not equally far apart."""
    found = profile(lambda a: 0 * a, power)
    assert np.diff(alphas(found, rule(found, 4))) == pytest.approx(np.full(4, 0.999 / 4))


def test_as_a_search():
    forward = kernel("absorbing", 16, LogLinear())
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    data = countdown.sample_data(8, generator=seeded(0), symbols=16, length=64)
    method = ClosedForm("equal-error", equal_error)
    found = optimize_schedule(reverse, data, [4, 7], generator=seeded(0), method=method)
    assert found[7].provenance.model_calls == 32
    assert [found[n].steps for n in (4, 7)] == [4, 7]
    with pytest.raises(ValueError, match="equal-error serves the tweedie sampler, got euler"):
        optimize_schedule(reverse, data, [4], generator=seeded(0), method=method, sampler=Euler())
    with pytest.raises(ValueError, match="absorbing kernel, got uniform"):
        optimize_schedule(
            PosteriorReverse(kernel("uniform", 16), reverse.model),
            data,
            [4],
            generator=seeded(0),
            method=method,
        )
