r"""The contract of a sampler: one step of the reverse process, from time t down to s.

A sampler draws :math:`x_s \sim p(x_s \mid x_t)`, approximately, for a chain of V^L states of which
a model knows single sites only. It therefore draws all sites (or some of them) independently given
x_t, and an object of this class is a choice of

* their distribution, ``site_distribution``: :math:`\prod_l p^l(x_s^l \mid x_t)`;
* the model calls that it takes, ``evaluation_times``;
* the schedule that it follows, ``takes``: times, counts, or none.

A sampler is a frozen dataclass without a loop of its own; ``jumpsteps.sampling.loop.simulate`` runs
it along a schedule.

Shapes: x int64 [B, L] (B sequences of L sites); times are numbers with 0 <= s < t <= 1; rates are
in 1/time; a mask ``where`` (bool [B, L]) selects K sites; V symbols, MASK included; S = V^L states
of an enumerable model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import said
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

__all__ = ["Held", "Info", "Sampler"]


class Held(Enum):
    """What a step from t to s holds fixed at its value for (x_t, t); the step's error follows from
    it.

    Schedule searches choose a cost by it, and refuse a sampler that names none.
    """

    CONTEXT = "context"
    """The leave-one-out posterior w of every site, which then follows its exact kernel (Tweedie,
    ancestral)."""

    FIRST_JUMP = "first jump"
    """The reverse rates, and each site makes one jump at most (Euler)."""

    RATES = "rates"
    """The reverse rates, and jumps come as in a Poisson process (tau-leaping)."""

    COUNT = "count"
    """The posterior of masked sites; the schedule says how many are revealed, in an order that does
    not depend on the data (k-Gillespie)."""


@dataclass(frozen=True)
class Info:
    """What a step did.

    Attributes:
        clipped: int64 [B], sites at which a probability above 1 or a negative extrapolated rate was
            cut off.
        time: float64 [B], the time that each sequence has reached; None if it is the step's s.
    """

    clipped: Tensor
    time: Tensor | None = None


def nothing_clipped(x: Tensor) -> Info:
    return Info(clipped=torch.zeros_like(x[:, 0]))


@said("a sampler such as jumpsteps.Tweedie()")
class Sampler(ABC):
    """One step at a time; see the module's docstring for shapes.

    Attributes:
        name: e.g. "tweedie".
        kernels: names of the kernels that it serves; None for all.
        takes: the kind of schedule that it follows; None for a sampler that chooses its own steps.
        holds: what its step holds fixed; None where the step is not of one of these forms.
        corrects: whether it makes the corrections of a schedule (``Redraw``).
        source: author and year of the paper.
    """

    kernels: ClassVar[tuple[str, ...] | None] = None
    holds: ClassVar[Held | None] = None
    corrects: ClassVar[bool] = False
    source: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """A class attribute, or a property where it depends on the settings."""

    @property
    def takes(self) -> type[TimeSchedule] | type[CountSchedule] | None:
        return TimeSchedule

    @property
    def order(self) -> str:
        """The weak order of convergence in the number of steps, as measured, or what is known
        instead; for tables.
        """
        return ""

    @classmethod
    def variants(cls) -> "tuple[Sampler, ...]":
        """The samplers of this class that the registry lists by name; the default settings unless
        overridden.
        """
        return (cls(),)

    @property
    def calls_per_step(self) -> int | None:
        """Model calls of one step to s > 0; None for a sampler that chooses its own steps."""
        return None if self.takes is None else 1

    @property
    def calls_in_words(self) -> str:
        """Model calls of one step, for tables."""
        return str(self.calls_per_step)

    @property
    def schedules_of(self) -> "Sampler":
        """The sampler that a search finds its schedules for: itself, unless overridden."""
        return self

    def evaluation_times(self, step: Step) -> list[float]:
        """The times at which a step calls the model, in order, for samplers that follow a
        schedule.
        """
        return [step.t]

    def calls(self, steps: int) -> int | None:
        """Model calls of a run of this many steps that ends at t = 0, at most; None where it
        varies.
        """
        return None if self.calls_per_step is None else steps * self.calls_per_step

    def steps(self, nfe: int) -> int:
        """The most steps that ``nfe`` model calls allow.

        Raises:
            ValueError: not even one step, or a sampler that chooses its own steps.
        """
        if self.calls_per_step is None:
            raise ValueError(
                f"sampler {self.name} chooses its own steps, "
                "so it has no schedule and no number of steps; use another, such as tweedie"
            )
        steps = nfe // self.calls_per_step
        while (self.calls(steps + 1) or 0) <= nfe:
            steps += 1
        if steps < 1:
            raise ValueError(
                f"one step of {self.name} takes {self.calls(1)} model calls, got NFE {nfe}; "
                "raise it"
            )
        return steps

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Any:
        """The sampler's state before the first step.

        Args:
            x: int64 [B, L], the first state of the run.
            free: bool [B, L], the sites that are not observed.
        """
        return None

    @abstractmethod
    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Any, Info]:
        """The new x, the new state, and what happened."""

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        """p(x_s^l | x_t) under this sampler, float64 [B, L, V], or [K, V] with ``where``.

        For samplers whose step draws sites independently: then it is the whole distribution of a
            step.

        Raises:
            ValueError: a sampler whose step does not.
        """
        raise ValueError(f"a step of {self.name} does not draw sites independently given x_t")

    def transition_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """The exact distribution of a step on an enumerable model, float64 [S, S]; row x_t, column
        x_s.

        Args:
            states: int64 [S, L], all states in the order of ``Enumerable.states``.

        Raises:
            ValueError: a sampler whose step has no such matrix here.
        """
        return joint_distribution(self.site_distribution(reverse, states, step), states)

    def run_distribution(
        self, reverse: ReverseProcess, states: Tensor, schedule: TimeSchedule, start: Tensor
    ) -> Tensor:
        """The exact distribution at the end of a run on an enumerable model, float64 [S].

        Args:
            states: as for ``transition_matrix``.
            start: distribution of the first state, float64 [S].
        """
        for step in schedule.plan(reverse.forward):
            start = start @ self.transition_matrix(reverse, states, step)
        return start

    def check(self, forward: ForwardProcess) -> None:
        """Raises ValueError for a kernel that the sampler does not serve."""
        if self.kernels is not None and forward.name not in self.kernels:
            raise ValueError(
                f"sampler {self.name} serves the {' and '.join(self.kernels)} kernel, "
                f"this model has the {forward.name} kernel; use tweedie, which serves all"
            )


def count_sites(x: Tensor, where: Tensor | SiteMask, flagged: Tensor) -> Tensor:
    """How many of the selected sites are flagged, int64 [B]; flagged [K], bool or 0 and 1."""
    if isinstance(where, SiteMask) and where.all:
        return flagged.reshape(x.shape).sum(-1, dtype=x.dtype)
    mask = where.mask if isinstance(where, SiteMask) else where
    return torch.zeros_like(x).masked_scatter(mask, flagged.to(x.dtype)).sum(-1)


def sites_that_move(forward: ForwardProcess, x: Tensor) -> SiteMask:
    """The sites that the reverse process can change."""
    every = type(forward).movable is ForwardProcess.movable
    return SiteMask.everywhere(x) if every else SiteMask(forward.movable(x))


def sites_to_redraw(
    forward: ForwardProcess, x: Tensor, step: Step, *, generator: Generator
) -> SiteMask:
    """``ForwardProcess.draw_moving`` with its indices."""
    if type(forward).draw_moving is ForwardProcess.draw_moving:
        return sites_that_move(forward, x)
    return SiteMask(forward.draw_moving(x, step.t, step.s, generator=generator))


def movable_sites(
    forward: ForwardProcess,
    x: Tensor,
    where: Tensor | None,
    distribution: Callable[[Tensor], Tensor],
) -> Tensor:
    """Distributions of single sites, float64 [B, L, V] or [K, V]: what cannot move stays as it is.

    Args:
        distribution: from a mask of movable sites to their unnormalised distributions.
    """
    sites = one_hot(selected(x, where), forward.vocab_size, torch.float64)
    movable = forward.movable(x)
    probs = distribution(movable if where is None else movable & where).to(torch.float64)
    sites[selected(movable, where)] = probs / probs.sum(-1, keepdim=True)
    return sites


def joint_distribution(sites: Tensor, states: Tensor) -> Tensor:
    """The distribution [..., S] of independent sites [..., L, V] over all states [S, L]."""
    joint = torch.ones(*sites.shape[:-2], len(states), dtype=sites.dtype, device=sites.device)
    for site in range(states.shape[1]):
        joint = joint * sites[..., site, states[:, site]]
    return joint
