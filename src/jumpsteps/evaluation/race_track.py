"""What the schedules of a race share: the model, the sampler, random numbers and data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.joined_calls import run_together
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.two_sample import (
    Discrepancy,
    OrdinalSimilarity,
    Similarity,
    token_similarity,
)
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.schedule import Schedule

__all__ = ["Track", "default_similarity"]


def default_similarity(forward: ForwardProcess) -> Similarity:
    """``OrdinalSimilarity`` of an eighth of the symbols for the Gaussian kernel, whose symbols are
    intensities; ``token_similarity`` for others.
    """
    if isinstance(forward, Gaussian):
        return OrdinalSimilarity(forward.vocab_size / 8)
    return token_similarity


@dataclass(frozen=True)
class Track:
    """What the schedules of a race share: the model, the sampler, and data to compare with.

    Attributes:
        mask: bool [B, L], the observed sites.
        batch: sequences in a model call, those of all schedules together.
        workers: processes that each draw a part of the samples.
    """

    reverse: ReverseProcess
    data: Tensor
    mask: Tensor
    sampler: Sampler | None
    similarity: Similarity
    batch: int
    workers: Workers = ALONE

    @classmethod
    def of(
        cls,
        reverse: ReverseProcess,
        data: Tensor,
        given_mask: Tensor | None,
        sampler: Sampler | None,
        similarity: Similarity,
        batch: int,
        workers: Workers = ALONE,
    ) -> "Track":
        mask = torch.zeros_like(data, dtype=torch.bool)
        if given_mask is not None:
            mask = torch.as_tensor(given_mask, dtype=torch.bool, device=data.device)
            if mask.shape not in (data.shape, data.shape[1:]):
                raise ValueError(
                    f"given_mask has shape {list(mask.shape)}, data {list(data.shape)}; "
                    "pass [L], or [B, L] as the data"
                )
            mask = mask.expand(data.shape)
        return cls(reverse, data, mask, sampler, similarity, batch, workers)

    def half(self, first: int) -> "Track":
        """Every second row of the data, from this one on."""
        return replace(self, data=self.data[first::2], mask=self.mask[first::2])

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows of data that samples start .. stop - 1 belong to, one after the other."""
        return torch.arange(start, stop, device=self.data.device) % len(self.data)

    def calls(self, schedules: int, samples: int) -> int:
        """Model calls in each step of so many schedules with so many samples each."""
        return -(-samples // max(self.batch // schedules, 1))

    def draw(
        self,
        schedules: Mapping[str, Schedule],
        start: int,
        stop: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Samples start .. stop - 1 of every schedule, with the same random numbers; they depend
        neither on the batch nor on the number of processes.
        """
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        parts: dict[str, list[Tensor]] = {name: [] for name in schedules}
        own = self.workers.rows_of(stop - start)
        for samples in own.split(max(self.batch // len(schedules), 1)):
            runs = [Run(self, schedule, start + samples, seed) for schedule in schedules.values()]
            drawn = run_together(self.reverse.model, runs)
            for name, tokens in zip(schedules, drawn, strict=True):
                parts[name].append(tokens)
        joined = {name: torch.cat(each) for name, each in parts.items()}
        return {name: self.workers.of_all(each, stop - start) for name, each in joined.items()}

    def discrepancy(self, samples: Tensor) -> Discrepancy:
        """Of samples 0 .. n - 1."""
        rows = self.rows(0, len(samples))
        return Discrepancy.measure(samples, rows, self.data, self.similarity)


@dataclass(frozen=True)
class Run:
    """One run of one schedule, as a function of the model.

    Attributes:
        samples: their indices, int64 [n].
        seed: of all samples.
    """

    track: Track
    schedule: Schedule
    samples: Tensor
    seed: int

    def __call__(self, model: Model) -> Tensor:
        track, device = self.track, self.track.data.device
        rows, given = self.samples.to(device) % len(track.data), None
        if track.mask.any():
            given = Given(track.data[rows], track.mask[rows])
        return simulate(
            replace(track.reverse, model=model),
            track.sampler or default_sampler(self.schedule),
            self.schedule,
            (len(rows), track.data.shape[1]),
            generator=SampleGenerators(self.seed, self.samples.tolist(), device),
            given=given,
        ).samples
