"""Compare schedules with one sampler, the same numbers of model calls and the same seed."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.intervals import share_interval
from jumpsteps.evaluation.results import Row
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import run_batches
from jumpsteps.sampling.loop import Simulation
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.schedule import Schedule

__all__ = ["Beside", "compare", "times_of"]

Beside = Callable[[Tensor], Mapping[str, tuple[float, ...]]]
"""int64 [n, L] -> measures of all samples by name, see ``Row.measures``."""


def compare(
    reverse: ReverseProcess,
    sampler: Sampler | None,
    schedules: Mapping[str, Mapping[int, Schedule]],
    shape: tuple[int, int],
    *,
    metric: Callable[[Tensor], Tensor],
    unit: float = 1.0,
    seed: int,
    device: torch.device,
    batch: int = 16,
    given: Given | None = None,
    beside: Beside | None = None,
    examples: int = 0,
    progress: bool = False,
) -> list[Row]:
    """Sample along every schedule and measure the samples.

    Args:
        sampler: used with every schedule. The default is ``Tweedie`` for schedules of times and
            ``KGillespie`` for schedules of counts.
        schedules: name -> NFE -> schedule.
        shape: (n, L): n samples of L sites for every schedule.
        metric: int64 [B, L] -> float [B], one value per sample.
        unit: the smallest value of a sample that is not zero; see ``share_interval``.
        seed: of the samples of every schedule; sample i has the same random numbers in all.
        batch: sequences sampled at a time; it does not change the samples.
        given: observed sites, [L] for all samples or [n, L] for each of them.
        beside: further measures of all samples, by name: int64 [n, L] -> values, see ``Row``.
        examples: how many of the first samples each row keeps, at most those of one batch.

    Returns:
        Rows in increasing order of NFE, then in the order of ``schedules``.

    Raises:
        ValueError: fewer than two samples.
    """
    check_number(shape[0])
    jobs = [(nfe, name, found[nfe]) for name, found in schedules.items() for nfe in found]
    jobs.sort(key=lambda job: job[0])  # Equal ones stay in the order of ``schedules``.
    rows = []
    for _, name, schedule in tqdm(jobs, desc="comparing", disable=not progress):
        generator = SampleGenerators(seed, range(shape[0]), device)
        runs = list(
            run_batches(
                reverse,
                sampler or default_sampler(schedule),
                schedule,
                shape,
                generator=generator,
                batch=batch,
                given=given,
            )
        )
        shown = Examples.of(runs[0], examples, given) if examples else None
        times = times_of(schedule, reverse)
        rows.append(row_of(runs, metric, unit, beside, name, times, shown))
    return rows


def check_number(samples: int) -> None:
    if samples < 2:
        raise ValueError(
            f"a comparison needs at least two samples for its intervals, got {samples}; raise -n"
        )


def row_of(
    runs: list[Simulation],
    metric: Callable[[Tensor], Tensor],
    unit: float,
    beside: Beside | None,
    name: str,
    times: tuple[float, ...],
    examples: Examples | None,
) -> Row:
    """The row of the runs of one schedule."""
    samples = torch.cat([run.samples for run in runs])
    measures = {} if beside is None else beside(samples)
    nfe = max(run.nfe for run in runs)
    return Row(nfe, name, times, share_interval(metric(samples), unit), examples, measures)


def times_of(schedule: Schedule, reverse: ReverseProcess) -> tuple[float, ...]:
    """The times of a schedule's steps under the model's forward process, from 1 down to 0."""
    return (*(step.t for step in schedule.plan(reverse.forward)), 0.0)
