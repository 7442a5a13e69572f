"""Count costs, against enumeration: every subset of revealed sites, every order."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.fixed import uniform, uniform_counts
from jumpsteps.schedules.orders import Fixed, Mixture, Random, Spread
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.costs.by_count import count_costs, revealed_counts
from jumpsteps.search.dynamic_programming import shortest_path
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown

TRUTH = Enumerable.random(kernel("absorbing", 3), symbols=3, length=4, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(TRUTH.forward, TRUTH)
ORDER = Fixed((2, 0, 3, 1))


def entropy(probs: torch.Tensor) -> float:
    return -float(torch.xlogy(probs, probs).sum())


def joint_entropy(sites: tuple[int, ...]) -> float:
    rest = [site for site in range(4) if site not in sites]
    return entropy(TRUTH.table.sum(rest) if rest else TRUTH.table)


def exact_cost(known: tuple[int, ...], drawn: tuple[int, ...]) -> float:
    """The total correlation of the drawn sites: sum H(x_l | known) - H(drawn | known)."""
    given = joint_entropy(known) if known else 0.0
    alone = sum(joint_entropy((*known, site)) - given for site in drawn)
    return alone - (joint_entropy((*known, *drawn)) - given)


def estimate(order, sequences=6000, evaluations=64, given_mask=None):
    paths = Paths.draw(
        TRUTH.forward,
        TRUTH.sample_data(sequences, generator=seeded(0)),
        generator=seeded(1),
        given_mask=given_mask,
    )
    return count_costs(
        REVERSE, paths, order, evaluations=evaluations, bandwidth=0, generator=seeded(2)
    )


@pytest.mark.statistical
def test_every_step_of_a_fixed_order_costs_its_total_correlation():
    """An evaluation at every count: no interpolation. Within 4 standard errors."""
    costs = estimate(ORDER)
    assert costs.grid.tolist() == [4, 3, 2, 1, 0]
    assert costs.model_calls == 4
    by_rank = np.argsort(ORDER.permutation)
    for i, k in combinations(range(5), 2):
        exact = exact_cost(tuple(by_rank[:i]), tuple(by_rank[i:k]))
        assert costs.value[i, k] == pytest.approx(exact, abs=4 * costs.stderr[i, k] + 1.1e-3)
        assert costs.stderr[i, k] < 0.05 * max(exact, 0.2)
    assert np.isinf(costs.value[np.tril_indices(5)]).all()


@pytest.mark.statistical
def test_a_random_order_costs_the_mean_over_subsets():
    costs = estimate(Random())
    for i, k in combinations(range(5), 2):
        every = [
            exact_cost(known, drawn)
            for known in combinations(range(4), i)
            for drawn in combinations([s for s in range(4) if s not in known], k - i)
        ]
        assert costs.value[i, k] == pytest.approx(
            np.mean(every), abs=4 * costs.stderr[i, k] + 1.1e-3
        )


@pytest.mark.statistical
def test_a_random_order_is_pooled_over_ranks():
    """As a mixture of one its ranks are not pooled: the same costs with larger standard errors."""
    pooled, single = (
        estimate(Random(), sequences=2000),
        estimate(Mixture((Random(),)), sequences=2000),
    )
    both = np.hypot(pooled.stderr[0, 2], single.stderr[0, 2])
    assert pooled.value[0, 2] == pytest.approx(single.value[0, 2], abs=4 * both)
    assert pooled.stderr[0, 2] < 0.85 * single.stderr[0, 2]


@pytest.mark.statistical
def test_predictions_are_exact_divergences_and_the_shortest_path_is_the_best():
    """In a fixed order the summed cost is KL(data || samples) exactly."""
    costs = estimate(ORDER)
    by_rank = np.argsort(ORDER.permutation)
    for counts in ((4,), (1, 3), (2, 2), (1, 1, 2), (1, 1, 1, 1)):
        schedule = CountSchedule(counts, order=ORDER)
        cost, stderr = costs.predict(schedule)
        assert cost == pytest.approx(divergence(by_rank, counts), abs=4 * stderr + 1e-9)
    for n in (1, 2, 3, 4):
        ways = [(0, *inner, 4) for inner in combinations(range(1, 4), n - 1)]
        best = min(ways, key=lambda way: sum(costs.value[i, k] for i, k in pairwise(way)))
        found = shortest_path(costs, n)
        assert found.counts == tuple(np.diff(best))
        assert found.order == ORDER


def divergence(by_rank: np.ndarray, counts: tuple[int, ...]) -> float:
    """KL(p_0 || q), q the product over steps of the sites' marginals given all sites before."""
    q, known = torch.ones_like(TRUTH.table), []
    for count in counts:
        drawn = by_rank[len(known) : len(known) + count].tolist()
        for site in drawn:
            rest = [s for s in range(4) if s not in (*known, site)]
            both = TRUTH.table.sum(rest, keepdim=True) if rest else TRUTH.table
            q = q * both / both.sum(site, keepdim=True)
        known += drawn
    return float(kl_divergence(TRUTH.table.reshape(-1), q.reshape(-1)))


@pytest.mark.parametrize(
    ("order", "share", "nats"), [(Random(), 0.1, 0.3), (Spread(), 0.3, 0.7)], ids=repr
)
def test_costs_between_evaluations_are_interpolated(order, share, nats):
    """CountDown, 64 sites: costs from 16 evaluations are those from 64, within a share or nats."""
    forward = kernel("absorbing", 16)
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    data = countdown.sample_data(64, generator=seeded(0), symbols=16, length=64)
    coarse, fine = (
        count_costs(
            reverse,
            Paths.draw(forward, data, generator=seeded(1)),
            order,
            evaluations=n,
            generator=seeded(2),
        )
        for n in (16, 64)
    )
    assert coarse.model_calls <= 16 < fine.model_calls == 64
    for counts in (
        uniform_counts(32, 64).counts,
        uniform_counts(8, 64).counts,
        (2, 5, 8, 12, 37),
        (64,),
    ):
        schedule = CountSchedule(counts, order=order)
        assert coarse.predict(schedule)[0] == pytest.approx(
            fine.predict(schedule)[0], rel=share, abs=nats
        )


def test_observed_sites_are_known_from_the_start():
    known = torch.tensor([False, True, False, True])
    costs = estimate(ORDER, given_mask=known)
    assert costs.grid.tolist() == [2, 1, 0]
    assert costs.value[0, 2] == pytest.approx(
        exact_cost((1, 3), (0, 2)), abs=4 * costs.stderr[0, 2]
    )


@pytest.mark.statistical
def test_the_standard_error_is_the_standard_deviation_over_repetitions():
    found = []
    for seed in range(60):
        paths = Paths.draw(
            TRUTH.forward,
            TRUTH.sample_data(50, generator=seeded(seed)),
            generator=seeded(100 + seed),
        )
        found.append(count_costs(REVERSE, paths, ORDER, generator=seeded(seed)))
    cost, stderr = zip(
        *(costs.predict(CountSchedule([2, 2], order=ORDER)) for costs in found), strict=True
    )
    assert np.mean(stderr) == pytest.approx(np.std(cost, ddof=1), rel=0.3)


def test_revealed_counts():
    assert revealed_counts(256, 64, exchangeable=True)[:4].tolist() == [0, 1, 2, 3]
    octaves = [*range(8), *range(8, 16, 2), *range(16, 32, 4), *range(32, 64, 8)]
    assert revealed_counts(64, 24, exchangeable=False).tolist() == octaves
    for exchangeable in (True, False):
        for sites, most in ((1, 1), (5, 64), (256, 48), (1024, 64), (7, 3), (100, 2), (100, 7)):
            starts = revealed_counts(sites, most, exchangeable=exchangeable)
            assert starts[0] == 0
            assert starts[-1] < sites
            assert (np.diff(starts) > 0).all()
            assert len(starts) <= min(sites, most)
            assert not exchangeable or len(starts) == min(sites, most)


def test_long_sequences_have_a_coarser_grid():
    """Costs on a grid of 4 of 16 sites are those of the full grid less those within intervals."""
    forward = kernel("absorbing", 4)
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(4)))
    paths = Paths.draw(
        forward,
        countdown.sample_data(50, generator=seeded(0), symbols=4, length=16),
        generator=seeded(1),
    )
    full, coarse = (
        count_costs(reverse, paths, Spread(), evaluations=16, grid_intervals=n, generator=seeded(2))
        for n in (16, 4)
    )
    assert coarse.grid.tolist() == [16, 12, 8, 4, 0]
    index = [0, 4, 8, 12, 16]
    inner = np.array([full.per_sequence(i)[3].mean() for i in index[:-1]])
    for i, k in combinations(range(5), 2):
        assert coarse.value[i, k] == pytest.approx(
            full.value[index[i], index[k]] - inner[i:k].sum(), abs=1e-9
        )


def test_of_equal_costs_the_most_uniform_is_found():
    free = Enumerable(kernel("absorbing", 2), torch.full((2,) * 6, 2.0**-6, dtype=torch.float64))
    paths = Paths.draw(free.forward, free.sample_data(20, generator=seeded(0)), generator=seeded(1))
    costs = count_costs(PosteriorReverse(free.forward, free), paths, Spread(), generator=seeded(2))
    assert shortest_path(costs, 3).counts == (2, 2, 2)


def test_errors():
    costs = estimate(ORDER, sequences=10)
    with pytest.raises(ValueError, match="not one of counts on the grid"):
        costs.predict(CountSchedule([3, 2]))
    with pytest.raises(ValueError, match="not one of counts on the grid"):
        costs.predict(uniform(2))
    paths = Paths.draw(
        TRUTH.forward, TRUTH.sample_data(1, generator=seeded(0)), generator=seeded(1)
    )
    with pytest.raises(ValueError, match="at least two sequences, got 1"):
        count_costs(REVERSE, paths, Spread(), generator=seeded(0))
    forward = Uniform(vocab_size=3, noise=LogLinear())
    reverse = PosteriorReverse(forward, Enumerable.random(forward, symbols=3, length=2, seed=0))
    paths = Paths.draw(forward, torch.zeros(2, 2, dtype=torch.int64), generator=seeded(1))
    with pytest.raises(ValueError, match="reveal orders are for the absorbing kernel"):
        count_costs(reverse, paths, Spread(), generator=seeded(0))
