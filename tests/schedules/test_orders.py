from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from builders.kernels import kernel
from builders.models import Tabulated
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform_counts
from jumpsteps.schedules.orders import (
    ORDERS,
    Blocks,
    Dilated,
    Fixed,
    Golden,
    Mixture,
    Random,
    RevealOrder,
    Sequential,
    Spread,
    order_from_json,
    order_to_json,
)
from jumpsteps.schedules.schedule import CountSchedule

EVERY = [
    Random(),
    Spread(),
    Spread((2, 2)),
    Dilated(),
    Golden(),
    Sequential(),
    Blocks(3),
    Blocks(2, Spread()),
    Fixed((2, 0, 3, 1)),
    Fixed((0, 3, 1, 2), shift=True),
    Mixture((Sequential(), Spread()), (0.2, 0.8)),
]

every_order = pytest.mark.parametrize("order", EVERY, ids=repr)


def sites(order, length, seed=0):
    """The sites of one sequence in the order in which they are revealed."""
    return order.ranks(1, length, generator=seeded(seed))[0].argsort().tolist()


@dataclass(frozen=True)
class Own(RevealOrder):
    """An order of one's own, as wrong as its keys."""

    given: object
    name = "own"

    def keys(self, batch, length, *, generator):
        return self.given


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            torch.arange(4),
            r"order own: keys returned \[4\]; return .* a tensor \[B, L\] = \[3, 4\]",
        ),
        (torch.zeros(4, 3), r"keys returned \[4, 3\]"),
        (torch.zeros(1, 4), r"keys returned \[1, 4\]"),
        (torch.zeros(3, 4, 1), r"keys returned \[3, 4, 1\]"),
        ([0, 1, 2, 3], "keys returned list; return a number for each site"),
        (torch.full((3, 4), torch.nan), "order own: keys hold NaN, which has no place in an order"),
        (
            torch.empty(3, 4, device="meta"),
            "keys are on meta, the run is on cpu; make them on gene",
        ),
    ],
)
def test_keys_that_order_no_sites_are_refused(keys, message):
    order, free = Own(keys), torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        order.ranks(3, 4, generator=seeded(0))
    with pytest.raises(ValueError, match=message):
        order.free_ranks(free, generator=seeded(0))
    with pytest.raises(ValueError, match=message):
        Mixture((order,)).free_ranks(free, generator=seeded(0))


def test_infinite_and_equal_keys_have_ranks():
    keys = torch.tensor([[torch.inf, 1.0, 1.0, -torch.inf]])
    assert Own(keys).ranks(1, 4, generator=seeded(0)).tolist() == [[3, 1, 2, 0]]


@every_order
def test_ranks_are_permutations_and_follow_the_seed(order):
    ranks = order.ranks(50, 4, generator=seeded(0))
    assert ranks.dtype == torch.int64
    assert torch.equal(ranks.sort(-1).values, torch.arange(4).expand(50, -1))
    assert torch.equal(ranks, order.ranks(50, 4, generator=seeded(0)))


@every_order
def test_orders_round_trip_through_json(order):
    assert order_from_json(order_to_json(order)) == order


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 100])
@pytest.mark.parametrize(
    "order",
    [Random(), Spread(), Dilated(), Golden(), Sequential(), Blocks(), Blocks(5, Dilated())],
    ids=repr,
)
def test_any_length_will_do(order, length):
    assert sorted(sites(order, length)) == list(range(length))


@pytest.mark.parametrize("order", [Spread(), Dilated()], ids=repr)
def test_prefixes_are_even_lattices(order):
    """The first 2^k of 64 sites lie 64/2^k apart, all the way round."""
    for seed in range(5):
        found = sites(order, 64, seed)
        for k in range(7):
            first = torch.tensor(sorted(found[: 2**k]))
            assert ((first - first[0]) % (64 // 2**k) == 0).all()


def test_prefixes_of_golden_have_three_gaps_at_most():
    """The three-gap theorem, on the circle of ranks: the sites of a window of ranks are 3 distances
    apart at most.
    """
    found = sites(Golden(), 89)
    for n in (5, 13, 30):
        first = sorted(found[:n])
        assert len({b - a for a, b in pairwise(first)}) <= 3


def test_an_image_is_covered_evenly():
    """The first 16 of 8 x 8 sites are one in each 2 x 2 cell, for any shift; the first 4 one in
    each quarter.
    """
    for seed in range(5):
        found = sites(Spread((8, 8)), 64, seed)
        for n, size in ((4, 4), (16, 2)):
            shift = found[0] // 8, found[0] % 8
            cells = {
                ((s // 8 - shift[0]) % 8 // size, (s % 8 - shift[1]) % 8 // size) for s in found[:n]
            }
            assert len(cells) == n


def test_sequential_and_blocks():
    assert sites(Sequential(), 5) == [0, 1, 2, 3, 4]
    found = sites(Blocks(4), 10)
    assert [sorted(found[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert found != sorted(found)


def test_shifts_and_random_orders_reveal_every_site_first_alike():
    for order in (Random(), Spread(), Dilated(), Fixed((3, 1, 0, 2, 4), shift=True)):
        first = order.ranks(20_000, 5, generator=seeded(1)).argmin(-1)
        assert chi_square_p(first, torch.full((5,), 0.2, dtype=torch.float64)) > LEVEL, order


def test_mixtures_choose_by_weight():
    order = Mixture((Sequential(), Fixed((3, 2, 1, 0))), (1, 3))
    first = order.ranks(20_000, 4, generator=seeded(1)).argmin(-1)
    assert chi_square_p(first, torch.tensor([0.25, 0, 0, 0.75])) > LEVEL


@every_order
def test_one_site_for_each_step_samples_the_distribution_exactly(order):
    """No order that does not look at the data changes the distribution (three symbols, four
    sites).
    """
    truth = Enumerable.random(
        kernel("absorbing", 3), symbols=3, length=4, seed=0, concentration=0.3
    )
    reverse = PosteriorReverse(truth.forward, Tabulated(truth, truth))
    run = simulate(
        reverse,
        KGillespie(),
        CountSchedule([1, 1, 1, 1], order=order),
        (20_000, 4),
        generator=seeded(2),
    )
    assert chi_square_p(truth.index(run.samples), truth.data_distribution()) > LEVEL


@every_order
def test_more_steps_are_nearer(order):
    """Two steps are nearer to the distribution than one, and four exact: total variation of 20,000
    samples, noise about 0.03.
    """
    truth = Enumerable.random(
        kernel("absorbing", 3), symbols=3, length=4, seed=0, concentration=0.3
    )
    reverse = PosteriorReverse(truth.forward, Tabulated(truth, truth))
    distance = []
    for steps in (1, 2, 4):
        schedule = uniform_counts(steps, 4, order)
        samples = simulate(
            reverse, KGillespie(), schedule, (20_000, 4), generator=seeded(3)
        ).samples
        share = torch.bincount(truth.index(samples), minlength=len(truth.states)) / len(samples)
        distance.append(0.5 * float((share - truth.data_distribution()).abs().sum()))
    assert distance[2] < 0.04
    assert distance[2] < distance[1] < distance[0]


def test_steps_follow_the_order_and_skip_given_sites():
    truth = Enumerable.random(kernel("absorbing", 3), symbols=3, length=4, seed=0)
    given = Given(torch.tensor([0, 1, 0, 0]), torch.tensor([False, True, False, False]))
    seen = []
    simulate(
        PosteriorReverse(truth.forward, truth),
        KGillespie(),
        CountSchedule([2, 1], order=Fixed((2, 0, 3, 1))),
        (10, 4),
        generator=seeded(0),
        given=given,
        callback=lambda t, x: seen.append(x == 3),
    )
    assert [mask.all(0).tolist() for mask in seen] == [
        [True, False, True, True],
        [False, False, True, False],
        [False] * 4,
    ]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Spread((2, 3)).ranks(1, 4, generator=seeded(0)),
            r"layout \(2, 3\) has 6 sites, the sequences have 4",
        ),
        (
            lambda: Fixed((0, 1)).ranks(1, 4, generator=seeded(0)),
            "for 2 sites, the sequences have 4",
        ),
        (lambda: Fixed((0, 2)), "every rank"),
        (lambda: Blocks(0), "at least one site"),
        (lambda: Mixture(()), "at least one order"),
        (lambda: Mixture((Random(),), (0.5, 0.5)), "a weight for each"),
        (lambda: order_from_json({"type": "inwards"}), "unknown reveal order 'inwards'"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_every_order_can_be_read_from_a_file():
    assert {type(order) for order in EVERY} == set(ORDERS.values())


def test_the_order_is_drawn_once():
    """One site and two more are every second site, whatever the shift; another shift in the second
    step would break it.
    """
    truth = Enumerable.random(kernel("absorbing", 2), symbols=2, length=6, seed=0)
    seen = []
    simulate(
        PosteriorReverse(truth.forward, truth),
        KGillespie(),
        CountSchedule([1, 2, 3], order=Fixed((0, 3, 1, 4, 2, 5), shift=True)),
        (200, 6),
        generator=seeded(0),
        callback=lambda t, x: seen.append(x != 2),
    )
    revealed = seen[2].double() @ torch.tensor([[1.0, 0], [0, 1]] * 3, dtype=torch.float64)
    assert (revealed.sort(-1).values == torch.tensor([0.0, 3.0])).all()
