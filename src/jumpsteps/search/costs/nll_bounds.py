r"""Bounds of -log p of data under a run of a sampler, for any network.

A run with times :math:`1 = t_0 > \dots > t_N = 0` starts from the prior and draws each step's sites
independently, :math:`x_s^l \sim p^l(x_s^l \mid x_t)` (``Sampler.site_distribution``). With r the
distribution of noisy states given data, Jensen's inequality bounds the probability of data under it
(Austin et al. 2021, Eq. 1, with the sampler's own steps):

.. math:: E[-\log p_{\text{run}}(x_0)] \le
    E\, \mathrm{KL}\big(r(x_1 \mid x_0) \,\|\, \text{prior}\big)
    + \sum_{t \to s} E \sum_l \mathrm{KL}\big(r(x_s^l \mid x_t^l, x_0^l) \,\|\, p^l(x_s^l \mid x_t)
    \big),

where the step to 0 is :math:`-\log p^l(x_0^l \mid x_t)`. Any r gives a bound. It is the forward
process q for kernels that revise tokens. With the absorbing kernel a run starts from all MASK, and
r is q with the probability :math:`(\alpha_t - \alpha_1) / (1 - \alpha_1)` of a revealed site: its
steps are those of q, and its first term is zero.

A schedule of counts reveals the ranks m..n-1 of an order :math:`\pi` in a step. The order does not
depend on the data, so

.. math:: E[-\log p_{\text{run}}(x_0)] \le
    \sum_{m \to n} E \sum_{j=m}^{n-1} -\log p(x_0^{\pi_j} \mid x_0^{\pi_0 .. \pi_{m-1}}).

Nothing is assumed about the network. Few-step NLL minus the entropy of the data bounds
KL(data || samples). All values are in nats per sequence, of the free sites given the observed ones.
"""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.information import kl_divergence
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.chunks import site_chunks, site_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule
from jumpsteps.search.paths import Paths

__all__ = [
    "counts_bound",
    "fixed_order_bound",
    "key_ranks",
    "random_order_bound",
    "reference_grid",
    "state_of_run",
    "times_bound",
]


# Times: any kernel, any sampler with independent sites.


def times_bound(
    reverse: ReverseProcess, paths: Paths, schedule: TimeSchedule, sampler: Sampler
) -> Tensor:
    """The bound of a run along times for each sequence, nats, float64 [B]."""
    own = paths.own
    total = prior_divergence(own)
    for step in schedule.plan(reverse.forward):
        total += step_divergence(reverse, own, step, sampler)
    return paths.of_all(total)


def state_of_run(paths: Paths, t: float) -> Tensor:
    """x_t given data as the bound has it, int64 [B, L]; all masked at t = 1 (absorbing kernel)."""
    forward = paths.forward
    if not isinstance(forward, Absorbing):
        return paths(t)
    lowest, alpha = (float(forward.noise.alpha(time)) for time in (1.0, t))
    revealed = paths.keys < (alpha - lowest) / (1 - lowest)
    return paths.data.masked_fill(paths.free & ~revealed, forward.mask_id)


def prior_divergence(paths: Paths) -> Tensor:
    """KL(q_{1|0}(. | x_0) || prior) of each sequence's free sites, float64 [B]."""
    forward, data = paths.forward, paths.data
    total = torch.zeros(len(data), dtype=torch.float64, device=data.device)
    if isinstance(forward, Absorbing):
        return total
    prior, free = forward.prior().to(data.device), SiteMask(paths.free)
    for chunk in site_chunks(free, forward.vocab_size):
        x_0 = one_hot(chunk.select(data), forward.vocab_size, torch.float64)
        total.index_add_(0, chunk.rows, kl_divergence(forward.push(x_0, 1.0), prior))
    return total


def step_divergence(reverse: ReverseProcess, paths: Paths, step: Step, sampler: Sampler) -> Tensor:
    """KL(r(x_s | x_t, x_0) || sampler's step) of each sequence, float64 [B]; one model call."""
    x = state_of_run(paths, step.t)
    evaluated = replace(reverse, model=reverse.evaluate(x, step.t, paths.movable(x)))
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for chunk in site_chunks(paths.free, reverse.forward.vocab_size):
        drawn = sampler.site_distribution(evaluated, x, step, chunk.mask)
        wanted = bridge_of_data(reverse.forward, chunk.select(paths.data), chunk.select(x), step)
        total.index_add_(0, chunk.rows, kl_divergence(wanted, drawn))
    return total


def bridge_of_data(forward: ForwardProcess, x_0: Tensor, x_t: Tensor, step: Step) -> Tensor:
    """q(x_s | x_t, x_0) of single sites [K], float64 [K, V]."""
    data = one_hot(x_0, forward.vocab_size, torch.float64)
    if isinstance(forward, Absorbing):
        now = one_hot(x_t, forward.vocab_size, torch.float64)
        revealed = float(forward.reveal_probability(step.t, step.s))
        return torch.where(forward.movable(x_t)[:, None], torch.lerp(now, data, revealed), now)
    joint = forward.bridge(data, x_t, step.t, step.s)
    return joint / joint.sum(-1, keepdim=True)


def reference_grid(forward: ForwardProcess, steps: int) -> TimeSchedule:
    """Times equally spaced in exp(-gap sigma-bar(t)), the maximal correlation of x_0 and x_t."""
    gap = forward.spectral_gap
    last = float(torch.exp(-gap * forward.noise.total(1.0)))
    correlation = torch.linspace(last, 1, steps + 1, dtype=torch.float64)[1:-1]
    inner = forward.noise.inverse(-correlation.log() / gap)
    return TimeSchedule([1.0, *inner.tolist(), 0.0])


# Counts: absorbing kernel, any order.


def key_ranks(paths: Paths) -> Tensor:
    """The ranks of the paths' own random order, int64 [B, L]; observed sites last."""
    return paths.keys.argsort(-1).argsort(-1)


def masked_from(paths: Paths, ranks: Tensor, first: Tensor | int) -> Tensor:
    """The free sites of rank ``first`` (a number, or one for each sequence [B, 1]) and later."""
    return paths.free & (ranks >= first)


def known_nll(
    reverse: ReverseProcess, paths: Paths, hidden: Tensor, where: Tensor, t: Time
) -> Tensor:
    """-log p of data at the sites ``where``, with ``hidden`` masked, float64 [B, L]; zero
    elsewhere.
    """
    assert isinstance(paths.forward, Absorbing)
    x, sites = paths.data.masked_fill(hidden, paths.forward.mask_id), SiteMask(where)
    table = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    nll = site_nll(reverse, x, t, sites, paths.data, paths.workers)
    return table.masked_scatter(where, nll)


def counts_bound(
    reverse: ReverseProcess,
    paths: Paths,
    schedule: CountSchedule,
    ranks: Tensor,
    *,
    exchangeable: bool,
) -> Tensor:
    """The bound of a run along counts for each sequence, nats, float64 [B].

    Every sequence has the counts rescaled to its own number of free sites. In a random order all
    masked sites are equally likely to be revealed by the step, and their mean has less noise.
    """
    sites = paths.free.sum(-1)
    total = torch.zeros(len(ranks), dtype=torch.float64, device=ranks.device)
    known = torch.zeros_like(sites)
    for step in schedule.plan_for(reverse.forward, sites):
        assert step.count is not None
        hidden, then = masked_from(paths, ranks, known[:, None]), known + step.count
        where = hidden if exchangeable else hidden & (ranks < then[:, None])
        nll = known_nll(reverse, paths, hidden, where, step.model_time).sum(-1)
        total += nll * step.count / (sites - known).clamp_min(1) if exchangeable else nll
        known = then
    return total


def times_of(paths: Paths, known: Tensor) -> Time:
    """The model's time where so many free sites of each sequence are known: a number, or float64
    [B] where sequences differ.

    That of the last site where all are known, and the model is not asked about the sequence.
    """
    sites = paths.free.sum(-1)
    pairs = list(zip((sites - known).clamp_min(1).tolist(), sites.tolist(), strict=True))
    times = {pair: time_of_masked(paths.forward, *pair) for pair in set(pairs)}
    if len(times) == 1:
        return times[pairs[0]]
    return torch.tensor([times[pair] for pair in pairs], dtype=torch.float64, device=known.device)


def random_order_bound(
    reverse: ReverseProcess,
    paths: Paths,
    ranks: Tensor,
    calls: int,
    generator: torch.Generator,
) -> Tensor:
    """The bound of one site at a time in random order, float64 [B].

    Of D free sites, the k-th of K calls has m = floor((k + u) D / K) of them known, u uniform for
    each sequence, and takes the mean over the masked ones.
    """
    sites = paths.free.sum(-1)
    calls = min(calls, int(sites.max()))
    u = uniform((len(ranks),), generator=generator, device=generator.device).to(ranks.device)
    total = torch.zeros(len(ranks), dtype=torch.float64, device=ranks.device)
    for k in range(calls):
        known = ((k + u) * sites / calls).floor().to(torch.int64).minimum(sites - 1)
        hidden = masked_from(paths, ranks, known[:, None])
        nll = known_nll(reverse, paths, hidden, hidden, times_of(paths, known)).sum(-1)
        total += nll * sites / (sites - known)
    return total / calls


def fixed_order_bound(
    reverse: ReverseProcess,
    paths: Paths,
    ranks: Tensor,
    calls: int,
    generator: torch.Generator,
) -> Tensor:
    """The bound of one site at a time in an order, float64 [B].

    With more sites than calls, half of the calls give the bound of that many equal steps, and the
    other half its difference from one site at a time: in each step at one rank of the step, drawn
    for each sequence, times the number of its ranks.
    """
    sites = paths.free.sum(-1)
    largest = int(sites.max())
    steps = largest if largest <= calls else calls // 2
    ends = [k * sites // steps for k in range(steps + 1)]
    total = torch.zeros(len(ranks), dtype=torch.float64, device=ranks.device)
    for first, last in pairwise(ends):
        hidden, t = masked_from(paths, ranks, first[:, None]), times_of(paths, first)
        together = known_nll(reverse, paths, hidden, hidden & (ranks < last[:, None]), t)
        total += together.sum(-1)
        if (last - first <= 1).all():
            continue
        u = uniform((len(ranks),), generator=generator, device=generator.device).to(ranks.device)
        known = first + ((last - first) * u).floor().to(torch.int64)
        hidden, site = masked_from(paths, ranks, known[:, None]), ranks == known[:, None]
        alone = known_nll(reverse, paths, hidden, site & paths.free, times_of(paths, known))
        gap = torch.where(site, alone - together, 0.0).sum(-1)
        total += torch.where(last > first, (last - first) * gap, 0.0)
    return total.nan_to_num(nan=torch.inf, posinf=torch.inf)
