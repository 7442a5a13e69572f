r"""A reveal order learned from data (absorbing kernel).

Two sites depend on each other by their mutual information in a context c of known sites,

.. math:: I(x_a; x_b \mid c) = E\, \mathrm{KL}\big(p(x_b \mid c, x_a) \,\|\, p(x_b \mid c)\big),

an expectation over data and contexts. One model evaluation on the contexts gives the second
distribution for all sites b. Another, with one more site of data revealed in each sequence, gives
the first: B sequences measure B rows of the matrix of dependence in one evaluation.

The order takes next the site that explains most of what is still unexplained, itself included. So
sites with neighbouring ranks depend little on each other, and a site on which many others depend
comes early.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import uniform
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Fixed
from jumpsteps.search.costs.table import StepCosts
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["LearnedOrder", "dependence", "greedy_order", "learn_order"]


@kinds_checked()
def learn_order(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    evaluations: int = 16,
    context_share: float = 0.0,
    stationary: bool = False,
    generator: torch.Generator,
) -> Fixed:
    """The ``greedy_order`` of the estimated ``dependence``; see there for arguments and errors.

    The ranks of observed sites have no meaning: samplers skip these.
    """
    return greedy_order(
        dependence(
            reverse,
            paths,
            evaluations=evaluations,
            context_share=context_share,
            stationary=stationary,
            generator=generator,
        )
    )


@torch.no_grad()
def dependence(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    evaluations: int = 16,
    context_share: float = 0.0,
    stationary: bool = False,
    generator: torch.Generator,
) -> Tensor:
    """Estimate the mutual information of every two sites in a context, nats.

    Args:
        reverse: an absorbing reverse process.
        paths: B sequences with the same number of free sites.
        evaluations: of the model, each on B sequences: one on the contexts, each other on the
            contexts and one site more. All sites are revealed equally often, none twice in a
            sequence: there are fewer evaluations where that would need it.
        context_share: the share of the free sites that is revealed as context, at random in each
            sequence; observed sites are always context.
        stationary: take the mean over all pairs at the same distance. It has much less noise, and
            suits data that look the same everywhere.
        generator: assigns the sites to the evaluations.

    Returns:
        I, float64 [L, L], symmetric, on the CPU; the diagonal holds the sites' entropies. Observed
        sites, and pairs that no evaluation measured, count as independent.

    Raises:
        ValueError: the kernel is not absorbing, evaluations that leave a free site out (two
            suffice if stationary), a share that does not leave two sites masked, or a model that
            gives weight to a symbol that it excluded when less was known.
    """
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(
            f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; "
            "use method jys"
        )
    if evaluations < 2:
        raise ValueError(
            "dependence needs an evaluation of the contexts and one more at least, "
            f"got evaluations={evaluations}"
        )
    context = paths.with_masked(masked_by(context_share, paths))
    total, count = measure(reverse, paths, context, evaluations, generator)
    if not stationary:
        check_coverage(count, paths)
    total, count = total + total.T, count + count.T
    if stationary:
        total, count = summed_by_distance(total), summed_by_distance(count)
    return (total / count.clamp_min(1)).clamp_min(0)


def masked_by(context_share: float, paths: Paths) -> int:
    """How many free sites are masked when this share is revealed."""
    sites = paths.sites
    masked = sites - round(context_share * sites) if 0 <= context_share < 1 else 0
    if masked < 2:
        raise ValueError(
            f"context_share={context_share} must lie in [0, 1) and leave at least two of the "
            f"{sites} free sites masked"
        )
    return masked


def measure(
    reverse: ReverseProcess,
    paths: Paths,
    context: Tensor,
    evaluations: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Sums of what site a (row) explains of site b, nats, and how often it was measured.

    Both float64 [L, L]. Of itself a site explains its entropy.
    """
    everywhere, own, mine = paths.movable(context), paths.own, paths.own_rows
    masked, known, hidden = int(everywhere[0].sum()), context[mine], everywhere[mine]
    before = distributions(reverse, own, known, masked)
    entropy = torch.zeros(hidden.shape, dtype=torch.float64, device=hidden.device)
    entropy[hidden] = -torch.xlogy(before, before).sum(-1)
    total, count = torch.zeros(2, hidden.shape[1], hidden.shape[1], dtype=torch.float64)
    for revealed in assign(everywhere, min(evaluations - 1, masked), generator=generator):
        site = revealed.to(mine.device)[mine, None]
        x = known.scatter(-1, site, own.data.gather(-1, site))
        left = own.movable(x)
        explained = entropy.clone()
        explained[left] = kl_divergence(
            distributions(reverse, own, x, masked - 1), before[left[hidden]]
        )
        total.index_add_(0, revealed, paths.of_all(explained).cpu())
        count.index_add_(0, revealed, everywhere.to(count))
    if not total.isfinite().all():
        raise ValueError(
            "the model gives weight to a symbol that it excluded when less was known, so its "
            "distributions contradict each other"
        )
    return total, count


def distributions(reverse: ReverseProcess, paths: Paths, x: Tensor, masked: int) -> Tensor:
    """The distributions of the masked sites, float64 [K, V]."""
    t = time_of_masked(paths.forward, masked, paths.sites)
    return reverse.leave_one_out(x, t, where=paths.movable(x)).to(torch.float64)


def assign(hidden: Tensor, evaluations: int, *, generator: torch.Generator) -> Tensor:
    """The site that each sequence reveals in each evaluation, int64 [evaluations, B], on the CPU.

    None twice in a sequence; always the one revealed least often so far, at random among equals.
    """
    lots = uniform((evaluations, *hidden.shape), generator=generator, device=hidden.device).cpu()
    unused, uses = hidden.cpu().clone(), torch.zeros(hidden.shape[1], dtype=torch.float64)
    sites = torch.empty(evaluations, len(hidden), dtype=torch.int64)
    for k in range(evaluations):
        for row in range(len(hidden)):
            site = (uses + lots[k, row]).masked_fill(~unused[row], torch.inf).argmin()
            sites[k, row], unused[row, site] = site, False
            uses[site] += 1
    return sites


def check_coverage(count: Tensor, paths: Paths) -> None:
    free = paths.free.any(0).cpu()
    missing = int((free & (count.diagonal() == 0)).sum())
    sites, batch = int(free.sum()), len(paths.data)
    if missing:
        raise ValueError(
            f"{missing} of {sites} sites were not revealed in any of {batch} sequences; pass at "
            f"least evaluations={-(-sites // batch) + 1}, more data, or stationary=True if the "
            "data look the same everywhere"
        )


def summed_by_distance(values: Tensor) -> Tensor:
    """Each entry of [L, L] replaced by the sum over all pairs of sites at its distance."""
    site = torch.arange(len(values), device=values.device)
    distance = (site[:, None] - site).abs()
    return torch.zeros_like(values[0]).index_add(0, distance.flatten(), values.flatten())[distance]


def greedy_order(dependence: Tensor) -> Fixed:
    r"""Choose the sites one by one, next the one b with the largest

    .. math:: u_b \sum_c r_{bc}^2 u_c, \qquad u_c = \prod_{a\ \text{chosen}} (1 - r_{ac}^2),

    with :math:`r_{bc} = I(x_b; x_c) / H(x_c)`, the share of c that b explains, and u_c the
    unexplained part of c. Of equal sites the first in van der Corput's order is chosen, so that
    independent sites are spread.

    Args:
        dependence: I in nats, non-negative, [L, L]; its diagonal is H, or the largest entry of the
            column where that is more.

    Raises:
        ValueError: a matrix that is not square, or an entry that is negative or not finite.
    """
    if dependence.ndim != 2 or dependence.shape[0] != dependence.shape[1] or not len(dependence):
        raise ValueError(
            f"the dependence of L sites must have shape [L, L], got {list(dependence.shape)}"
        )
    if not (dependence.isfinite() & (dependence >= 0)).all():
        raise ValueError(
            "the dependence has entries that are negative or not finite; "
            "pass mutual information in nats"
        )
    sites = bits_reversed(len(dependence)).to(dependence.device)
    share = dependence[sites][:, sites].to(torch.float64)
    share = share / share.amax(0).clamp_min(torch.finfo(share.dtype).tiny)
    explained = share.square().fill_diagonal_(1)
    unexplained, chosen = torch.ones_like(share[0]), torch.zeros_like(sites, dtype=torch.bool)
    ranks = torch.zeros_like(sites)
    for rank in range(len(sites)):
        pick = (unexplained * (explained @ unexplained)).masked_fill(chosen, -1).argmax()
        ranks[sites[pick]] = rank
        chosen[pick] = True
        unexplained = unexplained * (1 - explained[pick])
    return Fixed(tuple(ranks.tolist()))


def bits_reversed(length: int) -> Tensor:
    """The sites in van der Corput's order, int64 [L]."""
    bits = (length - 1).bit_length()
    return torch.tensor(sorted(range(length), key=lambda site: f"{site:0{bits}b}"[::-1]))


@kinds_checked()
@dataclass(frozen=True)
class LearnedOrder(ShortestPath):
    """The shortest path in an order learned from the same data (see ``learn_order``).

    Attributes:
        order_evaluations: model evaluations that the order is learned from, on top of those of the
            shortest path.
        stationary: whether the data look the same everywhere.
    """

    order_evaluations: int = 16
    stationary: bool = False

    @property
    def name(self) -> str:
        return "shortest-path-learned"

    @property
    def sampler(self) -> Sampler:
        return KGillespie()

    @property
    def max_evaluations(self) -> int:
        return self.order_evaluations + self.evaluations

    def costs(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        sampler: Sampler,
        *,
        max_steps: int,
        generator: torch.Generator,
    ) -> StepCosts:
        """The table of costs in the learned order.

        Raises:
            ValueError: a sampler that does not count sites in a reveal order.
        """
        if sampler.holds is not Held.COUNT:
            raise ValueError(
                f"sampler {sampler.name} follows times, in random order; a learned order needs "
                "k-gillespie"
            )
        order = learn_order(
            reverse,
            paths,
            evaluations=self.order_evaluations,
            stationary=self.stationary,
            generator=generator,
        )
        path = ShortestPath(
            self.evaluations, self.bandwidth, self.grid_intervals, order, measure=self.measure
        )
        return path.costs(reverse, paths, sampler, max_steps=max_steps, generator=generator)
