"""Sequences with different numbers of free sites in one run: each has its own schedule's
distribution.
"""

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
import torch
from torch import Tensor

from builders.asked import Asked
from builders.samplers import distribution_in_groups, enumerable, timeless
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie, MaskGIT
from jumpsteps.schedules.orders import Blocks, Fixed, RevealOrder, Sequential
from jumpsteps.schedules.schedule import CountSchedule

TRUTH = enumerable("absorbing", length=4, seed=3)
REVERSE = timeless(TRUTH)
KNOWN = ((), (1,), (0, 3), (0, 1, 2))
"""The observed sites of four kinds of sequences."""
ROWS = 30_000
COUNTS = CountSchedule([2, 6])


def observed(rows: int) -> Given:
    """Rows of each kind in turn; their observed symbols are 2, 0, 1, 2 by site."""
    mask = torch.zeros(len(KNOWN), 4, dtype=torch.bool)
    for kind, sites in enumerate(KNOWN):
        mask[kind, list(sites)] = True
    return Given(torch.tensor([2, 0, 1, 2]).expand(rows * len(KNOWN), -1), mask.repeat(rows, 1))


def conditioned(table: Tensor, sites: tuple[int, ...]) -> Tensor:
    """The distribution given the observed symbols, zero elsewhere."""
    kept = torch.zeros_like(table)
    there = tuple([2, 0, 1, 2][site] if site in sites else slice(None) for site in range(4))
    kept[there] = table[there]
    return kept / kept.sum()


def groups_of(order: RevealOrder, sites: tuple[int, ...], counts: tuple[int, ...]):
    ranks = order.ranks(1, 4, generator=seeded(0))[0]
    left = [site for site in ranks.argsort().tolist() if site not in sites]
    ends = [0, *accumulate(counts)]
    return [tuple(left[a:b]) for a, b in pairwise(ends)]


@pytest.mark.slow
@pytest.mark.parametrize("order", [Sequential(), Fixed((2, 0, 3, 1))], ids=repr)
def test_every_sequence_has_the_distribution_of_its_own_schedule(order):
    """Two steps of 1 and 3, 1 and 2, 1 and 1 sites, and one of 1 site, in one run."""
    schedule = replace(COUNTS, order=order)
    run = simulate(
        REVERSE,
        KGillespie(),
        schedule,
        (ROWS * len(KNOWN), 4),
        generator=seeded(1),
        given=observed(ROWS),
    )
    assert run.nfe == 2
    for kind, sites in enumerate(KNOWN):
        own = schedule.rescaled(4 - len(sites)).counts
        assert own == [(1, 3), (1, 2), (1, 1), (1,)][kind]
        assert run.moved[:, kind :: len(KNOWN)].unique(dim=1)[:, 0].tolist() == [
            *own,
            *[0] * (2 - len(own)),
        ]
        probs = distribution_in_groups(
            conditioned(TRUTH.table, sites).clamp_min(1e-300), groups_of(order, sites, own)
        )
        probs = conditioned(probs, sites).reshape(-1)
        index = (run.samples[kind :: len(KNOWN)] * 3 ** torch.arange(3, -1, -1)).sum(-1)
        seen = probs > 0
        assert seen[index].all()
        compact = seen.cumsum(0) - 1
        assert chi_square_p(compact[index], probs[seen]) > LEVEL


@pytest.mark.parametrize("sampler", [KGillespie(), MaskGIT()], ids=lambda sampler: sampler.name)
def test_the_model_is_conditioned_on_the_time_of_each_sequence(sampler):
    """With n of D free sites masked the share of masks is n / D, whatever the others do."""
    asked = Asked(REVERSE.model)
    simulate(
        replace(REVERSE, model=asked),
        sampler,
        COUNTS,
        (4, 4),
        generator=seeded(1),
        given=observed(1),
    )
    noise = TRUTH.forward.noise
    shares = [[round(1 - float(noise.alpha(t)), 3) for t in times] for times in asked.times]
    assert shares == [[0.999] * 4, [0.75, 0.667, 0.5, 0.75]]


@pytest.mark.parametrize("sampler", [KGillespie(), MaskGIT()], ids=lambda sampler: sampler.name)
def test_counts_fit_a_run_of_any_length(sampler):
    for length, counts in ((4, (1, 3)), (1, (1,)), (8, (2, 6)), (3, (1, 2))):
        run = simulate(
            timeless(enumerable("absorbing", length=min(length, 4)))
            if length <= 4
            else replace(REVERSE, model=lambda x, t, where=None: torch.zeros(*x.shape, 4)[where]),
            sampler,
            COUNTS,
            (5, length),
            generator=seeded(0),
        )
        assert run.moved[:, 0].tolist() == list(counts)
        assert (run.samples < 3).all()


def test_blocks_start_where_each_prompt_ends():
    """Blocks of two free sites, each finished before the next."""
    schedule = CountSchedule([1, 1, 2], order=Blocks(2, Sequential()))
    seen: list[Tensor] = []
    run = simulate(
        REVERSE,
        KGillespie(),
        schedule,
        (4, 4),
        generator=seeded(1),
        given=observed(1),
        callback=lambda t, x: seen.append(x == 3),
    )
    assert run.moved.T.tolist() == [[1, 1, 2], [1, 1, 1], [1, 1, 0], [1, 0, 0]]
    masked = torch.stack(seen, 1).int().tolist()
    assert masked[0] == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert masked[1] == [[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert masked[2] == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
