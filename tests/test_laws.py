"""The law of whole runs against the exact one, and the theory that ties the two."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import KERNELS, LEVEL, ExactLogScore, Tabulated, chi_square_p, kernel, prior_law, seeded
from jumpsteps import schedule as schedules
from jumpsteps.exact import Enumerable, kl_divergence
from jumpsteps.forward import Absorbing
from jumpsteps.noise import Constant, Cosine, LogLinear, NoiseSchedule
from jumpsteps.reverse import LogScoreReverse, PosteriorReverse, ReverseProcess
from jumpsteps.samplers import Euler, Sampler, Tweedie
from jumpsteps.schedule import TimeSchedule
from jumpsteps.simulate import Given, simulate

SAMPLERS: list[Sampler] = [Tweedie(), Euler()]
NOISES = [LogLinear(), Constant(3.0)]

every_kernel = pytest.mark.parametrize("name", KERNELS)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
every_noise = pytest.mark.parametrize("noise", NOISES, ids=repr)


def enumerable(name: str, noise: NoiseSchedule | None = None, *, length: int = 2, seed: int = 0) -> Enumerable:
    return Enumerable.random(kernel(name, 3, noise), symbols=3, length=length, seed=seed)


def reverses(truth: Enumerable) -> dict[str, ReverseProcess]:
    """The same truth behind both parameterisations."""
    return {
        "posterior": PosteriorReverse(truth.forward, Tabulated(truth, truth)),
        "log-score": LogScoreReverse(truth.forward, Tabulated(ExactLogScore(truth), truth)),
    }


def exact_law(truth: Enumerable, sampler: Sampler, schedule: TimeSchedule, start: Tensor) -> Tensor:
    leap = {"tweedie": truth.tweedie_leap, "euler": truth.euler_leap}[sampler.name]
    return truth.run_law(leap, schedule, start)


def prefix(schedule: TimeSchedule, leaps: int) -> TimeSchedule:
    return TimeSchedule(schedule.times[: leaps + 1])


@every_kernel
@every_sampler
@pytest.mark.parametrize(
    ("parameterisation", "times"),
    [
        ("posterior", [1.0, 0.0]),
        ("posterior", [1.0, 0.5, 0.0]),
        ("posterior", [1.0, 0.6, 0.2, 0.0]),
        ("posterior", [1.0, 0.7, 0.3]),
        ("log-score", [1.0, 0.6, 0.2, 0.0]),
    ],
    ids=str,
)
def test_runs_have_their_exact_law(name: str, sampler: Sampler, parameterisation: str, times: list[float]) -> None:
    truth = enumerable(name)
    schedule = TimeSchedule(times)
    run = simulate(reverses(truth)[parameterisation], sampler, schedule, (200_000, 2), generator=seeded(1))
    assert run.samples.dtype == torch.int64
    assert run.nfe == schedule.leaps
    assert chi_square_p(truth.index(run.samples), exact_law(truth, sampler, schedule, prior_law(truth))) > LEVEL


@every_kernel
@every_sampler
@pytest.mark.parametrize("noise", [Constant(3.0), Cosine()], ids=repr)
def test_runs_with_other_noise_have_their_exact_law(name: str, sampler: Sampler, noise: NoiseSchedule) -> None:
    truth = enumerable(name, noise, seed=1)
    schedule = TimeSchedule([1.0, 0.45, 0.1, 0.0])
    run = simulate(reverses(truth)["posterior"], sampler, schedule, (100_000, 2), generator=seeded(2))
    assert chi_square_p(truth.index(run.samples), exact_law(truth, sampler, schedule, prior_law(truth))) > LEVEL


@every_kernel
@every_sampler
def test_runs_from_a_given_start_have_their_exact_law(name: str, sampler: Sampler) -> None:
    """From true x_0.7, the rows of one leap that the prior never visits included."""
    truth = enumerable(name, seed=2)
    schedule = TimeSchedule([0.7, 0.4, 0.0])
    x0 = truth.sample_data(100_000, generator=seeded(3))
    initial = truth.forward.sample_path(x0, generator=seeded(4))(0.7)
    reverse = reverses(truth)["posterior"]
    run = simulate(reverse, sampler, schedule, (100_000, 2), generator=seeded(5), initial=initial)
    assert chi_square_p(truth.index(run.samples), exact_law(truth, sampler, schedule, truth.marginal(0.7))) > LEVEL


@every_kernel
@every_sampler
def test_what_a_run_reports(name: str, sampler: Sampler) -> None:
    truth = enumerable(name)
    seen: list[tuple[float, Tensor]] = []
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])

    def run(seed: int) -> Tensor:
        seen.clear()
        result = simulate(
            reverses(truth)["posterior"],
            sampler,
            schedule,
            (500, 2),
            generator=seeded(seed),
            callback=lambda t, x: seen.append((t, x.clone())),
        )
        changes = torch.stack([(a != b).sum(-1) for (_, a), (_, b) in pairwise(seen)])
        assert torch.equal(result.moved, changes)
        assert torch.equal(result.samples, seen[-1][1])
        return result.samples

    samples = run(6)
    assert [t for t, _ in seen] == list(schedule.times)
    assert torch.equal(samples, run(6))
    assert not torch.equal(samples, run(7))
    if isinstance(truth.forward, Absorbing):
        assert (samples != truth.forward.mask_id).all()


def leave_probability(truth: Enumerable, t: float, s: float) -> Tensor:
    """h times the total rate of every site at every state, [S, L], from the enumerated time reversal."""
    rates, states = truth.reverse_rates(t), truth.states
    differs = states[:, None, :] != states[None, :, :]
    alone = differs & (differs.sum(-1, keepdim=True) == 1)
    return (t - s) * (rates[..., None] * alone).sum(1)


CLIPPING = {
    "uniform": (Constant(3.0), TimeSchedule([1.0, 0.5, 0.04, 0.0])),
    "absorbing": (Cosine(), TimeSchedule([1.0, 0.5, 0.1, 0.0])),
}
"""Runs too coarse for Euler. The absorbing kernel with constant noise leaves with less than h/t, so it takes another noise."""


@every_kernel
def test_clipped_sites_are_counted(name: str) -> None:
    noise, schedule = CLIPPING[name]
    truth = enumerable(name, noise)
    run = simulate(reverses(truth)["posterior"], Euler(), schedule, (100_000, 2), generator=seeded(8))
    law = exact_law(truth, Euler(), schedule, prior_law(truth))
    assert chi_square_p(truth.index(run.samples), law) > LEVEL
    start = prior_law(truth)
    for leap, (t, s) in enumerate(pairwise(schedule.times)):
        before = start if leap == 0 else exact_law(truth, Euler(), prefix(schedule, leap), start)
        over = (leave_probability(truth, t, s) > 1).sum(-1) if s > 0 else torch.zeros(len(truth.states), dtype=torch.int64)
        counts = torch.stack([before[over == count].sum() for count in range(3)])
        assert chi_square_p(run.clipped[leap], counts) > LEVEL
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
        reverses(truth)["posterior"],
        Euler(),
        TimeSchedule([t, s]),
        (len(truth.states), 2),
        generator=seeded(9),
        initial=truth.states,
    )
    assert torch.equal(run.clipped[0], (leave > 1).sum(-1))
    assert (run.samples != truth.states)[leave > 1].all()


def test_tweedie_clips_nothing() -> None:
    truth = enumerable("uniform", Constant(3.0))
    run = simulate(reverses(truth)["posterior"], Tweedie(), TimeSchedule([1.0, 0.5, 0.0]), (50, 2), generator=seeded(0))
    assert run.clipped.shape == run.moved.shape == (2, 50)
    assert (run.clipped == 0).all()


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(
    name=st.sampled_from(KERNELS),
    symbols=st.integers(2, 3),
    length=st.integers(2, 3),
    seed=st.integers(0, 10_000),
    concentration=st.floats(0.1, 3.0),
    noise=st.sampled_from([LogLinear(), Constant(1.0), Constant(4.0), Cosine()]),
    inner=st.lists(st.integers(1, 49), unique=True, max_size=4),
)
def test_the_error_is_at_most_the_sum_of_compounding_errors(
    name: str, symbols: int, length: int, seed: int, concentration: float, noise: NoiseSchedule, inner: list[int]
) -> None:
    """Theorem 3.1 of Park et al. 2025, for a run that starts from the true p_1."""
    forward = kernel(name, symbols, noise)
    truth = Enumerable.random(forward, symbols=symbols, length=length, seed=seed, concentration=concentration)
    schedule = TimeSchedule([1.0, *sorted((i / 50 for i in inner), reverse=True), 0.0])
    law = exact_law(truth, Tweedie(), schedule, truth.marginal(1.0))
    bound = sum(float(truth.compounding_error(t, s)) for t, s in pairwise(schedule.times))
    error = float(kl_divergence(truth.data_law(), law))
    assert -1e-12 <= error <= bound + 1e-9


@every_kernel
@every_noise
@pytest.mark.parametrize("times", [[], [0.5], [0.9, 0.1], [0.75, 0.5, 0.25], [0.99, 0.3, 0.2, 0.01]], ids=str)
def test_one_site_is_exact(name: str, noise: NoiseSchedule, times: list[float]) -> None:
    truth = Enumerable.random(kernel(name, 5, noise), symbols=5, length=1, seed=3)
    law = exact_law(truth, Tweedie(), TimeSchedule([1.0, *times, 0.0]), truth.marginal(1.0))
    torch.testing.assert_close(law, truth.data_law(), rtol=0, atol=1e-12)


@every_kernel
@every_sampler
@every_noise
def test_more_leaps_are_nearer(name: str, sampler: Sampler, noise: NoiseSchedule) -> None:
    truth = enumerable(name, noise, length=3)
    distances = []
    for leaps in (1, 2, 4, 8, 16, 32):
        law = exact_law(truth, sampler, schedules.uniform(leaps), truth.marginal(1.0))
        distances.append(0.5 * float((law - truth.data_law()).abs().sum()))
    assert all(fine < coarse for coarse, fine in pairwise(distances))
    assert 1.8 < distances[-2] / distances[-1] < 2.3  # both are of first order


@every_kernel
@every_sampler
@pytest.mark.parametrize("per_sequence", [False, True])
def test_given_sites_stay(name: str, sampler: Sampler, per_sequence: bool) -> None:
    truth = enumerable(name, length=3)
    shape = (400, 3)
    if per_sequence:
        tokens = torch.randint(3, shape, generator=seeded(10))
        known = Given(tokens, torch.rand(shape, generator=seeded(11)) < 0.5)
    else:
        known = Given(torch.tensor([2, 0, 1]), torch.tensor([True, False, True]))
    mask, tokens = known.mask.expand(shape), known.tokens.expand(shape)
    seen: list[Tensor] = []
    run = simulate(
        reverses(truth)["posterior"],
        sampler,
        TimeSchedule([1.0, 0.6, 0.2, 0.0]),
        shape,
        generator=seeded(12),
        given=known,
        callback=lambda t, x: seen.append(x.clone()),
    )
    assert len(seen) == 4
    for x in [*seen, run.samples]:
        assert torch.equal(x[mask], tokens[mask])
    assert (run.samples < 3).all()
    assert run.samples[~mask].unique().tolist() == [0, 1, 2]


def test_given_sites_do_not_count_as_moved() -> None:
    truth = enumerable("uniform", length=3)
    seen: list[Tensor] = []
    run = simulate(
        reverses(truth)["posterior"],
        Tweedie(),
        TimeSchedule([1.0, 0.5, 0.0]),
        (100, 3),
        generator=seeded(13),
        given=Given(torch.tensor([2, 0, 1]), torch.tensor([True, True, True])),
        callback=lambda t, x: seen.append(x),
    )
    assert torch.equal(run.moved, torch.stack([(a != b).sum(-1) for a, b in pairwise(seen)]))


@every_sampler
def test_the_free_site_follows_the_given_one(sampler: Sampler) -> None:
    """Absorbing kernel, one site given: the other has the exact conditional law of the data."""
    truth = enumerable("absorbing")
    known = Given(torch.tensor([1, 0]), torch.tensor([True, False]))
    run = simulate(
        reverses(truth)["posterior"], sampler, TimeSchedule([1.0, 0.4, 0.0]), (50_000, 2), generator=seeded(14), given=known
    )
    assert chi_square_p(run.samples[:, 1], truth.table[1] / truth.table[1].sum()) > LEVEL


@pytest.mark.parametrize("noise", [LogLinear(), Constant(3.0)], ids=repr)
def test_the_law_tests_tell_the_samplers_apart(noise: NoiseSchedule) -> None:
    """Their power: laws 0.05 and 0.017 apart in total variation never pass for each other."""
    truth = enumerable("uniform", noise)
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(reverses(truth)["posterior"], Euler(), schedule, (200_000, 2), generator=seeded(1))
    other = exact_law(truth, Tweedie(), schedule, prior_law(truth))
    assert chi_square_p(truth.index(run.samples), other) < 1e-12
