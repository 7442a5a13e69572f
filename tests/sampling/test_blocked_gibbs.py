"""Blocked Gibbs: what a call leaves unchanged, what it is off by, which sites it draws."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.models import Tabulated
from builders.samplers import (
    ALL_KERNELS,
    distribution_in_groups,
    enumerable,
    posterior_reverse,
    timeless,
    total_variation,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs, sets_of
from jumpsteps.sampling.event_driven import FirstHitting
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Fixed, Golden, Random, RevealOrder, Sequential, Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

every_kernel = pytest.mark.parametrize("name", ALL_KERNELS)
EVERY_SET = [Random(), Golden(), Sequential(), Fixed((2, 0, 1))]


def call(truth: Enumerable, share: float, s: float, sets: RevealOrder = Random()) -> Tensor:
    """The exact matrix of one call at the time s."""
    redraw = Redraw(share=share, time=s, sets=sets)
    return BlockedGibbs().redraw_matrix(posterior_reverse(truth), truth.states, redraw, s)


@every_kernel
@pytest.mark.parametrize("s", [0.4, 0.05])
@pytest.mark.parametrize("sets", EVERY_SET, ids=repr)
def test_one_site_leaves_the_marginal_unchanged(name: str, s: float, sets: RevealOrder) -> None:
    truth = enumerable(name, length=3)
    marginal = truth.marginal(s)
    matrix = call(truth, 1 / 3, s, sets)
    torch.testing.assert_close(marginal @ matrix, marginal, rtol=0, atol=1e-10)
    assert total_variation(matrix, torch.eye(len(matrix))) > 0.1


@pytest.mark.parametrize("sets", EVERY_SET, ids=repr)
def test_one_site_leaves_the_data_unchanged(sets: RevealOrder) -> None:
    """Absorbing kernel, after the last step."""
    truth = enumerable("absorbing", length=3)
    data = truth.data_distribution()
    torch.testing.assert_close(data @ call(truth, 0.01, 0.0, sets), data, rtol=0, atol=1e-10)


@pytest.mark.parametrize("known", [(0,), (1,), (0, 3), ()], ids=str)
def test_a_call_is_off_by_the_total_correlation_of_its_sites(known: tuple[int, ...]) -> None:
    """From data the call draws S site by site given the rest: KL(p || p Q) is E KL(p(S | rest) ||
    product of its marginals), the cost of the step that reveals S last.
    """
    truth = enumerable("absorbing", length=4, seed=5)
    chosen = [site for site in range(4) if site not in known]
    order = Fixed(tuple([*chosen, *known].index(site) for site in range(4)))
    data = truth.data_distribution()
    after = data @ call(truth, len(chosen) / 4, 0.0, order)
    table = truth.table
    rest = table.sum(chosen, keepdim=True)
    product = rest.clone()
    for site in chosen:
        others = [other for other in chosen if other != site]
        both = table.sum(others, keepdim=True) if others else table
        product = product * both / rest
    exact = float(kl_divergence(table.reshape(-1), product.reshape(-1)))
    support = data > 0
    assert float(kl_divergence(data[support], after[support])) == pytest.approx(exact, abs=1e-12)
    assert (exact > 1e-3) == (len(chosen) > 1)


def test_far_apart_sites_cost_less_than_neighbours() -> None:
    """A chain of six sites: the total correlation of the sets decides how much is lost."""
    step = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    table = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    for _ in range(5):
        table = table[..., None] * step
    truth = Enumerable(kernel("absorbing", 2), table)
    data = truth.data_distribution()
    support = data > 0
    lost = {}
    for name, order in (
        ("alternate", Fixed((0, 3, 1, 4, 2, 5))),
        ("neighbours", Sequential()),
        ("golden", Golden()),
        ("random", Random()),
    ):
        after = data @ call(truth, 0.5, 0.0, order)
        lost[name] = float(kl_divergence(data[support], after[support]))
    assert lost["alternate"] < 1e-12  # given its neighbours a site depends on no other
    assert lost["golden"] < 0.5 * lost["random"] < lost["random"] < lost["neighbours"]


@every_kernel
def test_calls_repair_a_wrong_start(name: str) -> None:
    truth = enumerable(name)
    marginal, matrix = truth.marginal(0.4), call(truth, 0.5, 0.4)
    if name == "absorbing":  # the masks stay, so they start where they are
        masks = (truth.states == truth.forward.mask_id).double()
        pattern = masks @ torch.tensor([1.0, 2.0], dtype=torch.float64)
        same = pattern[:, None] == pattern
        wrong = (same * marginal).sum(-1) / same.sum(-1)
    else:
        wrong = torch.full_like(marginal, 1 / len(marginal))
    distances = []
    for _ in range(12):
        distances.append(total_variation(wrong, marginal))
        wrong = wrong @ matrix
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.2 * distances[0]


def redrawn(truth: Enumerable, sites: tuple[int, ...], p: Tensor) -> Tensor:
    """The distribution of three sites after some were drawn again, from a table before."""
    probs = torch.zeros_like(p)
    rest = p.sum(sites, keepdim=True)
    kept = truth.table.sum(sites, keepdim=True)
    for state in p.nonzero().tolist():
        there = tuple(0 if site in sites else value for site, value in enumerate(state))
        single = 1.0
        for site in sites:
            others = [other for other in sites if other != site]
            both = truth.table.sum(others, keepdim=True) if others else truth.table
            at = tuple(0 if other in others else value for other, value in enumerate(state))
            single = single * both[at] / kept[there]
        probs[tuple(state)] = rest[there] * single
    return probs


@pytest.mark.parametrize("share", [0.3, 0.6], ids=str)
@pytest.mark.parametrize("sets", [Golden(), Random()], ids=repr)
def test_runs_have_their_exact_distribution(sets: RevealOrder, share: float) -> None:
    """Two steps in a fixed order, a call between them on what is revealed, two at the end."""
    truth = enumerable("absorbing", length=3, seed=2)
    schedule = CountSchedule([2, 1], order=Fixed((0, 1, 2)))
    count = max(1, round(3 * share))
    sampler = BlockedGibbs(redraws=(Redraw(1, share, 0.5, sets), Redraw(2, share, sets=sets)))
    run = simulate(timeless(truth), sampler, schedule, (100_000, 3), generator=seeded(3))
    assert run.nfe == 5 == sampler.calls(2)
    first = distribution_in_groups(truth.table, [(0, 1)])[:, :, :1]
    pair = Enumerable(truth.forward, truth.table.sum(2))
    p = torch.zeros_like(first)
    for probability, sites in sets_of(sets, 3, count):
        inside = tuple(site for site in sites if site < 2)
        p[..., 0] += probability * (
            redrawn(pair, inside, first[..., 0]) if inside else first[..., 0]
        )
    p = p * truth.table / truth.table.sum(2, keepdim=True)
    for _ in range(2):
        p = sum(
            (
                probability * redrawn(truth, sites, p)
                for probability, sites in sets_of(sets, 3, count)
            ),
            start=torch.zeros_like(p),
        )
    index = (run.samples * 3 ** torch.arange(2, -1, -1)).sum(-1)
    assert chi_square_p(index, p.reshape(-1)) > LEVEL
    assert total_variation(p, truth.table) > 0.005


def test_sets_of_golden_order_have_the_frequencies_of_its_draws() -> None:
    for count in (1, 2, 3):
        expected = torch.zeros(2**5, dtype=torch.float64)
        for probability, sites in sets_of(Golden(), 5, count):
            expected[sum(2**site for site in sites)] += probability
        assert float(expected.sum()) == pytest.approx(1)
        drawn = Golden().ranks(20_000, 5, generator=seeded(1)) < count
        index = (drawn * 2 ** torch.arange(5)).sum(-1)
        seen = expected > 0
        assert chi_square_p((seen.cumsum(0) - 1)[index], expected[seen]) > LEVEL
    with pytest.raises(ValueError, match="sets of spread order are not enumerated"):
        list(sets_of(Spread(), 5, 2))


@every_kernel
def test_a_call_draws_its_share_of_the_free_sites(name: str) -> None:
    """Of six sites two are observed in every second sequence, and one in the others."""
    asked: list[Tensor] = []
    forward = kernel(name, 3)

    def model(x: Tensor, t: float, where: Tensor) -> Tensor:
        asked.append(where)
        return torch.zeros(int(where.sum()), forward.vocab_size)

    mask = torch.tensor([[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]]).bool().repeat(10, 1)
    run = simulate(
        PosteriorReverse(forward, model),
        BlockedGibbs(Tweedie(), (Redraw(3, 0.5),)),
        uniform(2),
        (20, 6),
        generator=seeded(0),
        given=Given(torch.ones(20, 6, dtype=torch.int64), mask),
    )
    assert run.nfe == len(asked) == 5
    calls = asked[2:] if name == "absorbing" else asked[1:4]
    for chosen in calls:
        assert chosen.sum(-1).tolist() == [2, 2] * 10  # half of 4, and of 5, rounded to even
        assert not (chosen & mask).any()
    assert any(not torch.equal(a, b) for a, b in pairwise(calls))
    assert (run.samples[mask] == 1).all()


def test_masked_sites_stay_masked_and_the_model_is_told_of_the_hidden_ones() -> None:
    truth = enumerable("absorbing", length=4)
    asked: list[tuple[float, int]] = []
    table = Tabulated(truth, truth)

    def model(x: Tensor, t: float, where: Tensor) -> Tensor:
        asked.append((round(1 - float(truth.forward.noise.alpha(t)), 6), int((x[0] == 3).sum())))
        return table(x, 0.5, where)

    seen: list[Tensor] = []
    simulate(
        replace(timeless(truth), model=model),
        BlockedGibbs(KGillespie(), (Redraw(1, 0.5, 0.6), Redraw(1, 0.25))),
        CountSchedule([2, 2], order=Sequential()),
        (5, 4),
        generator=seeded(0),
        callback=lambda t, x: seen.append((x == 3).int()),
    )
    assert [masks[0].tolist() for masks in seen] == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    # Half is masked after a step, and half of the rest is hidden on average; then a quarter of all.
    assert [share for share, _ in asked] == [0.999, 0.75, 0.5, 0.25]
    assert [masks for _, masks in asked][::2] == [4, 2]
    assert asked[3][1] == 1


def test_corrections_are_made_once_and_when_they_are_due() -> None:
    redraw = Redraw(2, 0.5, 0.3)
    assert [redraw.due(t, s) for t, s in ((1.0, 0.5), (0.5, 0.3), (0.3, 0.0))] == [
        False,
        True,
        False,
    ]
    late = Redraw(time=0.9999)
    assert [late.due(t, s) for t, s in ((1.0, 0.99), (0.99, 0.0))] == [True, False]
    sampler = BlockedGibbs(Tweedie(), (redraw, Redraw(4)))
    assert sampler.calls(8) == 14
    assert sampler.steps(14) == 8
    assert sampler.evaluation_times(Step(0.5, 0.2)) == [0.5, 0.2, 0.2]
    assert sampler.name == "tweedie-blocked-gibbs"
    assert (sampler.takes, BlockedGibbs().takes) == (TimeSchedule, CountSchedule)


@pytest.mark.parametrize("masked", [16, 32, 48, 0])
def test_corrections_at_a_share_of_masks_follow_the_step_that_leaves_it(masked: int) -> None:
    """Of 64 sites, with log-linear noise, which has half of them masked at t = 0.5005."""
    plan = CountSchedule([16] * 4).plan(Absorbing(vocab_size=4, noise=LogLinear()))
    redraw = Redraw(time=masked / 64)
    due = [redraw.due(step.t, step.s) for step in plan]
    assert due == [left == masked for left in (48, 32, 16, 0)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Redraw(calls=0), "1 call or more, got 0"),
        (lambda: Redraw(share=0.0), r"share of sites must lie in \(0, 1\], got 0.0"),
        (lambda: Redraw(time=1.0), r"time of a corrector must lie in \[0, 1\), got 1.0"),
        (lambda: BlockedGibbs(redraws=()), "no redraws; pass"),
        (lambda: BlockedGibbs(FirstHitting()), "first-hitting chooses its own steps"),
        (
            lambda: BlockedGibbs().steps(8),
            "8 of the model calls of .* got NFE 8; raise it",
        ),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
