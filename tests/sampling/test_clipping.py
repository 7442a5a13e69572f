"""Probabilities above 1 and negative rates are cut off, and counted."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from builders.models import prior_distribution
from builders.samplers import enumerable, posterior_reverse
from builders.statistics import LEVEL, chi_square_p, seeded
from builders.step_formulas import every_kernel, exact_distribution, prefix
from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, Cosine
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, Tweedie
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules.schedule import TimeSchedule


def leave_probability(truth: Enumerable, t: float, s: float) -> Tensor:
    """h times the total rate of every site at every state, [S, L], from the enumerated time
    reversal.
    """
    rates, states = truth.reverse_rates(t), truth.states
    differs = states[:, None, :] != states[None, :, :]
    alone = differs & (differs.sum(-1, keepdim=True) == 1)
    return (t - s) * (rates[..., None] * alone).sum(1)


CLIPPING = {
    "uniform": (Constant(3.0), TimeSchedule([1.0, 0.5, 0.04, 0.0])),
    "absorbing": (Cosine(), TimeSchedule([1.0, 0.5, 0.1, 0.0])),
    "gaussian": (Constant(1.3), TimeSchedule([1.0, 0.5, 0.04, 0.0])),
}
"""Runs too coarse for Euler. The absorbing kernel with constant noise leaves with less than h/t, so
it takes another noise."""


@every_kernel
def test_clipped_sites_are_counted(name: str) -> None:
    noise, schedule = CLIPPING[name]
    truth = enumerable(name, noise)
    run = simulate(posterior_reverse(truth), Euler(), schedule, (100_000, 2), generator=seeded(8))
    probs = exact_distribution(truth, Euler(), schedule, prior_distribution(truth))
    assert chi_square_p(truth.index(run.samples), probs) > LEVEL
    start = prior_distribution(truth)
    for step, (t, s) in enumerate(pairwise(schedule.times)):
        before = (
            start
            if step == 0
            else exact_distribution(truth, Euler(), prefix(schedule, step), start)
        )
        over = (
            (leave_probability(truth, t, s) > 1).sum(-1)
            if s > 0
            else torch.zeros(len(truth.states), dtype=torch.int64)
        )
        counts = torch.stack([before[over == count].sum() for count in range(3)])
        assert chi_square_p(run.clipped[step], counts) > LEVEL
    assert 0 < run.clipped[1].sum() < run.clipped[1].numel() * 2


@every_kernel
def test_clipping_state_by_state(name: str) -> None:
    noise, schedule = CLIPPING[name]
    truth = enumerable(name, noise)
    t, s = schedule.times[1:3]
    leave = leave_probability(truth, t, s)
    assert (leave - 1).abs().min() > 1e-6
    assert 0 < (leave > 1).sum() < leave.numel()
    run = simulate(
        posterior_reverse(truth),
        Euler(),
        TimeSchedule([t, s]),
        (len(truth.states), 2),
        generator=seeded(9),
        initial=truth.states,
    )
    assert torch.equal(run.clipped[0], (leave > 1).sum(-1))
    assert (run.samples != truth.states)[leave > 1].all()


def negative_rates(
    truth: Enumerable, sampler: ThetaTrapezoidal | ThetaRK2, t: float, s: float
) -> Tensor:
    """How many sites have a negative rate in the second stage, int64 [S, S]: by the state before,
    and after the first stage.
    """
    theta = sampler.theta
    before, after = (
        transition_matrices.site_rates(truth, t)[:, None],
        transition_matrices.site_rates(truth, t - theta * (t - s))[None],
    )
    if isinstance(sampler, ThetaTrapezoidal):
        rates = (after - ((1 - theta) ** 2 + theta**2) * before) / (2 * theta * (1 - theta))
    else:
        rates = before + (after - before) / (2 * theta)
    return ((rates < 0).any(-1) & transition_matrices.same_symbol(truth)).sum(-1)


@every_kernel
@pytest.mark.parametrize(
    "sampler", [ThetaTrapezoidal(theta=0.4), ThetaRK2(theta=0.2)], ids=lambda sampler: sampler.name
)
def test_negative_rates_are_counted(name: str, sampler: ThetaTrapezoidal | ThetaRK2) -> None:
    truth, (t, s) = enumerable(name, seed=2), (0.4, 0.1)
    before = torch.randint(len(truth.states), (50_000,), generator=seeded(3))
    run = simulate(
        posterior_reverse(truth),
        sampler,
        TimeSchedule([t, s]),
        (50_000, 2),
        generator=seeded(4),
        initial=truth.states[before],
    )
    trial = transition_matrices.first_jump(
        transition_matrices.site_rates(truth, t),
        transition_matrices.own_symbol(truth),
        sampler.theta * (t - s),
    )
    reached = truth.product(trial) / len(truth.states)
    negative = negative_rates(truth, sampler, t, s)
    counts = torch.stack([reached[negative == count].sum() for count in range(3)])
    assert counts[1:].sum() > 0.01
    assert chi_square_p(run.clipped[0], counts) > LEVEL


def test_tweedie_clips_nothing() -> None:
    truth = enumerable("uniform", Constant(3.0))
    run = simulate(
        posterior_reverse(truth),
        Tweedie(),
        TimeSchedule([1.0, 0.5, 0.0]),
        (50, 2),
        generator=seeded(0),
    )
    assert run.clipped.shape == run.moved.shape == (2, 50)
    assert (run.clipped == 0).all()
