r"""The any-order bound: how probable sequences are under a masked model, one site at a time.

A sampler that reveals one site at a time in a random order :math:`\pi` has, for every order, the
distribution :math:`\prod_j p(x^{\pi_j} \mid x^{\pi_1 .. \pi_{j-1}})`. Their mixture satisfies, by
Jensen's inequality,

.. math:: -\log p(x) \le \sum_{m=0}^{D-1} \frac{1}{D - m}\, E_S \sum_{l \notin S} -\log
    p(x^l \mid x^S), \qquad S \text{ a random set of } m \text{ of the } D \text{ sites},

with equality if the model's conditionals are those of one distribution (Uria et al. 2014; Hoogeboom
et al. 2022, Eq. 5). Observed sites belong to every S and do not count.
"""

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.progress import tracked
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Random

__all__ = ["any_order_nll"]


@torch.no_grad()
def any_order_nll(
    reverse: ReverseProcess,
    x: Tensor,
    *,
    given_mask: Tensor | None = None,
    evaluations: int = 32,
    common: bool = False,
    batch: int = 64,
    generator: torch.Generator,
    progress: bool = False,
) -> Tensor:
    """An unbiased estimate of the any-order bound of -log p, nats per sequence, float64 [B].

    The K evaluations take numbers m = floor((k + u) D / K), k = 0..K-1, of revealed sites, with one
    uniform u, and a random set of sites for each. The estimate is infinite for a sequence with a
    token that the model excludes.

    Args:
        reverse: a reverse process of the absorbing kernel.
        x: int64 [B, L], clean.
        given_mask: bool [L] or [B, L], observed sites; the bound is of the D others given them.
        evaluations: K, model evaluations of each sequence.
        common: draw u and the sets once for all sequences. Their differences are then less noisy,
            and a sequence has the same value wherever it stands; but the mean over sequences keeps
            the noise of the draw. By default they are drawn for each sequence.
        batch: sequences in a model call.

    Raises:
        ValueError: another kernel, tokens that data cannot hold, or a sequence without a free site.
    """
    forward = reverse.forward
    if not isinstance(forward, Absorbing):
        raise ValueError(
            f"the any-order bound is for the absorbing kernel, the model has the {forward.name} one"
        )
    if evaluations < 1:
        raise ValueError(f"the bound needs at least one evaluation, got {evaluations}")
    forward.check_data(x, "the sequences")
    count, length = x.shape
    free = free_sites(x, given_mask)
    sites = free.sum(-1)
    draws = 1 if common else count
    u = uniform((draws,), generator=generator, device=generator.device).to(x.device)
    total = torch.zeros(count, dtype=torch.float64, device=x.device)
    for k in tracked(range(evaluations), "likelihood", "evaluations", evaluations, shown=progress):
        order = Random().ranks(draws, length, generator=generator).to(x.device).expand(count, -1)
        ranks = order.masked_fill(~free, length).argsort(dim=-1, stable=True).argsort(-1)
        revealed = ((k + u) * sites / evaluations).floor().clamp_max(sites - 1).to(torch.int64)
        hidden = free & (ranks >= revealed[:, None])
        masked = sites - revealed
        parts = [
            hidden_nll(reverse, forward, x[part], hidden[part], masked[part], sites[part])
            for part in torch.arange(count, device=x.device).split(batch)
        ]
        total += torch.cat(parts) * sites / masked
    return total / evaluations


def free_sites(x: Tensor, given_mask: Tensor | None) -> Tensor:
    """The sites that are not observed, bool [B, L]; raises ValueError if a sequence has none."""
    known = torch.zeros_like(x, dtype=torch.bool)
    free = ~(known if given_mask is None else given_mask.to(x.device).expand(x.shape))
    if not free.any(-1).all():
        raise ValueError("a sequence has no free site, so there is nothing to measure")
    return free


def hidden_nll(
    reverse: ReverseProcess,
    forward: Absorbing,
    x: Tensor,
    hidden: Tensor,
    masked: Tensor,
    sites: Tensor,
) -> Tensor:
    """The sum over the hidden sites of -log p(x^l | the others), float64 [B]; one model call."""
    counts = list(zip(masked.tolist(), sites.tolist(), strict=True))
    times = {pair: time_of_masked(forward, *pair) for pair in set(counts)}
    t = torch.tensor([times[pair] for pair in counts], dtype=torch.float64, device=x.device)
    where = SiteMask(hidden)
    w = reverse.leave_one_out(x.masked_fill(hidden, forward.mask_id), t, where=where)
    nll = -w.gather(-1, selected(x, where)[:, None])[:, 0].to(torch.float64).log()
    return torch.zeros(len(x), dtype=torch.float64, device=x.device).index_add(0, where.rows, nll)
