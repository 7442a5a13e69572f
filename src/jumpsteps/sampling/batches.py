"""Many samples: one run of ``simulate`` after the other, each for a batch that fits in memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import Simulation, simulate
from jumpsteps.schedules.schedule import Schedule

__all__ = ["run_batches", "sample_batches"]


def sample_batches(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: torch.Generator,
    batch: int,
    given: Given | None = None,
    callback: Callable[[float, Tensor], None] | None = None,
    progress: bool = False,
) -> tuple[Tensor, int]:
    """Samples int64 [n, L] for shape (n, L), made ``batch`` at a time, and the model calls of the
    costliest batch.

    Args:
        given: observed sites, the same in all samples, [L], or of each sample, [n, L].
        callback: called with (t, x) at first and after every step of the first batch.

    Raises:
        ValueError: no sample, no batch, or what ``simulate`` refuses.
    """
    runs = run_batches(
        reverse,
        sampler,
        schedule,
        shape,
        generator=generator,
        batch=batch,
        given=given,
        callback=callback,
        progress=progress,
    )
    return torch.cat([run.samples for run in runs]), max(run.nfe for run in runs)


def run_batches(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: torch.Generator,
    batch: int,
    given: Given | None = None,
    callback: Callable[[float, Tensor], None] | None = None,
    progress: bool = False,
) -> list[Simulation]:
    """The runs of ``sample_batches``, one for each batch."""
    n, length = shape
    if n < 1 or batch < 1:
        raise ValueError(
            "the numbers of samples and of samples at a time must be at least 1, "
            f"got {n} and {batch}"
        )
    if given is not None:
        given.check(shape, reverse.forward)
    runs = []
    for start in tqdm(range(0, n, batch), desc="sampling", disable=not progress):
        stop = min(start + batch, n)
        known = None if given is None else given.at_rows(slice(start, stop))
        runs.append(
            simulate(
                reverse,
                sampler,
                schedule,
                (stop - start, length),
                generator=generator,
                given=known,
                callback=None if start else callback,
            )
        )
    return runs
