"""Counts for other numbers of sites than they were made for, and for each sequence of a batch."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.kernels import kernel
from jumpsteps.process.noise import LogLinear
from jumpsteps.schedules.fixed import uniform_counts
from jumpsteps.schedules.orders import Blocks, Golden, Random, Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.rescaling import rescaled_counts
from jumpsteps.schedules.schedule import CountSchedule

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(COUNTS, st.integers(1, 400))
def test_every_step_keeps_its_share(counts, sites):
    """Sums to the sites; one site at least for each step, while there are any; within half a site
    of the share that is left after each step, where no step would be empty.
    """
    found = rescaled_counts(counts, sites)
    assert sum(found) == sites
    assert min(found) >= 1
    assert len(found) == min(len(counts), sites)
    exact = [sites * (1 - done / sum(counts)) for done in accumulate(counts)]
    if all(before - after > 2 for before, after in pairwise([sites, *exact])):
        left = [sites - done for done in accumulate(found)]
        assert all(abs(a - b) <= 0.5 + 1e-9 for a, b in zip(left, exact, strict=True))
    if sites == sum(counts):
        assert found == tuple(counts)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(COUNTS, st.integers(1, 9))
def test_a_multiple_of_the_sites_has_a_multiple_of_the_counts(counts, factor):
    schedule = CountSchedule(counts)
    many = schedule.rescaled(factor * schedule.total)
    assert many.counts == tuple(factor * n for n in counts)
    assert many.rescaled(schedule.total).counts == schedule.counts


def test_a_rescaled_schedule_keeps_its_order_and_forgets_its_error():
    about = Provenance(
        method="m", model="x", sampler="k-gillespie", excess=1.0, predicted_cost=2.0, seed=3
    )
    schedule = CountSchedule([4, 4, 8, 16], about, Spread())
    assert schedule.rescaled(32) is schedule
    assert schedule.rescaled(16) == CountSchedule(
        [2, 2, 4, 8], Provenance(method="m", model="x", sampler="k-gillespie", seed=3), Spread()
    )
    assert schedule.rescaled(3).counts == (1, 1, 1)
    assert schedule.tokens_per_step(48) == (6, 6, 12, 24)
    with pytest.raises(ValueError, match="at least one free site to reveal, got 0; leave some"):
        schedule.rescaled(0)


def test_blocks_of_counts():
    order = Blocks(4, Golden())
    schedule = CountSchedule([1, 3, 2, 2, 1, 1], order=order)
    assert schedule.blocks == [(1, 3), (2, 2), (1, 1)]
    assert CountSchedule([2, 3, 5], order=order).blocks is None
    assert CountSchedule([4, 4]).blocks is None
    assert uniform_counts(2, 3, order).blocks == [(1, 2)]


@pytest.mark.parametrize(
    ("sites", "blocks"),
    [
        (14, [(1, 3), (2, 2), (1, 1, 2), (1, 1)]),
        (12, [(1, 3), (2, 2), (1, 1, 2)]),
        (11, [(1, 3), (2, 2), (1, 1, 1)]),
        (10, [(1, 3), (2, 2), (1, 1)]),
        (5, [(1, 3), (1,)]),
        (4, [(1, 3)]),
        (2, [(1, 1)]),
        (19, [(1, 3), (2, 2), (1, 1, 2), (1, 1, 2), (1, 1, 1)]),
    ],
)
def test_blocks_keep_their_counts(sites, blocks):
    """A partial last block is rescaled, and new blocks have the counts of the last full one."""
    schedule = CountSchedule([1, 3, 2, 2, 1, 1, 2], order=Blocks(4))
    found = schedule.rescaled(sites)
    assert found.blocks == blocks
    assert found.total == sites


def test_a_partial_block_grows_like_the_full_one_before_it():
    schedule = CountSchedule([1, 3, 1, 1], order=Blocks(4))
    assert schedule.rescaled(8).blocks == [(1, 3), (1, 3)]
    assert CountSchedule([1, 2], order=Blocks(4)).rescaled(9).blocks == [(1, 3), (1, 3), (1,)]


def test_counts_that_cross_blocks_are_rescaled_by_shares():
    schedule = CountSchedule([2, 4, 2], order=Blocks(4))
    assert schedule.rescaled(16).counts == (4, 8, 4)


def test_each_sequence_has_its_own_plan():
    """Times and counts of every row are those of its own schedule; rows with fewer steps end
    before the others.
    """
    forward = kernel("absorbing", 3, LogLinear())
    schedule = CountSchedule([1, 1, 2, 4], order=Spread())
    free = torch.tensor([8, 0, 3, 16])
    steps = schedule.plan_for(forward, free)
    for row, n in enumerate(free.tolist()):
        own = schedule.rescaled(n).plan(forward) if n else []
        assert [int(step.count[row]) for step in steps] == [
            *(step.count for step in own),
            *[0] * (4 - len(own)),
        ]
        assert [float(step.times[row]) for step in steps[: len(own)]] == [step.t for step in own]
    assert [(step.t, step.s) for step in steps] == [
        (max(float(t) for t in step.times), then.t if then else 0.0)
        for step, then in zip(steps, [*steps[1:], None], strict=True)
    ]
    assert {step.order for step in steps} == {Spread()}


def test_sequences_alike_share_one_plan():
    forward = kernel("absorbing", 3, LogLinear())
    schedule = CountSchedule([1, 1, 2, 4])
    assert schedule.plan_for(forward, torch.tensor([8, 8])) == schedule.plan(forward)
    assert schedule.plan_for(forward, torch.tensor([4])) == schedule.rescaled(4).plan(forward)
    assert schedule.plan_for(forward, torch.tensor([0, 0])) == []
    assert {step.order for step in schedule.plan(forward)} == {Random()}
