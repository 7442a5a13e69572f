"""The distribution of whole runs against the exact one, and the theory that ties the two."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from helpers import (
    KERNELS,
    LEVEL,
    SCORE_KERNELS,
    ExactLogScore,
    Tabulated,
    TwoSites,
    chi_square_p,
    kernel,
    prior_distribution,
    seeded,
)
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import LogScoreReverse, PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, Cosine, Exponential, LogLinear, NoiseSchedule
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.event_driven import FirstHitting, Gillespie
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import EntropyBounded, KGillespie, MaskGIT
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules import fixed as schedules
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

Step = Callable[[float, float], Tensor]

ALL_KERNELS = (*KERNELS, "rate-matrix")
BASIC: list[Sampler] = [Tweedie(), Euler()]
SAMPLERS: list[Sampler] = [
    *BASIC,
    TauLeaping(),
    TauLeaping(ordinal=True),
    PredictorCorrector(Tweedie(), corrections=2, size=0.7),
    PredictorCorrector(Euler(), corrections=1, size=0.3),
    ThetaTrapezoidal(theta=0.4),
    ThetaRK2(theta=0.2),
    Ancestral(),
    ReMDM(cap=0.1),
    ReMDM(cap=1.0, rescale=0.5),
]
"""The samplers that follow times; each has its exact step in ``step_distribution``."""

NOISES = [LogLinear(), Constant(3.0)]


def served(sampler: Sampler, name: str) -> bool:
    try:
        sampler.check(kernel(name, 3))
    except ValueError:
        return False
    return True


every_kernel = pytest.mark.parametrize("name", KERNELS)
every_basic_sampler = pytest.mark.parametrize("sampler", BASIC, ids=lambda sampler: sampler.name)
every_noise = pytest.mark.parametrize("noise", NOISES, ids=repr)
every_sampler = pytest.mark.parametrize(
    ("name", "sampler"),
    [
        pytest.param(name, sampler, id=f"{name}-{sampler.name}")
        for name in ALL_KERNELS
        for sampler in SAMPLERS
        if served(sampler, name)
    ],
)
every_absorbing_sampler = pytest.mark.parametrize(
    "sampler",
    [
        *[
            sampler
            for sampler in SAMPLERS
            if served(sampler, "absorbing") and not isinstance(sampler, PredictorCorrector)
        ],
        PredictorCorrector(Tweedie()),
        PredictorCorrector(Tweedie(), corrections=2),
        KGillespie(),
        MaskGIT(),
        FirstHitting(),
        EntropyBounded(),
        Gillespie(t_min=0.02),
    ],
    ids=lambda sampler: sampler.name,
)


def enumerable(
    name: str, noise: NoiseSchedule | None = None, *, length: int = 2, seed: int = 0
) -> Enumerable:
    return Enumerable.random(kernel(name, 3, noise), symbols=3, length=length, seed=seed)


def posterior_reverse(truth: Enumerable) -> ReverseProcess:
    return PosteriorReverse(truth.forward, Tabulated(truth, truth))


def reverses(truth: Enumerable) -> dict[str, ReverseProcess]:
    """The same truth behind both parameterisations."""
    return {
        "posterior": posterior_reverse(truth),
        "log-score": LogScoreReverse(truth.forward, Tabulated(ExactLogScore(truth), truth)),
    }


def timeless(truth: Enumerable) -> ReverseProcess:
    """The absorbing kernel's posterior does not depend on the time: a model for sequences with times of their own."""
    table = Tabulated(truth, truth)

    def model(x: Tensor, t: object, where: Tensor | None = None) -> Tensor:
        return table(x, 0.5, where)

    return PosteriorReverse(truth.forward, model)


def step_distribution(truth: Enumerable, sampler: Sampler) -> Step:
    """The exact matrix [S, S] of one step t -> s of a sampler."""
    match sampler:
        case Tweedie() | Ancestral():
            return truth.tweedie_transition
        case Euler():
            return truth.euler_transition
        case TauLeaping(ordinal=False):
            return lambda t, s: transition_matrices.tau_leaping(truth, t, s)
        case TauLeaping(ordinal=True):
            return lambda t, s: transition_matrices.tau_leaping_ordinal(truth, t, s)
        case ThetaTrapezoidal(theta=theta):
            return lambda t, s: transition_matrices.theta_trapezoidal(truth, t, s, theta)
        case ThetaRK2(theta=theta):
            return lambda t, s: transition_matrices.theta_rk2(truth, t, s, theta)
        case PredictorCorrector(predictor=predictor, corrections=corrections, size=size):
            predict = step_distribution(truth, predictor)

            def corrected(t: float, s: float) -> Tensor:
                if s == 0:
                    return predict(t, s)
                return predict(t, s) @ torch.linalg.matrix_power(
                    transition_matrices.corrector(truth, s, size * (t - s)), corrections
                )

            return corrected
        case ReMDM(cap=cap, rescale=rescale):

            def remasked(t: float, s: float) -> Tensor:
                alpha_t, alpha_s = (
                    math.exp(-float(truth.forward.noise.total(time))) for time in (t, s)
                )
                return transition_matrices.remdm(
                    truth, t, s, min(cap, rescale * min(1.0, (1 - alpha_s) / alpha_t))
                )

            return remasked
    raise KeyError(sampler.name)


def exact_distribution(
    truth: Enumerable, sampler: Sampler, schedule: TimeSchedule, start: Tensor
) -> Tensor:
    return truth.run_distribution(step_distribution(truth, sampler), schedule, start)


def total_variation(p: Tensor, q: Tensor) -> float:
    return 0.5 * float((p - q).abs().sum())


def prefix(schedule: TimeSchedule, steps: int) -> TimeSchedule:
    return TimeSchedule(schedule.times[: steps + 1])


@pytest.mark.parametrize(
    ("parameterisation", "name"),
    [("posterior", name) for name in KERNELS] + [("log-score", name) for name in SCORE_KERNELS],
)
@every_basic_sampler
@pytest.mark.parametrize(
    "times", [[1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.6, 0.2, 0.0], [1.0, 0.7, 0.3]], ids=str
)
def test_runs_have_their_exact_distribution(
    name: str, sampler: Sampler, parameterisation: str, times: list[float]
) -> None:
    truth = enumerable(name)
    schedule = TimeSchedule(times)
    run = simulate(
        reverses(truth)[parameterisation], sampler, schedule, (100_000, 2), generator=seeded(1)
    )
    assert run.samples.dtype == torch.int64
    assert run.nfe == schedule.steps
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@every_sampler
def test_every_sampler_has_its_exact_distribution(name: str, sampler: Sampler) -> None:
    truth = enumerable(name, Constant(3.0) if name == "uniform" else None)
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(posterior_reverse(truth), sampler, schedule, (100_000, 2), generator=seeded(1))
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@every_sampler
def test_one_step_from_every_state_has_its_exact_distribution(name: str, sampler: Sampler) -> None:
    """The joint distribution of the states before and after, those before that a run from noise never visits included."""
    truth = enumerable(name, seed=2)
    states = len(truth.states)
    before = torch.randint(states, (100_000,), generator=seeded(3))
    run = simulate(
        posterior_reverse(truth),
        sampler,
        TimeSchedule([0.5, 0.1]),
        (100_000, 2),
        generator=seeded(5),
        initial=truth.states[before],
    )
    joint = step_distribution(truth, sampler)(0.5, 0.1) / states
    assert chi_square_p(before * states + truth.index(run.samples), joint.reshape(-1)) > LEVEL


@every_kernel
@every_basic_sampler
@pytest.mark.parametrize("noise", [Constant(3.0), Cosine()], ids=repr)
def test_runs_with_other_noise_have_their_exact_distribution(
    name: str, sampler: Sampler, noise: NoiseSchedule
) -> None:
    truth = enumerable(name, noise, seed=1)
    schedule = TimeSchedule([1.0, 0.45, 0.1, 0.0])
    run = simulate(posterior_reverse(truth), sampler, schedule, (100_000, 2), generator=seeded(2))
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


def leave_probability(truth: Enumerable, t: float, s: float) -> Tensor:
    """h times the total rate of every site at every state, [S, L], from the enumerated time reversal."""
    rates, states = truth.reverse_rates(t), truth.states
    differs = states[:, None, :] != states[None, :, :]
    alone = differs & (differs.sum(-1, keepdim=True) == 1)
    return (t - s) * (rates[..., None] * alone).sum(1)


CLIPPING = {
    "uniform": (Constant(3.0), TimeSchedule([1.0, 0.5, 0.04, 0.0])),
    "absorbing": (Cosine(), TimeSchedule([1.0, 0.5, 0.1, 0.0])),
    "gaussian": (Constant(1.3), TimeSchedule([1.0, 0.5, 0.04, 0.0])),
}
"""Runs too coarse for Euler. The absorbing kernel with constant noise leaves with less than h/t, so it takes another noise."""


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
    """How many sites have a negative rate in the second stage, int64 [S, S]: by the state before, and after the first stage."""
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


def conditional(table: Tensor, site: int, known: tuple[int, ...]) -> Tensor:
    """p(x_site | x_known), with one axis per site, of length one where it does not matter."""
    others = [axis for axis in range(table.ndim) if axis != site and axis not in known]
    joint = table.sum(others, keepdim=True) if others else table
    return joint / joint.sum(site, keepdim=True)


def distribution_in_groups(table: Tensor, groups: list[tuple[int, ...]]) -> Tensor:
    """The distribution of the sites of each group drawn independently, given the groups before."""
    probs, known = torch.ones_like(table), ()
    for group in groups:
        for site in group:
            probs = probs * conditional(table, site, known)
        known = (*known, *group)
    return probs


def data_index(truth: Enumerable, x: Tensor) -> Tensor:
    """The number of each state of data symbols, as ``table.reshape(-1)`` lists them."""
    n = truth.table.shape[0]
    return (x * n ** torch.arange(truth.table.ndim - 1, -1, -1)).sum(-1)


@pytest.mark.parametrize("counts", [(1, 1), (2,), (1, 1, 1), (2, 1), (1, 2), (3,)], ids=str)
def test_k_gillespie_draws_random_groups(counts: tuple[int, ...]) -> None:
    length = sum(counts)
    truth = enumerable("absorbing", length=length)
    run = simulate(
        posterior_reverse(truth),
        KGillespie(),
        CountSchedule(counts),
        (100_000, length),
        generator=seeded(1),
    )
    cuts = [sum(counts[:i]) for i in range(len(counts) + 1)]
    orders = list(permutations(range(length)))
    probs = sum(
        (
            distribution_in_groups(truth.table, [order[a:b] for a, b in pairwise(cuts)])
            / len(orders)
            for order in orders
        ),
        start=torch.zeros_like(truth.table),
    )
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    if max(counts) == 1:
        torch.testing.assert_close(probs, truth.table)
    else:
        assert total_variation(probs, truth.table) > 0.02


@pytest.mark.parametrize("length", [2, 3])
def test_first_hitting_is_exact(length: int) -> None:
    truth = enumerable("absorbing", length=length)
    run = simulate(timeless(truth), FirstHitting(), None, (100_000, length), generator=seeded(1))
    assert run.nfe == length
    assert (run.moved == 1).all()
    assert chi_square_p(truth.index(run.samples), truth.data_distribution()) > LEVEL


class Asked:
    """A model that keeps the times it is asked about."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.times: list[Tensor] = []

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        self.times.append(torch.as_tensor(t, dtype=torch.float64))
        return self.model(x, t, where)


@pytest.mark.parametrize("noise", [LogLinear(), Cosine(), Constant(3.0)], ids=repr)
def test_first_hitting_times_are_those_of_the_process(noise: NoiseSchedule) -> None:
    """Of n masked sites the last one was masked at a time with distribution ((1 - alpha(t')) / (1 - alpha(t)))^n."""
    truth = enumerable("absorbing", noise, length=3)
    reverse = timeless(truth)
    asked = Asked(reverse.model)
    simulate(replace(reverse, model=asked), FirstHitting(), None, (20_000, 3), generator=seeded(2))
    masked = [1 - torch.exp(-noise.total(time)) for time in (torch.ones(20_000), *asked.times)]
    assert len(masked) == 4
    for n, (before, after) in zip((3, 2, 1), pairwise(masked), strict=True):
        assert stats.kstest((after / before) ** n, "uniform").pvalue > LEVEL


def maskgit_first_step(truth: Enumerable, temperature: float) -> Tensor:
    """The distribution [S] after the step that keeps one of three sites: which one Gumbel noise makes the most confident is a softmax."""
    single = [conditional(truth.table, site, ()) for site in range(3)]
    drawn = single[0] * single[1] * single[2]
    confidence = torch.stack([p.log().expand(3, 3, 3) for p in single], -1)
    most_confident = torch.nn.functional.one_hot(confidence.argmax(-1), 3).double()
    keep = (confidence / (temperature * 2 / 3)).softmax(-1) if temperature else most_confident
    probs = torch.zeros(4, 4, 4, dtype=torch.float64)
    for site in range(3):
        kept = (drawn * keep[..., site]).movedim(site, 0).flatten(1).sum(1)
        probs.movedim(site, 0)[:3, 3, 3] = kept
    return probs.reshape(-1)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 4.0])
def test_maskgit_has_its_exact_distribution(temperature: float) -> None:
    truth = enumerable("absorbing", length=3)
    seen: list[Tensor] = []
    run = simulate(
        posterior_reverse(truth),
        MaskGIT(temperature),
        CountSchedule([1, 2]),
        (100_000, 3),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    kept = maskgit_first_step(truth, temperature)
    assert chi_square_p(truth.index(seen[1]), kept) > LEVEL
    probs = kept @ truth.tweedie_transition(0.5, 0.0)
    assert chi_square_p(truth.index(run.samples), probs) > LEVEL
    assert total_variation(probs, truth.data_distribution()) > 0.01


def test_maskgit_at_temperature_zero_keeps_the_most_confident() -> None:
    table = torch.outer(*torch.tensor([[0.4, 0.32, 0.28], [0.9, 0.06, 0.04]], dtype=torch.float64))
    truth = Enumerable(kernel("absorbing", 3), table / table.sum())
    seen: list[Tensor] = []
    simulate(
        posterior_reverse(truth),
        MaskGIT(0.0),
        CountSchedule([1, 1]),
        (10_000, 2),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    kept_second = seen[1][:, 1] != 3
    assert (seen[1][kept_second, 1] == 0).all()
    assert chi_square_p(kept_second.long(), torch.tensor([0.1, 0.9], dtype=torch.float64)) > LEVEL


def entropy(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum())


def entropy_bounded_groups(
    table: Tensor, x: tuple[int, ...], gamma: float
) -> list[tuple[int, ...]]:
    """The sites revealed in each step of a run that ends at x."""
    groups: list[tuple[int, ...]] = []
    known: tuple[int, ...] = ()
    while len(known) < table.ndim:
        there = tuple(
            slice(x[axis], x[axis] + 1) if axis in known else slice(None)
            for axis in range(table.ndim)
        )
        ordered = sorted(
            (entropy(conditional(table[there], site, known).reshape(-1)), site)
            for site in range(table.ndim)
            if site not in known
        )
        error = [sum(h for h, _ in ordered[:k]) for k in range(len(ordered))]
        group = tuple(site for k, (_, site) in enumerate(ordered) if k == 0 or error[k] <= gamma)
        groups.append(group)
        known += group
    return groups


def entropy_bounded_distribution(truth: Enumerable, gamma: float) -> Tensor:
    probs = torch.zeros_like(truth.table)
    for x in truth.table.nonzero().tolist():
        groups = entropy_bounded_groups(truth.table, tuple(x), gamma)
        probs[tuple(x)] = distribution_in_groups(truth.table, groups)[tuple(x)]
    return probs


@pytest.mark.parametrize("gamma", [0.0, 0.8, 1.2, 100.0])
def test_entropy_bounded_has_its_exact_distribution(gamma: float) -> None:
    """Exact when it reveals one site at a time, in whatever order it chooses; all sites at once are independent."""
    truth = enumerable("absorbing", length=3)
    run = simulate(timeless(truth), EntropyBounded(gamma), None, (100_000, 3), generator=seeded(1))
    probs = entropy_bounded_distribution(truth, gamma)
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    steps = {
        len(entropy_bounded_groups(truth.table, tuple(x), gamma))
        for x in truth.table.nonzero().tolist()
    }
    assert run.nfe == max(steps)
    if gamma == 0:
        torch.testing.assert_close(probs, truth.table)
        assert steps == {3}
    elif gamma == 100:
        torch.testing.assert_close(probs, distribution_in_groups(truth.table, [(0, 1, 2)]))
        assert steps == {1}
    else:
        assert total_variation(probs, truth.table) > 0.01


def test_entropy_bounded_without_error_reveals_the_site_of_lowest_entropy() -> None:
    truth = enumerable("absorbing", length=3)
    reverse = timeless(truth)
    asked = Asked(reverse.model)
    seen: list[Tensor] = []
    run = simulate(
        replace(reverse, model=asked),
        EntropyBounded(0.0),
        None,
        (500, 3),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    assert run.nfe == len(run.moved) == 3
    assert (run.moved == 1).all()
    for end, *states in zip(run.samples.tolist(), *seen, strict=True):
        order = [int((after != before).nonzero()) for before, after in pairwise(states)]
        assert order == [site for (site,) in entropy_bounded_groups(truth.table, tuple(end), 0.0)]
    shares = [float(1 - torch.exp(-truth.forward.noise.total(time[0]))) for time in asked.times]
    assert shares == pytest.approx([1 - 1e-3, 2 / 3, 1 / 3])


@pytest.mark.parametrize("times", [[1.0, 0.6, 0.2, 0.0], [1.0, 0.7, 0.3]], ids=str)
def test_remasking_nothing_is_tweedie(times: list[float]) -> None:
    truth = enumerable("absorbing")
    for t, s in pairwise(times):
        torch.testing.assert_close(
            transition_matrices.remdm(truth, t, s, 0.0), truth.tweedie_transition(t, s)
        )
    schedule = TimeSchedule(times)
    run = simulate(
        posterior_reverse(truth), ReMDM(cap=0.0), schedule, (100_000, 2), generator=seeded(1)
    )
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, Tweedie(), schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@pytest.mark.parametrize("cap", [0.02, 0.3, 1.0])
def test_remasking_keeps_the_distribution_of_a_single_site(cap: float) -> None:
    truth = enumerable("absorbing", length=1)
    schedule = TimeSchedule([1.0, 0.8, 0.5, 0.45, 0.1])
    probs = exact_distribution(truth, ReMDM(cap=cap), schedule, truth.marginal(1.0))
    torch.testing.assert_close(probs, truth.marginal(0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL_KERNELS)
def test_a_correction_leaves_the_marginal_to_second_order(name: str) -> None:
    truth = enumerable(name)
    marginal = truth.marginal(0.4)
    errors = [
        total_variation(marginal @ transition_matrices.corrector(truth, 0.4, h), marginal)
        for h in (0.02, 0.01, 0.005)
    ]
    assert all(3.7 < coarse / fine < 4.3 for coarse, fine in pairwise(errors))


def frozen_step(truth: Enumerable, t: float, s: float) -> Tensor:
    """All jumps of a step at the rates of its beginning, without any other error."""
    if s == 0:
        return truth.tweedie_transition(t, s)
    rates = truth.reverse_rates(t)
    return torch.matrix_exp((t - s) * (rates - rates.sum(-1).diag()))


def expected_jumps(truth: Enumerable, since: float) -> float:
    """The mean number of jumps between this time and 1: forward in time as many as backward."""
    times = torch.linspace(since, 1, 401, dtype=torch.float64).tolist()
    leaving = [
        truth.marginal(t) @ -truth.forward.rate(t).diagonal()[truth.states].sum(-1) for t in times
    ]
    return float(torch.trapezoid(torch.stack(leaving), torch.tensor(times, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("name", "size"),
    [("absorbing", 100_000), ("uniform", 40_000), ("gaussian", 12_000), ("rate-matrix", 12_000)],
)
def test_gillespie_is_exact(name: str, size: int) -> None:
    """From the true x_1 down to t_min, and by one Tweedie step to 0: as many jumps as the true process makes, and its distribution. Rates
    frozen over a fifth of the run would not pass."""
    noise = {"absorbing": Constant(3.0), "uniform": Constant(3.0)}.get(name)
    truth = enumerable(name, noise)
    t_min = 0.02
    path = truth.forward.sample_path(
        truth.sample_data(size, generator=seeded(3)), generator=seeded(4)
    )
    run = simulate(
        PosteriorReverse(truth.forward, TwoSites(truth)),
        Gillespie(t_min=t_min),
        None,
        (size, 2),
        generator=seeded(1),
        initial=path(1.0),
    )
    assert (run.clipped == 0).all()
    jumps = run.moved[:-1].sum(0).double()
    deviation = float(jumps.mean()) - expected_jumps(truth, t_min)
    assert abs(deviation) < stats.norm.isf(LEVEL) * float(jumps.std()) / math.sqrt(size)
    draws = truth.index(run.samples)
    assert chi_square_p(draws, truth.marginal(t_min) @ truth.tweedie_transition(t_min, 0.0)) > LEVEL
    frozen = truth.run_distribution(
        lambda t, s: frozen_step(truth, t, s),
        TimeSchedule([1.0, 0.8, 0.6, 0.4, 0.2, t_min, 0.0]),
        truth.marginal(1.0),
    )
    assert chi_square_p(draws, frozen) < 1e-12


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
    name: str,
    symbols: int,
    length: int,
    seed: int,
    concentration: float,
    noise: NoiseSchedule,
    inner: list[int],
) -> None:
    """Theorem 3.1 of Park et al. 2025, for a run that starts from the true p_1."""
    forward = kernel(name, symbols, noise)
    truth = Enumerable.random(
        forward, symbols=symbols, length=length, seed=seed, concentration=concentration
    )
    schedule = TimeSchedule([1.0, *sorted((i / 50 for i in inner), reverse=True), 0.0])
    probs = exact_distribution(truth, Tweedie(), schedule, truth.marginal(1.0))
    bound = sum(float(truth.compounding_error(t, s)) for t, s in pairwise(schedule.times))
    error = float(kl_divergence(truth.data_distribution(), probs))
    assert -1e-12 <= error <= bound + 1e-9


@every_kernel
@every_noise
@pytest.mark.parametrize(
    "times", [[], [0.5], [0.9, 0.1], [0.75, 0.5, 0.25], [0.99, 0.3, 0.2, 0.01]], ids=str
)
def test_one_site_is_exact(name: str, noise: NoiseSchedule, times: list[float]) -> None:
    truth = Enumerable.random(kernel(name, 5, noise), symbols=5, length=1, seed=3)
    probs = exact_distribution(
        truth, Tweedie(), TimeSchedule([1.0, *times, 0.0]), truth.marginal(1.0)
    )
    torch.testing.assert_close(probs, truth.data_distribution(), rtol=0, atol=1e-12)


@every_kernel
@every_basic_sampler
@every_noise
def test_more_steps_are_nearer(name: str, sampler: Sampler, noise: NoiseSchedule) -> None:
    truth = enumerable(name, noise, length=3)
    distances = []
    for steps in (1, 2, 4, 8, 16, 32):
        probs = exact_distribution(truth, sampler, schedules.uniform(steps), truth.marginal(1.0))
        distances.append(total_variation(probs, truth.data_distribution()))
    assert all(fine < coarse for coarse, fine in pairwise(distances))
    assert 1.6 < distances[-2] / distances[-1] < 2.3  # both are of first order


@every_sampler
def test_every_sampler_tends_to_the_data(name: str, sampler: Sampler) -> None:
    """With a remasking probability that stays the same, ReMDM's error would stay, too; here it falls as the steps do."""
    truth = enumerable(name)
    distances = []
    for steps in (4, 8, 16):
        finer = ReMDM(cap=1 / steps) if isinstance(sampler, ReMDM) else sampler
        probs = exact_distribution(truth, finer, schedules.uniform(steps), truth.marginal(1.0))
        distances.append(total_variation(probs, truth.data_distribution()))
    assert all(1.5 < coarse / fine < 4.5 for coarse, fine in pairwise(distances))
    assert distances[-1] < 0.1


def slope(errors: dict[int, float]) -> float:
    """The order of convergence: minus the slope of log error against log steps."""
    return -float(
        stats.linregress(
            [math.log(n) for n in errors], [math.log(e) for e in errors.values()]
        ).slope
    )


ORDER_NOISES = {
    "absorbing": [LogLinear(), Constant(3.0)],
    "uniform": [LogLinear(), Constant(3.0)],
    "gaussian": [Exponential(base=10.0, scale=0.3), Constant(2.0)],
}


@pytest.mark.parametrize(
    ("name", "noise"), [(name, noise) for name in KERNELS for noise in ORDER_NOISES[name]], ids=str
)
def test_orders_of_convergence(name: str, noise: NoiseSchedule) -> None:
    """From true x_1 to x_0.1. The cut of negative rates brings the trapezoidal sampler's order down as steps grow, but its error
    stays a small share of Euler's, that of Euler with as many model calls included."""
    truth = enumerable(name, noise)
    start, end = truth.marginal(1.0), truth.marginal(0.1)

    def errors(sampler: Sampler) -> dict[int, float]:
        grids = {
            n: TimeSchedule([1 - 0.9 * i / n for i in range(n + 1)])
            for n in (4, 8, 16, 32, 64, 128)
        }
        return {
            n: total_variation(exact_distribution(truth, sampler, grid, start), end)
            for n, grid in grids.items()
        }

    def coarse(error: dict[int, float]) -> float:
        return slope({n: error[n] for n in (4, 8, 16, 32)})

    def fine(error: dict[int, float]) -> float:
        return slope({n: error[n] for n in (16, 32, 64, 128)})

    euler, trapezoidal = errors(Euler()), errors(ThetaTrapezoidal())
    for error in (euler, *map(errors, (Tweedie(), TauLeaping(), ThetaRK2()))):
        assert fine(error) == pytest.approx(1, abs=0.2)
    assert coarse(trapezoidal) > coarse(euler) + 0.15
    assert fine(trapezoidal) > fine(euler) + 0.05
    for n in (16, 32, 64):
        assert trapezoidal[n] < euler[n] / 4
        assert trapezoidal[n] < euler[2 * n] / 2


@every_absorbing_sampler
def test_the_free_site_follows_the_given_one(sampler: Sampler) -> None:
    """Absorbing kernel, one site given: the other has the exact conditional distribution of the data."""
    truth = enumerable("absorbing")
    known = Given(torch.tensor([1, 0]), torch.tensor([True, False]))
    schedule = TimeSchedule([1.0, 0.4, 0.0]) if sampler.takes is TimeSchedule else None
    run = simulate(
        timeless(truth),
        sampler,
        CountSchedule([1]) if sampler.takes is CountSchedule else schedule,
        (50_000, 2),
        generator=seeded(14),
        given=known,
    )
    assert chi_square_p(run.samples[:, 1], truth.table[1] / truth.table[1].sum()) > LEVEL


@pytest.mark.parametrize("noise", [LogLinear(), Constant(3.0)], ids=repr)
def test_the_distribution_tests_tell_the_samplers_apart(noise: NoiseSchedule) -> None:
    """Their power: distributions 0.05 and 0.017 apart in total variation never pass for each other."""
    truth = enumerable("uniform", noise)
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(posterior_reverse(truth), Euler(), schedule, (200_000, 2), generator=seeded(1))
    other = exact_distribution(truth, Tweedie(), schedule, prior_distribution(truth))
    assert chi_square_p(truth.index(run.samples), other) < 1e-12
