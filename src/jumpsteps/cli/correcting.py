"""Correctors: the one that flags name, and plans of steps and corrections that a race chooses."""

import torch

from jumpsteps.cli.inputs import search_data, seeded
from jumpsteps.cli.named import order_named
from jumpsteps.cli.options import CorrectorOptions, OptimizeOptions
from jumpsteps.cli.racing import PARTS, similarity_of
from jumpsteps.core.distributed import Workers
from jumpsteps.evaluation.race import race
from jumpsteps.models import LoadedModel
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs
from jumpsteps.schedules.orders import Golden
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.corrector_candidates import STEPS_ALONE, corrector_candidates

__all__ = ["corrector_plans", "steps_without", "with_corrector"]

SAMPLES = 128
"""Samples of each plan in a race, unless --race says another number."""


def steps_without(options: CorrectorOptions, nfe: int) -> int:
    """The model calls that are left for a schedule.

    Raises:
        ValueError: none.
    """
    left = nfe - (options.corrections or 0)
    if left < 1:
        raise ValueError(
            f"--corrections {options.corrections} leaves no model call of --nfe {nfe} for the "
            "steps; raise --nfe"
        )
    return left


def with_corrector(sampler: Sampler, options: CorrectorOptions) -> Sampler:
    """The sampler, followed by corrections if there are any."""
    if options.corrections is None:
        return sampler
    share = Redraw.share if options.redraw_share is None else options.redraw_share
    return BlockedGibbs(sampler, (Redraw(options.corrections, share),))


def corrector_plans(
    options: OptimizeOptions, model: LoadedModel, device: torch.device, workers: Workers
) -> dict[int, Schedule]:
    """The plan for each NFE whose samples are nearest to data; prints the race.

    Raises:
        ValueError: a kernel other than absorbing, fewer than 24 sequences of data, or what ``race``
            refuses.
    """
    if not isinstance(model.reverse.forward, Absorbing):
        raise ValueError(
            "--corrector plans for the absorbing kernel, this model has the "
            f"{model.reverse.forward.name} kernel; leave it out"
        )
    generator = seeded(options.seed, device)
    n = options.search.sequences
    tokens, mask, name = search_data(
        model, options.search, options.observed, generator, (PARTS - 1) * n
    )
    searched = min(n, len(tokens) // PARTS)
    if searched < 8:
        raise ValueError(
            f"a race takes {PARTS * 8} sequences of data or more, got {len(tokens)}; pass more"
        )
    first, others = (
        mask[rows] if mask is not None and mask.ndim == 2 else mask
        for rows in (slice(searched), slice(searched, None))
    )
    plans = corrector_candidates(
        model.reverse,
        tokens[:searched],
        options.search.nfe,
        order=Golden() if options.order is None else order_named(options.order),
        given_mask=first,
        about=model.provenance(data=name),
        generator=generator,
        progress=True,
        workers=workers,
    )
    result = race(
        model.reverse,
        tokens[searched:],
        plans,
        given_mask=others,
        samples=options.racing.race or SAMPLES,
        max_calls=options.racing.race_calls,
        similarity=similarity_of(model),
        plain=(STEPS_ALONE,),
        generator=generator,
        progress=True,
        workers=workers,
    )
    print(result)
    return result.schedules
