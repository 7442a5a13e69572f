"""Few-step NLL costs: the table against the bound itself, and searches on it."""

import itertools

import numpy as np
import pytest

from builders.kernels import KERNELS, kernel
from builders.models import WrongNetwork
from builders.samplers import serves
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import Step, TimeSchedule
from jumpsteps.search.costs.by_nll import SHARES, StepMeasurement, nll_costs, smooth_rows
from jumpsteps.search.costs.correlation import correlation, time_of_correlation
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.costs.nll_bounds import reference_grid, step_divergence, times_bound
from jumpsteps.search.costs.smoothing import local_line
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

SAMPLERS = [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True)]
CASES = [
    pytest.param(name, sampler, id=f"{name}-{sampler.name}")
    for name in KERNELS
    for sampler in SAMPLERS
    if serves(sampler, kernel(name, 3))
]


def wrong(name: str, sequences: int) -> tuple[ReverseProcess, Paths]:
    """A network that nobody trained, and forward paths of data."""
    forward = kernel(name, 3, LogLinear(0.3) if name == "absorbing" else None)
    truth = Enumerable.random(forward, symbols=3, length=3, seed=4, concentration=0.3)
    reverse = PosteriorReverse(forward, WrongNetwork(truth, 4, 0.5))
    data = truth.sample_data(sequences, generator=seeded(1))
    return reverse, Paths.draw(forward, data, generator=seeded(2))


@pytest.mark.parametrize(("name", "sampler"), CASES)
def test_a_row_is_the_bound_of_its_steps(name, sampler):
    reverse, paths = wrong(name, 40)
    row = StepMeasurement(reverse, paths, sampler, paths.free).row(0.6)
    rho = float(correlation(reverse.forward, np.asarray(0.6)))
    for share, rate in [*zip(SHARES, row.rates, strict=True), (1.0, row.last)]:
        end = rho + (1 - rho) * share
        s = 0.0 if share == 1 else float(time_of_correlation(reverse.forward, np.asarray(end)))
        exact = step_divergence(reverse, paths, Step(0.6, s), sampler)
        np.testing.assert_allclose(rate * share, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sampler"), CASES)
def test_the_table_gives_the_bound_of_any_schedule(name, sampler):
    """Interpolated between 24 times and 16 shares: 2% of the bound."""
    reverse, paths = wrong(name, 20 if sampler == TauLeaping(ordinal=True) else 200)
    costs = nll_costs(reverse, paths, sampler, evaluations=24, generator=seeded(3))
    for times in ((1.0, 0.0), (1.0, 0.37, 0.0), (1.0, 0.8, 0.55, 0.3, 0.12, 0.0)):
        schedule = TimeSchedule(times)
        exact = float(times_bound(reverse, paths, schedule, sampler).mean())
        if not np.isfinite(exact):
            assert sampler in (Euler(), TauLeaping(ordinal=True))
            continue
        found = costs.few_step(schedule)
        assert found is not None
        assert found.nll == pytest.approx(exact, rel=0.02)
        masks = isinstance(reverse.forward, Absorbing)
        many = uniform(300) if masks else reference_grid(reverse.forward, 64)
        fine = float(times_bound(reverse, paths, many, Tweedie()).mean())
        assert found.nll - found.excess == pytest.approx(fine, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_the_cheapest_schedule_has_the_least_bound(name):
    """Against all pairs of 10 inner times, on 3,000 other sequences: 1%."""
    reverse, paths = wrong(name, 400)
    sampler = TauLeaping()
    costs = nll_costs(reverse, paths, sampler, generator=seeded(3))
    _, others = wrong(name, 3000)
    inner = np.linspace(0.97, 0.03, 10).tolist()
    found, even, *every = (
        float(times_bound(reverse, others, schedule, sampler).mean())
        for schedule in (
            shortest_paths(costs, [3])[3],
            uniform(3),
            *(TimeSchedule([1.0, *pair, 0.0]) for pair in itertools.combinations(inner, 2)),
        )
    )
    assert found < 1.01 * min(every)
    assert found < 0.99 * even


def test_rows_between_are_interpolated_and_their_mean_is_smoothed():
    """An exponential mean stays; a column that is zero or infinite somewhere is not smoothed."""
    rng, rows = np.random.default_rng(0), np.arange(33) / 8
    values = np.exp(0.4 * np.arange(5))[:, None, None] * (1 + 0.2 * rng.random((1, 3, 6)))
    values[:, 0] *= 1 + 0.5 * rng.random((5, 6))
    values[2, 1], values[3, 2] = 0, np.inf
    found = smooth_rows(values, rows, 1.0)
    line = local_line(np.arange(5.0), rows, 1.0)
    mean = np.exp(line @ np.log(values[:, 0].mean(-1)))
    between = np.stack([np.interp(rows, np.arange(5), each) for each in values[:, 0].T], -1)
    np.testing.assert_allclose(found[:, 0], between * (mean / between.mean(-1))[:, None])
    for b in range(6):
        np.testing.assert_allclose(found[:, 1, b], np.interp(rows, np.arange(5), values[:, 1, b]))
    assert np.isinf(found[(rows > 2) & (rows < 4), 2]).all()
    np.testing.assert_allclose(found[::8, 2], values[:, 2])


def test_few_sites_are_unbiased():
    """One site of three in each of 3,000 sequences: within 4 standard errors of all sites."""
    reverse, paths = wrong("uniform", 3000)
    all_sites, some = (
        nll_costs(reverse, paths, Tweedie(), evaluations=4, sites=n, generator=seeded(3))
        for n in (9000, 3000)
    )
    schedule = TimeSchedule([1.0, 0.4, 0.0])
    one, other = all_sites.few_step(schedule), some.few_step(schedule)
    assert abs(one.nll - other.nll) < 4 * other.stderr


def test_steps_that_exclude_data_are_not_taken():
    """Euler leaves a state for certain in a long step at high rates; uniform times have one."""
    reverse, paths = wrong("uniform", 100)
    costs = nll_costs(reverse, paths, Euler(), grid_intervals=256, generator=seeded(3))
    assert np.isinf(costs.value).sum() > len(costs.grid) * (len(costs.grid) + 1) / 2
    many = shortest_paths(costs, [64])[64]
    assert np.isfinite(costs.few_step(many).nll)
    found, even = (
        few_step_nll(reverse, paths, one, Euler(), generator=seeded(5), reference_calls=2).nll
        for one in (many, uniform(64))
    )
    assert np.isfinite(found)
    assert np.isinf(even)


def test_a_search_without_a_finite_schedule_says_so():
    reverse, paths = wrong("uniform", 40)
    costs = nll_costs(reverse, paths, Euler(), generator=seeded(3))
    costs.value[:, -1] = np.inf
    with pytest.raises(ValueError, match="every schedule of 2 steps costs infinitely much"):
        shortest_paths(costs, [2])


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("sampler", [TauLeaping(), Euler(), Tweedie()], ids=lambda s: s.name)
def test_schedules_by_data_carry_their_few_step_nll(name, sampler):
    reverse, paths = wrong(name, 40)
    search = ShortestPath(12, measure=Measure.DATA)
    found, default = (
        optimize_schedule(
            reverse, paths.data, [64], generator=seeded(4), method=method, sampler=sampler
        )[64]
        for method in (search, ShortestPath(12))
    )
    assert found.provenance.few_step_nll is not None
    revises = reverse.forward.revisable
    assert (default.provenance.few_step_nll is None) == revises
    assert (default.times == found.times) == (not revises)


def test_refusals():
    reverse, paths = wrong("absorbing", 40)
    with pytest.raises(ValueError, match="4 evaluations or more, got 3"):
        nll_costs(reverse, paths, Tweedie(), evaluations=3, generator=seeded(1))
    one = Paths.draw(reverse.forward, paths.data[:1], generator=seeded(1))
    with pytest.raises(ValueError, match="at least two sequences"):
        nll_costs(reverse, one, Tweedie(), generator=seeded(1))
    with pytest.raises(ValueError, match="independently"):
        nll_costs(reverse, paths, KGillespie(), generator=seeded(1))
