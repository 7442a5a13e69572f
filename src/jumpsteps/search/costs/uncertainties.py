"""The uncertainty of masked sites by their rank in an order, with the first m ranks known.

Several states of every sequence are evaluated in one model call. Of several processes each has
every so many-th sequence of each call, keeps what it finds, and all is exchanged once at the end:
no process waits for the others between model calls.
"""

import torch
from torch import Tensor

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.chunks import site_entropies, site_entropies_and_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
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
    known. On the CPU.

    By data [2, S, B, sites], with the calibration gap to -log p of data.

    Args:
        states: of all B sequences.
        together: states in one model call.

    Raises:
        ValueError: a model that excludes a token of data (by data).
    """
    batch, sites = len(paths.data), paths.sites
    own = [
        own_rows(reverse, paths, states, range(k, min(k + together, len(states))), measure)
        for k in range(0, len(states), together)
    ]
    every = paths.workers.of_all(torch.cat(own), len(states) * batch)
    return every.reshape(len(states), batch, -1, sites).permute(2, 0, 1, 3).contiguous().cpu()


def own_rows(
    reverse: ReverseProcess, paths: Paths, states: list[State], those: range, measure: Measure
) -> Tensor:
    """The uncertainties of this process's rows of some states, float64 [r, 1 or 2, sites].

    Rows are counted through the sequences of all states, so that processes have equally many. One
    without a row makes the model call with another's, because a divided network needs all of them.
    """
    forward, sites = paths.forward, paths.sites
    assert isinstance(forward, Absorbing)
    batch = len(paths.data)
    mine = paths.workers.rows_among(those.start * batch, those.stop * batch)
    rows = torch.tensor(mine or [those.start * batch], device=paths.data.device)
    state, sequence = rows // batch - those.start, rows % batch
    known = [states[k][1] for k in those]
    ranks = torch.stack([states[k][0] for k in those])[state, sequence]
    numbers = torch.tensor(known, device=rows.device)
    where = SiteMask((ranks >= numbers[state, None]) & paths.free[sequence])
    data = paths.data[sequence]
    x = data.masked_fill(where.mask, forward.mask_id)
    times = [time_of_masked(forward, sites - m, sites) for m in known]
    t = torch.tensor(times, dtype=torch.float64, device=rows.device)[state]
    time = times[0] if len(those) == 1 else t
    if measure is Measure.MODEL:
        values = [site_entropies(reverse, x, time, where)]
    else:
        entropy, nll = site_entropies_and_nll(reverse, x, time, where, data)
        check_finite(nll)
        values = [entropy, nll - entropy]
    table = torch.zeros(len(rows), len(values), sites, dtype=torch.float64, device=rows.device)
    rank = ranks.flatten()[where.sites]
    for k, value in enumerate(values):
        table[where.rows, k, rank] = value
    return table[: len(mine)]
