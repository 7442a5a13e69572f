"""Learned orders: dependence by enumeration, the greedy choice by hand, costs on exact models."""

import math
from dataclasses import dataclass
from itertools import combinations

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import Time
from jumpsteps.schedules.orders import Fixed, Random, RevealOrder, Spread
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.dynamic_programming import shortest_path
from jumpsteps.search.learned_order import assign, dependence, greedy_order, learn_order
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown

TRUTH = Enumerable.random(kernel("absorbing", 3), symbols=3, length=4, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(TRUTH.forward, TRUTH)
SEQUENCES = 4000


def enumerated_paths(sequences: int = SEQUENCES, given_mask: Tensor | None = None) -> Paths:
    data = TRUTH.sample_data(sequences, generator=seeded(0))
    return Paths.draw(TRUTH.forward, data, generator=seeded(1), given_mask=given_mask)


def divergences(a: int, b: int, known: tuple[int, ...]) -> tuple[float, float]:
    """Mean and variance over data of KL(p(x_b | known, x_a) || p(x_b | known)).

    The mean is the conditional mutual information.
    """
    rest = [site for site in range(4) if site not in (a, b, *known)]
    order = [*known, a, b]
    table = (TRUTH.table.sum(rest) if rest else TRUTH.table).permute(
        [sorted(order).index(site) for site in order]
    )
    joint = table.reshape(-1, 3, 3)
    after = joint / joint.sum(-1, keepdim=True)
    before = joint.sum(1, keepdim=True) / joint.sum((1, 2), keepdim=True)
    kl, weight = kl_divergence(after, before), joint.sum(-1)
    mean = float((weight * kl).sum())
    return mean, float((weight * kl**2).sum()) - mean**2


def check_pairs(
    found: Tensor, known_of: dict[tuple[int, int], list[tuple[int, ...]]], measurements: float
) -> None:
    """Within 4 standard errors of this many measurements from either side.

    Their standard deviation is that over data and contexts.
    """
    for (a, b), contexts in known_of.items():
        parts = [divergences(*pair, known) for known in contexts for pair in ((a, b), (b, a))]
        exact = sum(mean for mean, _ in parts) / len(parts)
        variance = sum(variance + (mean - exact) ** 2 for mean, variance in parts) / len(parts)
        assert float(found[a, b]) == pytest.approx(
            exact, abs=4 * math.sqrt(variance / measurements)
        ), (a, b)


def test_dependence_is_the_mutual_information():
    """No context: 4,000 measurements from either side of a pair."""
    found = dependence(REVERSE, enumerated_paths(), evaluations=16, generator=seeded(2))
    assert found.dtype == torch.float64
    assert torch.equal(found, found.T)
    check_pairs(found, {pair: [()] for pair in combinations(range(4), 2)}, SEQUENCES)
    for site in range(4):
        probs = TRUTH.table.sum([other for other in range(4) if other != site])
        assert float(found[site, site]) == pytest.approx(
            -float(torch.xlogy(probs, probs).sum()), abs=1e-9
        )


def test_dependence_on_a_context_is_the_conditional_information():
    """A context of one other site, or both, at random.

    A quarter and a sixth of the sequences measure a pair in an evaluation.
    """
    pairs = list(combinations(range(4), 2))
    others = {pair: tuple(site for site in range(4) if site not in pair) for pair in pairs}
    found = dependence(
        REVERSE, enumerated_paths(), evaluations=16, context_share=0.25, generator=seeded(2)
    )
    check_pairs(found, {pair: [(site,) for site in others[pair]] for pair in pairs}, SEQUENCES / 2)
    found = dependence(
        REVERSE, enumerated_paths(), evaluations=16, context_share=0.5, generator=seeded(2)
    )
    check_pairs(found, {pair: [others[pair]] for pair in pairs}, SEQUENCES / 6)


def test_observed_sites_are_context_and_depend_on_nothing():
    found = dependence(
        REVERSE,
        enumerated_paths(given_mask=torch.tensor([0, 1, 0, 0])),
        evaluations=4,
        generator=seeded(2),
    )
    check_pairs(found, {pair: [(1,)] for pair in ((0, 2), (0, 3), (2, 3))}, SEQUENCES)
    assert (found[1] == 0).all()
    assert sorted(greedy_order(found).permutation) == [0, 1, 2, 3]


def test_sites_are_assigned_equally_and_never_twice():
    hidden = torch.rand(10, 12, generator=seeded(0)) < 0.7
    assigned = assign(hidden, 5, generator=seeded(1))
    assert assigned.shape == (5, 10)
    assert all(hidden[row, site] for call in assigned for row, site in enumerate(call))
    assert all(len(set(row.tolist())) == 5 for row in assigned.T)
    assert set(torch.bincount(assigned.flatten(), minlength=12).tolist()) == {4, 5}


CHAIN = MarkovChain(kernel("absorbing", 8), *countdown.chain(8))
LENGTH = 32


def chain_paths(sequences: int, seed: int) -> Paths:
    data = countdown.sample_data(sequences, generator=seeded(seed), symbols=8, length=LENGTH)
    return Paths.draw(CHAIN.forward, data, generator=seeded(seed + 1))


def test_stationary_data_are_averaged_over_distances():
    """One value per distance: the mean of the plain estimate over its pairs."""
    reverse, paths = PosteriorReverse(CHAIN.forward, CHAIN), chain_paths(32, 0)
    plain, pooled = (
        dependence(
            reverse, paths, evaluations=LENGTH + 1, stationary=stationary, generator=seeded(2)
        )
        for stationary in (False, True)
    )
    for distance in (0, 1, 7, LENGTH - 1):
        assert pooled.diagonal(distance).tolist() == pytest.approx(
            [float(plain.diagonal(distance).mean())] * (LENGTH - distance)
        )
    assert pooled[0, 1] > pooled[0, 3] > pooled[0, 7]


def test_stationary_data_need_not_reveal_every_site():
    paths = Paths.draw(CHAIN.forward, chain_paths(4, 0).data[:, :16], generator=seeded(1))
    order = learn_order(
        PosteriorReverse(CHAIN.forward, CHAIN),
        paths,
        evaluations=2,
        stationary=True,
        generator=seeded(2),
    )
    assert sorted(order.permutation) == list(range(16))


@dataclass(frozen=True)
class Shuffled:
    """A model whose site i is the site place[i] of another model."""

    model: Model
    place: Tensor

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = self.model(x[:, self.place.argsort()], t)[:, self.place]
        return out if where is None else out[where]


def predicted(reverse: PosteriorReverse, paths: Paths, order: RevealOrder, nfe: int) -> float:
    costs = count_costs(reverse, paths, order, evaluations=LENGTH, generator=seeded(5))
    return costs.predict(shortest_path(costs, nfe))[0]


@pytest.mark.slow
def test_the_learned_order_beats_spread_where_neighbours_are_not_alike():
    """A shuffled chain, other data: spread costs what random does, the learned order far less."""
    place = torch.randperm(LENGTH, generator=seeded(7))
    reverse = PosteriorReverse(CHAIN.forward, Shuffled(CHAIN, place))
    paths, fresh = (
        Paths.draw(CHAIN.forward, chain_paths(n, seed).data[:, place], generator=seeded(3))
        for n, seed in ((64, 0), (200, 10))
    )
    learned = learn_order(reverse, paths, evaluations=16, generator=seeded(4))
    for nfe, share in ((2, 0.55), (4, 0.15)):
        spread, random = (predicted(reverse, fresh, order, nfe) for order in (Spread(), Random()))
        assert spread > 0.8 * random
        assert predicted(reverse, fresh, learned, nfe) < share * spread


def test_the_learned_order_comes_near_spread_where_neighbours_are_alike():
    """A chain of 32 sites is the best case of spread: within a tenth of what random costs."""
    reverse, fresh = PosteriorReverse(CHAIN.forward, CHAIN), chain_paths(200, 10)
    learned = learn_order(
        reverse, chain_paths(64, 0), evaluations=16, stationary=True, generator=seeded(4)
    )
    for nfe in (2, 4):
        found, spread, random = (
            predicted(reverse, fresh, order, nfe) for order in (learned, Spread(), Random())
        )
        assert found < spread + 0.1 * random


def by_rank(dependence: list[list[float]]) -> list[int]:
    return torch.tensor(greedy_order(torch.tensor(dependence)).permutation).argsort().tolist()


def test_the_greedy_choice_by_hand():
    """Entropies 1. Site 2 explains half of 1 and of 3; site 0 a tenth of 1; else nothing.

    At first 2 scores 1 + 2 x 0.25, the most. Then 0.75 of 1 and of 3 are unexplained: 0 scores
    1 + 0.01 x 0.75, 1 and 3 score 0.75 squared, and 1 another 0.01.
    """
    pairs = [[1.0, 0.1, 0.0, 0.0], [0.1, 1.0, 0.5, 0.0], [0.0, 0.5, 1.0, 0.5], [0.0, 0.0, 0.5, 1.0]]
    assert by_rank(pairs) == [2, 0, 3, 1]


def test_the_greedy_choice_follows_its_formula():
    """Sites of unequal entropies, against the formula term by term."""
    for seed in range(20):
        length = 7
        root = torch.rand(length, length, generator=seeded(seed), dtype=torch.float64) ** 3
        table = torch.minimum(root, root.T).fill_diagonal_(0) + torch.diag(
            1 + torch.arange(length) % 3
        )
        share = [
            [float(table[b, c] / table[c, c]) ** 2 for c in range(length)] for b in range(length)
        ]
        chosen: list[int] = []
        while len(chosen) < length:
            unexplained = [math.prod(1 - share[a][c] for a in chosen) for c in range(length)]
            score = {
                b: unexplained[b] * sum(share[b][c] * unexplained[c] for c in range(length))
                for b in range(length)
                if b not in chosen
            }
            chosen.append(max(score, key=score.__getitem__))
        assert by_rank(table.tolist()) == chosen


def test_a_hub_comes_first():
    """All others depend on site 3 and, given it, not on each other."""
    table = torch.full((5, 5), 0.1).fill_diagonal_(1)
    table[3] = table[:, 3] = torch.tensor([0.4, 0.4, 0.4, 1.0, 0.4])
    assert greedy_order(table).permutation[3] == 0


def test_two_blocks_take_turns():
    """Neighbours in rank are of different blocks, {0, 1, 2} and {3, 4, 5}."""
    table = torch.block_diag(torch.full((3, 3), 0.6), torch.full((3, 3), 0.6)).fill_diagonal_(1)
    found = by_rank(table.tolist())
    assert all({site // 3 for site in found[i : i + 2]} == {0, 1} for i in (0, 2, 4))


def test_independent_sites_are_spread():
    assert by_rank(torch.eye(8).tolist()) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert by_rank(torch.zeros(5, 5).tolist()) == [0, 4, 2, 1, 3]
    assert by_rank([[0.7]]) == [0]


def test_learned_orders_follow_the_seed():
    paths = enumerated_paths(50)
    first, second = (
        learn_order(REVERSE, paths, evaluations=3, generator=seeded(0)) for _ in range(2)
    )
    assert isinstance(first, Fixed)
    assert first == second
    tables = [dependence(REVERSE, paths, evaluations=3, generator=seeded(n)) for n in (0, 1)]
    assert not torch.equal(*tables)


def excluding(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
    """Excludes symbol 0 until a site is known, a contradiction."""
    out = torch.zeros(*x.shape, 4)
    out[(x == 3).all(-1), :, 0] = -torch.inf
    return out if where is None else out[where]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evaluations": 1}, "one more at least, got evaluations=1"),
        (
            {"evaluations": 2},
            r"2 of 4 sites were not revealed in any of 2 sequences; pass at least evaluations=3",
        ),
        (
            {"context_share": 0.75},
            "context_share=0.75 must lie in .* and leave at least two of the 4 free sites masked",
        ),
        ({"context_share": -0.1}, "context_share=-0.1 must lie in"),
        ({"context_share": 1.0}, "context_share=1.0 must lie in"),
    ],
)
def test_errors_of_learn_order(arguments, message):
    with pytest.raises(ValueError, match=message):
        learn_order(REVERSE, enumerated_paths(2), generator=seeded(0), **arguments)


def test_other_kernels_and_contradictory_models_are_refused():
    uniform = kernel("uniform", 3)
    paths = Paths.draw(uniform, torch.zeros(2, 2, dtype=torch.int64), generator=seeded(1))
    reverse = PosteriorReverse(uniform, Enumerable.random(uniform, symbols=3, length=2, seed=0))
    with pytest.raises(ValueError, match="for the absorbing kernel, got uniform"):
        dependence(reverse, paths, generator=seeded(0))
    with pytest.raises(ValueError, match="excluded when less was known"):
        dependence(
            PosteriorReverse(TRUTH.forward, excluding),
            enumerated_paths(4),
            evaluations=3,
            generator=seeded(0),
        )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.ones(2, 3), r"shape \[L, L\], got \[2, 3\]"),
        (torch.ones(3), r"got \[3\]"),
        (torch.ones(0, 0), r"got \[0, 0\]"),
        (-torch.ones(2, 2), "negative or not finite"),
        (torch.full((2, 2), torch.inf), "negative or not finite"),
        (torch.full((2, 2), torch.nan), "negative or not finite"),
    ],
)
def test_errors_of_greedy_order(table, message):
    with pytest.raises(ValueError, match=message):
        greedy_order(table)
