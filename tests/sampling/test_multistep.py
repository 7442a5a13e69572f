"""Multistep samplers have their exact distributions, and are nearer to the data than their
counterparts.
"""

from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from torch import Tensor

from builders.samplers import (
    conditional,
    data_index,
    enumerable,
    posterior_reverse,
    timeless,
    total_variation,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from builders.step_formulas import NOISES, exact_distribution, multistep_distribution
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear, NoiseSchedule
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.leave_one_out import LeaveOneOutCorrector
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.multistep import MultistepKGillespie, MultistepTweedie
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Sequential, Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath


def distribution_of_groups(table: Tensor, groups: list[tuple[int, ...]]) -> Tensor:
    """The distribution of groups of sites that are revealed one after the other: the sites of a
    group independently, each by the posterior extrapolated from the last two groups.
    """
    probs, known, before, last = torch.ones_like(table), (), (), 0
    for group in groups:
        c = (len(group) - 1) / 2 / last if last else 0.0
        for site in group:
            now, then = conditional(table, site, known), conditional(table, site, before)
            weights = (now + c * (now - then)).clamp_min(0)
            probs = probs * weights / weights.sum(site, keepdim=True)
        known, before, last = (*known, *group), known, len(group)
    return probs


def random_groups(length: int, counts: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    cuts = [sum(counts[:i]) for i in range(len(counts) + 1)]
    return [[order[a:b] for a, b in pairwise(cuts)] for order in permutations(range(length))]


@pytest.mark.parametrize("noise", NOISES, ids=repr)
@pytest.mark.parametrize(
    "times", [[1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.9, 0.3, 0.2, 0.0], [1.0, 0.7, 0.2]], ids=str
)
def test_the_distribution_of_a_run_is_known(noise: NoiseSchedule, times: list[float]) -> None:
    """The sampler's own, from the reverse process, and the enumerated one."""
    truth, schedule = enumerable("absorbing", noise, seed=2), TimeSchedule(times)
    start = truth.marginal(1.0)
    known = MultistepTweedie().run_distribution(
        posterior_reverse(truth), truth.states, schedule, start
    )
    expected = multistep_distribution(truth, schedule, start)
    torch.testing.assert_close(known, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 2), (2, 1), (1, 1, 2), (1, 3)], ids=str)
def test_counts_in_random_order_have_their_exact_distribution(counts: tuple[int, ...]) -> None:
    length = sum(counts)
    truth = enumerable("absorbing", length=length)
    run = simulate(
        posterior_reverse(truth),
        MultistepKGillespie(),
        CountSchedule(counts),
        (100_000, length),
        generator=seeded(1),
    )
    groups = random_groups(length, counts)
    probs = torch.stack([distribution_of_groups(truth.table, some) for some in groups]).mean(0)
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    if max(counts) == 1:
        torch.testing.assert_close(probs, truth.table)
    else:
        assert total_variation(probs, truth.table) > 0.01


def test_sequences_with_other_numbers_of_observed_sites() -> None:
    """Each follows its own schedule, and what one of them reveals is no other's last step."""
    truth, rows = enumerable("absorbing", length=4, seed=3), 50_000
    known = ((), (1,))
    mask = torch.tensor([[False] * 4, [False, True, False, False]]).repeat(rows, 1)
    schedule = CountSchedule([1, 3], order=Sequential())
    run = simulate(
        timeless(truth),
        MultistepKGillespie(),
        schedule,
        (2 * rows, 4),
        generator=seeded(4),
        given=Given(torch.zeros_like(mask, dtype=torch.int64), mask),
    )
    for kind, sites in enumerate(known):
        table = truth.table.clone()
        for site in sites:
            table.movedim(site, 0)[1:] = 0
        counts = schedule.rescaled(4 - len(sites)).counts
        free = [site for site in range(4) if site not in sites]
        groups = [tuple(free[: counts[0]]), tuple(free[counts[0] :])]
        assert len(counts) == 2
        probs = distribution_of_groups(table / table.sum(), groups)
        probs = probs * (table > 0) / (probs * (table > 0)).sum()
        found = data_index(truth, run.samples[kind::2])
        assert chi_square_p(found, probs.reshape(-1)) > LEVEL


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_it_is_nearer_than_tweedie_at_equal_calls(noise: NoiseSchedule) -> None:
    truth = enumerable("absorbing", noise)

    def error(sampler: Tweedie | MultistepTweedie, steps: int) -> float:
        probs = exact_distribution(truth, sampler, uniform(steps), truth.marginal(1.0))
        return total_variation(probs, truth.data_distribution())

    for steps in (4, 16, 64):
        assert error(MultistepTweedie(), steps) < error(Tweedie(), steps) / 2


def test_one_step_is_that_of_the_sampler_without_extrapolation() -> None:
    truth = enumerable("absorbing", length=3)
    for sampler, plain, schedule in (
        (MultistepTweedie(), Tweedie(), TimeSchedule([1.0, 0.0])),
        (MultistepKGillespie(), KGillespie(), CountSchedule([3])),
    ):
        a, b = (
            simulate(posterior_reverse(truth), one, schedule, (64, 3), generator=seeded(1)).samples
            for one in (sampler, plain)
        )
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "corrected",
    [
        PredictorCorrector(MultistepTweedie(), corrections=1, size=0.5),
        LeaveOneOutCorrector(MultistepTweedie(), sites=2),
        BlockedGibbs(MultistepKGillespie(), (Redraw(1, 0.5, 0.5),)),
    ],
    ids=lambda sampler: sampler.name,
)
def test_correctors_take_them_as_predictors(corrected: Sampler) -> None:
    """Two of these mask revealed sites again. A sample does not depend on its batch."""
    reverse = posterior_reverse(enumerable("absorbing", length=4))
    schedule = uniform(4) if corrected.takes is TimeSchedule else CountSchedule([1, 1, 2])

    def drawn(batch: int) -> Tensor:
        source = SampleGenerators(5, range(64))
        return sample_batches(reverse, corrected, schedule, (64, 4), generator=source, batch=batch)[
            0
        ]

    samples = drawn(64)
    assert samples.max() < 3
    assert len(samples.unique(dim=0)) > 20
    assert torch.equal(samples, drawn(7))


def test_sites_masked_since_the_last_step_are_drawn_without_extrapolation() -> None:
    """Beside sequences whose sites were masked before, and where nothing was masked at all."""
    truth = enumerable("absorbing", length=3)
    reverse, sampler = posterior_reverse(truth), MultistepKGillespie()
    first, second = CountSchedule([1, 2]).plan(truth.forward)
    mask = truth.forward.prior().argmax()
    before = torch.stack([torch.tensor([0, 1, 2]), mask.expand(3)]).repeat(200, 1)
    now = before.clone()
    now[:, 0], now[:, 1:] = 0, mask
    for rows, known in ((slice(None), slice(1, None, 2)), (slice(0, None, 2), slice(0))):
        x = now[rows]
        state = sampler.step(reverse, before[rows], first, None, generator=seeded(1))[1]
        plain, made = (
            one.step(reverse, x, second, kept, generator=SampleGenerators(2, range(len(x))))[0]
            for one, kept in ((KGillespie(), state[0]), (sampler, state))
        )
        changed = (plain != made).any(-1)
        assert changed[known].any() == (known != slice(0))
        changed[known] = False
        assert not changed.any()


@pytest.mark.parametrize("output", ["posterior", "log-score"])
@pytest.mark.parametrize("prompts", [False, True], ids=["", "prompts"])
def test_hidden_states_are_kept_in_place_of_outputs(
    output: str, prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head runs where sites move, on the states of two calls, a chunk of sites at a time. The
    draws are those of a model of the same outputs.
    """
    batch, length, symbols, counts = 10, 12, 40, (2, 3, 7)
    torch.manual_seed(0)
    network, reverse = build(
        DiTConfig(symbols, 16, 1, 2, cond_dim=8),
        Absorbing(vocab_size=symbols, noise=LogLinear()),
        output,
    )
    for parameter in network.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    known = torch.arange(length) < torch.arange(batch)[:, None] % 4
    given = Given(torch.zeros_like(known, dtype=torch.int64), known) if prompts else None
    rows: list[int] = []
    network.output_layer.register_forward_hook(lambda head, given, out: rows.append(len(out)))

    def drawn(reverse: ReverseProcess) -> Tensor:
        rows.clear()
        return simulate(
            reverse,
            MultistepKGillespie(),
            CountSchedule(counts, order=Spread()),
            (batch, length),
            generator=SampleGenerators(3, range(batch)),
            given=given,
        ).samples

    samples = drawn(reverse)
    if not prompts:
        assert rows == [batch * k for k in (2, 3, 3, 7, 7)]
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 4 * 2 * symbols)
    assert torch.equal(samples, drawn(reverse))
    assert max(rows) == 4
    model = reverse.model
    plain = replace(reverse, model=lambda x, t, where=None: model(x, t, where))
    assert torch.equal(samples, drawn(plain))


def test_the_step_map_says_which_step_revealed_a_site() -> None:
    schedule = CountSchedule([1, 2, 2], order=Sequential())
    reverse = posterior_reverse(enumerable("absorbing", length=5))
    run = simulate(reverse, MultistepKGillespie(), schedule, (8, 5), generator=seeded(1))
    assert run.step_map.tolist() == [[1, 2, 2, 3, 3]] * 8
    assert run.moved.tolist() == [[1] * 8, [2] * 8, [2] * 8]
    assert run.nfe == 3


@pytest.mark.parametrize(
    ("sampler", "plain", "method"),
    [
        (MultistepTweedie(), Tweedie(), ShortestPath()),
        (MultistepKGillespie(), KGillespie(), ShortestPath(order=Spread())),
        (MultistepTweedie(), Tweedie(), JYS()),
    ],
    ids=["times", "counts", "jys"],
)
def test_searches_find_the_schedules_of_the_sampler_without_extrapolation(
    sampler: Sampler, plain: Sampler, method: Method
) -> None:
    truth = enumerable("absorbing", length=4)
    data = truth.sample_data(8, generator=seeded(2))
    a, b = (
        optimize_schedule(
            posterior_reverse(truth), data, [2], generator=seeded(3), method=method, sampler=one
        )[2]
        for one in (sampler, plain)
    )
    assert a == b
    assert a.provenance.sampler == plain.name
