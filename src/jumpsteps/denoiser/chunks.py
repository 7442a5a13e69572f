"""Large vocabularies: a model is called once, and its head runs on a block of sites at a time.

All sites and symbols together are L V numbers for each sequence, 200 MB at the size of a small language model. What is kept of a
call are the hidden states of the trunk (see ``reverse.evaluate``).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from jumpsteps.core.site_mask import sites_of
from jumpsteps.denoiser.model import evaluate
from jumpsteps.denoiser.reverse import ReverseProcess

__all__ = ["in_chunks", "site_chunks", "site_entropies"]

CHUNK_SIZE = {"cpu": 2**21, "cuda": 2**27}
"""Numbers in the largest tensors, which hold a block of sites; by type of device."""


def site_chunks(where: Tensor, numbers: int) -> Iterator[Tensor]:
    """The selected sites in pieces, bool [B, L] each, in order; ``numbers`` are what one site takes."""
    sites = sites_of(where)
    most = max(CHUNK_SIZE.get(where.device.type, CHUNK_SIZE["cpu"]) // numbers, 1)
    if len(sites) <= most:
        yield where
        return
    for piece in sites.split(most):
        yield torch.zeros_like(where).flatten().index_fill(0, piece, True).reshape(where.shape)


def in_chunks(
    reverse: ReverseProcess,
    x: Tensor,
    t: float,
    where: Tensor,
    draw: Callable[[ReverseProcess, Tensor], Tensor],
) -> Tensor:
    """What ``draw(reverse, chunk)`` gives for one block of sites after the other, [K, ...]; one model call."""
    pieces = list(site_chunks(where, reverse.forward.vocab_size))
    if len(pieces) == 1:
        return draw(reverse, where)
    kept = replace(reverse, model=evaluate(reverse.model, x, t, where))
    return torch.cat([draw(kept, chunk) for chunk in pieces])


def site_entropies(reverse: ReverseProcess, x: Tensor, t: float, where: Tensor) -> Tensor:
    """The entropy of p(x0^l | x_t without x_t^l) at the selected sites, nats, float64 [K]; one model call."""
    kept = replace(reverse, model=evaluate(reverse.model, x, t, where))
    pieces = [torch.zeros(0, dtype=torch.float64, device=x.device)]
    for chunk in site_chunks(where, reverse.forward.vocab_size):
        p = kept.leave_one_out(x, t, where=chunk)
        pieces.append(-torch.xlogy(p, p).sum(-1, dtype=torch.float64))
    return torch.cat(pieces)
