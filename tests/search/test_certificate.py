"""Certificates: the bounds of few_step_nll on held-out sequences, from few model calls."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from builders.kernels import kernel
from builders.models import WrongNetwork
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.fixed import uniform, uniform_counts
from jumpsteps.schedules.orders import Fixed, Golden, Random, Spread
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.certificate import certify, cuts
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown

FORWARD = kernel("absorbing", 3, LogLinear(0.1))
TRUTH = Enumerable.random(FORWARD, symbols=3, length=4, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(FORWARD, WrongNetwork(TRUTH, 3, 0.0))
ORDER = Fixed((2, 0, 3, 1))

SYMBOLS, LENGTH = 8, 32
CHAIN_FORWARD = kernel("absorbing", SYMBOLS)
CHAIN = PosteriorReverse(CHAIN_FORWARD, MarkovChain(CHAIN_FORWARD, *countdown.chain(SYMBOLS)))


def wrong_paths(sequences):
    data = TRUTH.sample_data(sequences, generator=seeded(0))
    return Paths.draw(FORWARD, data, generator=seeded(1))


def chain_paths(sequences, seed=0):
    generator = seeded(seed)
    data = countdown.sample_data(sequences, generator=generator, symbols=SYMBOLS, length=LENGTH)
    return Paths.draw(CHAIN_FORWARD, data, generator=generator)


@pytest.mark.parametrize(
    "schedules",
    [
        {n: CountSchedule(c, order=ORDER) for n, c in enumerate([(4,), (1, 3), (2, 1, 1)], 1)},
        {n: CountSchedule(c) for n, c in enumerate([(4,), (1, 3), (2, 1, 1)], 1)},
        {n: TimeSchedule(t) for n, t in enumerate([(1, 0), (1, 0.6, 0), (1, 0.8, 0.2, 0)], 1)},
    ],
    ids=["order", "random", "times"],
)
def test_the_numbers_of_few_step_nll(schedules):
    """As many states as sites: nothing is left to chance on the same paths."""
    paths = wrong_paths(50)
    found = certify(REVERSE, paths, schedules, generator=seeded(2))
    assert list(found) == list(schedules)
    for nfe, schedule in schedules.items():
        sampler = default_sampler(schedule)
        exact = few_step_nll(REVERSE, paths, schedule, sampler, generator=seeded(3))
        assert found[nfe].per_sequence == pytest.approx(exact.per_sequence)
        assert found[nfe].reference == pytest.approx(exact.reference)
        assert found[nfe].sites == 4
        assert found[nfe].model_calls <= 2


@pytest.mark.statistical
@pytest.mark.parametrize("order", [Spread(), Golden(), Random()], ids=lambda order: order.name)
def test_the_reference_has_no_bias(order):
    """400 sequences, 16 states for 32 sites: within 4 standard errors of all 32 states."""
    paths, schedule = chain_paths(400), uniform_counts(4, LENGTH, order)
    found = certify(CHAIN, paths, {4: schedule}, calls=4, generator=seeded(2))[4]
    exact = few_step_nll(CHAIN, paths, schedule, default_sampler(schedule), generator=seeded(2))
    off = found.reference - exact.reference
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(len(off))
    assert found.reference.std() > 0
    assert found.model_calls == 4
    if order == Random():
        assert found.nll == pytest.approx(exact.nll)


@pytest.mark.statistical
def test_the_limit_holds_as_often_as_it_says():
    """Of 100 certificates from 16 sequences at least 92% lie above the excess of 1,000 sequences;
    a limit of 97.5% has fewer than that with a probability of 1e-3.
    """
    schedule = uniform_counts(4, LENGTH, Spread())
    paths = chain_paths(1000, seed=5)
    excess = few_step_nll(CHAIN, paths, schedule, default_sampler(schedule), generator=seeded(6))
    many = chain_paths(16 * 100, seed=7)
    found = certify(CHAIN, many, {4: schedule}, calls=5, generator=seeded(8))[4]
    each = (found.per_sequence - found.reference).reshape(100, 16)
    limit = each.mean(1) + 2.13 * each.std(1, ddof=1) / 4
    assert (limit > excess.excess).mean() >= 0.92


def test_schedules_that_need_too_many_calls_are_left_out():
    paths = chain_paths(16)
    schedules = {n: uniform_counts(n, LENGTH, Spread()) for n in (2, 4, 8)}
    found = certify(CHAIN, paths, schedules, calls=5, generator=seeded(0))
    assert list(found) == [2, 4, 8]  # 2 and 4 stop where 8 does: 8 + 12 states in 5 calls
    assert max(one.model_calls for one in found.values()) == 5
    assert list(certify(CHAIN, paths, schedules, calls=4, generator=seeded(0))) == [2, 4]
    assert certify(CHAIN, paths, schedules, calls=3, generator=seeded(0)) == {}
    few = paths.rows(torch.arange(2))  # It is sites that need states, not sequences.
    assert certify(CHAIN, few, schedules, calls=3, generator=seeded(0)) == {}
    mixed = {2: uniform(2), 3: uniform(3)}
    assert list(certify(CHAIN, paths, mixed, calls=5, generator=seeded(0))) == [2, 3]


def test_strata_have_about_equal_sums():
    """From the first rank to the last, and no stratum has more than its part and one weight."""
    weights = np.random.default_rng(0).random(40) ** 3
    ends = cuts(weights, 6)
    assert (ends[0], ends[-1]) == (0, 40)
    assert len(ends) <= 7
    assert (np.diff(ends) > 0).all()
    raised = weights + 0.05 * weights.mean()
    parts = [raised[first:last].sum() for first, last in pairwise(ends)]
    assert max(parts) <= raised.sum() / 6 + raised.max()
    assert cuts(weights[:4], 6) == [0, 1, 2, 3, 4]
    assert cuts(np.array([np.inf, 1.0, 1.0, 1.0]), 2)[0] == 0
