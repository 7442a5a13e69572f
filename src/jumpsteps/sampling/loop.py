"""The sampling loop: from noise along a schedule, one sampler step after the other.

There is one loop for all samplers. It draws :math:`x_1` from the kernel's prior (or starts from
``initial``), holds the observed sites at their values after every step, and counts every call of
the model. A sampler that chooses its own steps is asked again until all sequences have reached t =
0.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.late_checks import late_checks
from jumpsteps.core.sample_generators import Generator, SampleGenerators, at_step
from jumpsteps.core.tensors import as_tokens
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.checks import CheckedModel
from jumpsteps.denoiser.conditioning import ClampedModel, Given
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Info, Sampler
from jumpsteps.schedules.schedule import CountSchedule, Schedule, Step

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True)
class Simulation:
    """The outcome of a run.

    Attributes:
        samples: int64 [B, L]; x_s where the schedule ends at a time s above 0, which may hold MASK.
        nfe: calls of the model.
        moved: int64 [N, B], how many sites each of the N calls of ``Sampler.step`` changed: one for
            each step of the schedule, or as many as a sampler that chooses its own steps took.
        clipped: int64 [N, B], see ``Info``.
        step_map: int64 [B, L], the call of ``Sampler.step``, 1 to N, that changed a site last; 0
            where none did, such as at observed sites.
    """

    samples: Tensor
    nfe: int
    moved: Tensor
    clipped: Tensor
    step_map: Tensor

    @property
    def calls(self) -> Tensor:
        """The calls of ``Sampler.step`` until each sequence was as it stayed, int64 [B].

        A sampler that chooses its own steps is asked until the last sequence has arrived, so its
        ``nfe`` is that of the slowest one.
        """
        return self.step_map.max(-1).values


@kinds_checked()
@torch.no_grad()
def simulate(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: Generator,
    given: Given | None = None,
    initial: Tensor | NDArray[np.integer] | None = None,
    callback: Callable[[float, Tensor], None] | None = None,
    progress: bool = False,
) -> Simulation:
    """Run ``sampler`` along ``schedule``.

    Args:
        schedule: of the kind that the sampler takes; None for a sampler that chooses its own steps.
            Counts are rescaled to the number of masked sites of every sequence.
        shape: (B, L).
        generator: the source of all randomness, of a batch or of each sample, on their device.
        given: observed sites, which keep their symbols at every state, the first included.
        initial: integers [B, L], the state at the schedule's first time, in place of noise.
        callback: called with (t, x) at first and after every step; t is the latest of a sequence.
        progress: show a progress bar.

    Raises:
        ValueError: as ``stepped``; an argument of another kind; a schedule that is not served, or
            from below t = 1 without ``initial``; ``given`` or ``initial`` of another shape.
    """
    forward = reverse.forward
    sampler.check(forward)
    steps = plan(sampler, schedule, forward)
    counter = CallCounter(CheckedModel(MicroBatches(reverse.model)))
    reverse = replace(reverse, model=counter)
    x, first = start(reverse, steps, shape, generator, initial), steps[0].t
    free = torch.ones_like(x, dtype=torch.bool)
    if given is not None:
        given.check(shape, forward)
        given = given.to(x.device)
        reverse = replace(reverse, model=ClampedModel(counter, given))
        free = ~given.mask.to(x.device).expand(x.shape)
    x = clamped(x, given)
    if isinstance(schedule, CountSchedule):
        steps = schedule.plan_for(forward, forward.movable(x).sum(-1))
    report = callback or (lambda t, x: None)
    report(time := first, x)
    state = sampler.init(reverse, x, first, free=free)
    changes = Changes(torch.zeros_like(x))
    with late_checks() as checks:
        for step in tqdm(steps, desc="sampling", disable=not progress):
            arrived = False
            while not arrived:
                checks.step = name_of_step(changes.steps + 1, schedule, steps, time)
                before, source = x, at_step(generator, changes.steps + 1)
                x, state, info = stepped(sampler, reverse, before, step, state, generator=source)
                x = clamped(x, given)
                report(time := step.s if info.time is None else float(info.time.max()), x)
                changes.add(before, x, info)
                arrived = time <= step.s
                checks.next_step()
    return changes.simulation(x, counter.calls)


def name_of_step(number: int, schedule: Schedule | None, steps: list[Step], t: float) -> str:
    """A step from the time t, as errors name it; ``number`` counts from 1."""
    total = "" if schedule is None else f" of {len(steps)}"
    return f"step {number}{total}, at t = {t:.4g}"


def stepped(
    sampler: Sampler,
    reverse: ReverseProcess,
    x: Tensor,
    step: Step,
    state: Any,
    *,
    generator: Generator,
) -> tuple[Tensor, Any, Info]:
    """One step of the sampler.

    Raises:
        ValueError: it returned something else than tokens like x, its state and an ``Info``.
    """
    made: Any = sampler.step(reverse, x, step, state, generator=generator)
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[2], Info):
        found = type(made).__name__
    elif not isinstance(made[0], Tensor) or (made[0].shape, made[0].dtype) != (x.shape, x.dtype):
        tokens = made[0]
        tensor = isinstance(tokens, Tensor)
        found = f"{tokens.dtype} {list(tokens.shape)}" if tensor else type(tokens).__name__
    else:
        return made
    raise ValueError(
        f"a step of sampler {sampler.name} returned {found}; return the new x, int64 "
        f"{list(x.shape)}, the state, and what happened: x, state, nothing_clipped(x)"
    )


@dataclass
class Changes:
    """What the steps of a run have changed; see ``Simulation``, [B] of each step."""

    step_map: Tensor
    moved: list[Tensor] = field(default_factory=list)
    clipped: list[Tensor] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were added."""
        return len(self.moved)

    def add(self, before: Tensor, x: Tensor, info: Info) -> None:
        """A step that led from ``before`` to x."""
        changed = x != before
        self.moved.append(changed.sum(-1))
        self.clipped.append(info.clipped)
        self.step_map = self.step_map.masked_fill(changed, self.steps)

    def simulation(self, x: Tensor, nfe: int) -> Simulation:
        """The run that ended in x."""
        moved, clipped = stacked(self.moved, x), stacked(self.clipped, x)
        return Simulation(x, nfe, moved, clipped, self.step_map)


def stacked(rows: list[Tensor], x: Tensor) -> Tensor:
    """Numbers [B] of each step as int64 [N, B]."""
    nothing = torch.zeros(0, len(x), dtype=torch.int64, device=x.device)
    return torch.stack(rows) if rows else nothing


def clamped(x: Tensor, given: Given | None) -> Tensor:
    """x with the observed sites at their symbols."""
    return x if given is None else given.clamp(x)


def plan(sampler: Sampler, schedule: Schedule | None, forward: ForwardProcess) -> list[Step]:
    """The steps of a run; a single one from 1 to 0 for a sampler that chooses its own."""
    wanted = sampler.takes
    if wanted is None:
        if schedule is not None:
            raise ValueError(f"sampler {sampler.name} chooses its own steps; pass schedule=None")
        return [Step(1.0, 0.0)]
    if not isinstance(schedule, wanted):
        found = "none" if schedule is None else type(schedule).__name__
        other = "tweedie" if wanted is CountSchedule else "k-gillespie"
        raise ValueError(
            f"sampler {sampler.name} takes a {wanted.__name__}, got {found}; "
            f"make one, or use {other}"
        )
    if schedule.redraws and not sampler.corrects:
        raise ValueError(
            f"the schedule has corrections, which {sampler.name} does not make; leave the sampler "
            "out, or pass default_sampler(schedule)"
        )
    schedule.check_kernel(forward)
    return schedule.plan(forward)


def start(
    reverse: ReverseProcess,
    steps: list[Step],
    shape: tuple[int, int],
    generator: Generator,
    initial: Tensor | NDArray[np.integer] | None,
) -> Tensor:
    """The state at the schedule's first time; announces the times of the run to the kernel."""
    t = steps[0].t
    reverse.forward.announce([t, *(step.s for step in steps)], generator.device)
    if min(shape) < 1:
        raise ValueError(f"a run needs at least one sequence of one site, got shape {tuple(shape)}")
    if isinstance(generator, SampleGenerators) and len(generator) != shape[0]:
        raise ValueError(
            f"a run of {shape[0]} samples with the generators of {len(generator)}; pass "
            "SampleGenerators(seed, samples) with the indices of its samples"
        )
    if initial is not None:
        x = as_tokens(initial, "initial", generator.device)
        if tuple(x.shape) != tuple(shape):
            raise ValueError(
                f"initial has shape {list(x.shape)}, the shape of the run is {list(shape)}"
            )
        reverse.forward.check_states(x, "initial")
        return x
    if t != 1:
        raise ValueError(
            f"a run from noise starts at t = 1, the schedule starts at {t}; "
            "pass initial= for a later start"
        )
    source = at_step(generator, 0)
    return reverse.forward.sample_prior(shape, generator=source, device=source.device)
