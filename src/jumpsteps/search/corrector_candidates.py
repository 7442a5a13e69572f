"""Plans that divide the model calls of a run between steps and corrections, to be raced.

No bound tells how many steps a corrector replaces: what it repairs are a network's mistakes, of
which costs know nothing. A race measures it (``evaluation.race``). The plans of N calls have the
counts of a shortest path with N, N/2 and N/4 steps, from one pass over data, and correct with the
calls that are left: an eighth, a quarter or half of the sites in each, sites far apart or random
ones, every second site, or half of the sites first and an eighth later.
"""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Golden, Random, RevealOrder, Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["STEPS_ALONE", "corrector_candidates"]

STEPS_ALONE = "steps alone"
"""The name of the plan without corrections."""

CORRECTING = (Fraction(1, 2), Fraction(3, 4))
"""Shares of the model calls that correct."""

SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
"""Shares of the sites that a call draws again."""


@kinds_checked()
def corrector_candidates(
    reverse: ReverseProcess,
    data: Tensor,
    nfe: Iterable[int],
    *,
    order: RevealOrder = Golden(),
    given_mask: Tensor | None = None,
    about: Provenance = Provenance(),
    generator: torch.Generator,
    progress: bool = False,
    workers: Workers = ALONE,
) -> dict[str, dict[int, Schedule]]:
    """Plans to race, name -> NFE -> schedule with its corrections; ``STEPS_ALONE`` has none.

    Args:
        reverse: an absorbing reverse process.
        data: int64 [B, L], for the shortest paths; a race needs other sequences.
        nfe: numbers of model calls of a run. One call alone is not divided.
        order: in which sites are revealed.
        given_mask: bool [L] or [B, L], the observed sites.
        about: model and data, for the schedules' provenance.
        generator: draws the forward paths.
        progress: show a progress bar of model calls on stderr.
        workers: processes that make the same call, and share the sequences of each model call.

    Raises:
        ValueError: what ``optimize_schedule`` refuses.
    """
    budgets = sorted(set(nfe))
    corrections = {(n, part): int(n * part) for n in budgets for part in CORRECTING}
    found = optimize_schedule(
        reverse,
        data,
        {*budgets, *(n - calls for (n, _), calls in corrections.items())},
        generator=generator,
        method=ShortestPath(order=order),
        sampler=KGillespie(),
        given_mask=given_mask,
        held_out=0,
        about=about,
        progress=progress,
        workers=workers,
    )
    made: dict[str, dict[int, Schedule]] = {STEPS_ALONE: {n: found[n] for n in budgets}}
    for (n, part), calls in corrections.items():
        if calls < 1:
            continue
        for name, redraws in plans(calls).items():
            steps = found[n - calls]
            known = steps.provenance.with_error(None, None)
            plan = replace(steps, provenance=known, redraws=redraws)
            made.setdefault(f"{part} of the calls correct {name}", {})[n] = plan
    return made


def plans(calls: int) -> dict[str, tuple[Redraw, ...]]:
    """Ways to correct with so many calls, by name."""
    made: dict[str, tuple[Redraw, ...]] = {
        f"{share} of the sites, {sets.name}": (Redraw(calls, float(share), sets=sets),)
        for share in SHARES
        for sets in (Golden(), Random(), Spread())
        if share == Fraction(1, 2) or sets != Spread()
    }
    if calls > 1:
        coarse, fine = Redraw(calls // 2, 0.5), Redraw(calls - calls // 2, 0.125)
        made["1/2, then 1/8 of the sites, golden"] = (coarse, fine)
    return made
