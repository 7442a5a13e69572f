from dataclasses import replace

import pytest
import torch

from helpers import seeded
from jumpsteps.exact import Enumerable
from jumpsteps.forward import Absorbing, Uniform
from jumpsteps.noise import LogLinear
from jumpsteps.reverse import PosteriorReverse
from jumpsteps.samplers import Euler, Tweedie
from jumpsteps.schedule import Provenance, TimeSchedule, uniform
from jumpsteps.simulate import CallCounter, Given, simulate

KERNELS = {"absorbing": Absorbing(vocab_size=4, noise=LogLinear()), "uniform": Uniform(vocab_size=3, noise=LogLinear())}


@pytest.fixture(params=KERNELS)
def reverse(request):
    forward = KERNELS[request.param]
    return PosteriorReverse(forward, Enumerable.random(forward, symbols=3, length=4, seed=0))


@pytest.fixture(params=[Tweedie(), Euler()], ids=lambda s: s.name)
def sampler(request):
    return request.param


def test_every_model_call_is_counted(reverse, sampler):
    counter = CallCounter(reverse.model)
    run = simulate(replace(reverse, model=counter), sampler, uniform(7), (5, 4), generator=seeded(0))
    assert run.nfe == counter.calls == 7 * sampler.calls_per_leap
    assert run.moved.shape == run.clipped.shape == (7, 5)


def test_the_same_seed_gives_the_same_samples(reverse, sampler):
    a, b, c = (simulate(reverse, sampler, uniform(3), (64, 4), generator=seeded(s)).samples for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_samples_are_data_symbols(reverse, sampler):
    samples = simulate(reverse, sampler, uniform(2), (200, 4), generator=seeded(0)).samples
    assert samples.dtype == torch.int64
    assert samples.min() >= 0
    assert samples.max() <= 2


def test_given_sites_never_change_and_the_schedule_is_followed(reverse, sampler):
    schedule = TimeSchedule([1.0, 0.7, 0.15, 0.0])
    mask = torch.tensor([True, False, False, True])
    given = Given(torch.tensor([2, 0, 0, 1]), mask)
    seen = []
    simulate(reverse, sampler, schedule, (50, 4), generator=seeded(0), given=given, callback=lambda t, x: seen.append((t, x)))
    assert tuple(t for t, _ in seen) == schedule.times
    assert all(torch.equal(x[:, mask], torch.tensor([2, 1]).expand(50, 2)) for _, x in seen)


def test_given_sites_per_sample(reverse, sampler):
    tokens = torch.randint(3, (6, 4), generator=seeded(3))
    mask = torch.rand(6, 4, generator=seeded(4)) < 0.5
    samples = simulate(reverse, sampler, uniform(3), (6, 4), generator=seeded(0), given=Given(tokens, mask)).samples
    assert torch.equal(samples[mask], tokens[mask])


def test_given_symbols_steer_the_others():
    forward = KERNELS["absorbing"]
    table = torch.full((3, 3), 1e-9, dtype=torch.float64) + torch.eye(3, dtype=torch.float64)
    reverse = PosteriorReverse(forward, Enumerable(forward, table / table.sum()))
    given = Given(torch.tensor([2, 0]), torch.tensor([True, False]))
    samples = simulate(reverse, Tweedie(), uniform(1), (100, 2), generator=seeded(0), given=given).samples
    assert (samples == 2).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given(torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)), "must both have shape"),
        (Given(torch.full((4,), 9), torch.ones(4, dtype=torch.bool)), "given holds tokens 9..9, the vocabulary is"),
    ],
)
def test_given_that_does_not_fit_is_refused(reverse, given, message):
    with pytest.raises(ValueError, match=message):
        simulate(reverse, Tweedie(), uniform(2), (5, 4), generator=seeded(0), given=given)


def test_given_sites_cannot_be_mask():
    forward = KERNELS["absorbing"]
    reverse = PosteriorReverse(forward, Enumerable.random(forward, symbols=3, length=2, seed=0))
    given = Given(torch.tensor([3, 0]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"given holds MASK \(token 3\)"):
        simulate(reverse, Tweedie(), uniform(2), (5, 2), generator=seeded(0), given=given)


def test_a_late_start_needs_a_state(reverse):
    late = TimeSchedule([0.5, 0.0])
    with pytest.raises(ValueError, match="starts at t = 1"):
        simulate(reverse, Tweedie(), late, (5, 4), generator=seeded(0))
    initial = torch.zeros(5, 4, dtype=torch.int64)
    assert simulate(reverse, Tweedie(), late, (5, 4), generator=seeded(0), initial=initial).nfe == 1
    with pytest.raises(ValueError, match=r"initial holds tokens 0\.\.9"):
        simulate(reverse, Tweedie(), late, (5, 4), generator=seeded(0), initial=initial.index_fill(1, torch.tensor([2]), 9))
    with pytest.raises(ValueError, match="initial has shape"):
        simulate(reverse, Tweedie(), late, (6, 4), generator=seeded(0), initial=initial)


def test_a_schedule_for_another_kernel_is_refused(reverse):
    schedule = TimeSchedule([1.0, 0.0], Provenance(kernel="gaussian"))
    with pytest.raises(ValueError, match="optimised for the kernel gaussian"):
        simulate(reverse, Tweedie(), schedule, (1, 4), generator=seeded(0))


def test_float32_models_and_single_sites(sampler):
    forward = KERNELS["absorbing"]

    def model(x, t, where=None):
        out = torch.zeros(*x.shape, 4, dtype=torch.bfloat16)
        return out if where is None else out[where]

    run = simulate(PosteriorReverse(forward, model), sampler, uniform(2), (1, 1), generator=seeded(0))
    assert run.samples.shape == (1, 1)
    assert int(run.samples) in (0, 1, 2)
