"""The uncertainty of masked sites by their rank in an order, with the first m ranks known.

Several states of every sequence are evaluated in one model call. Of several processes each has
every so many-th sequence of each call, keeps what it finds, and all is exchanged once at the end.
Between model calls no process waits for the others, nor for its GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import sent
from jumpsteps.denoiser.chunks import site_entropies, site_entropies_and_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.search.costs.information_profile import check_finite
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.paths import Paths

__all__ = ["uncertainties"]

State = tuple[Tensor, int]
"""Ranks of the free sites, int64 [B, L], and m, how many of them are known."""


def uncertainties(
    reverse: ReverseProcess,
    paths: Paths,
    states: list[State],
    measure: Measure,
    *,
    together: int = 1,
) -> Tensor:
    """Entropies of the masked sites of each state by rank, float64 [1, S, B, sites]; zero where
    known. On the device of the data.

    By data [2, S, B, sites], with the calibration gap to -log p of data.

    Args:
        states: of all B sequences.
        together: states in one model call.

    Raises:
        ValueError: a model that excludes a token of data (by data).
    """
    batch, sites, by_data = len(paths.data), paths.sites, measure is Measure.DATA
    own: list[Tensor] = []
    for first in range(0, len(states), together):
        call = Call.of(paths, states, first, together)
        own.append(uncertainties_of_call(reverse, paths, call, measure))
        if by_data and not first:  # Later ones at the end, because a check waits for the GPU.
            check_finite(own[0])
    every = paths.workers.of_all(torch.cat(own), len(states) * batch)
    if by_data:
        check_finite(every)
    return every.reshape(len(states), batch, -1, sites).permute(2, 0, 1, 3).contiguous()


@dataclass(frozen=True)
class Call:
    """What this process evaluates in one model call: r rows, each a state of a sequence.

    Rows are counted through the sequences of all states, so that processes have equally many. One
    without a row makes the call with another's, because a divided network needs all of them.

    Attributes:
        ranks: of the free sites, int64 [r, L].
        sequence: int64 [r].
        known: the number of known sites, int64 [r].
        t: the model's time, a number where it is the same in all rows, else float64 [r].
        masked: the number of masked sites in all rows.
        count: r, or 0 where the row is another's.
    """

    ranks: Tensor
    sequence: Tensor
    known: Tensor
    t: Time
    masked: int
    count: int

    @classmethod
    def of(cls, paths: Paths, states: list[State], first: int, together: int) -> "Call":
        batch, sites, device = len(paths.data), paths.sites, paths.data.device
        group = states[first : first + together]
        mine = paths.workers.rows_among(first * batch, (first + len(group)) * batch)
        rows = torch.tensor(mine or [first * batch]) - first * batch
        known = torch.tensor([m for _, m in group])[rows // batch]
        times = [time_of_masked(paths.forward, sites - m, sites) for _, m in group]
        t = torch.tensor(times, dtype=torch.float64)[rows // batch]
        sequence, state = sent(rows % batch, device), sent(rows // batch, device)
        return cls(
            torch.stack([ranks for ranks, _ in group])[state, sequence],
            sequence,
            sent(known, device),
            times[0] if len(group) == 1 else sent(t, device),
            int((sites - known).sum()),
            len(mine),
        )


def uncertainties_of_call(
    reverse: ReverseProcess, paths: Paths, call: Call, measure: Measure
) -> Tensor:
    """Float64 [count, 1 or 2, sites]."""
    assert isinstance(paths.forward, Absorbing)
    hidden = (call.ranks >= call.known[:, None]) & paths.free[call.sequence]
    where, data = SiteMask.of_count(hidden, call.masked), paths.data[call.sequence]
    x = data.masked_fill(hidden, paths.forward.mask_id)
    if measure is Measure.MODEL:
        values = [site_entropies(reverse, x, call.t, where)]
    else:
        entropy, nll = site_entropies_and_nll(reverse, x, call.t, where, data)
        values = [entropy, nll - entropy]
    shape = (len(x), len(values), paths.sites)
    table = torch.zeros(shape, dtype=torch.float64, device=x.device)
    rank = call.ranks.flatten()[where.sites]
    for k, value in enumerate(values):
        table[where.rows, k, rank] = value
    return table[: call.count]
