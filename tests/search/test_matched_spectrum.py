"""Schedules from second moments, against exact runs of enumerated models."""

from itertools import pairwise

import pytest
import torch

from builders.kernels import kernel
from builders.pixels import frechet_of_symbols, moments, pixels
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential
from jumpsteps.sampling.one_stage import Euler
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.matched_spectrum import MatchedSpectrum, Spectrum, variances
from jumpsteps.search.optimize import optimize_schedule

V = 24
FORWARD = Gaussian(
    vocab_size=V, rate_sigma=0.6, q_sigma=2.0 * V, noise=Exponential(base=100.0, scale=2.2)
)


def gaussian_pair(correlation):
    """Two sites, nearly Gaussian with a standard deviation of 3 symbols."""
    x = torch.arange(V, dtype=torch.float64) - (V - 1) / 2
    a, b = (x[:, None] + x) / 2**0.5, (x[:, None] - x) / 2**0.5
    form = a.square() / (1 + correlation) + b.square() / (1 - correlation)
    table = torch.exp(-form / (2 * 3.0**2)) + 1e-9
    return Enumerable(FORWARD, table / table.sum())


def modes(model, probs):
    """Variances of the difference and the sum of the two sites, over sqrt(2)."""
    return torch.linalg.eigvalsh(moments(model, probs).covariance)


def run(model, times):
    probs = model.marginal(1.0)
    for t, s in pairwise(times):
        probs = probs @ model.tweedie_transition(t, s)
    return probs


@pytest.mark.parametrize("times", [(1.0, 0.4, 0.1, 0.0), (1.0, 0.6, 0.4, 0.25, 0.12, 0.04, 0.0)])
def test_variances_are_those_of_exact_runs(times):
    """To a tenth: symbols are whole numbers between 0 and 23, and no Gaussian ones."""
    model = gaussian_pair(0.8)
    spectrum = Spectrum(
        modes(model, model.data_distribution()), torch.tensor([0.5, 0.5], dtype=torch.float64)
    )
    predicted = variances(FORWARD, spectrum, torch.tensor(times, dtype=torch.float64))
    exact = modes(model, run(model, times))
    assert not torch.allclose(exact, spectrum.variance, rtol=0.1)
    torch.testing.assert_close(predicted, exact, rtol=0.1, atol=0.1)


def test_a_spectrum_has_the_variance_of_the_data():
    """A field of large squares of one value with a little noise: few modes have nearly all."""
    coarse = 30 * torch.randn(40, 2, 2, 2, generator=seeded(0)).repeat_interleave(4, -1)
    field = coarse.repeat_interleave(4, -2) + torch.randn(40, 2, 8, 8, generator=seeded(1))
    data = (field + 128).round().long().flatten(1)
    spectrum = Spectrum.of(data, (2, 8, 8))
    centred = data.view(40, 2, 64).double()
    centred = centred - centred.mean((0, 2), keepdim=True)
    assert float(spectrum.share.sum()) == pytest.approx(1)
    assert float(spectrum.share @ spectrum.variance) == pytest.approx(
        float(centred.square().mean())
    )
    large = spectrum.variance > 100
    assert float(spectrum.share[large].sum()) < 0.5
    assert float(spectrum.variance.max()) > 5_000


@pytest.mark.slow
@pytest.mark.parametrize("nfe", [4, 8])
def test_samples_are_nearer_to_data_than_along_uniform_times(nfe):
    """The exact Frechet distance of intensities, for dark and light images of two pixels."""
    model = pixels(V, 2, 1.0)
    reverse = PosteriorReverse(model.forward, model)
    found = optimize_schedule(
        reverse,
        model.sample_data(200, generator=seeded(0)),
        [nfe],
        generator=seeded(1),
        method=MatchedSpectrum((1, 2)),
    )[nfe]
    assert found.provenance.model_calls == 0
    ours, plain = (
        frechet_of_symbols(model, run(model, schedule.times)) for schedule in (found, uniform(nfe))
    )
    assert ours < 0.75 * plain


def test_details_get_steps_in_little_noise():
    spectrum = Spectrum.of(pixels(V, 2, 1.0).sample_data(200, generator=seeded(0)), (1, 2))
    coarse, fine = (
        MatchedSpectrum((1, 2), detail=b).times(FORWARD, spectrum, 8) for b in (0.0, 1.0)
    )
    assert (torch.tensor(fine.times) <= torch.tensor(coarse.times)).all()
    assert MatchedSpectrum((1, 2)).times(FORWARD, spectrum, 1).times == (1.0, 0.0)


def test_errors_say_what_to_do():
    model = gaussian_pair(0.5)
    reverse, data = PosteriorReverse(FORWARD, model), torch.zeros(8, 2, dtype=torch.int64)

    line = MatchedSpectrum((1, 2))

    def search(reverse=reverse, sampler=None, method=line, **about):
        optimize_schedule(
            reverse, data, [4], generator=seeded(0), method=method, sampler=sampler, **about
        )

    with pytest.raises(ValueError, match="pass the shape of your data"):
        search(method=MatchedSpectrum())
    with pytest.raises(ValueError, match="serves tweedie, got euler"):
        search(sampler=Euler())
    other = Enumerable.random(kernel("uniform", 3), symbols=3, length=2, seed=0)
    with pytest.raises(ValueError, match="is for the Gaussian kernel, this model has the uniform"):
        search(PosteriorReverse(other.forward, other))
    with pytest.raises(ValueError, match="needs all sites free"):
        search(given_mask=torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"a detail in \[0, 1\]"):
        MatchedSpectrum(detail=2.0)
