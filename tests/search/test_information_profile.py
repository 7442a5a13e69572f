"""The information profile and its costs, against enumeration."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.information_profile import information_profile, time_grid
from jumpsteps.search.dynamic_programming import shortest_path, shortest_paths
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown


def model_and_path(noise, sequences=4000, seed=3):
    forward = Absorbing(vocab_size=4, noise=noise)
    model = Enumerable.random(forward, symbols=3, length=4, seed=seed, concentration=0.2)
    path = Paths.draw(
        forward, model.sample_data(sequences, generator=seeded(0)), generator=seeded(1)
    )
    return model, PosteriorReverse(forward, model), path


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("noise", [LogLinear(1e-3), Constant(5.0)], ids=repr)
def test_predicted_cost_is_the_summed_compounding_error(noise):
    """4,000 sequences, 64 evaluations: within 4 standard errors plus 1% for the interpolation."""
    model, reverse, path = model_and_path(noise)
    profile = information_profile(reverse, path, evaluations=64)
    assert profile.model_calls == 64
    for times in ([1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.8, 0.3, 0.1, 0.0]):
        exact = sum(float(model.compounding_error(t, s)) for t, s in pairwise(times))
        cost, stderr = profile.predict(TimeSchedule(times))
        assert cost == pytest.approx(exact, abs=4 * stderr + 0.01 * exact)
        assert 0 < stderr < 0.05 * exact


@pytest.mark.slow
@pytest.mark.statistical
def test_the_standard_error_is_the_standard_deviation_over_repetitions():
    """40 profiles of 200 sequences; of the cost, and of the entropy at six evaluations."""
    model, reverse, _ = model_and_path(LogLinear())
    schedule = TimeSchedule([1.0, 0.6, 0.25, 0.0])
    costs, errors, entropies, entropy_errors = [], [], [], []
    for seed in range(40):
        path = Paths.draw(
            model.forward,
            model.sample_data(200, generator=seeded(seed)),
            generator=seeded(100 + seed),
        )
        profile = information_profile(reverse, path, evaluations=12)
        cost, stderr = profile.predict(schedule)
        costs.append(cost)
        errors.append(stderr)
        entropies.append(profile.entropy[4:10])
        entropy_errors.append(profile.stderr[4:10])
    assert np.std(costs, ddof=1) == pytest.approx(np.mean(errors), rel=0.35)
    assert np.std(entropies, axis=0, ddof=1) == pytest.approx(
        np.mean(entropy_errors, axis=0), rel=0.35
    )


def test_the_table_agrees_with_the_prediction_of_every_schedule():
    _, reverse, path = model_and_path(LogLinear(), sequences=100)
    profile = information_profile(reverse, path, evaluations=16)
    grid = time_grid(reverse.forward, 12)
    costs = profile.step_costs(grid)
    assert np.isinf(costs.value[np.tril_indices(13)]).all()
    assert costs.model_calls == 16
    for i, k in ((0, 12), (0, 5), (3, 4), (7, 12)):
        cost, stderr = profile.predict(TimeSchedule([grid[i], grid[k]]))
        assert costs.value[i, k] == pytest.approx(cost, abs=1e-12)
        assert costs.stderr[i, k] == pytest.approx(stderr, abs=1e-12)


@pytest.mark.slow
def test_the_shortest_path_is_the_best_schedule_by_exact_errors():
    """On a small grid, with exact errors, it is within 2% of the best schedule."""
    model, reverse, path = model_and_path(LogLinear())
    grid = time_grid(reverse.forward, 8)
    costs = information_profile(reverse, path, evaluations=64).step_costs(grid)
    exact = np.full((9, 9), np.inf)
    for i in range(9):
        for k in range(i + 1, 9):
            exact[i, k] = float(model.compounding_error(grid[i], grid[k]))
    for n in (2, 3, 5):
        found, best = (shortest_path(c, n) for c in (costs, replace(costs, value=exact)))
        value = [
            sum(exact[list(grid).index(t), list(grid).index(s)] for t, s in pairwise(p.times))
            for p in (found, best)
        ]
        assert value[0] <= 1.02 * value[1]


def test_smoothing_keeps_exponential_curves_and_curves_of_zero():
    _, reverse, path = model_and_path(LogLinear(), sequences=10)
    profile = information_profile(reverse, path, evaluations=20)
    smooth = replace(profile, entropy=np.exp(0.7 - 0.2 * np.arange(20))).smoothed(2.0)
    assert smooth.entropy == pytest.approx(np.exp(0.7 - 0.2 * np.arange(161) / 8), rel=1e-10)
    assert smooth.alpha[:-1:8] == pytest.approx(profile.alpha, rel=1e-12)
    assert smooth.alpha[-1] == 1
    assert smooth.influence[:-1:8] == pytest.approx(profile.influence)
    assert profile.smoothed(0.0) is profile
    nothing = replace(profile, entropy=np.zeros(20))
    assert np.array_equal(nothing.smoothed(2.0).entropy, np.zeros(161))


@pytest.mark.slow
def test_smoothing_finds_better_schedules_from_few_sequences():
    """CountDown with 16 symbols, 8 sequences, 6 seeds: mean excess cost at 8, 16 and 32 steps."""
    forward = Absorbing(vocab_size=17, noise=LogLinear())
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))

    def profile(sequences: int, seed: int):
        data = countdown.sample_data(sequences, generator=seeded(seed), symbols=16, length=64)
        return information_profile(reverse, Paths.draw(forward, data, generator=seeded(seed)))

    truth, grid = profile(400, 99), time_grid(forward, 128)
    budgets = [8, 16, 32]
    best = [truth.predict(s)[0] for s in shortest_paths(truth.step_costs(grid), budgets).values()]
    excess = {}
    for bandwidth in (0.0, 2.0):
        found = [
            shortest_paths(profile(8, seed).smoothed(bandwidth).step_costs(grid), budgets)
            for seed in range(6)
        ]
        excess[bandwidth] = np.mean(
            [
                [truth.predict(s)[0] / b - 1 for s, b in zip(f.values(), best, strict=True)]
                for f in found
            ]
        )
    assert 0 < excess[2.0] < 0.8 * excess[0.0]


def test_grid_runs_from_noise_to_data():
    times = time_grid(Absorbing(vocab_size=3, noise=LogLinear()), 20)
    assert times[0] == 1
    assert times[-1] == 0
    assert (np.diff(times) < 0).all()


def test_errors():
    forward = Uniform(vocab_size=3, noise=LogLinear())
    path = Paths.draw(forward, torch.zeros(4, 2, dtype=torch.int64), generator=seeded(0))
    with pytest.raises(ValueError, match="absorbing kernel, got uniform"):
        information_profile(PosteriorReverse(forward, lambda x, t, where: x), path)
    _, reverse, path = model_and_path(LogLinear(), sequences=1)
    with pytest.raises(ValueError, match="at least two sequences"):
        information_profile(reverse, path)
