"""The reveal order of the least few-step NLL among several, with the shortest path of counts.

One half of the sequences learns an order and chooses each order's counts. The other half, which did
neither, says how improbable data are under each: its few-step NLL chooses the order. An excess
could not, because a network has another distribution of one site at a time for every order.

Orders are compared by schedules that stop only where the model was evaluated, so that nothing is
interpolated. Those have at most ``AutoOrder.screening`` steps, also where more are asked for. All
orders share the evaluation with no site known. The chosen ones are then evaluated at more numbers
of known sites, and all sequences choose their counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import check_at_least, kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.information import Floats, half_width, standard_error
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Blocks, Dilated, Golden, Random, RevealOrder, Spread
from jumpsteps.search.costs.by_count import (
    OrderEvaluations,
    evaluate_orders,
    grid_counts,
    revealed_counts,
    start_uncertainties,
)
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.doubts import doubt_calibration
from jumpsteps.search.dynamic_programming import shortest_paths
from jumpsteps.search.learned_order import learn_order
from jumpsteps.search.method import FoundSchedule, OrderChoice
from jumpsteps.search.paths import Paths

__all__ = ["AutoOrder"]

Counts = NDArray[np.int64]

LEARNED = "learned"

STATES = 2
"""States of every sequence in one model call."""

LEAST_SEQUENCES = 4
"""Two of them choose counts, and two compare the orders."""

LEARNED_NUMBERS = 2**27
"""A learned order compares distributions of all sites and symbols of the learning half; with more
numbers than this (1 GiB) it is no candidate."""


@dataclass(frozen=True)
class Candidate:
    """An order's ranks and what was evaluated in it.

    Attributes:
        ranks: of the free sites, int64 [B, L].
        evaluated: on all sequences.
    """

    ranks: Tensor
    evaluated: OrderEvaluations


@kinds_checked()
@dataclass(frozen=True)
class AutoOrder:
    """The shortest path in the best of several orders (absorbing kernel), as a search.

    Attributes:
        orders: the candidates; random, spread, golden and dilated order if None, and blocks where
            sites are observed and more than a block of them is free.
        learned: whether an order learned from the data is a candidate.
        evaluations: model calls at most; one evaluates two states of every sequence.
        order_evaluations: those of them that an order is learned from.
        screening: states of each order before one is chosen.
        bandwidth, grid_intervals: as those of ``ShortestPath``.

    Raises:
        ValueError: a number that is too small.
    """

    orders: tuple[RevealOrder, ...] | None = None
    learned: bool = True
    evaluations: int = 48
    order_evaluations: int = 10
    screening: int = 12
    bandwidth: float = 2.0
    grid_intervals: int = 512
    source = "this library; Lavenant & Zanella 2025; Chen et al. 2025"

    def __post_init__(self) -> None:
        check_at_least(1, screening=self.screening, grid_intervals=self.grid_intervals)
        check_at_least(0, bandwidth=self.bandwidth)

    @property
    def name(self) -> str:
        return "auto"

    @property
    def sampler(self) -> Sampler:
        return KGillespie()

    @property
    def max_evaluations(self) -> int:
        return self.evaluations

    def measures_by_data(self, forward: ForwardProcess, sampler: Sampler) -> bool:
        """Always."""
        return True

    @torch.no_grad()
    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """For each number of steps the counts in the best order.

        Raises:
            ValueError: a kernel other than absorbing, a sampler that does not count sites, fewer
                than four sequences, or sequences with different numbers of free sites.
        """
        check(reverse, paths, sampler)
        half = len(paths.data) // 2
        counter = CallCounter(reverse.model)
        reverse = replace(reverse, model=counter)
        candidates = self.candidates(reverse, paths, half, generator)
        doubt_calibration(next(iter(candidates.values())).evaluated.calibration())
        nll = self.of_all(candidates, half, steps, paths.workers)
        best = choices({n: {name: nll[name][n] for name in nll} for n in steps})
        chosen = sorted({one.order for one in best.values()})
        more = STATES * max(self.evaluations - counter.calls, 0) // len(chosen)
        found: dict[int, FoundSchedule] = {}
        for name in chosen:
            candidate = refined(reverse, paths, candidates[name], more)
            those = [n for n, one in best.items() if one.order == name]
            found |= self.schedules(candidate.evaluated, those)
        return {n: replace(found[n], choice=best[n]) for n in steps}

    def candidates(
        self, reverse: ReverseProcess, paths: Paths, half: int, generator: torch.Generator
    ) -> dict[str, Candidate]:
        """Every candidate with its evaluations, the random order first."""
        orders = {order.name: order for order in self.orders or default_orders(paths)}
        learning = paths.rows(torch.arange(half))
        if self.learned and learnable(learning):
            free = int(paths.free.any(0).sum())
            orders[LEARNED] = learn_order(
                reverse,
                learning,
                evaluations=self.order_evaluations,
                stationary=half * (self.order_evaluations - 1) < free,
                generator=generator,
            )
        wanted = [
            (
                order,
                paths.free_ranks(order, generator=generator),
                screening_counts(paths.sites, self.screening, order),
            )
            for order in orders.values()
        ]
        start = start_uncertainties(reverse, paths)
        evaluated = evaluate_orders(
            reverse, paths, wanted, Measure.DATA, start=start, together=STATES
        )
        return {
            name: Candidate(ranks, one)
            for name, (_, ranks, _), one in zip(orders, wanted, evaluated, strict=True)
        }

    def of_all(
        self, candidates: Mapping[str, Candidate], half: int, steps: list[int], workers: Workers
    ) -> dict[str, dict[int, Floats]]:
        """``compared`` of every candidate; each process compares some of them."""
        evaluated = [one.evaluated for one in candidates.values()]
        own = [
            np.stack([*self.compared(evaluated[i], half, steps).values()])
            for i in workers.rows_of(len(evaluated)).tolist()
        ]
        every = workers.of_all(torch.from_numpy(np.stack(own)), len(evaluated)).numpy()
        return {
            name: dict(zip(steps, nll, strict=True))
            for name, nll in zip(candidates, every, strict=True)
        }

    def compared(
        self, evaluated: OrderEvaluations, half: int, steps: list[int]
    ) -> dict[int, Floats]:
        """By number of steps, the few-step NLL of the second half of the sequences under the counts
        that the first half chose, [B - half].
        """
        evaluated = replace(evaluated, workers=ALONE)
        first = evaluated.rows(slice(half)).by_data(evaluated.counts, self.bandwidth)
        second = evaluated.rows(slice(half, None))
        fewer = {n: min(n, len(evaluated.counts)) for n in steps}
        schedules = shortest_paths(first, fewer.values())
        return {n: second.few_step(schedules[few]) for n, few in fewer.items()}

    def schedules(self, evaluated: OrderEvaluations, steps: list[int]) -> dict[int, FoundSchedule]:
        """By number of steps, the counts that all sequences choose: between evaluated numbers of
        known sites where these are twice the steps or more, else on a finer grid.
        """
        finer = grid_counts(evaluated.entropy.shape[-1], max(self.grid_intervals, *steps))
        few = [n for n in steps if 2 * n <= len(evaluated.counts)]
        parts = [(evaluated.counts, few), (finer, [n for n in steps if n not in few])]
        wanted = [(grid, those) for grid, those in parts if those]
        tables = evaluated.tables_by_data([grid for grid, _ in wanted], self.bandwidth)
        return {
            n: FoundSchedule(one, *costs.predict(one), costs.few_step(one))
            for costs, (_, those) in zip(tables, wanted, strict=True)
            for n, one in shortest_paths(costs, those).items()
        }


def check(reverse: ReverseProcess, paths: Paths, sampler: Sampler) -> None:
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(
            f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; "
            "use method shortest-path or jys"
        )
    if sampler.holds is not Held.COUNT:
        raise ValueError(
            f"sampler {sampler.name} follows times, in random order; orders are compared for "
            "k-gillespie"
        )
    if len(paths.data) < LEAST_SEQUENCES:
        raise ValueError(
            f"comparing orders needs at least {LEAST_SEQUENCES} sequences, got {len(paths.data)}; "
            "pass more data, or name an order (--order spread)"
        )


def default_orders(paths: Paths) -> tuple[RevealOrder, ...]:
    """Random, spread, golden and dilated order; blocks, spread within, where they follow something
    observed and there is more than one.
    """
    blocks = Blocks(inner=Spread())
    observed = bool((~paths.free).any()) and paths.sites > blocks.size
    return (Random(), Spread(), Golden(), Dilated(), *([blocks] if observed else []))


def learnable(paths: Paths) -> bool:
    numbers = paths.data.numel() * paths.forward.vocab_size
    return paths.sites > 2 and numbers <= LEARNED_NUMBERS


def screening_counts(sites: int, states: int, order: RevealOrder) -> Counts:
    """Numbers of known sites at which orders are compared, increasing from 0: powers of two, where
    the levels of spread orders end, and numbers between them; for the random order those of
    ``count_costs``.
    """
    if sites <= states or isinstance(order, Random):
        return revealed_counts(sites, states, exchangeable=True)
    powers = [2**k for k in range((sites - 1).bit_length())][1 - states :]
    return between([0, *powers], sites, states - 1 - len(powers), order)


def between(counts: list[int], sites: int, more: int, order: RevealOrder) -> Counts:
    """These numbers and at most ``more`` others, in the middle of the longest gaps: by the ratio of
    their ends, or by their difference in the random order.
    """
    ends = [*counts, sites]
    for _ in range(more):
        gaps = [(first, last) for first, last in pairwise(ends) if last - first > 1]
        if not gaps:
            break
        if isinstance(order, Random):
            first, last = max(gaps, key=lambda gap: gap[1] - gap[0])
        else:
            first, last = max(gaps, key=lambda gap: (gap[1] / max(gap[0], 0.5), gap[1]))
        ends = sorted([*ends, (first + last) // 2])
    return np.array(ends[:-1])


def refined(reverse: ReverseProcess, paths: Paths, candidate: Candidate, more: int) -> Candidate:
    """The candidate with at most ``more`` states between those that it has."""
    old, ranks = candidate.evaluated, candidate.ranks
    counts = np.setdiff1d(between(old.counts.tolist(), paths.sites, more, old.order), old.counts)
    if not len(counts):
        return candidate
    wanted = [(old.order, ranks, counts)]
    (added,) = evaluate_orders(reverse, paths, wanted, Measure.DATA, together=STATES)
    return Candidate(ranks, old.joined(added))


def choices(nll: Mapping[int, Mapping[str, Floats]]) -> dict[int, OrderChoice]:
    """The order for each number of steps, from each order's NLL of every sequence.

    It is the one of the least NLL over all numbers of steps together, unless another is better for
    this one by more than the 95% interval.
    """
    names = list(next(iter(nll.values())))
    usual = min(names, key=lambda name: sum(float(each[name].mean()) for each in nll.values()))
    chosen = {}
    for n, each in nll.items():
        ranked = sorted(names, key=lambda name: float(each[name].mean()))
        best = usual
        if ranked[0] != usual and sum(paired(each, ranked[0], usual)[:2]) < 0:
            best = ranked[0]
        other = next((name for name in ranked if name != best), best)
        chosen[n] = OrderChoice(best, other, *paired(each, other, best))
    return chosen


def paired(nll: Mapping[str, Floats], name: str, other: str) -> tuple[float, float, int]:
    """NLL of one order minus that of another, half of its 95% interval, and sequences."""
    more = nll[name] - nll[other]
    return float(more.mean()), half_width(float(standard_error(more)), len(more)), len(more)
