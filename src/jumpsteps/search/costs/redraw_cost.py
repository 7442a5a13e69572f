r"""What a call of a blocked Gibbs sampler costs in distribution, measured on data.

The call draws the sites S independently given the others. With data at the others, it loses

.. math:: E\Big[\sum_{l \in S} -\log p(x^l \mid x^{-S})\Big]
    - E\Big[\sum_{j} -\log p(x^{S_j} \mid x^{-S}, x^{S_1 .. S_{j-1}})\Big]

nats, S_1, S_2 ... the sites in random order. For an exact model it is the total correlation of S
given the rest, by which a call moves the model's distribution at most (in KL divergence), and it
is the cost of the step that reveals S last in a schedule of counts.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import uniform
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.search.costs.few_step_nll import FewStepNLL
from jumpsteps.search.costs.nll_bounds import known_nll
from jumpsteps.search.paths import Paths

__all__ = ["redraw_cost"]


@kinds_checked()
@torch.no_grad()
def redraw_cost(
    reverse: ReverseProcess,
    data: Paths | Tensor | NDArray[np.integer],
    redraw: Redraw,
    *,
    generator: torch.Generator,
    given_mask: Tensor | None = None,
    reference_calls: int = 32,
    draws: int = 1,
) -> FewStepNLL:
    """The NLL of the redrawn sites given the others, and its excess over one site at a time.

    Args:
        reverse: an absorbing reverse process.
        data: integers [B, L] of B >= 2 sequences, or forward paths of them.
        redraw: its share of the free sites and its sets, of which one call is measured.
        generator: draws sets and orders, on the device of ``data``.
        given_mask: bool [L] or [B, L], observed sites; with data that are not ``Paths``.
        reference_calls: model evaluations of the reference at most; it is unbiased where there are
            more sites.
        draws: sets for each sequence, whose mean is taken. The noise of a call that draws many
            sites lies in the sites as much as in the sequences, and more sets average it.

    Raises:
        ValueError: a kernel other than absorbing, fewer than two sequences, or no draw.
    """
    forward = reverse.forward
    if not isinstance(forward, Absorbing):
        raise ValueError(
            f"the cost of a redraw is measured for the absorbing kernel, got {forward.name}"
        )
    paths = data
    if not isinstance(paths, Paths):
        paths = Paths.draw(forward, paths, generator=generator, given_mask=given_mask)
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    if draws < 1:
        raise ValueError(f"the cost needs at least one draw of the sites, got {draws}")
    parts = [
        one_draw(reverse, forward, paths, redraw, reference_calls, generator) for _ in range(draws)
    ]
    together, alone = (torch.stack(each).mean(0).cpu().numpy() for each in zip(*parts, strict=True))
    free = paths.free.sum(-1)
    count = redrawn_sites(free, redraw)
    calls = draws * (1 + min(reference_calls, int(count.max())))
    return FewStepNLL(together, alone, float(count.double().mean()), calls)


def redrawn_sites(free: Tensor, redraw: Redraw) -> Tensor:
    """How many of the free sites a call draws again, int64 [B]."""
    return (redraw.share * free).round().clamp_min(1).to(torch.int64)


def one_draw(
    reverse: ReverseProcess,
    forward: Absorbing,
    paths: Paths,
    redraw: Redraw,
    reference_calls: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The NLL of one set for each sequence, drawn together and one at a time, float64 [B]."""
    free = paths.free.sum(-1)
    count = redrawn_sites(free, redraw)
    chosen = redraw.sets.free_ranks(paths.free, generator=generator) < count[:, None]
    turn = Random().free_ranks(chosen, generator=generator)

    def nll(known: Tensor) -> Tensor:
        """The mean over the sites of S that are masked with ``known`` [B] of them revealed."""
        hidden = chosen & (turn >= known[:, None])
        alpha = 1 - (count - known) / free.to(torch.float64)
        t = forward.noise.time_of_alpha(alpha.clamp_min(float(forward.noise.alpha(1.0))))
        return known_nll(reverse, paths, hidden, hidden, t).sum(-1) / (count - known)

    together = count * nll(torch.zeros_like(count))
    calls = min(reference_calls, int(count.max()))
    u = uniform((len(count),), generator=generator, device=generator.device).to(count.device)
    alone = torch.zeros_like(together)
    for k in range(calls):
        known = ((k + u) * count / calls).floor().to(torch.int64).minimum(count - 1)
        alone += count * nll(known) / calls
    return together, alone
