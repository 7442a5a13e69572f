"""The sampling loop. There is one: it starts from noise, leaps along a schedule and counts every call of the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.forward import ForwardProcess
from jumpsteps.noise import Time
from jumpsteps.reverse import Model, ReverseProcess
from jumpsteps.samplers import Sampler
from jumpsteps.schedule import TimeSchedule

__all__ = ["CallCounter", "Given", "Simulation", "simulate"]


class CallCounter:
    """A model that counts its calls."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.model(x, t, where)


@dataclass(frozen=True)
class Given:
    """Sites that are known and stay as they are: a prompt, given bars, known pixels.

    Attributes:
        tokens: int64 [L] or [B, L]; read where ``mask`` is true only.
        mask: bool, same shape.
    """

    tokens: Tensor
    mask: Tensor

    def check(self, shape: tuple[int, int], forward: ForwardProcess) -> None:
        """Raises ValueError for other shapes, and for tokens that data cannot hold."""
        if self.tokens.shape != self.mask.shape or self.tokens.shape not in (shape[1:], torch.Size(shape)):
            raise ValueError(
                f"given tokens {list(self.tokens.shape)} and mask {list(self.mask.shape)} must both have shape "
                f"[L] = [{shape[1]}] or [B, L] = {list(shape)}"
            )
        forward.check_data(self.tokens[self.mask], "given")

    def clamp(self, x: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), self.tokens.to(x), x)


@dataclass(frozen=True)
class Simulation:
    """The outcome of a run.

    Attributes:
        samples: int64 [B, L].
        nfe: calls of the model that were made.
        moved: int64 [leaps, B], sites that each leap changed.
        clipped: int64 [leaps, B], see ``Info``.
    """

    samples: Tensor
    nfe: int
    moved: Tensor
    clipped: Tensor


@torch.no_grad()
def simulate(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: TimeSchedule,
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
        shape: (B, L).
        generator: all randomness; samples live on its device.
        given: sites held fixed at every state, the first included.
        initial: int64 [B, L], the state at the schedule's first time, in place of noise.
        callback: called with (t, x) for the first state and after every leap.
        progress: show a progress bar.

    Raises:
        ValueError: the schedule belongs to another kernel, does not start at t = 1 though it starts from noise, or ``given``
            or ``initial`` do not fit the shape.
    """
    forward = reverse.forward
    schedule.check_kernel(forward)
    counter = CallCounter(reverse.model)
    reverse = replace(reverse, model=counter)
    x = start(reverse, schedule, shape, generator, initial)
    if given is not None:
        given.check(shape, forward)
        x = given.clamp(x)
    if callback is not None:
        callback(schedule.times[0], x)
    state = sampler.init(reverse, x, schedule.times[0])
    moved, clipped = [], []
    leaps = list(pairwise(schedule.times))
    for t, s in tqdm(leaps, desc="sampling", disable=not progress):
        new, state, info = sampler.step(reverse, x, t, s, state, generator=generator)
        if given is not None:
            new = given.clamp(new)
        if callback is not None:
            callback(s, new)
        moved.append((new != x).sum(-1))
        clipped.append(info.clipped)
        x = new
    return Simulation(x, counter.calls, torch.stack(moved), torch.stack(clipped))


def start(
    reverse: ReverseProcess,
    schedule: TimeSchedule,
    shape: tuple[int, int],
    generator: torch.Generator,
    initial: Tensor | None,
) -> Tensor:
    """The state at the schedule's first time."""
    if initial is not None:
        if tuple(initial.shape) != tuple(shape):
            raise ValueError(f"initial has shape {list(initial.shape)}, the run was asked for {list(shape)}")
        reverse.forward.check_states(initial, "initial")
        return initial
    if schedule.times[0] != 1:
        raise ValueError(
            f"a run from noise starts at t = 1, the schedule starts at {schedule.times[0]}; pass initial= for a later start"
        )
    return reverse.forward.sample_prior(shape, generator=generator, device=generator.device)
