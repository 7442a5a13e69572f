"""Few-step NLL of networks that are wrong, against enumeration of every state and step.

``enumerated_bound`` writes the bound in whole states: matrices of the forward process and of the
sampler, no single sites. ``divergence`` is KL(data || samples), all steps enumerated.
"""

from dataclasses import replace
from functools import reduce
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import KERNELS, kernel
from builders.models import WrongNetwork, prior_distribution
from builders.samplers import serves
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence, student_quantile
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie, MaskGIT
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.fixed import uniform, uniform_counts
from jumpsteps.schedules.orders import Fixed, Random, RevealOrder, Sequential
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL, few_step_nll
from jumpsteps.search.costs.information_profile import information_profile
from jumpsteps.search.paths import Paths

SAMPLERS = [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True), Ancestral(), ReMDM(0.3)]
NOISE = LogLinear(0.3)
"""Leaves three tenths of the data at t = 1, so that a wrong start would show."""


def wrong(name: str, seed: int, length: int = 2) -> tuple[Enumerable, ReverseProcess]:
    forward = kernel(name, 3, None if name == "gaussian" else NOISE)
    truth = Enumerable.random(forward, symbols=3, length=length, seed=seed, concentration=0.3)
    return truth, PosteriorReverse(forward, WrongNetwork(truth, seed, (0.0, 0.5, 1.0)[seed % 3]))


def random_times(seed: int) -> TimeSchedule:
    steps = 1 + seed % 4
    inner = torch.rand(steps - 1, generator=seeded(seed), dtype=torch.float64)
    return TimeSchedule([1.0, *sorted((0.02 + 0.96 * inner).tolist(), reverse=True), 0.0])


def entropy_of_data(truth: Enumerable) -> float:
    p = truth.data_distribution()
    return -float(torch.xlogy(p, p).sum())


def step_matrices(
    truth: Enumerable, reverse: ReverseProcess, sampler: Sampler, schedule: TimeSchedule
) -> list[Tensor]:
    return [
        sampler.transition_matrix(reverse, truth.states, Step(t, s))
        for t, s in pairwise(schedule.times)
    ]


def noised(truth: Enumerable, s: float, t: float) -> Tensor:
    """r(x_t | x_s) of whole states [S, S]: q, or for masks the chain that ends in all MASK."""
    forward = truth.forward
    site = forward.transition(s, t)
    if isinstance(forward, Absorbing):
        last = float(forward.noise.alpha(1.0))
        kept_t, kept_s = ((float(forward.noise.alpha(u)) - last) / (1 - last) for u in (t, s))
        site = kept_t / kept_s * torch.eye(len(site), dtype=torch.float64)
        site[:, forward.mask_id] += 1 - kept_t / kept_s
    return reduce(torch.kron, [site] * truth.table.ndim)


def enumerated_bound(truth: Enumerable, steps: list[Tensor], schedule: TimeSchedule) -> float:
    """E[KL(r(x_1|x_0) || prior) + sum over steps of KL(r(x_s|x_t,x_0) || step)]."""
    data, start = truth.data_distribution(), prior_distribution(truth)
    support = data > 0
    total = float(data[support] @ kl_divergence(noised(truth, 0.0, 1.0)[support], start))
    for (t, s), step in zip(pairwise(schedule.times), steps, strict=True):
        from_data_s, from_data_t = noised(truth, 0.0, s)[support], noised(truth, 0.0, t)[support]
        joint = from_data_s[:, None] * noised(truth, s, t).T  # [x_0, x_t, x_s]
        bridge = joint / joint.sum(-1, keepdim=True).clamp_min(1e-300)
        each = torch.where(from_data_t > 0, kl_divergence(bridge, step), 0.0)
        total += float(data[support] @ (from_data_t * each).sum(-1))
    return total


def divergence(truth: Enumerable, steps: list[Tensor]) -> float:
    samples = reduce(torch.matmul, steps, prior_distribution(truth))
    return float(kl_divergence(truth.data_distribution(), samples))


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_the_bound_holds_for_200_wrong_networks(name):
    """KL(data || samples) <= E[bound] - H(data), every sampler with independent sites."""
    finite = 0
    for seed in range(200):
        truth, reverse = wrong(name, seed)
        schedule = random_times(seed)
        for sampler in SAMPLERS:
            if not serves(sampler, truth.forward):
                continue
            steps = step_matrices(truth, reverse, sampler, schedule)
            gap = enumerated_bound(truth, steps, schedule) - entropy_of_data(truth)
            assert divergence(truth, steps) <= gap + 1e-9
            finite += np.isfinite(gap)
            assert np.isfinite(gap) or isinstance(sampler, Euler | ReMDM)
    assert finite > 600


def times_cases():
    return [
        pytest.param(name, sampler, id=f"{name}-{sampler.name}")
        for name in KERNELS
        for sampler in SAMPLERS
        if serves(sampler, kernel(name, 3))
    ]


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize(("name", "sampler"), times_cases())
def test_the_estimate_agrees_with_enumeration(name, sampler):
    """1,500 sequences, 6 models: within 4 standard errors, and of the right size on average.

    Many steps for Euler, whose bound is infinite where a step is certain to leave a state.
    """
    deviations = []
    for seed in range(6):
        truth, reverse = wrong(name, seed)
        schedule = uniform(24) if isinstance(sampler, Euler) else random_times(3 + 4 * seed)
        exact = enumerated_bound(truth, step_matrices(truth, reverse, sampler, schedule), schedule)
        found = few_step_nll(
            reverse,
            truth.sample_data(1500, generator=seeded(seed)),
            schedule,
            sampler,
            generator=seeded(100 + seed),
            reference_calls=2,
        )
        if not np.isfinite(exact):
            assert found.nll == np.inf
            continue
        assert found.stderr < 0.1 * found.nll
        assert found.nll == pytest.approx(exact, abs=4 * found.stderr)
        deviations.append((found.nll - exact) / found.stderr)
    assert len(deviations) >= 2
    assert np.mean(np.square(deviations)) < 3.5


def conditionals(truth: Enumerable, reverse: ReverseProcess, known: list[int], t: float) -> Tensor:
    """p(x_l | known sites of x_0) of every data state, [N, L], as the network has it."""
    states = truth.states[truth.data_distribution() > 0]
    hidden = torch.ones_like(states, dtype=torch.bool)
    hidden[:, known] = False
    x = states.masked_fill(hidden, truth.forward.mask_id)
    return reverse.posterior(x, t).gather(-1, states[..., None])[..., 0]


def probability_in_order(
    truth: Enumerable, reverse: ReverseProcess, sites: tuple[int, ...], counts: tuple[int, ...]
) -> Tensor:
    """The distribution of samples in one order, by the chain rule over its groups, [N]."""
    result, known = 1.0, 0
    for step in CountSchedule(counts).plan(truth.forward):
        p = conditionals(truth, reverse, list(sites[:known]), step.t)
        for site in sites[known : known + step.count]:
            result = result * p[:, site]
        known += step.count
    return result


def orders_of(order: RevealOrder, length: int) -> list[tuple[int, ...]]:
    """The sequences of sites that an order takes, all equally likely."""
    if order == Random():
        return list(permutations(range(length)))
    ranks = order.ranks(1, length, generator=seeded(0))[0]
    return [tuple(ranks.argsort().tolist())]


def count_case(seed: int, length: int = 3):
    truth, reverse = wrong("absorbing", seed, length)
    counts = [(3,), (1, 2), (2, 1), (1, 1, 1)][seed % 4]
    order = [Random(), Sequential(), Fixed((2, 0, 1))][seed % 3]
    each = torch.stack(
        [probability_in_order(truth, reverse, sites, counts) for sites in orders_of(order, length)]
    )
    data = truth.data_distribution()
    data = data[data > 0]
    return truth, reverse, CountSchedule(counts, order=order), data, each


def test_the_bound_of_counts_holds_for_200_wrong_networks():
    """KL(data || samples) <= E[bound] - H(data), in random and other orders."""
    for seed in range(200):
        truth, _, schedule, data, each = count_case(seed)
        bound = float(data @ -each.log().mean(0))
        samples = each.mean(0)
        assert float(kl_divergence(data, samples)) <= bound - entropy_of_data(truth) + 1e-9
        if schedule.order != Random():
            exact = bound - entropy_of_data(truth)
            assert float(kl_divergence(data, samples)) == pytest.approx(exact)


@pytest.mark.statistical
def test_the_estimate_of_counts_agrees_with_enumeration():
    """4,000 sequences, 12 models: NLL and excess within 4 standard errors."""
    for seed in range(12):
        truth, reverse, schedule, data, each = count_case(seed)
        found = few_step_nll(
            reverse,
            truth.sample_data(4000, generator=seeded(seed)),
            schedule,
            KGillespie(),
            generator=seeded(100 + seed),
        )
        bound = float(data @ -each.log().mean(0))
        alone = one_at_a_time(truth, reverse, schedule.order, data)
        assert found.nll == pytest.approx(bound, abs=4 * found.stderr)
        assert found.excess == pytest.approx(bound - alone, abs=4 * found.excess_stderr + 1e-9)
        assert found.model_calls == schedule.steps + 3


def one_at_a_time(
    truth: Enumerable, reverse: ReverseProcess, order: RevealOrder, data: Tensor
) -> float:
    length = truth.table.ndim
    each = [
        probability_in_order(truth, reverse, sites, (1,) * length)
        for sites in orders_of(order, length)
    ]
    return float(data @ -torch.stack(each).log().mean(0))


@pytest.mark.statistical
@pytest.mark.parametrize("order", [Random(), Fixed((2, 0, 3, 1, 4))], ids=lambda o: o.name)
def test_the_reference_is_unbiased_with_fewer_calls_than_sites(order):
    """Five sites, 2 to 4 calls: the reference of 5, within 4 standard errors of the difference."""
    forward = kernel("absorbing", 2)
    truth = Enumerable.random(forward, symbols=2, length=5, seed=1, concentration=0.3)
    reverse = PosteriorReverse(forward, WrongNetwork(truth, 1, 0.0))
    data = truth.sample_data(4000, generator=seeded(0))
    full, *fewer = (
        few_step_nll(
            reverse,
            data,
            uniform_counts(2, 5, order),
            KGillespie(),
            generator=seeded(1),
            reference_calls=calls,
        )
        for calls in (5, 2, 3, 4)
    )
    for found, calls in zip(fewer, (2, 3, 4), strict=True):
        assert found.model_calls == 2 + (calls if order == Random() else 2 * (calls // 2))
        apart = found.reference - full.reference
        assert apart.mean() == pytest.approx(0, abs=4 * apart.std() / 4000**0.5)
        assert apart.std() > 0


def test_one_site_at_a_time_of_a_consistent_model_is_exact():
    """The network is the posterior of another table: the bound is E[-log q], with equality."""
    forward = kernel("absorbing", 3, NOISE)
    truth, other = (
        Enumerable.random(forward, symbols=3, length=3, seed=seed, concentration=0.3)
        for seed in (0, 1)
    )
    reverse = PosteriorReverse(forward, other)
    data = truth.data_distribution() > 0
    cross = -float(truth.data_distribution()[data] @ other.data_distribution()[data].log())
    p = truth.data_distribution()[data]
    for order in (Random(), Fixed((1, 2, 0))):
        assert one_at_a_time(truth, reverse, order, p) == pytest.approx(cross)
    x = truth.sample_data(200, generator=seeded(0))
    found = few_step_nll(
        reverse, x, uniform_counts(3, 3, Sequential()), KGillespie(), generator=seeded(1)
    )
    exact = -other.data_distribution()[truth.index(x)].log()
    assert found.per_sequence == pytest.approx(exact.numpy())
    assert found.excess == pytest.approx(0)


@pytest.mark.slow
def test_entropies_do_not_bound_the_error_of_wrong_networks():
    """What a network believes: KL(data || samples) exceeds the entropy costs of most networks."""
    broken = 0
    for seed in range(20):
        truth, reverse = wrong("absorbing", seed)
        paths = Paths.draw(
            truth.forward, truth.sample_data(2000, generator=seeded(0)), generator=seeded(1)
        )
        believed, stderr = information_profile(reverse, paths).predict(uniform(2))
        steps = step_matrices(truth, reverse, Tweedie(), uniform(2))
        broken += divergence(truth, steps) > believed + 4 * stderr
    assert broken >= 15


def test_excess_of_other_kernels_is_over_many_tweedie_steps():
    truth, reverse = wrong("uniform", 4)
    data = truth.sample_data(300, generator=seeded(0))
    found = few_step_nll(
        reverse, data, uniform(2), Euler(), generator=seeded(1), reference_calls=16
    )
    paths = Paths.draw(truth.forward, data, generator=seeded(1))
    fine = few_step_nll(reverse, paths, uniform(16), Tweedie(), generator=seeded(2))
    assert found.model_calls == 18
    assert found.reference == pytest.approx(fine.per_sequence)  # log-linear noise


def test_observed_sites_are_known_and_do_not_count():
    truth, reverse = wrong("absorbing", 5, 3)
    data = truth.sample_data(4000, generator=seeded(0))
    found = few_step_nll(
        reverse,
        data,
        CountSchedule([2]),
        KGillespie(),
        generator=seeded(1),
        given_mask=torch.tensor([False, True, False]),
    )
    p = conditionals(truth, reverse, [1], 1.0)
    table = truth.data_distribution()
    exact = float(table[table > 0] @ -p[:, [0, 2]].log().sum(-1))
    assert found.sites == 2
    assert found.nll == pytest.approx(exact, abs=4 * found.stderr)
    for sampler in (Tweedie(), TauLeaping()):
        known = few_step_nll(
            reverse,
            data,
            uniform(1),
            sampler,
            generator=seeded(1),
            given_mask=torch.tensor([False, True, False]),
        )
        assert known.per_sequence == pytest.approx(found.per_sequence)


@pytest.mark.parametrize("order", [Random(), Fixed((2, 0, 3, 1))], ids=repr)
def test_sequences_with_different_observed_sites_have_schedules_of_their_own(order):
    """Four kinds of observed sites in one estimate, and each alone on the same paths: the same
    bounds. The observed sites of the last kind leave fewer sites than steps.
    """
    truth, reverse = wrong("absorbing", 2, 4)
    kinds = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1]]).bool()
    data = truth.sample_data(40, generator=seeded(0))
    paths = Paths.draw(truth.forward, data, generator=seeded(1), given_mask=kinds.repeat(10, 1))
    schedule = CountSchedule([2, 6], order=order)
    every = few_step_nll(reverse, paths, schedule, KGillespie(), generator=seeded(1))
    few = few_step_nll(
        reverse, paths, schedule, KGillespie(), generator=seeded(1), reference_calls=2
    )
    assert every.sites == 2.5
    assert few.per_sequence == pytest.approx(every.per_sequence)
    assert np.isfinite(few.reference).all()
    for kind, mask in enumerate(kinds):
        rows = slice(kind, None, 4)
        part = replace(paths, data=paths.data[rows], free=paths.free[rows], keys=paths.keys[rows])
        own = schedule.rescaled(int((~mask).sum()))
        alone = few_step_nll(reverse, part, own, KGillespie(), generator=seeded(1))
        assert every.per_sequence[rows] == pytest.approx(alone.per_sequence)
        if order != Random():  # its reference is drawn at random numbers of known sites
            assert every.reference[rows] == pytest.approx(alone.reference)


def test_intervals_and_text():
    found = FewStepNLL(np.array([10.0, 12.0, 14.0]), np.array([9.0, 12.0, 12.0]), 4.0, 7)
    assert found.nll == 12
    assert found.bits_per_token == pytest.approx(12 / 4 / np.log(2))
    assert found.excess == pytest.approx(1)
    half = student_quantile(0.975, 2) / 3**0.5
    assert found.excess_interval == pytest.approx((1 - half, 1 + half))
    assert found.excess_limit == found.excess_interval[1]
    assert f"excess 1.00, at most {1 + half:.2f} (95%)" in str(found)
    excluded = FewStepNLL(np.array([np.inf, 1.0]), np.array([np.inf, 1.0]), 4.0, 7)
    assert (excluded.nll, excluded.stderr, excluded.excess_limit) == (np.inf,) * 3
    assert excluded.interval == excluded.excess_interval == (-np.inf, np.inf)
    assert "few-step NLL inf" in str(excluded)


def test_quantiles_of_student():
    for freedom, exact in ((4, 2.7764), (7, 2.3646), (15, 2.1314), (63, 1.9983)):
        assert student_quantile(0.975, freedom) == pytest.approx(exact, rel=4e-3)


@pytest.mark.parametrize(
    ("schedule", "sampler", "message"),
    [
        (uniform(2), ThetaTrapezoidal(), "does not draw sites independently"),
        (uniform(2), KGillespie(), "does not follow a TimeSchedule"),
        (CountSchedule([1, 1]), MaskGIT(), "depend on the symbols drawn"),
        (CountSchedule([1, 1]), MultistepKGillespie(), "not made for k-gillespie-multistep, whose"),
        (TimeSchedule([0.9, 0.0]), Tweedie(), "runs from 0.9 to 0"),
        (replace(uniform(2), provenance=Provenance(kernel="uniform")), Tweedie(), "uniform"),
    ],
)
def test_errors(schedule, sampler, message):
    truth, reverse = wrong("absorbing", 0)
    data = truth.sample_data(4, generator=seeded(0))
    with pytest.raises(ValueError, match=message):
        few_step_nll(reverse, data, schedule, sampler, generator=seeded(0))
    with pytest.raises(ValueError, match="at least two sequences, got 1"):
        few_step_nll(reverse, data[:1], uniform(2), Tweedie(), generator=seeded(0))
