"""Rates of divergence and the costs made of them, against enumeration."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from helpers import kernel, seeded
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.model import evaluate
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, Cosine, Geometric, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.by_path import PathCosts, path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.costs.divergence import PathEvaluations, common_odds
from jumpsteps.search.costs.divergence_table import DivergenceTable
from jumpsteps.search.costs.evaluation_times import costliest_times
from jumpsteps.search.costs.information_profile import information_profile
from jumpsteps.search.costs.smoothing import local_plane
from jumpsteps.search.dynamic_programming import shortest_path
from jumpsteps.search.jys import JYS
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown

ALL = ("absorbing", "uniform", "gaussian", "rate-matrix")


def truth_of(name: str, length: int = 3, noise=None) -> Enumerable:
    return Enumerable.random(
        kernel(name, 3, noise), symbols=3, length=length, seed=5, concentration=0.3
    )


def paths_of(truth: Enumerable, sequences: int, seed: int = 0) -> Paths:
    return Paths.draw(
        truth.forward,
        truth.sample_data(sequences, generator=seeded(seed)),
        generator=seeded(100 + seed),
    )


def exact_rate(truth: Enumerable, t: float, s: float, *, hold_time: bool) -> float:
    """E sum phi over the enumerated joint distribution of (x_t, x_s), from the enumerated time reversal; per unit of noise at s."""
    forward, v, length = truth.forward, truth.forward.vocab_size, truth.table.ndim
    joint = truth.marginal(s)[:, None] * truth.transition(s, t)
    states = truth.states
    level = t if hold_time else s
    speed = float(forward.noise.rate(level))
    q = forward.transition(0.0, level)
    data, seen = truth.data_distribution(), truth.transition(0.0, t)
    reversal, rates = truth.reverse_rates(s), forward.rate_matrix()
    total = 0.0
    for site in range(length):
        others = [j for j in range(length) if j != site]
        same = (states[:, None, others] == states[None, :, others]).all(-1)
        # p(x0^l | x_t of the others): the joint of x0 and x_t, summed over x_t^l
        first = torch.nn.functional.one_hot(states[:, site], v).to(torch.float64)
        w = ((data[:, None] * seen) @ same.to(torch.float64)).T @ first
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


@pytest.mark.parametrize("hold_time", [False, True], ids=["context", "rates"])
@pytest.mark.parametrize("name", ALL)
def test_rates_of_divergence_are_those_of_enumeration(name, hold_time):
    """6,000 sequences of two sites, three times: within 4 standard errors for every pair."""
    truth = truth_of(name, length=2)
    paths, times = paths_of(truth, 6000), [0.9, 0.6, 0.2]
    reverse = PosteriorReverse(truth.forward, truth)
    comparison = PathEvaluations.draw(reverse, paths, 10**6, generator=seeded(2)).with_times(times)
    (parts,) = comparison.divergence_rates(hold_time)
    assert np.array_equal(parts.mean(-1)[np.tril_indices(3)], np.zeros(6))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        exact = exact_rate(truth, times[i], times[j], hold_time=hold_time)
        error = parts[i, j].std(ddof=1) / np.sqrt(6000)
        assert parts[i, j].mean() == pytest.approx(exact, abs=4 * error)
        assert error < 0.2 * exact


@pytest.mark.parametrize("noise", [LogLinear(), Cosine()], ids=repr)
def test_with_the_absorbing_kernel_costs_are_compounding_errors(noise):
    """Frozen contexts, exact model: the path divergence of a step is its CDE. Within 4 standard errors plus 2% for the grid."""
    truth = truth_of("absorbing", length=4, noise=noise)
    reverse = PosteriorReverse(truth.forward, truth)
    costs = path_costs(
        reverse, paths_of(truth, 3000), evaluations=48, sites=10**6, generator=seeded(2)
    )
    for times in ([1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.8, 0.3, 0.1, 0.0]):
        exact = sum(float(truth.compounding_error(t, s)) for t, s in pairwise(times))
        cost, stderr = costs.predict(TimeSchedule(times))
        assert cost == pytest.approx(exact, abs=4 * stderr + 0.02 * exact)
        assert 0 < stderr < 0.1 * exact


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
def test_with_other_kernels_costs_bound_compounding_errors(name):
    """A site may jump and come back: what its path shows is more than what its end shows."""
    truth = truth_of(name)
    reverse = PosteriorReverse(truth.forward, truth)
    costs = path_costs(
        reverse, paths_of(truth, 2000), correction=NO_CORRECTION, generator=seeded(2)
    )
    for t, s in ((1.0, 0.5), (0.5, 0.2), (0.4, 0.0), (1.0, 0.0)):
        exact, part = float(truth.compounding_error(t, s)), costs.step(t, s)
        assert part.mean() > exact - 4 * part.std(ddof=1) / np.sqrt(len(part))


def test_the_table_agrees_with_the_prediction_of_every_step():
    truth = truth_of("uniform")
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
        noise = 1 - float(truth.forward.noise.alpha(costs.grid[k]))
        false_acceptance = costs.table.correction.false_acceptance
        each = (
            false_acceptance / (false_acceptance + noise) * costs.step(costs.grid[i], costs.grid[k])
        )
        assert costs.value[i, k] == pytest.approx(each.mean(), rel=1e-9)
        assert costs.stderr[i, k] == pytest.approx(each.std(ddof=1) / np.sqrt(50), rel=1e-9)
    path = shortest_path(costs, 3)
    at = [int(np.flatnonzero(costs.grid == t)[0]) for t in path.times]
    assert costs.predict(path)[0] == pytest.approx(
        sum(costs.value[i, k] for i, k in pairwise(at)), rel=1e-9
    )


@pytest.mark.parametrize("correction", [NO_CORRECTION, ErrorCorrection()], ids=repr)
def test_the_standard_error_is_the_spread_over_repetitions(correction):
    truth = truth_of("uniform")
    reverse, schedule, found = (
        PosteriorReverse(truth.forward, truth),
        TimeSchedule([1.0, 0.6, 0.25, 0.0]),
        [],
    )
    for seed in range(40):
        costs = path_costs(
            reverse,
            paths_of(truth, 200, seed),
            evaluations=16,
            correction=correction,
            generator=seeded(seed),
        )
        found.append(costs.predict(schedule))
    cost, stderr = np.asarray(found).T
    assert np.mean(stderr) == pytest.approx(np.std(cost, ddof=1), rel=0.35)


def table_of(rate, times=(1.0, 0.7, 0.45, 0.2, 0.1)) -> DivergenceTable:
    forward = Uniform(vocab_size=3, noise=Constant(2.0))
    parts = np.array([[max(rate(t, s), 0.0) if s < t else 0.0 for s in times] for t in times])[
        ..., None
    ]
    return DivergenceTable(forward, np.asarray(times), parts, NO_CORRECTION)


def test_between_measured_times_rates_are_linear_and_zero_on_the_diagonal():
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t))
    times = np.linspace(0.98, 0.12, 25)
    start, end = np.repeat(times, 25), np.tile(times, 25)
    start, end = start[end <= start], end[end <= start]
    found = table.interpolate(table.positions(start), table.positions(end), table.node_rates)[:, 0]
    assert table.node_rates[:-1, -1, 0] == pytest.approx(1 - np.exp(-2 * table.times), abs=1e-12)
    assert found == pytest.approx(np.exp(-2 * end) - np.exp(-2 * start), abs=1e-12)


def test_the_integral_is_right_on_a_curve_that_is_known():
    """e = rho(s) - rho(t), per unit of noise: the integral of (rho - a)/rho over rho from a to b is b - a - a log(b/a)."""
    table = table_of(lambda t, s: np.exp(-2 * s) - np.exp(-2 * t), times=np.linspace(1, 0.0005, 60))
    costs = PathCosts.on_grid(table, table, 600)
    for t, s in ((1.0, 0.3), (0.7, 0.05), (0.5, 0.45), (0.2, 0.0), (0.0005, 0.0)):
        a, b = np.exp(-2 * t), np.exp(-2 * s)
        assert costs.step(t, s)[0] == pytest.approx(b - a - a * np.log(b / a), rel=2e-3)


def test_noise_levels_that_are_found_do_not_depend_on_how_noise_runs_in_time():
    """Two noise schedules with the same total: the same data, paths at the same noise levels, the same schedule."""
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


def test_intervals_that_cost_more_are_halved_first():
    table = table_of(lambda t, s: 10.0 if t == 0.45 else 0.1)
    fresh = costliest_times(table, 3)
    assert ((fresh < 0.45) & (fresh > 0.2)).all()
    rho = table.correlation(np.sort(fresh)[::-1])
    low, high = table.correlation(np.array([0.45, 0.2]))
    assert (rho - low) / (high - low) == pytest.approx([0.25, 0.5, 0.75])


def test_refinement_stops_where_costs_are_known_well_enough():
    truth = truth_of("uniform")
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


def test_sites_in_blocks_and_given_sites(monkeypatch):
    truth = truth_of("absorbing", length=4)
    reverse, data = (
        PosteriorReverse(truth.forward, truth),
        truth.sample_data(60, generator=seeded(0)),
    )
    known = torch.tensor([True, False, False, False])
    paths = Paths.draw(truth.forward, data, generator=seeded(1), given_mask=known)
    whole = path_costs(reverse, paths, evaluations=8, generator=seeded(2))
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 8 * 4 * 7)
    pieces = path_costs(reverse, paths, evaluations=8, generator=seeded(2))
    assert pieces.table.rates == pytest.approx(whole.table.rates, rel=1e-12)
    free = path_costs(
        reverse,
        Paths.draw(truth.forward, data, generator=seeded(1)),
        evaluations=8,
        generator=seeded(2),
    )
    assert whole.predict(uniform(2))[0] < free.predict(uniform(2))[0]


def test_some_sites_stand_for_all():
    """A third of the sites, 4,000 sequences: the same cost within 4 standard errors."""
    truth = truth_of("uniform")
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
    """One call of the trunk, then the head at some of the sites: the same numbers as asking the model."""
    config = DiTConfig(
        vocab_size=kernel(name, 5).vocab_size, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8
    )
    torch.manual_seed(0)
    network, reverse = build(config, kernel(name, 5), output)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(config.vocab_size, (3, 7), generator=seeded(0))
    where, some = (
        torch.rand(3, 7, generator=seeded(1)) < 0.7,
        torch.rand(3, 7, generator=seeded(2)) < 0.5,
    )
    counter = CallCounter(reverse.model)
    kept = evaluate(counter, x, 0.3, where)
    assert kept.rows.shape == (int(where.sum()), 16)
    assert torch.allclose(
        kept(x, 0.3, where & some), reverse.model(x, 0.3, where & some), atol=1e-5
    )
    assert counter.calls == 1


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


def test_held_rates_have_their_own_costs():
    """Tau-leaping's; Euler's sampler is served as Tweedie's."""
    truth = truth_of("absorbing", length=4, noise=Cosine())
    reverse, data = (
        PosteriorReverse(truth.forward, truth),
        truth.sample_data(500, generator=seeded(0)),
    )
    samplers = (TauLeaping(), Euler(), Tweedie())
    found = {
        s.name: optimize_schedule(reverse, data, [4], generator=seeded(7), sampler=s)[4]
        for s in samplers
    }
    assert (
        found["tau-leaping"].provenance.predicted_cost
        > 1.05 * found["tweedie"].provenance.predicted_cost
    )
    assert found["tau-leaping"].times != found["tweedie"].times == found["euler"].times
    assert found["euler"].provenance.sampler == "euler"
    paths = Paths.draw(truth.forward, data, generator=seeded(1))
    held, context = (
        path_costs(reverse, paths, hold_time=hold, generator=seeded(2)) for hold in (True, False)
    )
    assert held.step(0.9, 0.5).mean() > 1.05 * context.step(0.9, 0.5).mean()
    assert held.step(0.5, 0.0).mean() == pytest.approx(context.step(0.5, 0.0).mean(), rel=0.05)
    for i, k in ((0, len(held.grid) - 1), (20, len(held.grid) - 1), (20, 40)):
        part = held.step(held.grid[i], held.grid[k])
        assert held.value[i, k] == pytest.approx(part.mean(), rel=1e-9)
        assert held.stderr[i, k] == pytest.approx(part.std(ddof=1) / np.sqrt(500), rel=1e-9)


def test_what_is_kept_falls_with_the_probability_that_noise_has_hit_a_site():
    """By the fastest rate of leaving a state; all is kept at t = 0, and everywhere without error correction."""
    forward = kernel("gaussian", 3)
    table = DivergenceTable(forward, np.ones(1), np.zeros((1, 1, 2)), ErrorCorrection(0.01))
    leaving = float(-forward.rate_matrix().diagonal().min())
    hit = 1 - np.exp(-leaving * float(forward.noise.total(0.3)))
    assert table.surviving_fraction(np.array([0.3, 0.0])) == pytest.approx(
        [0.01 / (0.01 + hit), 1.0]
    )
    assert replace(table, correction=NO_CORRECTION).surviving_fraction(
        np.array([0.3, 0.0])
    ).tolist() == [
        1.0,
        1.0,
    ]


def test_both_estimates_for_the_absorbing_kernel_agree():
    forward = Absorbing(vocab_size=17, noise=LogLinear())
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    paths = Paths.draw(
        forward,
        countdown.sample_data(32, generator=seeded(0), symbols=16, length=64),
        generator=seeded(1),
    )
    profile, rates = (
        information_profile(reverse, paths),
        path_costs(reverse, paths, evaluations=48, sites=10**6, generator=seeded(2)),
    )
    for schedule in (uniform(4), uniform(16)):
        cost, stderr = rates.predict(schedule)
        assert cost == pytest.approx(profile.predict(schedule)[0], abs=2 * stderr)


@pytest.mark.parametrize("lowest", [1e-5, 0.05])
def test_noise_that_comes_at_once(lowest):
    """SEDD's geometric noise: t = 0 is the data, any t > 0 has the lowest noise at least; no time is asked for twice, none is 0."""
    forward = Uniform(vocab_size=3, noise=Geometric(lowest=lowest, highest=20.0))
    truth, seen = Enumerable.random(forward, symbols=3, length=3, seed=5, concentration=0.3), []

    def recorded(x, t, where=None):
        seen.append(t)
        return truth(x, t, where)

    costs = path_costs(
        PosteriorReverse(forward, recorded),
        paths_of(truth, 200),
        max_steps=None,
        generator=seeded(2),
    )
    assert len(set(seen)) == len(seen) == 32
    assert min(seen) > 0
    assert shortest_path(costs, 20).steps == 20


def test_what_cannot_be_is_refused():
    truth = truth_of("uniform")
    reverse = PosteriorReverse(truth.forward, truth)
    with pytest.raises(ValueError, match="at least 3 evaluations, got 2"):
        path_costs(reverse, paths_of(truth, 4), evaluations=2, generator=seeded(0))
    with pytest.raises(ValueError, match="at least two sequences"):
        path_costs(reverse, paths_of(truth, 1), generator=seeded(0))
    forward = kernel("absorbing", 3)

    def sure(x, t, where=None):
        symbol = torch.full_like(x, 0 if t > 0.5 else 1)
        probs = torch.nn.functional.one_hot(symbol, 4).double()
        return (probs if where is None else probs[where]).log()

    paths = Paths.draw(forward, torch.zeros(4, 3, dtype=torch.int64), generator=seeded(0))
    with pytest.raises(ValueError, match="rate zero from an earlier time"):
        path_costs(replace(reverse, forward=forward, model=sure), paths, generator=seeded(0))


@pytest.mark.parametrize("n", [3, 7, 20])
def test_the_smoothing_is_a_weighted_least_squares_fit_around_every_pair(n: int) -> None:
    rng = np.random.default_rng(n)
    at, (i, j) = np.sort(rng.random(n)), np.triu_indices(n, 1)
    values = rng.standard_normal(len(i))
    fitted = local_plane((i, j), values, at, 1.5)
    for p in range(len(i)):
        root = np.exp(-0.25 * ((i - i[p]) ** 2 + (j - j[p]) ** 2) / 1.5**2)
        design = np.stack([np.ones(len(i)), at[i] - at[i[p]], at[j] - at[j[p]]], 1)
        best, *_ = np.linalg.lstsq(root[:, None] * design, root * values, rcond=None)
        if len(i) > 3:
            assert abs(fitted[p] - best[0]) < 1e-4
    plane = 2 + 3 * at[i] - at[j]
    assert np.allclose(local_plane((i, j), plane, at, 1.5), plane, atol=1e-6)


def test_odds_of_masked_sites_differ_from_time_to_time_by_one_factor():
    forward = Absorbing(vocab_size=4, noise=LogLinear())
    w = torch.tensor([0.5, 0.2, 0.3, 0.0], dtype=torch.float64)
    odds = [forward.push(w, t)[:3] / forward.push(w, t)[3] for t in (0.3, 0.8)]
    factor = common_odds(forward, torch.tensor([0.3, 0.8], dtype=torch.float64))
    assert torch.allclose(odds[0] / odds[1], (factor[0] / factor[1]).expand(3), rtol=1e-12)
    assert common_odds(Uniform(vocab_size=4, noise=LogLinear()), torch.ones(1)) is None
