"""Costs within blocks: against enumeration, and against the table that knows no blocks."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Blocks, Golden, Random, Sequential, Spread
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.costs.by_block import block_costs
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.dynamic_programming import error_curve, fewest_steps, shortest_paths
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown

TRUTH = Enumerable.random(kernel("absorbing", 3), symbols=3, length=5, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(TRUTH.forward, TRUTH)
ORDER = Blocks(3, Sequential())


def draw(sequences: int = 500, given_mask: torch.Tensor | None = None) -> Paths:
    data = TRUTH.sample_data(sequences, generator=seeded(0))
    return Paths.draw(TRUTH.forward, data, generator=seeded(1), given_mask=given_mask)


@pytest.mark.parametrize("measure", list(Measure))
def test_steps_within_a_block_cost_the_same_as_without_blocks(measure):
    """An evaluation at every count: the table of ``count_costs``, infinite across the boundary."""
    whole, blocks = (
        costs(REVERSE, draw(), ORDER, bandwidth=0, measure=measure, generator=seeded(2))
        for costs in (count_costs, block_costs)
    )
    assert blocks.grid.tolist() == whole.grid.tolist() == [5, 4, 3, 2, 1, 0]
    assert blocks.model_calls == whole.model_calls == 5
    assert blocks.least_steps == 2
    for i, k in combinations(range(6), 2):
        if i < 3 < k:
            assert blocks.value[i, k] == np.inf
        else:
            ties = 1e-3 * ((k - i) / np.array([5, 3 if k <= 3 else 2])) ** 2
            assert blocks.value[i, k] - ties[1] == pytest.approx(whole.value[i, k] - ties[0])
            np.testing.assert_allclose(
                blocks.per_sequence(i)[k - i - 1], whole.per_sequence(i)[k - i - 1]
            )
    if measure is Measure.DATA:
        np.testing.assert_allclose(blocks.alone, whole.alone)
        assert blocks.calibration == whole.calibration
        schedule = CountSchedule([1, 2, 2], order=ORDER)
        found = few_step_nll(REVERSE, draw(), schedule, KGillespie(), generator=seeded(2))
        np.testing.assert_allclose(blocks.few_step(schedule).per_sequence, found.per_sequence)


def test_the_shortest_path_is_the_best_that_keeps_to_its_blocks():
    costs = block_costs(REVERSE, draw(), ORDER, bandwidth=0, generator=seeded(2))
    for n, schedule in shortest_paths(costs, range(2, 6)).items():
        ways = [(0, *inner, 5) for inner in combinations(range(1, 5), n - 1) if 3 in inner]
        best = min(ways, key=lambda way: sum(costs.value[i, k] for i, k in pairwise(way)))
        assert schedule.counts == tuple(np.diff(best))
        assert schedule.blocks is not None
        assert [sum(block) for block in schedule.blocks] == [3, 2]
        assert schedule.order == ORDER
    assert error_curve(costs, 5).steps.tolist() == [2, 3, 4, 5]
    assert fewest_steps(costs, 100.0).counts == (3, 2)
    with pytest.raises(ValueError, match=r"2 blocks take 2 steps at least, got \[1, 3\]; raise"):
        shortest_paths(costs, [1, 3])
    with pytest.raises(ValueError, match="crosses from one block"):
        costs.predict(CountSchedule([2, 2, 1]))


def test_every_block_has_an_interval_of_the_grid():
    """Fewer intervals than blocks: one step for each block."""
    costs = block_costs(REVERSE, draw(), ORDER, grid_intervals=1, generator=seeded(2))
    assert costs.grid.tolist() == [5, 2, 0]
    assert np.isfinite(costs.value[[0, 1], [1, 2]]).all()


def test_observed_sites_do_not_count_for_blocks():
    mask = torch.tensor([True, False, False, False, False])
    costs = block_costs(REVERSE, draw(given_mask=mask), Blocks(2, Random()), generator=seeded(2))
    assert costs.grid.tolist() == [4, 3, 2, 1, 0]
    assert np.isinf(costs.value[1, 3])
    assert np.isfinite(costs.value[[0, 2], [2, 4]]).all()


@pytest.mark.parametrize("inner", [Random(), Spread()], ids=repr)
def test_costs_between_evaluations_are_interpolated_within_a_block(inner):
    """CountDown, 64 sites in blocks of 32: 16 evaluations in place of 64 find schedules whose cost
    is at most a tenth and 0.3 nats above the best.
    """
    forward = kernel("absorbing", 16)
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    data = countdown.sample_data(64, generator=seeded(0), symbols=16, length=64)
    coarse, fine = (
        block_costs(
            reverse,
            Paths.draw(forward, data, generator=seeded(1)),
            Blocks(32, inner),
            evaluations=n,
            generator=seeded(2),
        )
        for n in (16, 64)
    )
    assert coarse.model_calls <= 16 < fine.model_calls == 64
    found, best = (shortest_paths(costs, [8, 16]) for costs in (coarse, fine))
    for n in (8, 16):
        assert fine.predict(found[n])[0] <= 1.1 * fine.predict(best[n])[0] + 0.3


def test_a_search_finds_schedules_within_blocks():
    method = ShortestPath(order=Blocks(2, Golden()), within_blocks=True)
    found = optimize_schedule(
        REVERSE,
        TRUTH.sample_data(50, generator=seeded(0)),
        [3, 4],
        generator=seeded(1),
        method=method,
    )
    for n, schedule in found.items():
        assert schedule.steps == n
        assert [sum(block) for block in schedule.blocks] == [2, 2, 1]
        assert schedule.provenance.excess is not None
    assert found[4].blocks != found[3].blocks
    assert found[3].rescaled(7).blocks == [(2,), (2,), (2,), (1,)]


def test_errors():
    with pytest.raises(ValueError, match="3 blocks need as many model evaluations, got evalu"):
        block_costs(REVERSE, draw(), Blocks(2), evaluations=2, generator=seeded(2))
    with pytest.raises(ValueError, match="at least two sequences, got 1"):
        block_costs(REVERSE, draw(1), ORDER, generator=seeded(2))
    with pytest.raises(ValueError, match="within_blocks is for an order of blocks, got golden"):
        ShortestPath(order=Golden(), within_blocks=True)
