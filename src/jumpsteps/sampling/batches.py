"""Many samples: one run of ``simulate`` after the other, each for a batch that fits in memory.

Every sample has random numbers of its own, so the size of a batch does not change it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.sample_generators import Generator, SampleGenerators
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
    generator: Generator,
    batch: int,
    given: Given | None = None,
    progress: bool = False,
) -> tuple[Tensor, int]:
    """Samples int64 [n, L] for shape (n, L), made ``batch`` at a time, and the model calls of the
    costliest batch.

    Args:
        generator: ``SampleGenerators`` of n samples; a ``torch.Generator`` draws their seed.
        given: observed sites, the same in all samples, [L], or of each sample, [n, L].

    Raises:
        ValueError: no sample, no batch, or what ``simulate`` refuses.
    """
    runs = list(
        run_batches(
            reverse,
            sampler,
            schedule,
            shape,
            generator=generator,
            batch=batch,
            given=given,
            progress=progress,
        )
    )
    return torch.cat([run.samples for run in runs]), max(run.nfe for run in runs)


def run_batches(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: Generator,
    batch: int,
    given: Given | None = None,
    progress: bool = False,
) -> Iterator[Simulation]:
    """The runs of ``sample_batches``, one after the other."""
    n, length = shape
    if n < 1 or batch < 1:
        raise ValueError(
            "the numbers of samples and of samples at a time must be at least 1, "
            f"got {n} and {batch}"
        )
    if given is not None:
        given.check(shape, reverse.forward)
    generators = SampleGenerators.seeded_by(generator, n)
    generators.check(n)
    start = 0
    parts = generators.in_parts(batch)
    for part in tqdm(parts, desc="sampling", disable=not progress):
        rows = slice(start, start + len(part))
        yield simulate(
            reverse,
            sampler,
            schedule,
            (len(part), length),
            generator=part,
            given=None if given is None else given.at_rows(rows),
        )
        start = rows.stop
