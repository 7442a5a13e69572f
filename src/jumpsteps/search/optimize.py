"""Schedules for a model in one call, by any search, and their certificates."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.progress import Progress
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.checks import every_call_checked
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.model import Evaluation, Model, call, evaluate
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.noise import Time
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.certificate import CERTIFICATE_CALLS, certify
from jumpsteps.search.doubts import doubt_data, doubt_found
from jumpsteps.search.method import (
    BoundsEvaluations,
    FoundSchedule,
    Method,
    PredictsErrors,
    measures_by_data,
)
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["CERTIFIES", "most_calls", "optimize_schedule"]

CERTIFIES = 16
"""Fewer held-out sequences give no certificate."""


@kinds_checked()
def optimize_schedule(
    reverse: ReverseProcess,
    data: Tensor | NDArray[np.integer],
    nfe: Iterable[int] = (),
    *,
    tolerance: float | None = None,
    generator: torch.Generator,
    method: Method | None = None,
    sampler: Sampler | None = None,
    given_mask: Tensor | None = None,
    held_out: int | None = None,
    about: Provenance = Provenance(),
    progress: bool = False,
    workers: Workers = ALONE,
) -> dict[int, Schedule]:
    """Optimise times (or counts) for a model, on samples of its data.

    Args:
        reverse: the reverse process.
        data: integers [B, L], sequences like the training data; 16 to 64 usually suffice.
        nfe: numbers of model calls of a run.
        tolerance: in place of ``nfe``: the fewest steps with this excess NLL, nats per sequence.
        generator: draws the forward paths, on the device of ``data``.
        method: the search; ``ShortestPath()`` by default.
        sampler: of the run, the method's own by default; it takes times or counts. Costs and
            certificates are those of its ``schedules_of``.
        given_mask: bool [L] or [B, L], the observed sites, which stay as in the data.
        held_out: so many sequences at the end choose nothing, and certify the schedules: 0, or at
            least 16. By default a third, and at least 16, of 32 or more sequences, at random.
        about: model and data, for the schedules' provenance.
        progress: show a progress bar of model calls on stderr.
        workers: processes that make the same call, and share the sequences of each model call.

    Returns a schedule for each NFE, with its provenance, in all processes.

    Warns:
        DoubtfulInput: few sequences, another length, a miscalibrated model, errors below zero.

    Raises:
        ValueError: an argument of another kind; an NFE, tolerance or number of held-out sequences
            that cannot be had; a kernel that is not served; tokens that data cannot hold.
    """
    method = method or ShortestPath()
    sampler = (sampler or method.sampler).schedules_of
    steps = wanted_steps(reverse, sampler, nfe, tolerance)
    certifiable = measures_by_data(method, reverse.forward, sampler)
    rows, rest = split(len(data), held_out if certifiable else 0, generator)
    drawn = Paths.draw(reverse.forward, data, generator=generator, given_mask=given_mask)
    paths = replace(drawn, workers=workers)
    doubt_data(paths.data[rows], reverse.model)
    most = most_calls(method, steps.values(), sampler, paths.data.shape[1], len(rest))
    with watched(reverse, most, shown=progress) as (counted, counter):
        found = search(counted, paths.rows(rows), method, sampler, steps, tolerance, generator)
        found = certified(counted, paths.rows(rest), found, generator)
    doubt_found(found, len(rows))
    names, seed = {"method": method.name, "sampler": sampler.name}, generator.initial_seed()
    known = about.with_search(
        reverse.forward, **names, sequences=len(rows), seed=seed, model_calls=counter.calls
    )
    return {n: with_provenance(one, known) for n, one in found.items()}


@contextmanager
def watched(
    reverse: ReverseProcess, total: int | None, *, shown: bool
) -> Iterator[tuple[ReverseProcess, CallCounter]]:
    """The reverse process with a model whose calls are checked, counted and shown, and the counter.

    Args:
        total: calls at most, if known.
    """
    with every_call_checked(MicroBatches(reverse.model)) as checked:
        counter = CallCounter(checked)
        with ProgressBar(counter, total, shown=shown) as model:
            yield replace(reverse, model=model), counter


def wanted_steps(
    reverse: ReverseProcess, sampler: Sampler, nfe: Iterable[int], tolerance: float | None
) -> dict[int, int]:
    """NFE -> steps; raises ValueError for a sampler that does not serve the kernel, or for neither
    or both of an NFE and a tolerance.
    """
    sampler.check(reverse.forward)
    steps = {n: sampler.steps(n) for n in sorted(set(nfe))}
    if bool(steps) == (tolerance is not None):
        raise ValueError("name at least one NFE, or a tolerance in place of them")
    return steps


def most_calls(
    method: Method, steps: Collection[int], sampler: Sampler, sites: int, held_out: int
) -> int | None:
    """Model calls of a search and its certificates, at most; None where that is not known."""
    most = method.max_evaluations
    if isinstance(method, BoundsEvaluations) and steps:
        most = method.most_evaluations(list(steps), sampler, sites)
    return None if most is None else most + (CERTIFICATE_CALLS if held_out else 0)


def search(
    reverse: ReverseProcess,
    paths: Paths,
    method: Method,
    sampler: Sampler,
    steps: Mapping[int, int],
    tolerance: float | None,
    generator: torch.Generator,
) -> dict[int, FoundSchedule]:
    """By NFE, the schedules of these numbers of steps, or the one within the tolerance."""
    if tolerance is None:
        wanted = sorted(set(steps.values()))
        by_steps = method.find(reverse, paths, wanted, sampler, generator=generator)
        return {nfe: by_steps[n] for nfe, n in steps.items()}
    if not isinstance(method, PredictsErrors):
        raise ValueError(
            f"method {method.name} does not predict errors; for a tolerance use the shortest path"
        )
    found = method.find_within(reverse, paths, tolerance, sampler, generator=generator)
    return {sampler.calls(found.schedule.steps) or found.schedule.steps: found}


def split(
    sequences: int, held_out: int | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The rows that choose schedules and the rows that are held out, int64.

    Raises:
        ValueError: held-out sequences that leave none to search on, or too few for an interval.
    """
    rows = torch.arange(sequences)
    if held_out is None:
        held_out = 0 if sequences < 2 * CERTIFIES else max(CERTIFIES, sequences // 3)
        if held_out:
            rows = torch.randperm(sequences, generator=generator, device=generator.device).cpu()
    elif held_out and not CERTIFIES <= held_out < sequences:
        raise ValueError(
            f"held_out={held_out} must be 0, or at least {CERTIFIES} and less than the "
            f"{sequences} sequences of the data"
        )
    return rows[: sequences - held_out], rows[sequences - held_out :]


def certified(
    reverse: ReverseProcess,
    paths: Paths,
    found: Mapping[int, FoundSchedule],
    generator: torch.Generator,
) -> dict[int, FoundSchedule]:
    """The schedules with few-step NLLs of held-out sequences, if any, as far as calls allow."""
    if not len(paths.data):
        return dict(found)
    schedules = {nfe: one.schedule for nfe, one in found.items()}
    measured = certify(reverse, paths, schedules, generator=generator)
    return {n: one.certified(measured[n]) if n in measured else one for n, one in found.items()}


def with_provenance(found: FoundSchedule, known: Provenance) -> Schedule:
    """The schedule with what is known of its search, and its own few-step NLL or error."""
    measured, choice = found.few_step, found.choice
    if choice is not None:
        known = replace(
            known,
            order=choice.order,
            runner_up=choice.runner_up,
            runner_up_difference=choice.difference,
            runner_up_half_width=choice.half_width,
        )
    if measured is None:
        return replace(found.schedule, provenance=known.with_error(found.cost, found.stderr))
    evidence = known.with_evidence(
        few_step_nll=measured.nll,
        few_step_nll_stderr=measured.stderr,
        bits_per_token=measured.bits_per_token,
        excess=measured.excess,
        excess_stderr=measured.excess_stderr,
        excess_limit=None if found.held_out is None else measured.excess_limit,
        held_out=found.held_out,
    )
    return replace(found.schedule, provenance=evidence)


class ProgressBar:
    """A model that shows the progress of its calls on stderr.

    Args:
        model: the model.
        total: calls at most, if known.
        shown: whether anything is shown.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, model: Model, total: int | None, *, shown: bool) -> None:
        self.model = model
        self.bar = Progress("search", "model calls", total, shown=shown)

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        out = call(self.model, x, t, where)
        self.bar.update()
        return out

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        out = evaluate(self.model, x, t, where)
        self.bar.update()
        return out

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
