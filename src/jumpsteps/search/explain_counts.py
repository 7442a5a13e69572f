r"""What every step of a count schedule adds to the few-step NLL, in nats per sequence.

A step that reveals the ranks m..n-1 of an order adds

.. math:: \sum_{j=m}^{n-1} c_j(m), \qquad c_j(m) = E[-\log p(x_{\pi_j} \mid \text{first } m)],

and its excess over one site at a time is :math:`\sum_j c_j(m) - c_j(j)`. The second sum is
estimated without bias at ranks j that are drawn for each sequence. Both hold for any network
(``nll_bounds``).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import uniform
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.nll_bounds import key_ranks, known_nll, masked_from, times_of
from jumpsteps.search.paths import Paths

__all__ = ["CountExplanation", "CountStep", "explain_counts"]

CALLS = 64
"""Model calls for the excess of a schedule's steps, about: as many for each."""


@dataclass(frozen=True)
class CountStep:
    """What one step adds.

    Attributes:
        known: free sites that are known before it.
        count: sites that it reveals.
        nll: -log p of their data, of each sequence, [B].
        excess: of that over one site at a time, [B].
    """

    known: int
    count: int
    nll: Floats
    excess: Floats


@dataclass(frozen=True)
class CountExplanation:
    """The steps of one schedule; ``str()`` gives a table.

    Attributes:
        steps: its steps.
        model_calls: that the estimate took.
    """

    steps: tuple[CountStep, ...]
    model_calls: int

    @property
    def few_step(self) -> FewStepNLL:
        """The few-step NLL of the run, and its excess."""
        nll, excess = (
            np.sum([getattr(step, name) for step in self.steps], axis=0)
            for name in ("nll", "excess")
        )
        sites = sum(step.count for step in self.steps)
        return FewStepNLL(nll, nll - excess, float(sites), self.model_calls)

    def __str__(self) -> str:
        rows = [("known", "reveals", "few-step NLL", "a site", "excess")]
        for step in self.steps:
            each = f"{step.nll.mean() / step.count:.3f}"
            name, count = str(step.known), str(step.count)
            rows.append((name, count, measured(step.nll), each, measured(step.excess)))
        widths = (8, 8, 18, 8, 18)
        lines = [
            "".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]
        return "\n".join([*lines, f"k-gillespie: {self.few_step}"])


def measured(parts: Floats) -> str:
    return f"{parts.mean():.2f} ±{standard_error(parts):.2f}"


@kinds_checked()
@torch.no_grad()
def explain_counts(
    reverse: ReverseProcess, paths: Paths, schedule: CountSchedule, *, generator: torch.Generator
) -> CountExplanation:
    """Explain a schedule of counts for a masked model, on data.

    Args:
        reverse: an absorbing reverse process.
        paths: of B >= 2 sequences with as many free sites as the schedule reveals.
        generator: draws orders and ranks.

    Raises:
        ValueError: sequences with another number of free sites.
    """
    if paths.sites != schedule.total:
        raise ValueError(
            f"the schedule reveals {schedule.total} sites, the sequences have {paths.sites} free "
            "ones; pass schedule.rescaled(...)"
        )
    random = schedule.order == Random()
    ranks = key_ranks(paths) if random else paths.free_ranks(schedule.order, generator=generator)
    ends = np.cumsum([0, *schedule.counts]).tolist()
    draws = max(CALLS // schedule.steps, 1)
    steps, calls = [], 0
    for first, last in pairwise(ends):
        own = min(draws, last - first) if last - first > 1 else 0
        together, alone = step_nll(reverse, paths, ranks, (first, last), random, own, generator)
        nll = together.sum(-1)
        excess = torch.zeros_like(nll) if not own else nll - alone
        step = CountStep(first, last - first, nll.cpu().numpy(), excess.cpu().numpy())
        steps.append(step)
        calls += 1 + own
    return CountExplanation(tuple(steps), calls)


def step_nll(
    reverse: ReverseProcess,
    paths: Paths,
    ranks: Tensor,
    step: tuple[int, int],
    random: bool,
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """-log p of the data that a step (first, last) reveals, all at once at each site, float64
    [B, L], and one site at a time, [B].

    In a random order all masked sites are equally likely to be next, and their mean has less noise.
    The second is a control variate's estimate from ``draws`` strata of the step's ranks.
    """
    first, last = step
    hidden, sites = masked_from(paths, ranks, first), paths.sites
    t = time_of_masked(paths.forward, sites - first, sites)
    together = known_nll(reverse, paths, hidden, hidden if random else hidden & (ranks < last), t)
    if random:
        together *= (last - first) / (sites - first)
    alone = together.sum(-1)
    for k in range(draws):
        a, b = (first + (last - first) * j // draws for j in (k, k + 1))
        u = uniform((len(ranks),), generator=generator, device=generator.device).to(ranks.device)
        known = a + ((b - a) * u).floor().to(torch.int64)
        now = masked_from(paths, ranks, known[:, None])
        where = now if random else (ranks == known[:, None]) & paths.free
        found = known_nll(reverse, paths, now, where, times_of(paths, known))
        if random:
            alone += (b - a) * (found.sum(-1) / (sites - known) - together.sum(-1) / (last - first))
        else:
            alone += (b - a) * torch.where(where, found - together, 0.0).sum(-1)
    return together, alone
