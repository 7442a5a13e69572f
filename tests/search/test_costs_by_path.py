"""Path costs, against enumeration, and the schedules that they find."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from builders.kernels import kernel
from builders.search import paths_of, random_truth
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, Cosine, Geometric, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.costs.information_profile import information_profile
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.dynamic_programming import shortest_path
from jumpsteps.search.jys import JYS
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("noise", [LogLinear(), Cosine()], ids=repr)
def test_with_the_absorbing_kernel_costs_are_compounding_errors(noise):
    """Frozen context, exact model: the path divergence of a step is its CDE.

    Within 4 standard errors plus 2% for the grid.
    """
    truth = random_truth("absorbing", length=4, noise=noise)
    reverse = PosteriorReverse(truth.forward, truth)
    costs = path_costs(
        reverse, paths_of(truth, 1500), evaluations=32, sites=10**6, generator=seeded(2)
    )
    for times in ([1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.8, 0.3, 0.1, 0.0]):
        exact = sum(float(truth.compounding_error(t, s)) for t, s in pairwise(times))
        cost, stderr = costs.predict(TimeSchedule(times))
        assert cost == pytest.approx(exact, abs=4 * stderr + 0.02 * exact)
        assert 0 < stderr < 0.1 * exact


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["uniform", "gaussian"])
def test_with_other_kernels_costs_bound_compounding_errors(name):
    """A site may jump and come back, so its path carries more information than its end."""
    truth = random_truth(name)
    reverse = PosteriorReverse(truth.forward, truth)
    costs = path_costs(
        reverse, paths_of(truth, 2000), correction=NO_CORRECTION, generator=seeded(2)
    )
    for t, s in ((1.0, 0.5), (0.5, 0.2), (0.4, 0.0), (1.0, 0.0)):
        exact, part = float(truth.compounding_error(t, s)), costs.step(t, s)
        assert part.mean() > exact - 4 * part.std(ddof=1) / np.sqrt(len(part))


def test_the_table_agrees_with_the_prediction_of_every_step():
    truth = random_truth("uniform")
    costs = path_costs(
        PosteriorReverse(truth.forward, truth),
        paths_of(truth, 50),
        evaluations=9,
        generator=seeded(2),
        grid_intervals=16,
    )
    assert costs.model_calls == 9
    assert costs.grid[0] == 1
    assert costs.grid[-1] == 0
    assert (np.diff(costs.grid) < 0).all()
    assert np.isinf(costs.value[np.tril_indices(len(costs.grid))]).all()
    last = len(costs.grid) - 1
    for i, k in ((0, last), (0, 5), (3, 4), (7, last)):
        corruption = 1 - float(truth.forward.noise.alpha(costs.grid[k]))
        d = costs.table.correction.false_acceptance
        each = d / (d + corruption) * costs.step(costs.grid[i], costs.grid[k])
        assert costs.value[i, k] == pytest.approx(each.mean(), rel=1e-9)
        assert costs.stderr[i, k] == pytest.approx(each.std(ddof=1) / np.sqrt(50), rel=1e-9)
    path = shortest_path(costs, 3)
    at = [int(np.flatnonzero(costs.grid == t)[0]) for t in path.times]
    assert costs.predict(path)[0] == pytest.approx(
        sum(costs.value[i, k] for i, k in pairwise(at)), rel=1e-9
    )


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("correction", [NO_CORRECTION, ErrorCorrection()], ids=repr)
def test_the_standard_error_is_the_standard_deviation_over_repetitions(correction):
    truth, found = random_truth("uniform"), []
    reverse, schedule = PosteriorReverse(truth.forward, truth), TimeSchedule([1.0, 0.6, 0.25, 0.0])
    for seed in range(40):
        costs = path_costs(
            reverse,
            paths_of(truth, 200, seed),
            evaluations=16,
            grid_intervals=64,
            correction=correction,
            generator=seeded(seed),
        )
        found.append(costs.predict(schedule))
    cost, stderr = np.asarray(found).T
    assert np.mean(stderr) == pytest.approx(np.std(cost, ddof=1), rel=0.35)


def test_the_noise_levels_of_schedules_do_not_depend_on_how_noise_runs_in_time():
    """Two noise schedules with the same total: the same paths at the same noise levels."""
    total = float(Cosine().total(1.0))
    found = []
    for noise in (Cosine(), Constant(total)):
        truth = Enumerable.random(
            Uniform(vocab_size=3, noise=noise), symbols=3, length=3, seed=5, concentration=0.3
        )
        costs = path_costs(
            PosteriorReverse(truth.forward, truth), paths_of(truth, 40), generator=seeded(2)
        )
        found.append(noise.total(torch.tensor(shortest_path(costs, 6).times, dtype=torch.float64)))
    assert torch.allclose(*found, rtol=1e-6)


@pytest.mark.slow
def test_refinement_stops_where_costs_are_known_well_enough():
    truth = random_truth("uniform")
    few, many = (
        path_costs(
            PosteriorReverse(truth.forward, truth),
            paths_of(truth, n),
            max_steps=4,
            generator=seeded(2),
        )
        for n in (4, 4000)
    )
    assert few.model_calls < many.model_calls


@pytest.mark.slow
def test_schedules_for_the_uniform_kernel_beat_jump_your_steps_and_equal_times():
    """CountDown with 16 symbols, 64 sites, exact model, 8 steps, 256 samples."""
    forward = Uniform(vocab_size=16, noise=Constant(3.87))
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    data = countdown.sample_data(32, generator=seeded(0), symbols=16, length=64)
    found = {"uniform": uniform(8)}
    for method in (JYS(), ShortestPath()):
        found[method.name] = optimize_schedule(
            reverse, data, [8], generator=seeded(0), method=method
        )[8]
    assert found["shortest-path"].provenance.model_calls <= 32
    runs = {
        name: simulate(reverse, Tweedie(), s, (256, 64), generator=seeded(1)).samples
        for name, s in found.items()
    }
    rate = {name: float(countdown.violations(x).mean()) for name, x in runs.items()}
    assert rate["shortest-path"] < 1.1 * rate["jys"]
    assert rate["shortest-path"] < 0.3 * rate["uniform"]


@pytest.mark.slow
def test_frozen_rates_have_their_own_costs():
    """Those of tau-leaping; by the model, Euler's sampler has the costs of Tweedie's."""
    truth = random_truth("absorbing", length=4, noise=Cosine())
    reverse = PosteriorReverse(truth.forward, truth)
    data, found = truth.sample_data(500, generator=seeded(0)), {}
    method = ShortestPath(measure=Measure.MODEL)
    for sampler in (TauLeaping(), Euler(), Tweedie()):
        schedules = optimize_schedule(
            reverse, data, [4], generator=seeded(7), method=method, sampler=sampler
        )
        found[sampler.name] = schedules[4]
    cost = {name: schedule.provenance.error[0] for name, schedule in found.items()}
    assert all(one.provenance.excess is None for one in found.values())
    assert cost["tau-leaping"] > 1.05 * cost["tweedie"]
    assert found["tau-leaping"].times != found["tweedie"].times == found["euler"].times
    assert found["euler"].provenance.sampler == "euler"
    paths = Paths.draw(truth.forward, data, generator=seeded(1))
    rates, context = (
        path_costs(reverse, paths, grid_intervals=64, hold_time=hold, generator=seeded(2))
        for hold in (True, False)
    )
    assert rates.step(0.9, 0.5).mean() > 1.05 * context.step(0.9, 0.5).mean()
    assert rates.step(0.5, 0.0).mean() == pytest.approx(context.step(0.5, 0.0).mean(), rel=0.05)
    for i, k in ((0, len(rates.grid) - 1), (20, len(rates.grid) - 1), (20, 40)):
        part = rates.step(rates.grid[i], rates.grid[k])
        assert rates.value[i, k] == pytest.approx(part.mean(), rel=1e-9)
        assert rates.stderr[i, k] == pytest.approx(part.std(ddof=1) / np.sqrt(500), rel=1e-9)


@pytest.mark.statistical
def test_path_costs_and_the_information_profile_agree():
    forward = Absorbing(vocab_size=17, noise=LogLinear())
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    paths = Paths.draw(
        forward,
        countdown.sample_data(32, generator=seeded(0), symbols=16, length=64),
        generator=seeded(1),
    )
    profile, rates = (
        information_profile(reverse, paths),
        path_costs(reverse, paths, evaluations=32, sites=10**6, generator=seeded(2)),
    )
    for schedule in (uniform(4), uniform(16)):
        cost, stderr = rates.predict(schedule)
        assert cost == pytest.approx(profile.predict(schedule)[0], abs=2 * stderr)


@pytest.mark.parametrize("lowest", [1e-5, 0.05])
def test_noise_that_jumps_at_zero(lowest):
    """SEDD's geometric noise: no noise at t = 0, at least the lowest at any t > 0.

    No time is evaluated twice, none is 0.
    """
    forward = Uniform(vocab_size=3, noise=Geometric(lowest=lowest, highest=20.0))
    truth = Enumerable.random(forward, symbols=3, length=3, seed=5, concentration=0.3)
    evaluated = []

    def recorded(x, t, where=None):
        evaluated.append(t)
        return truth(x, t, where)

    costs = path_costs(
        PosteriorReverse(forward, recorded),
        paths_of(truth, 200),
        max_steps=None,
        generator=seeded(2),
    )
    assert len(set(evaluated)) == len(evaluated) == 32
    assert min(evaluated) > 0
    assert shortest_path(costs, 20).steps == 20


def test_errors():
    truth = random_truth("uniform")
    reverse = PosteriorReverse(truth.forward, truth)
    with pytest.raises(ValueError, match="at least 3 evaluations, got 2"):
        path_costs(reverse, paths_of(truth, 4), evaluations=2, generator=seeded(0))
    with pytest.raises(ValueError, match="at least two sequences"):
        path_costs(reverse, paths_of(truth, 1), generator=seeded(0))
    forward = kernel("absorbing", 3)

    def contradictory(x, t, where=None):
        symbol = torch.full_like(x, 0 if t > 0.5 else 1)
        probs = torch.nn.functional.one_hot(symbol, 4).double()
        return (probs if where is None else probs[where]).log()

    paths = Paths.draw(forward, torch.zeros(4, 3, dtype=torch.int64), generator=seeded(0))
    with pytest.raises(ValueError, match="rate zero from an earlier time"):
        path_costs(
            replace(reverse, forward=forward, model=contradictory), paths, generator=seeded(0)
        )


@pytest.mark.parametrize("measure", list(Measure), ids=lambda one: one.value)
def test_no_step_ends_between_the_least_time_and_zero(measure):
    truth = random_truth("uniform", length=3)
    times: list[float] = []

    def watched(x, t, where=None):
        times.append(float(t))
        return truth(x, t, where)

    reverse = PosteriorReverse(truth.forward, watched)
    data = truth.sample_data(32, generator=seeded(0))
    found = {}
    for t_min in (0.0, 0.2):
        times.clear()
        found[t_min] = optimize_schedule(
            reverse,
            data,
            [6],
            generator=seeded(1),
            method=ShortestPath(12, measure=measure, t_min=t_min),
        )[6].times
        assert min(times) >= t_min - 1e-9
    assert found[0.0][-2] < 0.2 <= found[0.2][-2]
    absorbing = random_truth("absorbing", length=3)
    masked = PosteriorReverse(absorbing.forward, absorbing)
    with pytest.raises(ValueError, match=r"t_min=0.2 is for kernels that revise tokens"):
        optimize_schedule(masked, data, [2], generator=seeded(1), method=ShortestPath(t_min=0.2))
    with pytest.raises(ValueError, match=r"t_min must be a time in \[0, 1\), got 1"):
        ShortestPath(t_min=1.0)
