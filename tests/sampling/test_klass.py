"""KLASS has the distribution of its own rule on an enumerable model."""

import pytest
import torch
from torch import Tensor

from builders.samplers import (
    conditional,
    data_index,
    distribution_in_groups,
    enumerable,
    timeless,
    total_variation,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps import Enumerable
from jumpsteps.sampling.klass import KLASS
from jumpsteps.sampling.loop import simulate


def at_site(table: Tensor, x: tuple[int, ...], site: int, known: tuple[int, ...]) -> Tensor:
    """p(x^site | x^known), [symbols]."""
    there = tuple(
        slice(x[axis], x[axis] + 1) if axis in known else slice(None) for axis in range(table.ndim)
    )
    return conditional(table[there], site, known).reshape(-1)


def klass_groups(table: Tensor, x: tuple[int, ...], sampler: KLASS) -> list[tuple[int, ...]]:
    """The sites that each call of a run that ends at x reveals."""
    groups: list[tuple[int, ...]] = []
    known: tuple[int, ...] = ()
    before: dict[int, Tensor] = {}
    rest = dict.fromkeys(range(table.ndim), 0)
    while len(known) < table.ndim:
        now = {s: at_site(table, x, s, known) for s in range(table.ndim) if s not in known}
        for site, p in now.items():
            still = site in before and (p * (p / before[site]).log()).sum() <= sampler.divergence
            rest[site] = rest[site] + 1 if still else 0
        group = tuple(
            site
            for site, p in now.items()
            if p.max() >= sampler.confidence and rest[site] >= sampler.history
        )
        group = group or (max(now, key=lambda site: float(now[site].max())),)
        groups.append(group)
        known, before = known + group, now
    return groups


def klass_distribution(truth: Enumerable, sampler: KLASS) -> Tensor:
    probs = torch.zeros_like(truth.table)
    for x in truth.table.nonzero().tolist():
        groups = klass_groups(truth.table, tuple(x), sampler)
        probs[tuple(x)] = distribution_in_groups(truth.table, groups)[tuple(x)]
    return probs


@pytest.mark.parametrize(
    "sampler",
    [
        KLASS(0.0, 0.0, history=0),
        KLASS(0.5, 0.0, history=0),
        KLASS(0.4, 0.05, history=1),
        KLASS(0.0, 5.0, history=2),
        KLASS(0.0, 5.0, history=9),
    ],
    ids=str,
)
def test_klass_has_its_exact_distribution(sampler: KLASS) -> None:
    truth = enumerable("absorbing", length=4)
    run = simulate(timeless(truth), sampler, None, (100_000, 4), generator=seeded(1))
    probs = klass_distribution(truth, sampler)
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    groups = [klass_groups(truth.table, tuple(x), sampler) for x in truth.table.nonzero().tolist()]
    assert run.nfe == max(map(len, groups))
    assert torch.equal(run.calls.unique(), torch.tensor(sorted({len(one) for one in groups})))
    if sampler.history == 9:
        torch.testing.assert_close(probs, truth.table)
        assert run.nfe == 4
    elif (sampler.confidence, sampler.history) == (0, 0):
        torch.testing.assert_close(probs, distribution_in_groups(truth.table, [(0, 1, 2, 3)]))
        assert run.nfe == 1
    else:
        assert total_variation(probs, truth.table) > 0.01
        assert run.nfe in (3, 4)
