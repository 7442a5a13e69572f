"""Symbols that are numbers: what weights of errors make of shortest paths, on enumerated models."""

from itertools import pairwise

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.features import Moments, frechet_distance
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, NOISE_WEIGHTED, ErrorCorrection
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.paths import Paths

pytestmark = pytest.mark.slow

V, NFE = 24, (4, 8)


@pytest.fixture(scope="module")
def model():
    """Two neighbouring pixels of dark and light images, which differ by about one intensity.

    The kernel is that of images, narrower by the number of intensities.
    """
    x = torch.arange(V, dtype=torch.float64)
    dark = torch.exp(-((x - 0.3 * V) ** 2) / (2 * (0.12 * V) ** 2))
    light = 0.6 * torch.exp(-((x - 0.72 * V) ** 2) / (2 * (0.07 * V) ** 2))
    near = torch.exp(-((x - x[:, None]) ** 2) / 2) + 1e-4
    table = (dark + light)[:, None] * near / near.sum(-1, keepdim=True)
    forward = Gaussian(
        vocab_size=V, rate_sigma=0.6, q_sigma=2.0 * V, noise=Exponential(base=100.0, scale=2.2)
    )
    return Enumerable(forward, table / table.sum())


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


def frechet(model, probs):
    """The Frechet distance of the intensities themselves, from the exact moments."""
    pair = []
    for weights in (probs, model.data_distribution()):
        mean = weights @ model.states.double()
        centred = model.states - mean
        pair.append(Moments(mean, centred.T @ (centred * weights[:, None])))
    return frechet_distance(*pair)


@pytest.mark.parametrize("nfe", NFE)
def test_the_least_divergence_has_another_schedule_than_the_least_frechet_distance(
    model, runs, nfe
):
    data = model.data_distribution()
    divergence = {name: float(kl_divergence(data, by_nfe[nfe])) for name, by_nfe in runs.items()}
    distance = {name: frechet(model, by_nfe[nfe]) for name, by_nfe in runs.items()}
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
