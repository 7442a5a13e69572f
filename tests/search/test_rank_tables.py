"""Tables of costs by rank, against their definition term by term, and shared by processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.threads import in_threads
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.information import Floats
from jumpsteps.schedules.orders import Random, RevealOrder, Spread
from jumpsteps.search.costs.by_count import OrderEvaluations
from jumpsteps.search.costs.calibration_gap import smoothed_gap
from jumpsteps.search.costs.count_table import CountCosts
from jumpsteps.search.costs.rank_tables import (
    TotalCorrelations,
    entropy_slopes,
    pooled_over_ranks,
)

COUNTS = np.array([0, 1, 2, 5, 8])


def evaluations(
    order: RevealOrder, sequences: int, sites: int, workers: Workers = ALONE
) -> OrderEvaluations:
    """Falling entropies and a gap with noise."""
    rng = np.random.default_rng(sites)
    masked = np.arange(sites) >= COUNTS[:, None, None]
    fall = 1 / (1 + COUNTS[:, None, None]) + rng.random((len(COUNTS), sequences, sites))
    gap = 0.3 + rng.standard_normal(fall.shape)
    entropy, gap = (torch.from_numpy(each * masked) for each in (fall, gap))
    return OrderEvaluations(order, COUNTS, entropy, gap, workers)


def known(entropy: Tensor, slopes: Tensor, b: int, j: int, m: int) -> float:
    """H(x_j | first m) of one sequence."""
    k = max(k for k in range(len(COUNTS)) if COUNTS[k] <= m)
    end = COUNTS[k + 1] if k + 1 < len(COUNTS) else entropy.shape[-1]
    if j < end:
        return float(entropy[k, b, j] - (m - COUNTS[k]) * slopes[k, b])
    share = (m - COUNTS[k]) / (end - COUNTS[k])
    return float((1 - share) * entropy[k, b, j] + share * entropy[k + 1, b, j])


@pytest.mark.parametrize("exchangeable", [True, False])
@pytest.mark.parametrize("revealed", [range(11), (0, 3, 4, 9)])
def test_costs_are_sums_over_the_ranks_of_a_step(exchangeable, revealed):
    entropy = evaluations(Random(), 3, 11).entropy
    grid = np.array(revealed)
    table = TotalCorrelations(entropy, COUNTS, grid, exchangeable)
    slopes = entropy_slopes(entropy, COUNTS, exchangeable=exchangeable)
    means = table.mean_rows(np.arange(len(grid)))
    for i, m in enumerate(grid.tolist()):
        row = table.row(i)
        assert row.shape == (len(grid) - i, 3)
        for b in range(3):
            total, alone, ends = 0.0, 0.0, [*grid[i + 1 :].tolist(), 11]
            for j in range(m, 11):
                turn = max(point for point in grid.tolist() if point <= j)
                own = known(entropy, slopes, b, j, turn)
                alone += own
                total += known(entropy, slopes, b, j, m) - own
                if j + 1 in ends:
                    assert row[ends.index(j + 1), b] == pytest.approx(total, abs=1e-12)
            assert i or table.alone[b] == pytest.approx(alone, abs=1e-12)
        assert (row[0] == 0).all()
        assert means[i, i + 1 :] == pytest.approx(row.mean(-1), abs=1e-12)
        assert (means[i, : i + 2] == 0).all()
        errors = table.standard_errors(i, np.arange(i + 1, len(grid) + 1))
        assert errors == pytest.approx(row.std(-1, ddof=1) / np.sqrt(3), abs=1e-12)


def contents(costs: CountCosts) -> list[Floats]:
    assert costs.alone is not None
    rows = [costs.per_sequence(i) for i in range(len(costs.grid) - 1)]
    return [costs.grid, costs.value, costs.stderr, costs.alone, *rows]


@pytest.mark.parametrize("order", [Random(), Spread()])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_make_the_table_of_one_to_the_bit(order, count, monkeypatch):
    """Also more processes than evaluations."""
    for sites, grid in ((40, np.arange(40)), (9, np.array([0, 4]))):
        alone = contents(evaluations(order, 6, sites).by_data(grid, 2.0))

        def share(workers: Workers, sites: int = sites, grid: np.ndarray = grid) -> list[Floats]:
            return contents(evaluations(order, 6, sites, workers).by_data(grid, 2.0))

        for found in in_threads(monkeypatch, count, share):
            for one, other in zip(alone, found, strict=True):
                assert np.array_equal(one, other)


def test_a_negative_cost_counts_by_what_is_significant():
    """Standard errors are computed where they are needed; they are those of all steps."""
    each, grid = evaluations(Spread(), 6, 40), np.arange(40)
    assert each.gap is not None
    rising = replace(each, entropy=each.entropy.flip(0) * (each.gap != 0))
    costs = rising.by_data(grid, 0.0)
    smooth = rising.entropy.mean(1, keepdim=True) + smoothed_gap(
        each.gap, COUNTS, 0.0, exchangeable=False
    )
    expected, seen = TotalCorrelations(smooth, COUNTS, grid, False), 0
    for i in range(40):
        mean, error = expected.row(i)[:, 0], costs.stderr[i, i + 1 :]
        cost = np.where(mean < 0, np.minimum(mean + 2 * error, 0), mean)
        ties = 1e-3 * (np.arange(1, 41 - i) / 40) ** 2
        assert costs.value[i, i + 1 :] == pytest.approx(cost + ties, abs=1e-12)
        seen += (cost < 0).sum()
    assert seen > 10


def test_a_random_order_has_the_smoothed_mean_at_every_masked_rank():
    """The mean of each sequence, times what weighted least squares make of the mean's logarithm."""
    entropy = evaluations(Random(), 3, 11).entropy
    number = np.arange(len(COUNTS))
    own = np.array(
        [[row[m:].mean() for row in each] for each, m in zip(entropy.numpy(), COUNTS, strict=True)]
    )
    logs = np.log(own.mean(1))
    for bandwidth in (0.0, 1.5):
        found = pooled_over_ranks(entropy, COUNTS, bandwidth)
        for k, m in enumerate(COUNTS):
            expected = logs[k]
            if bandwidth:
                root = np.exp(-0.25 * ((number - k) / bandwidth) ** 2)
                design = np.stack([np.ones(len(COUNTS)), number - k], 1)
                expected = np.linalg.lstsq(root[:, None] * design, root * logs, rcond=None)[0][0]
            level = own[k] * np.exp(expected - logs[k])
            np.testing.assert_allclose(found[k, :, m:], np.repeat(level[:, None], 11 - m, 1))
            assert (found[k, :, :m] == 0).all()


def test_where_nothing_is_uncertain_a_random_order_has_no_entropy():
    entropy = evaluations(Random(), 3, 11).entropy
    entropy[2] = 0
    found = pooled_over_ranks(entropy, COUNTS, 1.5)
    assert (found[2] == 0).all()
    assert found.isfinite().all()


@pytest.mark.parametrize("exchangeable", [True, False])
def test_slopes_are_those_of_the_ranks_behind_from_two_pairs_of_evaluations(exchangeable):
    """The first and the last evaluation have one neighbour each."""
    entropy, ends = evaluations(Random(), 3, 11).entropy.numpy(), [*COUNTS.tolist(), 11]
    falls = [
        (entropy[k] - entropy[k + 1])[:, ends[k + 1] : ends[k + 2]].mean(-1)
        / (ends[k + 1] - ends[k])
        for k in range(len(COUNTS) - 1)
    ]
    found = entropy_slopes(torch.from_numpy(entropy), COUNTS, exchangeable=exchangeable).numpy()
    lesser = set()
    for k, slope in enumerate(found):
        both = falls[max(k - 1, 0) : k + 1]
        means = [float(fall.mean()) for fall in both]
        lesser.add(means.index(min(means)) if len(means) == 2 else None)
        expected = np.mean(both, 0) if exchangeable else both[means.index(min(means))]
        assert slope == pytest.approx(expected, abs=1e-12)
    assert lesser == {0, 1, None}


def test_one_evaluation_has_no_slope():
    """Nothing is known of how entropies fall, and a step of all sites has no cost."""
    entropy = evaluations(Spread(), 3, 11).entropy[:1]
    for exchangeable in (False, True):
        slopes = entropy_slopes(entropy, COUNTS[:1], exchangeable=exchangeable)
        assert (slopes == 0).all()
        assert slopes.shape == (1, 3)


def test_calibration_is_that_of_a_masked_site():
    """At the evaluations whose shares of masked sites are nearest to the noise levels."""
    each = evaluations(Spread(), 7, 10)
    assert each.gap is not None
    entropy, gap = each.entropy.numpy(), each.gap.numpy()
    found = each.calibration()
    assert [one.masked for one in found] == [1.0, 0.5, 0.2]
    for one, k in zip(found, (0, 3, 4), strict=True):
        masked = slice(COUNTS[k], None)
        gaps = gap[k, :, masked].mean(-1)
        assert one.entropy == pytest.approx(entropy[k, :, masked].mean())
        assert one.gap == pytest.approx(gaps.mean())
        assert one.stderr == pytest.approx(gaps.std(ddof=1) / np.sqrt(7))
