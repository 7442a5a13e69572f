"""Compare schedules with one sampler, the same numbers of model calls and the same seed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.progress import Progress
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.intervals import share_interval
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Row
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import draw_samples
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.sampling.run_folder import Parts, RunFolder, Samples
from jumpsteps.schedules.schedule import Schedule

__all__ = ["Beside", "Measure", "compare", "times_of"]

Measure = Callable[[Tensor], Tensor | Interval]
"""int64 [n, L] -> one value for each sample, float [n], or an interval of all samples."""

Beside = Callable[[Tensor], Mapping[str, tuple[float, ...]]]
"""int64 [n, L] -> measures of all samples by name, see ``Row.measures``."""


def compare(
    reverse: ReverseProcess,
    sampler: Sampler | None,
    schedules: Mapping[str, Mapping[int, Schedule]],
    shape: tuple[int, int],
    *,
    metric: Measure,
    unit: float = 1.0,
    seed: int,
    device: torch.device,
    batch: int = 16,
    given: Given | None = None,
    beside: Beside | None = None,
    examples: int = 0,
    folder: RunFolder | None = None,
    progress: bool = False,
    workers: Workers = ALONE,
) -> list[Row]:
    """Sample along every schedule and measure the samples.

    Args:
        sampler: used with every schedule; by default ``default_sampler`` of each.
        schedules: name -> NFE -> schedule.
        shape: (n, L): n samples of L sites for every schedule.
        metric: int64 [n, L] -> float [n], one value per sample, or an interval of them all.
        unit: the smallest value of a sample that is not zero; see ``share_interval``.
        seed: of the samples of every schedule; sample i has the same random numbers in all.
        batch: sequences sampled at a time; it does not change the samples.
        given: observed sites, [L] for all samples or [n, L] for each of them.
        beside: further measures of all samples, by name: int64 [n, L] -> values, see ``Row``.
        examples: how many of the first samples each row keeps.
        folder: keeps the samples, so that a comparison that was stopped can be continued.
        workers: processes that share the samples, and the folder that they need.

    Returns:
        Rows by NFE, then in the order of ``schedules``; of several processes in the first.

    Raises:
        ValueError: fewer than two samples.
    """
    check_number(shape[0])
    jobs = [(nfe, name, found[nfe]) for name, found in schedules.items() for nfe in found]
    jobs.sort(key=lambda job: job[0])  # Equal ones stay in the order of ``schedules``.
    parts = [folder.parts(shape[0], str(i)) if folder else None for i in range(len(jobs))]
    rows: list[Row] = []
    own = SampleGenerators(seed, range(shape[0]), device)
    with progress_of(parts, shape[0], workers, shown=progress) as bar:
        draw = partial(
            draw_samples, generator=own, batch=batch, given=given, progress=bar, workers=workers
        )
        for (_, name, schedule), kept in zip(jobs, parts, strict=True):
            used = sampler or default_sampler(schedule)
            made = draw(reverse, used, schedule, shape, parts=kept)
            if workers.is_first:
                times = times_of(schedule, reverse)
                shown = Examples.of(made, examples, given) if examples else None
                rows.append(row_of(made, metric, unit, beside, name, times, shown))
    return rows


def progress_of(
    parts: Sequence[Parts | None], samples: int, workers: Workers, *, shown: bool
) -> Progress:
    """The progress of all processes, each of the parts with so many samples."""
    total, done = len(parts) * samples, sum(one.done for one in parts if one is not None)
    tally = workers.tally("compared")
    return Progress("comparing", "samples", total, shown=shown, done=done, tally=tally)


def check_number(samples: int) -> None:
    if samples < 2:
        raise ValueError(
            f"a comparison needs at least two samples for its intervals, got {samples}; raise -n"
        )


def row_of(
    made: Samples,
    metric: Measure,
    unit: float,
    beside: Beside | None,
    name: str,
    times: tuple[float, ...],
    examples: Examples | None,
) -> Row:
    """The row of the samples of one schedule."""
    measures = {} if beside is None else beside(made.samples)
    measured = metric(made.samples)
    interval = measured if isinstance(measured, Interval) else share_interval(measured, unit)
    return Row(made.nfe, name, times, interval, examples, measures)


def times_of(schedule: Schedule, reverse: ReverseProcess) -> tuple[float, ...]:
    """The times of a schedule's steps under the model's forward process, from 1 down to 0."""
    return (*(step.t for step in schedule.plan(reverse.forward)), 0.0)
