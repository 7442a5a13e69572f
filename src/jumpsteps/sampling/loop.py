"""The sampling loop. There is one: it starts from noise, steps along a schedule and counts every call of the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import CountSchedule, Schedule, Step

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True)
class Simulation:
    """The outcome of a run.

    Attributes:
        samples: int64 [B, L].
        nfe: calls of the model that were made.
        moved: int64 [steps, B], sites that each step changed; a step is one step but for samplers that choose their own.
        clipped: int64 [steps, B], see ``Info``.
    """

    samples: Tensor
    nfe: int
    moved: Tensor
    clipped: Tensor


@torch.no_grad()
def simulate(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    *,
    generator: torch.Generator,
    given: Given | None = None,
    initial: Tensor | None = None,
    callback: Callable[[float, Tensor], None] | None = None,
    progress: bool = False,
) -> Simulation:
    """Run ``sampler`` along ``schedule``.

    Args:
        schedule: of the kind that the sampler takes; None for a sampler that chooses its own steps.
        shape: (B, L).
        generator: all randomness; samples live on its device.
        given: sites held fixed at every state, the first included.
        initial: int64 [B, L], the state at the schedule's first time, in place of noise.
        callback: called with (t, x) for the first state and after every step; t is the latest time of any sequence.
        progress: show a progress bar.

    Raises:
        ValueError: a kernel or a kind of schedule that the sampler does not serve; a schedule that belongs to another kernel, that
            does not start at t = 1 though the run starts from noise, or whose jumps are not as many as the free sites; ``given`` or
            ``initial`` that do not fit the shape; an empty shape.
    """
    forward = reverse.forward
    sampler.check(forward)
    if min(shape) < 1:
        raise ValueError(f"a run needs at least one sequence of one site, got shape {tuple(shape)}")
    steps = plan(sampler, schedule, forward)
    counter = CallCounter(reverse.model, given)
    reverse = replace(reverse, model=counter)
    x = start(reverse, steps[0].t, shape, generator, initial)
    if given is not None:
        given.check(shape, forward)
        x = given.clamp(x)
    if isinstance(schedule, CountSchedule):
        check_counts(schedule, forward.movable(x).sum(-1))
    if callback is not None:
        callback(steps[0].t, x)
    state = sampler.init(reverse, x, steps[0].t)
    moved, clipped = [], []
    for step in tqdm(steps, desc="sampling", disable=not progress):
        arrived = False
        while not arrived:
            new, state, info = sampler.step(reverse, x, step, state, generator=generator)
            if given is not None:
                new = given.clamp(new)
            time = step.s if info.time is None else float(info.time.max())
            if callback is not None:
                callback(time, new)
            moved.append((new != x).sum(-1))
            clipped.append(info.clipped)
            x, arrived = new, time <= step.s
    return Simulation(x, counter.calls, torch.stack(moved), torch.stack(clipped))


def plan(sampler: Sampler, schedule: Schedule | None, forward: ForwardProcess) -> list[Step]:
    """The steps of a run."""
    wanted = sampler.takes
    if wanted is None:
        if schedule is not None:
            raise ValueError(f"sampler {sampler.name} chooses its own steps; pass schedule=None")
        return [Step(1.0, 0.0)]
    if not isinstance(schedule, wanted):
        given = "none" if schedule is None else type(schedule).__name__
        other = "tweedie" if wanted is CountSchedule else "k-gillespie"
        raise ValueError(
            f"sampler {sampler.name} takes a {wanted.__name__}, got {given}; make one, or use {other}"
        )
    schedule.check_kernel(forward)
    return schedule.plan(forward)


def check_counts(schedule: CountSchedule, free: Tensor) -> None:
    if (free != schedule.total).any():
        raise ValueError(
            f"the schedule's jumps sum to {schedule.total}, the sequences have {int(free.min())} to {int(free.max())} masked "
            "sites; make the schedule for as many, and give all sequences the same number of known sites"
        )


def start(
    reverse: ReverseProcess,
    t: float,
    shape: tuple[int, int],
    generator: torch.Generator,
    initial: Tensor | None,
) -> Tensor:
    """The state at the schedule's first time."""
    if initial is not None:
        if tuple(initial.shape) != tuple(shape):
            raise ValueError(
                f"initial has shape {list(initial.shape)}, the run was asked for {list(shape)}"
            )
        reverse.forward.check_states(initial, "initial")
        return initial
    if t != 1:
        raise ValueError(
            f"a run from noise starts at t = 1, the schedule starts at {t}; pass initial= for a later start"
        )
    return reverse.forward.sample_prior(shape, generator=generator, device=generator.device)
