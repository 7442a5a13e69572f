"""Many samples: one run of ``simulate`` after the other, each for a batch that fits in memory.

Every sample has random numbers of its own, so the size of a batch does not change it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.progress import Progress
from jumpsteps.core.sample_generators import Generator, SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import Simulation, simulate
from jumpsteps.sampling.run_folder import Parts, Samples
from jumpsteps.schedules.schedule import Schedule

__all__ = ["batches", "draw_samples", "run_batches", "sample_batches"]


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
        progress: show it, see ``core.progress``.

    Raises:
        ValueError: no sample, no batch, or what ``simulate`` refuses.
    """
    with Progress("sampling", "samples", shape[0], shown=progress) as counted:
        made = draw_samples(
            reverse,
            sampler,
            schedule,
            shape,
            generator=generator,
            batch=batch,
            given=given,
            progress=counted,
        )
    return made.samples, made.nfe


def draw_samples(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: Generator,
    batch: int,
    given: Given | None = None,
    parts: Parts | None = None,
    progress: Progress | None = None,
    workers: Workers = ALONE,
) -> Samples:
    """``sample_batches`` that can be stopped and continued, and shared by several processes.

    Args:
        parts: where samples are kept while the run goes on; those that are there are not drawn
            again.
        progress: counts the samples that are drawn.
        workers: processes that each draw an equal share of what ``parts`` lacks.

    Returns:
        All samples in the first process; none, [0, L], in the others.

    Raises:
        ValueError: the first process does not see the parts of another one.
        OSError: a part cannot be written.
    """
    n, length = shape
    generators = SampleGenerators.seeded_by(generator, n)
    generators.check(n)
    if given is not None:
        given.check(shape, reverse.forward)
    whole: list[Simulation] = []
    missing = [range(n)] if parts is None else workers.ranges_of_first(parts.missing)
    for rows in workers.part_of(missing, batch):
        some = slice(rows.start, rows.stop)
        runs = batches(
            reverse,
            sampler,
            schedule,
            (len(rows), length),
            generator=generators.between(some),
            batch=batch,
            given=None if given is None else given.at_rows(some),
            progress=progress,
        )
        if parts is None:
            whole.extend(runs)
        else:
            parts.keep(rows.start, runs)
    if parts is None:
        return Samples.joined(whole)
    workers.wait()
    if not workers.is_first:
        none = torch.zeros(0, length, dtype=torch.int64, device=generators.device)
        return Samples(none, 0, none)
    parts.check()
    return parts.read().to(generators.device)


def run_batches(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: Generator,
    batch: int,
    given: Given | None = None,
) -> list[Simulation]:
    """The runs of ``sample_batches``, one for each batch."""
    return list(
        batches(reverse, sampler, schedule, shape, generator=generator, batch=batch, given=given)
    )


def batches(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: Generator,
    batch: int,
    given: Given | None = None,
    progress: Progress | None = None,
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
    for part in generators.in_parts(batch):
        rows = slice(start, start := start + len(part))
        known = None if given is None else given.at_rows(rows)
        yield simulate(reverse, sampler, schedule, (len(part), length), generator=part, given=known)
        if progress is not None:
            progress.update(len(part))
