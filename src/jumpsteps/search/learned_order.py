r"""A reveal order learned from data (absorbing kernel).

What site a tells about site b is their mutual information given what is known already,

.. math:: I(x_a; x_b \mid c) = E\, \mathrm{KL}\big(p(x_b \mid c, x_a) \,\|\, p(x_b \mid c)\big),

the expectation over data and contexts c. One model call on the contexts gives the second distribution for all sites b, and one more call,
with one site of data revealed in each sequence, the first: B sequences measure B rows of the matrix in a call.

The order takes the site next that tells most about the sites of which little is told yet, itself among them. So sites that come
close in rank depend little on each other, and a site on which many others depend comes early.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.information import kl_divergence
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Fixed
from jumpsteps.schedules.schedule import time_of_masked
from jumpsteps.search.costs.table import StepCosts
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["LearnedOrder", "dependence", "greedy_order", "learn_order"]


def learn_order(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    calls: int = 16,
    share: float = 0.0,
    stationary: bool = False,
    generator: torch.Generator,
) -> Fixed:
    """The ``greedy_order`` of the estimated ``dependence``, for whose arguments and errors see there.

    The ranks of given sites mean nothing: samplers skip these.
    """
    return greedy_order(
        dependence(
            reverse, paths, calls=calls, share=share, stationary=stationary, generator=generator
        )
    )


@torch.no_grad()
def dependence(
    reverse: ReverseProcess,
    paths: Paths,
    *,
    calls: int = 16,
    share: float = 0.0,
    stationary: bool = False,
    generator: torch.Generator,
) -> Tensor:
    """Estimate the mutual information of every two sites given a context, nats, float64 [L, L], symmetric, on the CPU.

    The diagonal holds the sites' entropies. The context is the given sites and a random share of the others. Given sites, and pairs
    that no call measured, count as independent.

    Args:
        reverse: an absorbing reverse process.
        paths: B sequences with the same number of free sites.
        calls: of the model, each on B sequences: one on the contexts, each other on the contexts and one site more. All sites are
            revealed equally often, none twice in a sequence: there are fewer calls where that would need it.
        share: of the free sites, revealed as context; others in each sequence.
        stationary: take the mean over all pairs at the same distance: much less noise, for data that look the same everywhere.
        generator: deals the sites to the calls.

    Raises:
        ValueError: the kernel is not absorbing, calls that leave a free site out (two will do if stationary), a share that does
            not leave two sites masked, or a model that gives weight to a symbol that it excluded when less was known.
    """
    if not isinstance(reverse.forward, Absorbing):
        raise ValueError(
            f"reveal orders are for the absorbing kernel, got {reverse.forward.name}; use method jys"
        )
    if calls < 2:
        raise ValueError(
            f"dependence needs a call on the contexts and one more at least, got calls={calls}"
        )
    context = paths.with_masked(masked_by(share, paths))
    total, count = measure(reverse, paths, context, calls, generator)
    if not stationary:
        check_coverage(count, paths)
    total, count = total + total.T, count + count.T
    if stationary:
        total, count = summed_by_distance(total), summed_by_distance(count)
    return (total / count.clamp_min(1)).clamp_min(0)


def masked_by(share: float, paths: Paths) -> int:
    """How many free sites are masked when this share is revealed."""
    masked = paths.sites - round(share * paths.sites) if 0 <= share < 1 else 0
    if masked < 2:
        raise ValueError(
            f"share={share} must lie in [0, 1) and leave at least two of the {paths.sites} free sites masked"
        )
    return masked


def measure(
    reverse: ReverseProcess, paths: Paths, context: Tensor, calls: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sums of what site a told about site b, nats, and how often it was measured; float64 [L, L], row a.

    Of itself a site tells its entropy.
    """
    hidden = paths.movable(context)
    masked = int(hidden[0].sum())
    before = distributions(reverse, paths, context, masked)
    entropy = torch.zeros(hidden.shape, dtype=torch.float64, device=hidden.device)
    entropy[hidden] = -torch.xlogy(before, before).sum(-1)
    total, count = torch.zeros(2, hidden.shape[1], hidden.shape[1], dtype=torch.float64)
    for dealt in deal(hidden, min(calls - 1, masked), generator=generator):
        site = dealt[:, None].to(hidden.device)
        x = context.scatter(-1, site, paths.data.gather(-1, site))
        left = paths.movable(x)
        told = entropy.clone()
        told[left] = kl_divergence(
            distributions(reverse, paths, x, masked - 1), before[left[hidden]]
        )
        total.index_add_(0, dealt, told.cpu())
        count.index_add_(0, dealt, hidden.to(count))
    if not total.isfinite().all():
        raise ValueError(
            "the model gives weight to a symbol that it excluded when less was known, so its distributions contradict each other"
        )
    return total, count


def distributions(reverse: ReverseProcess, paths: Paths, x: Tensor, masked: int) -> Tensor:
    """The distributions of the masked sites, float64 [K, V]."""
    t = time_of_masked(paths.forward, masked, paths.sites)
    return reverse.leave_one_out(x, t, where=paths.movable(x)).to(torch.float64)


def deal(hidden: Tensor, calls: int, *, generator: torch.Generator) -> Tensor:
    """The site that each sequence reveals in each call, int64 [calls, B], on the CPU; none twice in a sequence.

    Always the one that was dealt least often so far, at random among equals.
    """
    lots = uniform((calls, *hidden.shape), generator=generator, device=hidden.device).cpu()
    unused, times = hidden.cpu().clone(), torch.zeros(hidden.shape[1], dtype=torch.float64)
    sites = torch.empty(calls, len(hidden), dtype=torch.int64)
    for call in range(calls):
        for row in range(len(hidden)):
            site = (times + lots[call, row]).masked_fill(~unused[row], torch.inf).argmin()
            sites[call, row], unused[row, site] = site, False
            times[site] += 1
    return sites


def check_coverage(count: Tensor, paths: Paths) -> None:
    free = paths.free.any(0).cpu()
    missing, sites, batch = (
        int((free & (count.diagonal() == 0)).sum()),
        int(free.sum()),
        len(paths.data),
    )
    if missing:
        raise ValueError(
            f"{missing} of {sites} sites were not revealed in any of {batch} sequences; pass at least "
            f"calls={-(-sites // batch) + 1}, more data, or stationary=True if the data look the same everywhere"
        )


def summed_by_distance(values: Tensor) -> Tensor:
    """Each entry of [L, L] replaced by the sum over all pairs of sites at its distance."""
    site = torch.arange(len(values), device=values.device)
    distance = (site[:, None] - site).abs()
    return torch.zeros_like(values[0]).index_add(0, distance.flatten(), values.flatten())[distance]


def greedy_order(dependence: Tensor) -> Fixed:
    r"""Choose the sites one by one, next the one b with the largest

    .. math:: u_b \sum_c r_{bc}^2 u_c, \qquad u_c = \prod_{a\ \text{chosen}} (1 - r_{ac}^2),

    with :math:`r_{bc} = I(x_b; x_c) / H(x_c)`, the share of c that b tells, and u_c what is left untold of c. Of sites that are
    equal, the first in van der Corput's order is chosen, so that independent sites are spread.

    Args:
        dependence: I in nats, non-negative, [L, L]; its diagonal is H, or the largest entry of the column where that is more.

    Raises:
        ValueError: a matrix that is not square, or an entry that is negative or not finite.
    """
    if dependence.ndim != 2 or dependence.shape[0] != dependence.shape[1] or not len(dependence):
        raise ValueError(
            f"the dependence of L sites must have shape [L, L], got {list(dependence.shape)}"
        )
    if not (dependence.isfinite() & (dependence >= 0)).all():
        raise ValueError(
            "the dependence has entries that are negative or not finite; pass mutual information in nats"
        )
    sites = bits_reversed(len(dependence)).to(dependence.device)
    told = dependence[sites][:, sites].to(torch.float64)
    told = (told / told.amax(0).clamp_min(torch.finfo(told.dtype).tiny)).square().fill_diagonal_(1)
    untold, chosen = torch.ones_like(told[0]), torch.zeros_like(sites, dtype=torch.bool)
    ranks = torch.zeros_like(sites)
    for rank in range(len(sites)):
        pick = (untold * (told @ untold)).masked_fill(chosen, -1).argmax()
        ranks[sites[pick]] = rank
        chosen[pick] = True
        untold = untold * (1 - told[pick])
    return Fixed(tuple(ranks.tolist()))


def bits_reversed(length: int) -> Tensor:
    """The sites in van der Corput's order, int64 [L]."""
    bits = (length - 1).bit_length()
    return torch.tensor(sorted(range(length), key=lambda site: f"{site:0{bits}b}"[::-1]))


@dataclass(frozen=True)
class LearnedOrder(ShortestPath):
    """The shortest path in an order learned from the same data (see ``learn_order``).

    Attributes:
        calls: of the model, that the order is learned from; those of the path come on top.
        stationary: the data look the same everywhere.
    """

    calls: int = 16
    stationary: bool = False

    @property
    def name(self) -> str:
        return "shortest-path-learned"

    @property
    def sampler(self) -> Sampler:
        return KGillespie()

    def costs(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        sampler: Sampler,
        *,
        steps: int,
        generator: torch.Generator,
    ) -> StepCosts:
        """The table of costs in the learned order; raises ValueError for a sampler that does not count jumps."""
        if not isinstance(sampler, KGillespie):
            raise ValueError(
                f"sampler {sampler.name} follows times, in random order; a learned order needs k-gillespie"
            )
        order = learn_order(
            reverse, paths, calls=self.calls, stationary=self.stationary, generator=generator
        )
        path = ShortestPath(self.knots, self.bandwidth, self.grid, order)
        return path.costs(reverse, paths, sampler, steps=steps, generator=generator)
