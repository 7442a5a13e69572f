"""Temperatures, against powers of enumerated distributions."""

import pytest
import torch

from builders.kernels import KERNELS, kernel
from builders.models import ExactLogScore
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser.parameterisations import LogScoreReverse, PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.denoiser.temperature import tempered
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import CountSchedule, Step

T, TEMPERATURES = 0.6, [0.3, 0.9, 2.0]


def truth_of(name: str) -> Enumerable:
    return Enumerable.random(kernel(name, 3, LogLinear()), symbols=3, length=2, seed=5)


def states_of(truth: Enumerable) -> torch.Tensor:
    v = truth.forward.vocab_size
    return torch.cartesian_prod(torch.arange(v), torch.arange(v))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", KERNELS)
def test_posteriors_and_rates_of_a_temperature(name: str, temperature: float) -> None:
    """w to the power, and what follows from it by the matrices of the kernel."""
    truth = truth_of(name)
    forward, x = truth.forward, states_of(truth)
    plain = PosteriorReverse(forward, truth)
    reverse = tempered(plain, temperature)
    where = forward.movable(x)
    w = plain.leave_one_out(x, T)[where] ** (1 / temperature)
    w = w / w.sum(-1, keepdim=True)
    found = reverse.leave_one_out(x, T)[where]
    torch.testing.assert_close(found, w, rtol=1e-9, atol=0)
    q = forward.transition(0.0, T)
    joint = w * q.T[x[where]]
    posterior = reverse.posterior(x, T)[where]
    torch.testing.assert_close(posterior, joint / joint.sum(-1, keepdim=True), rtol=1e-9, atol=0)
    own, probs = x[where][:, None], w @ q
    into = (float(forward.noise.rate(T)) * forward.rate_matrix().T)[x[where]].scatter(-1, own, 0)
    rates = into * probs / probs.gather(-1, own)
    torch.testing.assert_close(reverse.rates(x, T)[where], rates, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_a_score_has_the_same_temperature_as_its_posterior(name: str) -> None:
    truth = truth_of(name)
    forward, x = truth.forward, states_of(truth)
    scored: ReverseProcess = LogScoreReverse(forward, ExactLogScore(truth))
    found = tempered(scored, 0.5).leave_one_out(x, T)
    expected = tempered(PosteriorReverse(forward, truth), 0.5).leave_one_out(x, T)
    movable = forward.movable(x)
    torch.testing.assert_close(found[movable], expected[movable], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_samples_of_a_step_have_the_temperature(name: str) -> None:
    truth = truth_of(name)
    reverse, x = tempered(PosteriorReverse(truth.forward, truth), 0.4), states_of(truth)[-1:]
    step, sampler = Step(T, 0.2), Tweedie()
    probs = sampler.site_distribution(reverse, x, step)[0]
    many = x.expand(20_000, -1)
    y, _, _ = sampler.step(reverse, many, step, None, generator=seeded(3))
    for site in range(2):
        assert chi_square_p(y[:, site], probs[site] / probs[site].sum()) > LEVEL


def test_all_sites_in_one_step_have_the_power_of_their_marginals() -> None:
    truth = truth_of("absorbing")
    forward = truth.forward
    assert isinstance(forward, Absorbing)
    reverse = tempered(PosteriorReverse(forward, truth), 0.4)
    run = simulate(reverse, KGillespie(), CountSchedule((2,)), (20_000, 2), generator=seeded(0))
    assert run.nfe == 1
    for site in range(2):
        marginal = truth.table.sum(1 - site) ** 2.5
        expected = torch.zeros(forward.vocab_size, dtype=torch.float64)
        data = [v for v in range(forward.vocab_size) if v != forward.mask_id]
        expected[data] = marginal[data] if len(marginal) > len(data) else marginal
        assert chi_square_p(run.samples[:, site], expected / expected.sum()) > LEVEL


def test_temperature_one_is_the_process_itself() -> None:
    truth = truth_of("absorbing")
    reverse = PosteriorReverse(truth.forward, truth)
    assert tempered(reverse, 1.0) is reverse


def test_low_temperatures_take_the_most_probable_symbol() -> None:
    truth = truth_of("absorbing")
    reverse = PosteriorReverse(truth.forward, truth)
    run = simulate(tempered(reverse, 1e-4), Tweedie(), uniform(8), (64, 2), generator=seeded(0))
    assert len(run.samples.unique(dim=0)) <= 3
    x = torch.full((1, 2), truth.forward.vocab_size - 1)
    output = truth(x, 1.0)
    for cold in (1e-4, 1e-40, 1e-300):
        for dtype in (torch.float32, torch.float64):
            w = tempered(reverse, cold).leave_one_out_from(output.to(dtype), x, 1.0)
            assert w.max(-1).values.min() > 1 - 1e-6


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_other_temperatures_are_refused(temperature: float) -> None:
    truth = truth_of("absorbing")
    with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
        tempered(PosteriorReverse(truth.forward, truth), temperature)
