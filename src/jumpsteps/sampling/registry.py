"""Every sampler: the one place where a new one is registered.

The import of its class below is all that a sampler needs. ``SAMPLERS`` lists its ``variants`` by
name, and the command line, the top level of the package (``jumpsteps.Tweedie``) and the table in
docs/samplers.md read this module.
"""

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import CountSchedule, Schedule

# The order is that of the table: samplers of every kernel, then those of the absorbing kernel.
# isort: off
from jumpsteps.sampling.one_stage import Tweedie as Tweedie
from jumpsteps.sampling.one_stage import Euler as Euler
from jumpsteps.sampling.one_stage import TauLeaping as TauLeaping
from jumpsteps.sampling.two_stage import ThetaTrapezoidal as ThetaTrapezoidal
from jumpsteps.sampling.two_stage import ThetaRK2 as ThetaRK2
from jumpsteps.sampling.corrector import PredictorCorrector as PredictorCorrector
from jumpsteps.sampling.leave_one_out import LeaveOneOutCorrector as LeaveOneOutCorrector
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs as BlockedGibbs
from jumpsteps.sampling.ancestral import Ancestral as Ancestral
from jumpsteps.sampling.ancestral import ReMDM as ReMDM
from jumpsteps.sampling.parallel_decoding import KGillespie as KGillespie
from jumpsteps.sampling.multistep import MultistepTweedie as MultistepTweedie
from jumpsteps.sampling.multistep import MultistepKGillespie as MultistepKGillespie
from jumpsteps.sampling.parallel_decoding import MaskGIT as MaskGIT
from jumpsteps.sampling.event_driven import FirstHitting as FirstHitting
from jumpsteps.sampling.parallel_decoding import EntropyBounded as EntropyBounded
from jumpsteps.sampling.klass import KLASS as KLASS
from jumpsteps.sampling.event_driven import Gillespie as Gillespie
# isort: on

SAMPLER_CLASSES: tuple[type[Sampler], ...] = tuple(
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Sampler) and kind is not Sampler
)
"""The classes imported above, in that order."""

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler for kind in SAMPLER_CLASSES for sampler in kind.variants()
}
"""By name: what ``--sampler`` takes."""


@kinds_checked()
def default_sampler(schedule: Schedule) -> Sampler:
    """Tweedie's sampler for times, k-Gillespie for counts: their steps have the same distribution,
    the one with times and the other with numbers of sites. With the corrections of the schedule.
    """
    predictor = KGillespie() if isinstance(schedule, CountSchedule) else Tweedie()
    return BlockedGibbs(predictor, schedule.redraws) if schedule.redraws else predictor
