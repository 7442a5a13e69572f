r"""Samplers of the absorbing kernel alone: every site is revealed once, and what is left to choose is when and in which company.

Shapes: x int64 [B, L]; K sites are selected from x.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical, gumbel
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.ancestral import reveal
from jumpsteps.sampling.base import Held, Info, Sampler, nothing_clipped
from jumpsteps.schedules.schedule import CountSchedule, Step

__all__ = ["EntropyBounded", "KGillespie", "MaskGIT"]


def smallest(keys: Tensor, count: int) -> Tensor:
    """bool [B, L]: the ``count`` smallest of each row."""
    chosen = keys.topk(count, largest=False).indices
    return torch.zeros_like(keys, dtype=torch.bool).scatter(-1, chosen, True)


@dataclass(frozen=True)
class KGillespie(Sampler):
    """k-Gillespie: the k masked sites whose waiting times are the shortest jump together.

    All masked sites leave at the same rate, so in the true process these are k random ones. Any order that does not look at the
    data samples the same distribution as steps grow, and the schedule may carry another one (``CountSchedule.order``). The model's head runs
    on the k sites alone.

    Source: Zhao et al. (2024), arXiv 2407.21243, Alg. 1. Kernel: absorbing. Schedule: jumps. Calls per step: 1.
    """

    name = "k-gillespie"
    kernels = ("absorbing",)
    takes = CountSchedule
    holds = Held.COUNT

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor | None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        """The state is every site's rank, int64 [B, L], drawn once."""
        ranks = step.order.ranks(*x.shape, generator=generator) if state is None else state
        masked = reverse.forward.movable(x)
        moving = smallest(torch.where(masked, ranks, x.shape[1]), jumps_of(step))
        return (
            x.masked_scatter(moving, reveal(reverse, x, step.t, moving, generator)),
            ranks,
            nothing_clipped(x),
        )


def jumps_of(step: Step) -> int:
    if step.jumps is None:
        raise ValueError("this sampler counts jumps; pass a CountSchedule")
    return step.jumps


@dataclass(frozen=True)
class MaskGIT(Sampler):
    """Confidence: a symbol is drawn for every masked site, and the k most confident are kept.

    Confidence is log p(symbol), plus Gumbel noise times ``temperature`` times the share of sites still masked after the step.
    Which site is kept depends on the symbol drawn there, so that even one site for each step does not sample the model's distribution.

    Source: Chang et al. (2022), Sec. 3.2. Kernel: absorbing. Schedule: jumps. Calls per step: 1.
    """

    temperature: float = 1.0
    name = "maskgit"
    kernels = ("absorbing",)
    takes = CountSchedule

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be zero or more, got {self.temperature}")

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        masked = reverse.forward.movable(x)

        def draw(reverse: ReverseProcess, where: Tensor) -> Tensor:
            w = reverse.leave_one_out(x, step.t, where).to(torch.float64)
            y = categorical(w, generator=generator)[:, None]
            return torch.cat([y, w.gather(-1, y).log()], 1)

        y, log_p = in_chunks(reverse, x, step.t, masked, draw).unbind(1)
        left = masked.sum(-1, keepdim=True) - jumps_of(step)
        noise = gumbel(tuple(x.shape), generator=generator, device=x.device)
        confidence = self.temperature * left / x.shape[1] * noise
        confidence[masked] += log_p
        moving = smallest(-confidence.masked_fill(~masked, -torch.inf), jumps_of(step))
        return (
            torch.where(moving, x.masked_scatter(masked, y.to(x.dtype)), x),
            None,
            nothing_clipped(x),
        )


@dataclass(frozen=True)
class EntropyBounded(Sampler):
    """EB: in each step as many of the most confident sites as keep the error of drawing them together below ``gamma`` nats.

    Masked sites are sorted by the entropy of their distribution; the largest k with sum H - max H <= gamma are revealed, one at least.
    The number of steps follows. An order that looks at revealed symbols only leaves the distribution exact when sites come one at a time, so
    with an exact model the distribution tends to the data's as gamma falls to 0.

    Source: Ben-Hamu et al. (2025), arXiv 2505.24857, Sec. 3. Kernel: absorbing. Schedule: none; calls vary.
    """

    gamma: float = 0.1
    name = "entropy-bounded"
    kernels = ("absorbing",)
    takes = None

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be zero or more nats, got {self.gamma}")

    def init(self, reverse: ReverseProcess, x: Tensor, t: float) -> Tensor:
        """The number of masked sites at the start, for the time that the model is told."""
        return reverse.forward.movable(x).sum(-1)

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        masked = reverse.forward.movable(x)
        active = masked.any(-1)
        if active.any():
            time = self.time(reverse, masked, state)
            w = reverse.leave_one_out(x[active], time[active], where=masked[active]).to(
                torch.float64
            )
            entropy = torch.full(x.shape, torch.inf, dtype=torch.float64, device=x.device)
            entropy[masked] = -torch.xlogy(w, w).sum(-1)
            moving = self.choose(entropy) & masked
            x = x.masked_scatter(moving, categorical(w[moving[masked]], generator=generator))
        time = self.time(reverse, reverse.forward.movable(x), state)
        return x, state, Info(nothing_clipped(x).clipped, time)

    def time(self, reverse: ReverseProcess, masked: Tensor, start: Tensor) -> Tensor:
        """The time at which this share of the sites is masked, float64 [B]; 0 when none is."""
        noise = reverse.forward.noise
        alpha = 1 - masked.sum(-1) / start.clamp_min(1).to(torch.float64)
        return noise.time_of_alpha(alpha.clamp_min(float(noise.alpha(1.0))))

    def choose(self, entropy: Tensor) -> Tensor:
        """bool [B, L]: the sites to reveal; entropy is infinite where nothing is masked."""
        ordered, order = entropy.sort(-1)
        error = ordered.cumsum(-1) - ordered
        kept = error.nan_to_num(torch.inf) <= self.gamma
        kept[:, 0] = True
        return torch.zeros_like(kept).scatter(-1, order, kept)
