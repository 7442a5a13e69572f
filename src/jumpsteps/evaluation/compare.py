"""Schedules side by side: same sampler, same number of model calls, same seeds."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.files import write_json
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.metrics import Interval, mean_interval
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.version import __version__

__all__ = ["Row", "compare", "save_results"]


@dataclass(frozen=True)
class Row:
    """One schedule, measured.

    Attributes:
        nfe: calls of the model that the run made.
        schedule: the schedule's name.
        times: the schedule; for one that counts jumps, the times at which so many sites are masked.
        metric: mean and interval of the metric over the samples.
    """

    nfe: int
    schedule: str
    times: tuple[float, ...]
    metric: Interval


def compare(
    reverse: ReverseProcess,
    sampler: Sampler | None,
    schedules: Mapping[str, Mapping[int, Schedule]],
    shape: tuple[int, int],
    *,
    metric: Callable[[Tensor], Tensor],
    seed: int,
    device: torch.device,
    batch: int = 16,
    given: Given | None = None,
    progress: bool = False,
) -> list[Row]:
    """Sample with every schedule and measure.

    Args:
        sampler: for all schedules; unless given, Tweedie's for times and k-Gillespie for jumps.
        schedules: name -> NFE -> schedule.
        shape: (n, L), n samples for every schedule.
        metric: int64 [B, L] -> [B].
        seed: every run starts from it.
        given: sites held fixed in all samples, [L], or in each of them, [n, L].

    Returns:
        Rows ordered by NFE, then as the schedules are.

    Raises:
        ValueError: fewer than two samples.
    """
    if shape[0] < 2:
        raise ValueError(
            f"a comparison needs at least two samples for its intervals, got {shape[0]}; raise -n"
        )
    jobs = [(nfe, name, found[nfe]) for name, found in schedules.items() for nfe in found]
    order = {name: i for i, name in enumerate(schedules)}
    rows = []
    for _, name, schedule in tqdm(
        sorted(jobs, key=lambda job: (job[0], order[job[1]])),
        desc="comparing",
        disable=not progress,
    ):
        generator = torch.Generator(device).manual_seed(seed)
        chosen = sampler or default_sampler(schedule)
        samples, calls = sample_batches(
            reverse, chosen, schedule, shape, generator=generator, batch=batch, given=given
        )
        rows.append(Row(calls, name, times_of(schedule, reverse), mean_interval(metric(samples))))
    return rows


def times_of(schedule: Schedule, reverse: ReverseProcess) -> tuple[float, ...]:
    return (*(step.t for step in schedule.plan(reverse.forward)), 0.0)


def save_results(path: Path | str, rows: list[Row], about: Mapping[str, Any]) -> None:
    """Write rows and what they are about (model, sampler, seed ...) as JSON."""
    content = {
        "format": "jumpsteps-results",
        "schema_version": 1,
        "version": __version__,
        **about,
        "rows": [asdict(row) for row in rows],
    }
    write_json(path, content)
