r"""Certificates: few-step NLLs of several schedules on held-out sequences, in few model calls.

The bound of a schedule takes one state of every sequence for each step (``nll_bounds``), without
interpolation. Schedules in one order share their states, and one model call evaluates ``STATES``
states of every sequence. The kernel is the absorbing one.

The reference of the excess reveals one site at a time. In an order, with m(j) the last number of
known sites up to j that was evaluated, and J drawn uniformly from a stratum S of ranks,

.. math:: \sum_{j \in S} c_j(j)
    = \sum_{j \in S} c_j(m(j)) + |S|\, E\big[ c_J(J) - c_J(m(J)) \big],

where :math:`c_j(m)` is -log p of the data at rank j given the first m. Each stratum takes one state
more, with a J for each sequence, so the estimate has no bias. Strata are short where c is large.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE
from jumpsteps.core.draws import uniform
from jumpsteps.core.information import Floats
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.nll_bounds import (
    key_ranks,
    known_nll,
    masked_from,
    state_of_run,
    times_of,
)
from jumpsteps.search.paths import Paths

__all__ = ["CERTIFICATE_CALLS", "certify"]

STATES = 4
"""States of every held-out sequence in one model call."""

CERTIFICATE_CALLS = 16
"""Model calls for the certificates of all schedules of a search, at most."""

REFERENCE_STATES = 12
"""States of the reference of each order, at least; fewer only where a sequence has fewer sites."""


@torch.no_grad()
def certify(
    reverse: ReverseProcess,
    paths: Paths,
    schedules: Mapping[int, Schedule],
    *,
    calls: int = CERTIFICATE_CALLS,
    generator: torch.Generator,
) -> dict[int, FewStepNLL]:
    """The few-step NLL and its excess on held-out sequences, for as many schedules as calls allow.

    Schedules are taken in increasing order of their keys, until one needs more states than are
    left. The excess is that of ``few_step_nll``, over one site at a time.

    Args:
        reverse: an absorbing reverse process.
        paths: B >= 2 sequences, others than those that the schedules were searched on.
        schedules: of times, for Tweedie's sampler, or of counts, for k-Gillespie.
        calls: model calls at most, each on ``STATES`` times B sequences.
        generator: draws orders and strata.
    """
    counter = CallCounter(reverse.model)
    reverse = replace(reverse, model=counter)
    walks = admitted(paths, schedules, STATES * calls, generator)
    tables = nll_of_states(reverse, paths, [state for walk in walks for state in walk.states()])
    left = STATES * (calls - counter.calls)
    for walk in walks:
        walk.tables = dict(zip(walk.stops, tables, strict=False))
        tables = tables[len(walk.stops) :]
    references = [walk.reference_states(left // len(walks), generator) for walk in walks]
    found = nll_of_states(reverse, paths, [state for one in references for state, _ in one])
    sites = float(paths.free.sum(-1).double().mean())
    certified = {}
    for walk, states in zip(walks, references, strict=True):
        reference = walk.reference(states, found[: len(states)]).cpu().numpy()
        found = found[len(states) :]
        for key, schedule in walk.schedules.items():
            bound = walk.bound(schedule).cpu().numpy()
            certified[key] = FewStepNLL(bound, reference, sites, counter.calls)
    return certified


@dataclass(frozen=True)
class State:
    """The sequences [B, L] with some free sites masked.

    Attributes:
        hidden: the masked sites, bool [B, L].
        where: those whose -log p is wanted.
        t: the model's time of each sequence, float64 [B].
    """

    hidden: Tensor
    where: Tensor
    t: Tensor


def nll_of_states(reverse: ReverseProcess, paths: Paths, states: list[State]) -> list[Tensor]:
    """-log p of data at the wanted sites of each state, float64 [B, L], zero elsewhere.

    Of several processes each evaluates some rows of every model call; all is exchanged at the end.
    """
    if not states:
        return []
    batch, own = len(paths.data), []
    for first in range(0, len(states), STATES):
        group = states[first : first + STATES]
        mine = paths.workers.rows_among(first * batch, (first + len(group)) * batch)
        # A divided network needs the call of a process that has no row.
        rows = torch.tensor(mine or [first * batch], device=paths.data.device) - first * batch
        part = replace(paths, data=paths.data[rows % batch], workers=ALONE)
        hidden, where, t = (torch.cat([getattr(s, name) for s in group])[rows] for name in PARTS)
        own.append(known_nll(reverse, part, hidden, where, t)[: len(mine)])
    every = paths.workers.of_all(torch.cat(own), len(states) * batch)
    return list(every.split(batch))


PARTS = ("hidden", "where", "t")


@dataclass
class Walk:
    """Schedules that share an order, and so their states.

    Attributes:
        paths: the held-out sequences.
        ranks: of every site in the order, int64 [B, L].
        exchangeable: a random order: all masked sites are equally likely to be next, and the mean
            over them has less noise.
        schedules: by their keys.
        stops: where steps start -> the furthest end of such a step, in times or known sites.
        tables: -log p at each stop, [B, L].
    """

    paths: Paths
    ranks: Tensor
    exchangeable: bool
    schedules: dict[int, Schedule] = field(default_factory=dict)
    stops: dict[float, float] = field(default_factory=dict)
    tables: dict[float, Tensor] = field(default_factory=dict)

    def with_schedule(self, key: int, schedule: Schedule) -> "Walk":
        stops = dict(self.stops)
        for first, last in steps_of(schedule):
            furthest = max if isinstance(schedule, CountSchedule) else min
            stops[first] = furthest(last, stops.get(first, last))
        added = self.schedules | {key: schedule}
        return replace(self, schedules=added, stops=dict(sorted(stops.items())))

    @property
    def in_times(self) -> bool:
        return not isinstance(next(iter(self.schedules.values())), CountSchedule)

    def states(self) -> list[State]:
        """The state at each stop."""
        states = []
        for stop, end in self.stops.items():
            if self.in_times:
                hidden, t = self.paths.movable(state_of_run(self.paths, stop)), stop
            else:
                hidden, sites = masked_from(self.paths, self.ranks, int(stop)), self.paths.sites
                t = time_of_masked(self.paths.forward, sites - int(stop), sites)
            where = hidden if self.exchangeable else hidden & (self.ranks < end)
            times = torch.full((len(hidden),), t, dtype=torch.float64, device=hidden.device)
            states.append(State(hidden, where, times))
        return states

    def bound(self, schedule: Schedule) -> Tensor:
        """The few-step NLL of each sequence, float64 [B]."""
        total = torch.zeros(len(self.ranks), dtype=torch.float64, device=self.ranks.device)
        for first, last in steps_of(schedule):
            table = self.tables[first]
            if not self.exchangeable:
                total += torch.where(self.ranks < last, table, 0.0).sum(-1)
            elif isinstance(schedule, CountSchedule):
                total += (last - first) / (schedule.total - first) * table.sum(-1)
            else:
                assert isinstance(self.paths.forward, Absorbing)
                total += self.paths.forward.reveal_probability(first, last) * table.sum(-1)
        return total

    def reference_states(
        self, count: int, generator: torch.Generator
    ) -> list[tuple[State, Tensor]]:
        """At most ``count`` states of one site at a time, each with the weight of what it adds to
        ``together``, float64 [B].
        """
        sites = self.paths.free.sum(-1)
        u = uniform((len(sites),), generator=generator, device=generator.device).to(sites.device)
        drawn: list[tuple[Tensor, Tensor]] = []
        if self.exchangeable:
            count = min(count, int(sites.max()))
            drawn += [((k + u) * sites / count, sites / count) for k in range(count)]
        else:
            ranks, weights = self.open_ranks()
            for a, b in pairwise(cuts(weights, count)):
                drawn.append((ranks[a:b][((b - a) * u).long()], torch.full_like(u, b - a)))
        return [self.reference_state(known.long().minimum(sites - 1), n) for known, n in drawn]

    def reference_state(self, known: Tensor, ranks: Tensor) -> tuple[State, Tensor]:
        hidden = masked_from(self.paths, self.ranks, known[:, None])
        where = hidden if self.exchangeable else hidden & (self.ranks == known[:, None])
        weight = ranks / where.sum(-1)
        t = torch.as_tensor(times_of(self.paths, known), dtype=torch.float64, device=known.device)
        return State(hidden, where, t.expand(len(known))), weight.to(torch.float64)

    def open_ranks(self) -> tuple[Tensor, Floats]:
        """The ranks at which no state was evaluated, int64 [n], and the root mean square of -log p
        there, as far as known, [n].
        """
        table = torch.zeros_like(self.together()).scatter(-1, self.ranks, self.together())
        ranks = torch.tensor(
            [j for j in range(self.paths.sites) if j not in self.stops],
            dtype=torch.int64,
            device=table.device,
        )
        return ranks, table[:, ranks].square().mean(0).sqrt().cpu().numpy()

    def together(self) -> Tensor:
        """c_j(m(j)) at the site of rank j, float64 [B, L]; zero in a random order."""
        total = torch.zeros(self.ranks.shape, dtype=torch.float64, device=self.ranks.device)
        if self.exchangeable:
            return total
        for first, last in pairwise([*self.stops, float(self.paths.sites)]):
            total += torch.where(self.ranks < last, self.tables[first], 0.0)
        return total

    def reference(self, states: list[tuple[State, Tensor]], found: list[Tensor]) -> Tensor:
        """-log p of each sequence, one site at a time, float64 [B]."""
        together = self.together()
        total = together.sum(-1)
        for (state, weight), table in zip(states, found, strict=True):
            total += weight * torch.where(state.where, table - together, 0.0).sum(-1)
        return total.nan_to_num(nan=torch.inf, posinf=torch.inf)


def steps_of(schedule: Schedule) -> list[tuple[float, float]]:
    """Start and end of each step, in times or in numbers of known sites."""
    if isinstance(schedule, CountSchedule):
        return list(pairwise(np.cumsum([0, *schedule.counts]).tolist()))
    return list(pairwise(schedule.times))


def admitted(
    paths: Paths, schedules: Mapping[int, Schedule], states: int, generator: torch.Generator
) -> list[Walk]:
    """The schedules for which there are enough states, by their order."""
    least = min(REFERENCE_STATES, int(paths.free.sum(-1).max()))
    walks: dict[RevealOrder, Walk] = {}
    for key in sorted(schedules):
        schedule = schedules[key]
        order = schedule.order if isinstance(schedule, CountSchedule) else Random()
        walk = walks.get(order)
        if walk is None:
            random = order == Random()
            ranks = key_ranks(paths) if random else paths.free_ranks(order, generator=generator)
            walk = Walk(paths, ranks, random)
        trial = walks | {order: walk.with_schedule(key, schedule)}
        stops = sum(len(one.stops) for one in trial.values())
        if -(-stops // STATES) * STATES + least * len(trial) > states:
            break
        walks = trial
    return list(walks.values())


def cuts(weights: Floats, count: int) -> list[int]:
    """Ends of at most ``count`` strata with about equal sums of weights, from 0 to n."""
    n = len(weights)
    if n <= count:
        return list(range(n + 1))
    known = np.where(np.isfinite(weights), weights, 0.0)
    total = np.append(0.0, np.cumsum(known + 0.05 * known.mean() + 1e-12))
    inner = np.searchsorted(total, total[-1] * np.arange(1, count) / count)
    return np.unique([0, *inner.tolist(), n]).tolist()
