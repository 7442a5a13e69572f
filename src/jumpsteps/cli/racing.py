"""``jumpsteps optimize --race``: schedules chosen by their samples."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from jumpsteps.cli.inputs import search_data, seeded
from jumpsteps.cli.named import is_search, search_named
from jumpsteps.cli.named_schedules import check_schedule_names, schedule_named
from jumpsteps.cli.options import OptimizeOptions
from jumpsteps.core.distributed import Workers
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.evaluation.race import race
from jumpsteps.evaluation.two_sample import Similarity, histogram_similarity
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.candidates import race_candidates
from jumpsteps.search.optimize import optimize_schedule

__all__ = ["race_schedules", "recommendation"]

PARTS = 3
"""A third of the sequences is for searches, a third chooses, a third is for the last comparison."""


@dataclass(frozen=True)
class Searches:
    """What the searches of a race see: the model, whose calls are counted, and their data."""

    model: LoadedModel
    counter: CallCounter
    tokens: Tensor
    mask: Tensor | None
    nfe: tuple[int, ...]
    sampler: Sampler | None
    about: Provenance
    generator: torch.Generator
    workers: Workers

    def standard(self) -> dict[str, dict[int, Schedule]]:
        return race_candidates(
            replace(self.model.reverse, model=self.counter),
            self.tokens,
            self.nfe,
            sampler=self.sampler,
            given_mask=self.mask,
            about=self.about,
            generator=self.generator,
            progress=True,
            workers=self.workers,
        )

    def named(self, name: str) -> dict[int, Schedule]:
        """By a search method, else a fixed schedule or one from a file."""
        if not is_search(name):
            return {
                n: schedule_named(name, n, self.model, None, sampler=self.sampler, order=None)
                for n in self.nfe
            }
        return optimize_schedule(
            replace(self.model.reverse, model=self.counter),
            self.tokens,
            self.nfe,
            method=search_named(name),
            sampler=self.sampler,
            given_mask=self.mask,
            held_out=0,
            about=self.about,
            generator=self.generator,
            progress=True,
            workers=self.workers,
        )

    def all(self, names: tuple[str, ...]) -> tuple[dict[str, dict[int, Schedule]], str]:
        """The standard schedules and those of these names, and the model calls in words."""
        found = self.standard()
        spent = {"standard schedules": self.counter.calls}
        for name in names:
            before = self.counter.calls
            found[name] = self.named(name)
            spent[name] = self.counter.calls - before
        words = "; ".join(f"{name}, {calls} model calls" for name, calls in spent.items() if calls)
        return found, f"searches on {len(self.tokens)} sequences: {words or 'none'}"


def race_schedules(
    options: OptimizeOptions,
    model: LoadedModel,
    device: torch.device,
    sampler: Sampler | None,
    workers: Workers,
) -> dict[int, Schedule]:
    """The winner for each NFE; prints the race, and the model calls of all that it took.

    Raises:
        ValueError: no such schedule, fewer than 24 sequences of data, or what ``race`` refuses.
    """
    racing = options.racing
    assert racing.race is not None
    check_schedule_names(racing.race_with)
    generator = seeded(options.seed, device)
    wanted = replace(options.search, sequences=PARTS * options.search.sequences)
    tokens, mask, name = search_data(model, wanted, options.observed, generator)
    searched = min(options.search.sequences, len(tokens) // PARTS)
    if searched < 8:
        raise ValueError(
            f"a race takes {PARTS * 8} sequences of data or more, {PARTS} times as many as a "
            f"search, got {len(tokens)}; pass more"
        )
    first, others = (
        mask[rows] if mask is not None and mask.ndim == 2 else mask
        for rows in (slice(searched), slice(searched, None))
    )
    searches = Searches(
        model,
        CallCounter(model.reverse.model),
        tokens[:searched],
        first,
        options.search.nfe,
        sampler,
        model.provenance(data=name),
        generator,
        workers,
    )
    schedules, effort = searches.all(racing.race_with)
    result = race(
        model.reverse,
        tokens[searched:],
        schedules,
        sampler=sampler,
        given_mask=others,
        samples=racing.race,
        max_calls=racing.race_calls,
        similarity=similarity_of(model),
        generator=generator,
        progress=True,
        workers=workers,
    )
    print(f"{result}\n{effort}")
    return result.schedules


def similarity_of(model: LoadedModel) -> Similarity | None:
    """The task's own; of text, neighbouring pairs of tokens; else None, the kernel's default."""
    if model.task is not None:
        return model.task.similarity
    return None if model.text is None else partial(histogram_similarity, neighbours=2)


def recommendation(model: LoadedModel) -> str | None:
    """What to try for a kernel whose costs do not know what later steps repair; else None."""
    forward = model.reverse.forward
    if not forward.revisable:
        return None
    return (
        f"later steps of the {forward.name} kernel revise tokens, which no cost knows well; "
        "--race 128 chooses by the samples"
    )
