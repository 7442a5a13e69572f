"""Few-step NLL: how improbable data are under a sampler with a schedule, for any network.

``nll_bounds`` has the equations. Few-step NLL minus the entropy of the data bounds
KL(data || samples), whatever the network; its excess over a run of many more steps is what the few
steps cost. All values are in nats per sequence, of the free sites given the observed ones.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import Floats, half_width, standard_error
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.checks import every_call_checked
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.costs.nll_bounds import (
    counts_bound,
    fixed_order_bound,
    key_ranks,
    random_order_bound,
    reference_grid,
    times_bound,
)
from jumpsteps.search.paths import Paths

__all__ = ["FewStepNLL", "few_step_nll"]


@dataclass(frozen=True)
class FewStepNLL:
    """The bound of -log p of data under a run, and its excess over a run of many more steps.

    The excess is what the few steps cost. It may be negative, where the network predicts worse
    from more context. Its 95% upper limit is a certificate: it assumes that the sequences are
    independent draws of the data and were not used to choose the schedule, and nothing else.

    Attributes:
        per_sequence: the bound for each sequence, nats, [B].
        reference: the same bound of the run that the excess is over, nats, [B]; see
            ``few_step_nll``.
        sites: free sites of a sequence, on average.
        model_calls: model evaluations of the estimate, those of the reference included.
    """

    per_sequence: Floats
    reference: Floats
    sites: float
    model_calls: int

    @property
    def nll(self) -> float:
        """Few-step NLL, nats per sequence."""
        return float(self.per_sequence.mean())

    @property
    def stderr(self) -> float:
        """Standard error of ``nll`` over sequences; infinite if a sequence is excluded."""
        return bound_stderr(self.per_sequence)

    @property
    def interval(self) -> tuple[float, float]:
        """95% confidence interval of ``nll``."""
        return interval(self.nll, self.stderr, len(self.per_sequence))

    @property
    def bits_per_token(self) -> float:
        """``nll`` in bits per free site."""
        return self.nll / self.sites / float(np.log(2))

    @property
    def excess(self) -> float:
        """``nll`` minus that of the reference, nats per sequence."""
        return float(difference(self.per_sequence, self.reference).mean())

    @property
    def excess_stderr(self) -> float:
        """Standard error of ``excess`` over sequences."""
        return bound_stderr(difference(self.per_sequence, self.reference))

    @property
    def excess_interval(self) -> tuple[float, float]:
        """95% confidence interval of ``excess``."""
        return interval(self.excess, self.excess_stderr, len(self.per_sequence))

    @property
    def excess_limit(self) -> float:
        """The certificate: the upper end of ``excess_interval``."""
        return self.excess_interval[1]

    def __str__(self) -> str:
        half = half_width(self.stderr, len(self.per_sequence))
        return (
            f"few-step NLL {self.nll:.2f} ±{half:.2f} nats per sequence "
            f"({self.bits_per_token:.3f} bits per token), "
            f"excess {self.excess:.2f}, at most {self.excess_limit:.2f} (95%)"
        )


def difference(bound: Floats, reference: Floats) -> Floats:
    """The excess of each sequence; infinite where the bound is, whatever the reference."""
    finite = np.isfinite(bound)
    return np.where(finite, np.where(finite, bound, 0.0) - reference, np.inf)


def bound_stderr(parts: Floats) -> float:
    """Standard error of the mean of parts [B]; infinite if one is."""
    return float(standard_error(parts)) if np.isfinite(parts).all() else np.inf


def interval(mean: float, stderr: float, count: int) -> tuple[float, float]:
    if not np.isfinite(stderr):
        return -np.inf, np.inf
    half = half_width(stderr, count)
    return mean - half, mean + half


@kinds_checked()
@torch.no_grad()
def few_step_nll(
    reverse: ReverseProcess,
    data: Paths | Tensor | NDArray[np.integer],
    schedule: Schedule,
    sampler: Sampler,
    *,
    generator: torch.Generator,
    given_mask: Tensor | None = None,
    reference_calls: int = 64,
) -> FewStepNLL:
    """An unbiased estimate of the bound on data, with one model evaluation for each step.

    The reference of the excess is

    * absorbing kernel: the same bound of a run that reveals one site at a time, in random order for
      times and in the schedule's order for counts, with the model's own time of each number of
      masked sites. It is exact where a sequence has no more free sites than ``reference_calls``,
      else estimated without bias at random numbers of revealed sites, drawn for each sequence;
    * other kernels: the same bound of Tweedie's sampler with ``reference_calls`` steps, equally
      spaced in the maximal correlation of x_0 and x_t.

    Both bounds share the forward paths (or the order) of each sequence.

    Args:
        data: integers [B, L] of B >= 2 sequences, or forward paths of them. For a certificate they
            must be other sequences than those that the schedule was searched on.
        schedule: from t = 1 to t = 0, or counts, which are rescaled to the number of free sites of
            each sequence, as in a run.
        sampler: one whose step draws sites independently, or k-Gillespie for counts.
        generator: draws paths and orders, on the device of ``data``.
        given_mask: bool [L] or [B, L], observed sites; with data that are not ``Paths``.
        reference_calls: model evaluations of the reference at most, 2 or more.

    Raises:
        ValueError: a sampler without independent sites, a schedule of the other kind, for another
            kernel, or that does not run from 1 to 0; fewer than two sequences.
    """
    forward = reverse.forward
    sampler.check(forward)
    schedule.check_kernel(forward)
    paths = (
        data
        if isinstance(data, Paths)
        else Paths.draw(forward, data, generator=generator, given_mask=given_mask)
    )
    check(schedule, sampler, paths, reference_calls)
    with every_call_checked(MicroBatches(reverse.model)) as checked:
        counter = CallCounter(checked)
        counted = replace(reverse, model=counter)
        bound, reference = bounds(counted, paths, schedule, sampler, reference_calls, generator)
    sites = float(paths.free.sum(-1).double().mean())
    return FewStepNLL(bound.cpu().numpy(), reference.cpu().numpy(), sites, counter.calls)


def bounds(
    reverse: ReverseProcess,
    paths: Paths,
    schedule: Schedule,
    sampler: Sampler,
    reference_calls: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The bound of a run by this schedule, and of the reference, nats of each sequence, [B]."""
    if isinstance(schedule, CountSchedule):
        random = schedule.order == Random()
        ranks = (
            key_ranks(paths) if random else paths.free_ranks(schedule.order, generator=generator)
        )
        bound = counts_bound(reverse, paths, schedule, ranks, exchangeable=random)
    else:
        random, ranks = True, key_ranks(paths)
        bound = times_bound(reverse, paths, schedule, sampler)
    return bound, reference_bound(reverse, paths, ranks, random, reference_calls, generator)


def reference_bound(
    reverse: ReverseProcess,
    paths: Paths,
    ranks: Tensor,
    random: bool,
    calls: int,
    generator: torch.Generator,
) -> Tensor:
    """The bound of the reference of ``few_step_nll``, nats, [B]."""
    if not isinstance(reverse.forward, Absorbing):
        return times_bound(reverse, paths, reference_grid(reverse.forward, calls), Tweedie())
    bound = random_order_bound if random else fixed_order_bound
    return bound(reverse, paths, ranks, calls, generator)


def check(schedule: Schedule, sampler: Sampler, paths: Paths, reference_calls: int) -> None:
    if sampler.takes is not type(schedule):
        raise ValueError(
            f"sampler {sampler.name} does not follow a {type(schedule).__name__}; use tweedie for "
            "times and k-gillespie for counts"
        )
    if schedule.redraws:
        raise ValueError("the bound is of steps without corrections; leave out the redraws")
    if isinstance(schedule, CountSchedule):
        if sampler.schedules_of is not sampler:
            raise ValueError(
                f"the bound is not made for {sampler.name}, whose steps depend on the step before; "
                f"use {sampler.schedules_of.name}"
            )
        if sampler.holds is not Held.COUNT:
            raise ValueError(
                f"the sites that {sampler.name} reveals depend on the symbols drawn, so the bound "
                "does not hold; use k-gillespie"
            )
    elif (schedule.times[0], schedule.times[-1]) != (1.0, 0.0):
        raise ValueError(
            "few-step NLL is of a run from t = 1 to t = 0, the schedule runs from "
            f"{schedule.times[0]} to {schedule.times[-1]}"
        )
    if len(paths.data) < 2:
        raise ValueError(
            f"the standard error needs at least two sequences, got {len(paths.data)}; "
            "pass more data"
        )
    if reference_calls < 2:
        raise ValueError(f"the reference needs at least 2 model calls, got {reference_calls}")
