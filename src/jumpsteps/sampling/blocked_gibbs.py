r"""Blocked Gibbs: sites that lie far apart are drawn again together, given all others.

A call chooses a set S of sites, draws them from :math:`\prod_{l \in S} p(x^l \mid x^{-S})`, and
leaves the others as they are. Drawn jointly, S would follow its conditional distribution and the
call would leave the model's distribution unchanged. Drawn site by site it is off by the total
correlation of S given the rest,

.. math:: E\, \mathrm{KL}\Big(p(x^S \mid x^{-S}) \,\Big\|\, \prod_{l \in S} p(x^l \mid x^{-S})\Big),

which is small where the sites of S are far apart: S holds the first ranks of an order that spreads
them out (chromatic Gibbs sampling, Gonzalez et al. 2011). The sites are revised under much context,
so their mistakes of early steps, made under little, are corrected.

The absorbing kernel masks S and draws revealed sites only: masked ones stay masked, and the number
of masks is kept. Other kernels draw :math:`p(x_s^l \mid x_s^{-l}) = (w^l q_{s|0})(x_s^l)` from the
leave-one-out posterior w at the time s.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import Info, Sampler, joint_distribution
from jumpsteps.sampling.leave_one_out import conditional, hide
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Fixed, Golden, Random, RevealOrder, Sequential
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

__all__ = ["BlockedGibbs"]


@kinds_checked()
@dataclass(frozen=True)
class BlockedGibbs(Sampler):
    r"""A predictor with calls that draw a spread-out share of the sites again, given all others.

    With one site for each call, the distribution p_s is exactly unchanged, whatever predictor
    reached it. With more sites a call is off by their total correlation given the rest
    (``redraw_cost`` measures it on data). Observed sites are never drawn.

    Kernels without MASK are corrected before the last step, where the others are after it: a
    network is not trained at t = 0.

    Source: Geman & Geman (1984); Gonzalez et al. (2011) for sets of sites. Kernels, schedule: the
    predictor's. Calls: the predictor's and those of ``redraws`` for a run.

    Attributes:
        predictor: any sampler that follows a schedule.
        redraws: when, how often and which sites. A schedule that carries its own is followed by
            ``default_sampler`` of it.

    Raises:
        ValueError: a predictor that chooses its own steps, or no redraws.
    """

    predictor: Sampler = KGillespie()
    redraws: tuple[Redraw, ...] = (Redraw(),)
    corrects = True
    source = "Gonzalez et al. 2011"

    def __post_init__(self) -> None:
        object.__setattr__(self, "redraws", tuple(self.redraws))
        if self.predictor.calls_per_step is None:
            raise ValueError(
                "a corrector needs a predictor that follows a schedule, "
                f"{self.predictor.name} chooses its own steps"
            )
        if not self.redraws:
            raise ValueError(f"no redraws; pass redraws=(Redraw(),), or use {self.predictor.name}")

    @property
    def name(self) -> str:
        return f"{self.predictor.name}-blocked-gibbs"

    @classmethod
    def variants(cls) -> tuple[Sampler, ...]:
        return cls(KGillespie()), cls(Tweedie())

    @property
    def takes(self) -> type[TimeSchedule] | type[CountSchedule] | None:
        return self.predictor.takes

    @property
    def order(self) -> str:
        return "does not converge"

    @property
    def calls_per_step(self) -> int | None:
        return self.predictor.calls_per_step

    @property
    def calls_in_words(self) -> str:
        return f"{self.predictor.calls_in_words}, and {self.corrections} in a run"

    @property
    def corrections(self) -> int:
        """Model calls of a run that correct."""
        return sum(redraw.calls for redraw in self.redraws)

    def calls(self, steps: int) -> int:
        return (self.predictor.calls(steps) or 0) + self.corrections

    def steps(self, nfe: int) -> int:
        if nfe <= self.corrections:
            raise ValueError(
                f"{self.corrections} of the model calls of {self.name} correct, got NFE {nfe}; "
                "raise it"
            )
        return self.predictor.steps(nfe - self.corrections)

    def evaluation_times(self, step: Step) -> list[float]:
        """The times of the states; with MASK the model is told of the masks of a call, too."""
        due = sum(redraw.calls for redraw in self.redraws if redraw.due(step.t, step.s))
        return self.predictor.evaluation_times(step) + [step.s] * due

    def check(self, forward: ForwardProcess) -> None:
        self.predictor.check(forward)

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Any:
        """The predictor's state, and the free sites."""
        return self.predictor.init(reverse, x, t, free=free), free

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Any, Info]:
        inner, free = state if state is not None else (None, torch.ones_like(x, dtype=torch.bool))
        due = [redraw for redraw in self.redraws if redraw.due(step.t, step.s)]
        before = due if corrects_before(reverse, step) else []
        for redraw in before:
            x = self.redraw(reverse, x, redraw, step.t, free, generator)
        x, inner, info = self.predictor.step(reverse, x, step, inner, generator=generator)
        for redraw in due if not before else []:
            x = self.redraw(reverse, x, redraw, step.s, free, generator)
        return x, (inner, free), info

    def redraw(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        redraw: Redraw,
        s: float,
        free: Tensor,
        generator: Generator,
    ) -> Tensor:
        """x at the time s after the calls of one redraw."""
        count = (redraw.share * free.sum(-1)).round().clamp_min(1)
        t = model_time(reverse.forward, redraw.share, s)
        for _ in range(redraw.calls):
            ranks = redraw.sets.free_ranks(free, generator=generator)
            chosen = revealed(reverse, x, free & (ranks < count[:, None]))
            hidden = hide(reverse, x, chosen)

            def draw(
                output: Tensor, where: SiteMask, source: Generator, hidden: Tensor = hidden
            ) -> Tensor:
                probs = distribution(reverse, output, hidden, t, where)
                return categorical(probs, generator=source)

            drawn = in_chunks(reverse, hidden, t, chosen, draw, generator=generator)
            x = x.masked_scatter(chosen, drawn)
        return x

    def transition_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """As ``Sampler.transition_matrix``, with all sites free.

        Raises:
            ValueError: sets of an order whose shifts are not enumerated here.
        """
        matrix = self.predictor.transition_matrix(reverse, states, step)
        early = corrects_before(reverse, step)
        for redraw in [redraw for redraw in self.redraws if redraw.due(step.t, step.s)]:
            once = self.redraw_matrix(reverse, states, redraw, step.t if early else step.s)
            calls = torch.linalg.matrix_power(once, redraw.calls)
            matrix = calls @ matrix if early else matrix @ calls
        return matrix

    def redraw_matrix(
        self, reverse: ReverseProcess, states: Tensor, redraw: Redraw, s: float
    ) -> Tensor:
        """The exact distribution of one call at the time s with all sites free, [S, S]; the mean
        over all sets.
        """
        count = max(1, round(redraw.share * states.shape[1]))
        total = torch.zeros(len(states), len(states), dtype=torch.float64)
        for probability, sites in sets_of(redraw.sets, states.shape[1], count):
            chosen = torch.zeros_like(states, dtype=torch.bool)
            chosen[:, list(sites)] = True
            chosen = revealed(reverse, states, chosen)
            probs = one_hot(states, reverse.forward.vocab_size, torch.float64)
            hidden = hide(reverse, states, chosen)
            t = model_time(reverse.forward, redraw.share, s)
            output = reverse.call_model(hidden, t, chosen)
            probs[chosen] = distribution(reverse, output, hidden, t, chosen)
            total += probability * joint_distribution(probs, states)
        return total


def corrects_before(reverse: ReverseProcess, step: Step) -> bool:
    """Whether corrections come before the step: the last one, without MASK."""
    return step.s == 0 and not isinstance(reverse.forward, Absorbing)


def revealed(reverse: ReverseProcess, x: Tensor, chosen: Tensor) -> Tensor:
    """The chosen sites without those that are masked."""
    forward = reverse.forward
    return chosen & (x != forward.mask_id) if isinstance(forward, Absorbing) else chosen


def model_time(forward: ForwardProcess, share: float, s: float) -> float:
    """The time that the model is conditioned on: s, or that of the masks at s and those of a
    call.
    """
    if not isinstance(forward, Absorbing):
        return s
    alpha = (1 - share) * float(forward.noise.alpha(s))
    return float(forward.noise.time_of_alpha(max(alpha, float(forward.noise.alpha(1.0)))))


def distribution(
    reverse: ReverseProcess, output: Tensor, x: Tensor, t: float, where: Tensor | SiteMask
) -> Tensor:
    """p of the selected sites given all others, float64 [K, V]: a symbol in place of MASK."""
    if not isinstance(reverse.forward, Absorbing):
        return conditional(reverse, output, x, t, where)
    w = reverse.leave_one_out_from(output, x, t, where).to(torch.float64)
    return w / w.sum(-1, keepdim=True)


def sets_of(order: RevealOrder, length: int, count: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """The sets of sites that have the first ``count`` ranks, each with its probability.

    Raises:
        ValueError: an order other than random, golden, sequential, or fixed without a shift.
    """
    if isinstance(order, Random):
        every = list(combinations(range(length), count))
        yield from ((1 / len(every), sites) for sites in every)
    elif isinstance(order, Golden):
        keys = torch.arange(length, dtype=torch.float64) * 0.5 * (math.sqrt(5) - 1) % 1
        # Where the shift passes 1 - key, a site moves from the last rank to the first.
        cuts = sorted({0.0, 1.0, *(1 - keys).tolist()})
        for low, high in pairwise(cuts):
            ranks = (keys + 0.5 * (low + high)).remainder(1).argsort()
            yield high - low, tuple(ranks[:count].tolist())
    elif isinstance(order, Sequential) or (isinstance(order, Fixed) and not order.shift):
        ranks = order.ranks(1, length, generator=torch.Generator())[0]
        yield 1.0, tuple(ranks.argsort()[:count].tolist())
    else:
        raise ValueError(
            f"the sets of {order.name} order are not enumerated; use random, golden or fixed"
        )
