"""The order of the least few-step NLL: what is compared, on which data, and what is chosen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from builders.threads import in_threads
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import Time
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Blocks, Dilated, Fixed, Golden, Random, Sequential, Spread
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search import auto_order
from jumpsteps.search.auto_order import (
    AutoOrder,
    Candidate,
    choices,
    default_orders,
    refined,
    screening_counts,
)
from jumpsteps.search.costs.by_count import evaluate_orders, revealed_counts, start_uncertainties
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown

SYMBOLS, LENGTH = 8, 64
FORWARD = kernel("absorbing", SYMBOLS)
CHAIN = MarkovChain(FORWARD, *countdown.chain(SYMBOLS))
REVERSE = PosteriorReverse(FORWARD, CHAIN)


def data(sequences: int, seed: int = 0) -> Tensor:
    return countdown.sample_data(sequences, generator=seeded(seed), symbols=SYMBOLS, length=LENGTH)


def paths(sequences: int, given_mask: Tensor | None = None) -> Paths:
    return Paths.draw(FORWARD, data(sequences), generator=seeded(1), given_mask=given_mask)


class Shuffled:
    """A model of sequences whose sites are permuted."""

    def __init__(self, model: Model, sites: Tensor) -> None:
        self.model, self.sites = model, sites

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = self.model(x[:, self.sites.argsort()], t)[:, self.sites]
        return out if where is None else out[where]


def test_states_in_one_call_are_those_of_several():
    one = paths(8)
    orders = [
        (order, one.free_ranks(order, generator=seeded(2)), np.array([0, 4, 9]))
        for order in (Spread(), Random())
    ]
    alone = evaluate_orders(REVERSE, one, orders, Measure.DATA)
    start = start_uncertainties(REVERSE, one)
    together = evaluate_orders(REVERSE, one, orders, Measure.DATA, start=start, together=3)
    for a, b in zip(alone, together, strict=True):
        assert b.entropy.numpy() == pytest.approx(a.entropy.numpy())
        assert b.gap.numpy() == pytest.approx(a.gap.numpy())
        parts = [a.counts == 4, a.counts != 4]
        first, second = (
            replace(a, counts=a.counts[part], entropy=a.entropy[part], gap=a.gap[part])
            for part in parts
        )
        assert first.joined(second).entropy.numpy() == pytest.approx(a.entropy.numpy())


@pytest.mark.parametrize("nfe", [2, 5, 30])
def test_orders_are_compared_by_few_step_nll_on_the_other_half(nfe):
    """Nothing is interpolated: the numbers of ``few_step_nll`` in a fixed order."""
    one, method = paths(20), AutoOrder()
    order = Spread().ranks(1, LENGTH, generator=seeded(3))[0]
    order = Fixed(tuple(order.tolist()))
    ranks = one.free_ranks(order, generator=seeded(4))
    counts = screening_counts(LENGTH, method.screening, order)
    (evaluated,) = evaluate_orders(REVERSE, one, [(order, ranks, counts)], Measure.DATA)
    found = method.compared(evaluated, 8, [nfe])[nfe]
    first = evaluated.rows(slice(8)).by_data(evaluated.counts, method.bandwidth)
    steps = min(nfe, len(counts))
    schedule = shortest_paths(first, [steps])[steps]
    rest = one.rows(torch.arange(8, 20))
    exact = few_step_nll(REVERSE, rest, schedule, KGillespie(), generator=seeded(5))
    assert found == pytest.approx(exact.per_sequence)


@pytest.mark.parametrize("order", [Spread(), Random()], ids=lambda order: order.name)
def test_a_few_step_nll_is_that_of_the_table(order):
    one, counts = paths(6), np.array([0, 1, 4, 16, 40])
    ranks = one.free_ranks(order, generator=seeded(2))
    (evaluated,) = evaluate_orders(REVERSE, one, [(order, ranks, counts)], Measure.DATA)
    costs = evaluated.by_data(counts, 2.0)
    for parts in ((64,), (1, 63), (4, 36, 24), (1, 3, 12, 24, 24)):
        schedule = CountSchedule(parts, order=order)
        nll = costs.few_step(schedule).per_sequence
        assert evaluated.few_step(schedule) == pytest.approx(nll, abs=1e-10)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_find_what_one_finds_to_the_bit(count, monkeypatch):
    """The whole search, certificates included, of 35 sequences, which neither number divides."""

    def found(workers: Workers = ALONE) -> dict[int, Schedule]:
        return optimize_schedule(
            REVERSE,
            data(35),
            [2, 4, 8],
            generator=seeded(1),
            method=AutoOrder(evaluations=30),
            workers=workers,
        )

    alone = found()
    assert alone[4].provenance.held_out == 16
    for schedules in in_threads(monkeypatch, count, found):
        assert schedules == alone
        for n, one in schedules.items():
            assert one.provenance == alone[n].provenance


@pytest.mark.slow
def test_the_chosen_order_is_the_best_on_other_data():
    """24 sequences: no candidate is better at NFE 4 on 300 others by more than 4 standard errors,
    and the sequential one is worse.
    """
    found = optimize_schedule(
        REVERSE, data(48), [2, 4, 8], generator=seeded(1), method=AutoOrder(), held_out=16
    )
    known = found[4].provenance
    assert known.order in ("spread", "dilated", "golden")
    assert known.runner_up != known.order
    assert known.model_calls <= 64
    assert (known.sequences, known.held_out) == (32, 16)
    fresh = Paths.draw(FORWARD, data(300, 7), generator=seeded(8))
    for order in (Random(), Spread(), Golden(), Dilated(), Sequential()):
        method = AutoOrder(orders=(order,), learned=False)
        other = optimize_schedule(
            REVERSE, data(48), [4], generator=seeded(1), method=method, held_out=16
        )[4]
        more = [
            few_step_nll(REVERSE, fresh, one, KGillespie(), generator=seeded(9), reference_calls=2)
            for one in (other, found[4])
        ]
        gap = more[0].per_sequence - more[1].per_sequence
        assert gap.mean() >= -4 * gap.std() / np.sqrt(300)
        if order == Sequential():
            assert gap.mean() > 4 * gap.std() / np.sqrt(300)


@pytest.mark.slow
def test_a_learned_order_is_chosen_where_sites_are_shuffled():
    """And not where it was learned from sites in their own order, at 64 sites."""
    sites = torch.randperm(LENGTH, generator=seeded(3))
    shuffled = PosteriorReverse(FORWARD, Shuffled(CHAIN, sites))
    for reverse, tokens, learned in (
        (shuffled, data(64)[:, sites], True),
        (REVERSE, data(64), False),
    ):
        found = optimize_schedule(
            reverse, tokens, [4], generator=seeded(1), method=AutoOrder(), held_out=0
        )[4]
        assert (found.provenance.order == "learned") == learned
        assert isinstance(found.order, Fixed) == learned


def test_one_order_serves_all_steps_unless_another_is_better_beyond_noise():
    noise = np.linspace(-1, 1, 20)
    at_two = {"random": 10 + noise, "spread": 10.2 + 2 * noise, "golden": 20 + noise}
    at_four = {"random": 9 + noise, "spread": 5 + noise, "golden": 8 + noise**2}
    found = choices({2: at_two, 4: at_four})
    assert (found[2].order, found[2].runner_up) == ("spread", "random")
    assert found[2].difference == pytest.approx(-0.2)
    assert found[2].half_width == pytest.approx(2.093 * noise.std(ddof=1) / 20**0.5, rel=1e-3)
    assert (found[4].order, found[4].runner_up) == ("spread", "golden")
    assert found[4].difference == pytest.approx(3 + (noise**2).mean())
    assert found[4].sequences == 20
    better = choices({2: at_two | {"random": 2 + noise}, 4: at_four})
    assert (better[2].order, better[2].runner_up) == ("random", "spread")
    assert better[4].order == "spread"


def test_blocks_follow_something_observed():
    assert Blocks(inner=Spread()) not in default_orders(paths(4))
    prompt = torch.arange(LENGTH) < 8
    assert Blocks(inner=Spread()) in default_orders(paths(4, prompt))
    few = torch.arange(LENGTH) < LENGTH - 32
    assert Blocks(inner=Spread()) not in default_orders(paths(4, few))


@pytest.mark.parametrize("sites", [2, 5, 12, 13, 64, 100, 118, 512, 1000])
def test_the_states_that_are_compared(sites):
    for order in (Spread(), Random()):
        counts = screening_counts(sites, 12, order)
        assert counts[0] == 0
        assert (np.diff(counts) > 0).all()
        assert counts[-1] < sites
        assert len(counts) == min(sites, 12) or order == Random()
    assert counts.tolist() == revealed_counts(sites, 12, exchangeable=True).tolist()


def test_more_states_of_a_candidate_are_evaluated_between_those_that_it_has():
    one, order = paths(6), Spread()
    ranks = one.free_ranks(order, generator=seeded(2))
    few, many = np.array([0, 4, 16]), np.array([0, 2, 4, 10, 16, 40])
    some, every = (
        evaluate_orders(REVERSE, one, [(order, ranks, counts)], Measure.DATA)[0]
        for counts in (few, many)
    )
    found = refined(REVERSE, one, Candidate(ranks, some), 3).evaluated
    assert found.counts.tolist() == many.tolist()
    assert found.entropy.numpy() == pytest.approx(every.entropy.numpy())
    assert found.gap.numpy() == pytest.approx(every.gap.numpy())
    assert refined(REVERSE, one, Candidate(ranks, some), 0).evaluated is some


def test_few_sites_and_observed_ones():
    """Three free sites of 64: the whole search works, with every step possible."""
    given = torch.arange(LENGTH) >= 3
    found = optimize_schedule(
        REVERSE,
        data(16),
        [1, 3],
        generator=seeded(0),
        method=AutoOrder(),
        given_mask=given,
    )
    assert found[1].counts == (3,)
    assert found[3].counts == (1, 1, 1)


def test_a_learned_order_that_takes_too_much_memory_is_no_candidate(monkeypatch):
    monkeypatch.setattr(auto_order, "LEARNED_NUMBERS", 8 * LENGTH * (SYMBOLS + 1))
    for sequences, learned in ((16, True), (18, False)):
        found = AutoOrder().candidates(REVERSE, paths(sequences), sequences // 2, seeded(0))
        assert ("learned" in found) == learned


def test_what_is_refused():
    uniform = kernel("uniform", SYMBOLS)
    other = PosteriorReverse(uniform, MarkovChain(uniform, *countdown.chain(SYMBOLS)))
    for reverse, sequences, sampler, message in (
        (other, 8, None, "k-gillespie serves the absorbing kernel"),
        (REVERSE, 8, Tweedie(), "sampler tweedie follows times"),
        (REVERSE, 3, None, "comparing orders needs at least 4 sequences, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            optimize_schedule(
                reverse,
                data(sequences),
                [2],
                generator=seeded(0),
                method=AutoOrder(),
                sampler=sampler,
            )
