"""Starts, known sites and what a run refuses; what every sampler keeps to is in
``test_contracts``.
"""

import pytest
import torch

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import nothing_clipped
from jumpsteps.sampling.event_driven import Gillespie
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import TimeSchedule

KERNELS = {
    "absorbing": Absorbing(vocab_size=4, noise=LogLinear()),
    "uniform": Uniform(vocab_size=3, noise=LogLinear()),
}


@pytest.fixture(params=KERNELS)
def reverse(request):
    forward = KERNELS[request.param]
    return PosteriorReverse(forward, Enumerable.random(forward, symbols=3, length=4, seed=0))


def test_given_symbols_steer_the_others():
    forward = KERNELS["absorbing"]
    table = torch.full((3, 3), 1e-9, dtype=torch.float64) + torch.eye(3, dtype=torch.float64)
    reverse = PosteriorReverse(forward, Enumerable(forward, table / table.sum()))
    given = Given(torch.tensor([2, 0]), torch.tensor([True, False]))
    samples = simulate(
        reverse, Tweedie(), uniform(1), (100, 2), generator=seeded(0), given=given
    ).samples
    assert (samples == 2).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            Given(torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)),
            "must each have shape",
        ),
        (
            Given(torch.full((4,), 9), torch.ones(4, dtype=torch.bool)),
            "given holds tokens 9..9, the vocabulary is",
        ),
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
        simulate(
            reverse,
            Tweedie(),
            late,
            (5, 4),
            generator=seeded(0),
            initial=initial.index_fill(1, torch.tensor([2]), 9),
        )
    with pytest.raises(ValueError, match="initial has shape"):
        simulate(reverse, Tweedie(), late, (6, 4), generator=seeded(0), initial=initial)


def test_a_schedule_for_another_kernel_is_refused(reverse):
    schedule = TimeSchedule([1.0, 0.0], Provenance(kernel="gaussian"))
    with pytest.raises(ValueError, match="optimised for the kernel gaussian"):
        simulate(reverse, Tweedie(), schedule, (1, 4), generator=seeded(0))


@pytest.mark.parametrize("sampler", [Tweedie(), Gillespie(t_min=0.1)], ids=lambda one: one.name)
def test_the_step_map_says_which_step_changed_a_site_last(reverse, sampler):
    seen: list[torch.Tensor] = []
    run = simulate(
        reverse,
        sampler,
        uniform(5) if sampler.takes else None,
        (50, 4),
        generator=seeded(0),
        given=Given(torch.tensor([2, 0, 0, 0]), torch.tensor([True, False, False, False])),
        callback=lambda t, x: seen.append(x),
    )
    states = torch.stack(seen)
    expected = torch.zeros_like(run.samples)
    for k in range(1, len(states)):
        expected[states[k] != states[k - 1]] = k
    assert torch.equal(run.step_map, expected)
    assert (run.step_map[:, 0] == 0).all()
    assert torch.equal(run.calls, expected.amax(1))
    assert run.calls.max() > 1


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda x: x, "Tensor"),  # Of three sequences, which would be three results.
        (lambda x: (x, None), "tuple"),
        (lambda x: (x, None, None), "tuple"),
        (lambda x: (x[:, 1:], None, nothing_clipped(x)), r"torch.int64 \[3, 1\]"),
        (lambda x: (x.float(), None, nothing_clipped(x)), r"torch.float32 \[3, 2\]"),
        (lambda x: (x.tolist(), None, nothing_clipped(x)), "list"),
    ],
)
def test_a_step_that_returns_something_else_is_refused(made, found):
    class Own(Tweedie):
        def step(self, reverse, x, step, state, *, generator):
            return made(x)

    forward = kernel("absorbing", 2)
    reverse = PosteriorReverse(forward, lambda x, t: torch.zeros(*x.shape, 3))
    message = rf"a step of sampler tweedie returned {found}; return the new x, int64 \[3, 2\], the"
    with pytest.raises(ValueError, match=message):
        simulate(reverse, Own(), uniform(2), (3, 2), generator=seeded(0))
