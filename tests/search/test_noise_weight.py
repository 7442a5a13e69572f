"""Symbols that are numbers: what weights of errors make of shortest paths, on enumerated models."""

from itertools import pairwise

import pytest

from builders.pixels import frechet_of_symbols, pixels
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, NOISE_WEIGHTED, ErrorCorrection
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths

pytestmark = pytest.mark.slow

V, NFE = 24, (4, 8)


@pytest.fixture(scope="module")
def model():
    return pixels(V, 2, 1.0)


@pytest.fixture(scope="module")
def runs(model):
    """Weight -> NFE -> the distribution of the samples of Tweedie's sampler."""
    reverse = PosteriorReverse(model.forward, model)
    paths = Paths.draw(
        model.forward, model.sample_data(100, generator=seeded(0)), generator=seeded(1)
    )
    found = {"uniform": {n: uniform(n) for n in NFE}}
    weights = {"measured": ErrorCorrection(), "none": NO_CORRECTION, "noise": NOISE_WEIGHTED}
    for name, correction in weights.items():
        costs = path_costs(
            reverse, paths, correction=correction, max_steps=None, generator=seeded(2)
        )
        found[name] = shortest_paths(costs, NFE)

    def samples(times):
        probs = model.marginal(1.0)
        for t, s in pairwise(times):
            probs = probs @ model.tweedie_transition(t, s)
        return probs

    return {
        name: {n: samples(schedule.times) for n, schedule in by_nfe.items()}
        for name, by_nfe in found.items()
    }


@pytest.mark.parametrize("nfe", NFE)
def test_the_least_divergence_has_another_schedule_than_the_least_frechet_distance(
    model, runs, nfe
):
    data = model.data_distribution()
    divergence = {name: float(kl_divergence(data, by_nfe[nfe])) for name, by_nfe in runs.items()}
    distance = {name: frechet_of_symbols(model, by_nfe[nfe]) for name, by_nfe in runs.items()}
    assert divergence["none"] < 0.25 * divergence["uniform"]
    assert divergence["none"] < divergence["noise"]
    assert distance["noise"] < 0.9 * distance["none"]
    assert distance["noise"] < 0.7 * distance["uniform"]


def test_error_correction_is_for_categories(model, runs):
    """A pixel that is off by little passes for data, so at few steps the correction that is
    measured puts too many steps late.
    """
    data = model.data_distribution()
    measured, none = (float(kl_divergence(data, runs[name][4])) for name in ("measured", "none"))
    assert none < 0.9 * measured


def test_a_negative_noise_power_is_refused():
    with pytest.raises(ValueError, match="noise_power must be 0 or more"):
        ErrorCorrection(noise_power=-1.0)
