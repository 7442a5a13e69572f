"""The corrector that flags name."""

from jumpsteps.cli.options import CorrectorOptions
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs, Redraw

__all__ = ["steps_without", "with_corrector"]


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
