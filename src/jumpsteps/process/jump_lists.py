"""Lists of jumps, of which some sites have none and others many.

How long a list is, is known to a GPU first, and to read it the CPU must wait until the GPU has
caught up. Therefore as many jumps as there usually are at most are asked for before the number is
read; behind the end of the list they move nothing. Only what is left is drawn afterwards.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from jumpsteps.core.sample_generators import Generator, repeats_of

__all__ = ["add_jumps"]

AHEAD = ("cuda",)
"""Types of device that are asked for jumps before their number is known."""


def add_jumps(
    moved: Tensor,
    times: Tensor,
    number: Callable[[], int],
    displacements: Callable[[Tensor, Generator], Tensor],
    *,
    ahead: int = 0,
    generator: Generator,
) -> Tensor:
    """``moved`` [K] plus the displacements of all jumps of each site, in place.

    Args:
        moved: int64.
        times: how many jumps each site has, int64 [K].
        number: gives their sum.
        displacements: of one jump at each of some sites, int64 [J] to [J]. It may be asked for
            sites without a jump.
        ahead: so many jumps may be asked for before the number is known.
        generator: of the K sites.
    """
    ends, source, sites = times.cumsum(0), repeats_of(generator), len(times)

    def add(first: int, last: int) -> None:
        jump = torch.arange(first, last, device=times.device)
        site = torch.searchsorted(ends, jump, right=True)
        inside, site = site < sites, site.clamp_max_(sites - 1)
        earlier = jump - (ends - times)[site]  # Jumps of the same site.
        moved.index_add_(0, site, displacements(site, source(site, earlier)) * inside)

    done = min(ahead, sites) if times.device.type in AHEAD else 0
    if done:
        add(0, done)
    total = number()
    for first in range(done, total, max(sites, 1)):
        add(first, min(first + sites, total))
    return moved
