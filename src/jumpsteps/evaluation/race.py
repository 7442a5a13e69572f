r"""The measured choice among schedules: draw samples, compare with data, drop what is worse.

What a search minimises is a bound, or an estimate for a calibrated model. Where later steps revise
tokens the bounds are loose, and a sampler has faults that no cost contains. A race measures
instead. For each NFE,

1. every schedule that is left draws as many samples more, twice as many in all each time;
2. a schedule is dropped if its distance from the data exceeds that of the best, the whole interval
   of their difference being above zero (``two_sample``);
3. until one is left, or the samples or the model calls are used up. The best of those left wins; of
   two that cannot be told apart the one with the smaller distance wins.

Intervals of step 2 are one-sided, of level :math:`1 - a / ((C - 1) R)` for C schedules, R rounds
and a family-wise level of 1 - a: the probability that the best schedule of all is dropped is at
most a, by the union bound, as far as the intervals hold.

The winner of many looks better than it is. It is therefore compared with the plain schedules
(uniform, cosine, Jump Your Steps) a second time, on new samples and on sequences of data that chose
nothing. If one of them is better there, again by the whole interval, it is returned instead.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.tensors import as_tokens
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.checks import CheckedModel
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.race_result import Choice, Race, Runner
from jumpsteps.evaluation.race_track import Track, default_similarity
from jumpsteps.evaluation.two_sample import Similarity, difference
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.optimize import ProgressBar

__all__ = ["PLAIN", "race"]

PLAIN = ("uniform", "cosine", "jys")
"""Names of the schedules that a winner is compared with again."""

ROUNDS, FEWEST = 4, 16
"""Rounds at most, and samples of the first one at least."""


@kinds_checked()
def race(
    reverse: ReverseProcess,
    data: Tensor,
    schedules: Mapping[str, Mapping[int, Schedule]],
    *,
    sampler: Sampler | None = None,
    given_mask: Tensor | None = None,
    samples: int = 256,
    max_calls: int | None = None,
    similarity: Similarity | None = None,
    plain: tuple[str, ...] = PLAIN,
    level: float = 0.95,
    batch: int = 512,
    generator: torch.Generator,
    progress: bool = False,
    workers: Workers = ALONE,
) -> Race:
    """Choose among schedules by their samples' distance from data.

    Args:
        reverse: the reverse process.
        data: int64 [B, L], sequences that no search has seen. Every second one chooses, the others
            are for the comparison with plain schedules.
        schedules: name -> NFE -> schedule. An NFE that a name lacks is raced without it.
        sampler: used with every schedule; by default ``Tweedie`` for times, ``KGillespie`` for
            counts.
        given_mask: bool [L] or [B, L], the observed sites; samples have the data's tokens there.
        samples: most samples of a schedule, and those of the last comparison.
        max_calls: model calls at most; by default only ``samples`` limits them.
        similarity: of two sequences; ``default_similarity`` if None.
        plain: names of the schedules that the winner is compared with again.
        level: family-wise confidence level.
        batch: sequences in a model call, those of all schedules together.
        generator: its seeds are those of all samples; on the device of the run.
        progress: show a progress bar of model calls.
        workers: processes that make the same call, and each draw a part of the samples.

    Raises:
        ValueError: no schedules, fewer than 8 sequences, numbers out of range, too few calls, or
            what ``simulate`` refuses.
    """
    data = as_tokens(data, "data", generator.device)
    budgets = sorted({nfe for found in schedules.values() for nfe in found})
    check(data, budgets, samples, level, batch)
    allowed = calls_for_each_step(max_calls, budgets)
    counter = CallCounter(CheckedModel(MicroBatches(reverse.model)))
    with ProgressBar(counter, max_calls, shown=progress) as model:
        counted = replace(reverse, model=model)
        alike = similarity or default_similarity(reverse.forward)
        track = Track.of(counted, data, given_mask, sampler, alike, batch, workers)
        found = {}
        for nfe in budgets:
            entered = {name: by_nfe[nfe] for name, by_nfe in schedules.items() if nfe in by_nfe}
            first = run_race(track.half(0), entered, samples, allowed, level, generator)
            last = confirmed(track.half(1), first, samples, allowed, plain, level, generator)
            found[nfe] = stamped(last, reverse.forward, sampler)
    return Race(found, level, counter.calls, counter.sequences, len(data))


def check(data: Tensor, budgets: list[int], samples: int, level: float, batch: int) -> None:
    """Raises ValueError for numbers that allow no race."""
    if not budgets:
        raise ValueError("a race needs schedules; pass name -> NFE -> schedule")
    if data.ndim != 2 or len(data) < 8:
        raise ValueError(
            f"a race needs at least 8 sequences of data [B, L], got shape {list(data.shape)}; "
            "pass 32 or more that no search has seen"
        )
    if samples < FEWEST:
        raise ValueError(f"a race needs at least {FEWEST} samples a schedule, got {samples}")
    if not 0.5 <= level < 1:
        raise ValueError(f"the level must lie in [0.5, 1), got {level}")
    if batch < 1:
        raise ValueError(f"a model call needs at least one sequence, got batch {batch}")


def calls_for_each_step(max_calls: int | None, budgets: list[int]) -> int | None:
    """How often every step of every NFE may be made; raises ValueError for less than twice."""
    if max_calls is None:
        return None
    if max_calls < 2 * sum(budgets):
        raise ValueError(
            f"a race takes at least 2 model calls for each step, {2 * sum(budgets)} in all, "
            f"got {max_calls}; raise it, or race fewer NFE"
        )
    return max_calls // sum(budgets)


def round_sizes(samples: int) -> list[int]:
    """Samples of a schedule after each round: ``samples`` after the last, half before it ..."""
    sizes = [samples]
    while len(sizes) < ROUNDS and sizes[0] // 4 * 2 >= FEWEST:
        sizes.insert(0, sizes[0] // 4 * 2)
    return sizes


def interval_level(level: float, schedules: int, rounds: int) -> float:
    """The level of a two-sided interval whose lower end is a bound at the family-wise level, in
    comparisons of each schedule with the best in each round (Bonferroni).
    """
    return 1 - 2 * (1 - level) / max((schedules - 1) * rounds, 1)


def run_race(
    track: Track,
    schedules: Mapping[str, Schedule],
    samples: int,
    allowed: int | None,
    level: float,
    generator: torch.Generator,
) -> Choice:
    """Rounds until one schedule is left; ``allowed`` model calls for each step of a run, of which
    one is kept for the last comparison.
    """
    sizes = round_sizes(samples)
    each = interval_level(level, len(schedules), len(sizes))
    left, drawn, used = dict(schedules), 0, 0
    tokens = {name: torch.empty(0, track.data.shape[1], dtype=torch.int64) for name in schedules}
    runners: dict[str, Runner] = {}
    for size in sizes:
        calls = track.calls(len(left), size - drawn)
        if allowed is not None and used + calls >= allowed:
            break
        new = track.draw(left, drawn, size, generator)
        tokens = {name: torch.cat([tokens[name].to(new[name]), new[name]]) for name in left}
        drawn, used = size, used + calls
        runners |= compared(track, left, tokens, each)
        left = {name: one for name, one in left.items() if not runners[name].dropped}
        if len(left) == 1:
            break
    if not drawn:
        raise ValueError(
            f"the first round of {len(schedules)} schedules takes {calls} model calls for each "
            f"step and the last comparison 1, and {allowed} are allowed; raise the number of "
            "model calls, or race fewer schedules"
        )
    return Choice.of(runners, used)


def compared(
    track: Track, schedules: Mapping[str, Schedule], tokens: Mapping[str, Tensor], level: float
) -> dict[str, Runner]:
    """How far each schedule is behind the best, and which ones are clearly worse."""
    found = {name: track.discrepancy(tokens[name]) for name in schedules}
    best = min(found, key=lambda name: found[name].value)
    made = {}
    for name, schedule in schedules.items():
        behind = None if name == best else difference(found[name], found[best])
        dropped = name != best and difference(found[name], found[best], level).low > 0
        made[name] = Runner(schedule, len(tokens[name]), behind, dropped)
    return made


def confirmed(
    track: Track,
    choice: Choice,
    samples: int,
    allowed: int | None,
    plain: tuple[str, ...],
    level: float,
    generator: torch.Generator,
) -> Choice:
    """The choice compared with the plain schedules on new samples, and the better one of them."""
    others = [name for name in plain if name in choice.runners and name != choice.best]
    if not others:
        return choice
    entered = {name: choice.runners[name].schedule for name in (choice.best, *others)}
    if allowed is not None:
        samples = min(samples, (allowed - choice.used) * max(track.batch // len(entered), 1))
    tokens = track.draw(entered, 0, samples, generator)
    found = {name: track.discrepancy(each) for name, each in tokens.items()}
    each = 1 - (1 - level) / len(others)
    again = {name: difference(found[name], found[choice.best], each) for name in others}
    better = [name for name in others if again[name].high < 0]
    winner = min(better, key=lambda name: found[name].value, default=choice.best)
    return replace(choice, again=again, winner=winner)


def stamped(choice: Choice, forward: ForwardProcess, sampler: Sampler | None) -> Choice:
    """The choice with a winner's schedule that says how it was chosen; what a search said of
    another sampler is left out.
    """
    runner = choice.runners[choice.winner]
    known, raced = runner.schedule.provenance, sampler or default_sampler(runner.schedule)
    if known.sampler != raced.name:
        known = known.with_error(None, None)
    about = replace(
        known.with_forward(forward), method=f"race, {choice.winner}", sampler=raced.name
    )
    schedule = replace(runner.schedule, provenance=about)
    runners = dict(choice.runners) | {choice.winner: replace(runner, schedule=schedule)}
    return replace(choice, runners=runners)
