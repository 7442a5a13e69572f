r"""Parallel decoding of the absorbing kernel: which masked sites each model call reveals.

A masked site is revealed once, with a symbol drawn from :math:`p^l = p(x_0^l \mid x_t)`, and stays.
Sites revealed by one call are drawn as if they were independent, so the error of a run is the
choice of these groups:

* ``KGillespie``: k sites in an order that does not depend on the data, k from the schedule;
* ``MaskGIT``: the k sites whose drawn symbol :math:`y^l` has the largest confidence :math:`\log
  p^l(y^l)`;
* ``EntropyBounded``: the most certain sites, as many as :math:`\sum_l H(p^l) - \max_l H(p^l) \le
  \gamma` allows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical, gumbel
from jumpsteps.core.sample_generators import Generator, at_sites
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.ancestral import reveal
from jumpsteps.sampling.base import Held, Info, Sampler, nothing_clipped
from jumpsteps.schedules.schedule import CountSchedule, Step

__all__ = ["EntropyBounded", "KGillespie", "MaskGIT"]


def smallest(keys: Tensor, count: int | Tensor) -> Tensor:
    """bool [B, L]: the ``count`` smallest of each row; a number, or one for each row, [B]."""
    if isinstance(count, Tensor):
        return keys.argsort(dim=-1, stable=True).argsort(-1) < count[:, None]
    chosen = keys.topk(count, largest=False).indices
    return torch.zeros_like(keys, dtype=torch.bool).scatter(-1, chosen, True)


@dataclass(frozen=True)
class KGillespie(Sampler):
    """k-Gillespie: the k masked sites with the shortest waiting times are revealed together.

    All masked sites leave at the same rate, so in the reverse process these are k random ones.
    Every order that does not depend on the data gives the same distribution in the limit of many
    steps, and the schedule may carry one (``CountSchedule.order``). The model's head runs on the k
    sites alone.

    Source: Zhao et al. (2024), arXiv 2407.21243, Alg. 1. Kernel: absorbing. Schedule: counts. Calls
    per step: 1.
    """

    name = "k-gillespie"
    kernels = ("absorbing",)
    takes = CountSchedule
    source = "Zhao et al. 2024"
    holds = Held.COUNT

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor | None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        """The state is every site's rank, int64 [B, L], drawn once."""
        moving, ranks = next_in_order(reverse, x, step, state, generator)
        count = count_of(step)
        if isinstance(count, Tensor):
            where = SiteMask(moving)
        else:
            where = SiteMask.of_count(moving, len(x) * count)
        y = reveal(reverse, x, step.model_time, where, generator)
        return where.put(x, y), ranks, nothing_clipped(x)


def next_in_order(
    reverse: ReverseProcess, x: Tensor, step: Step, ranks: Tensor | None, generator: Generator
) -> tuple[Tensor, Tensor]:
    """The sites that the step reveals, bool [B, L], and every site's rank, int64 [B, L], drawn in
    the first step.
    """
    masked = reverse.forward.movable(x)
    if ranks is None:
        ranks = step.order.free_ranks(masked, generator=generator)
    return smallest(torch.where(masked, ranks, x.shape[1]), count_of(step)), ranks


def count_of(step: Step) -> int | Tensor:
    """How many sites the step reveals, a number or [B].

    Raises:
        ValueError: a step of a ``TimeSchedule``.
    """
    if step.count is None:
        raise ValueError("this sampler reveals a given number of sites; pass a CountSchedule")
    return step.count


@kinds_checked()
@dataclass(frozen=True)
class MaskGIT(Sampler):
    """MaskGIT: a symbol is drawn for every masked site, and the k most confident ones are kept.

    The confidence of a site is log p(symbol), plus Gumbel noise times ``temperature`` times the
    share of sites that are masked after the step. Whether a site is kept depends on the symbol
    drawn there, so the sampler does not have the model's distribution even with one site for each
    step.

    Source: Chang et al. (2022), Sec. 3.2. Kernel: absorbing. Schedule: counts. Calls per step: 1.

    Attributes:
        temperature: of the noise, 0 or more; at 0 exactly the most confident sites are kept.
    """

    temperature: float = 1.0
    name = "maskgit"
    kernels = ("absorbing",)
    takes = CountSchedule
    order = "does not converge"
    source = "Chang et al. 2022"

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
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        masked, time, count = reverse.forward.movable(x), step.model_time, count_of(step)

        def draw(output: Tensor, where: SiteMask, generator: Generator) -> tuple[Tensor, Tensor]:
            w = reverse.leave_one_out_from(output, x, time, where).to(torch.float64)
            y = categorical(w, generator=generator)
            return y, w.gather(-1, y[:, None])[:, 0].log()

        y, log_p = in_chunks(reverse, x, time, masked, draw, generator=generator)
        left = (masked.sum(-1) - count)[:, None]
        noise = gumbel(tuple(x.shape), generator=generator, device=x.device)
        confidence = self.temperature * left / x.shape[1] * noise
        confidence[masked] += log_p
        kept = smallest(-confidence.masked_fill(~masked, -torch.inf), count)
        drawn = x.masked_scatter(masked, y)
        return torch.where(kept, drawn, x), None, nothing_clipped(x)


def time_of_masked(reverse: ReverseProcess, masked: Tensor, start: Tensor) -> Tensor:
    """The time at which this share of the sites is masked on average, float64 [B]; 0 when none is.

    Args:
        masked: bool [B, L].
        start: int64 [B], how many sites were masked at the start.
    """
    noise = reverse.forward.noise
    alpha = 1 - masked.sum(-1) / start.clamp_min(1).to(torch.float64)
    return noise.time_of_alpha(alpha.clamp_min(float(noise.alpha(1.0))))


@kinds_checked()
@dataclass(frozen=True)
class EntropyBounded(Sampler):
    r"""Entropy-bounded (EB): each call reveals as many sites as keep their joint error below
    ``gamma`` nats.

    Masked sites are sorted by the entropy H of their distribution, and the first k are revealed, k
    the largest with :math:`\sum H - \max H \le \gamma` and at least 1; the number of steps follows.
    That sum bounds the total correlation of the k sites. With one site for each call the
    distribution is exact in every order that depends on revealed symbols only, so with an exact
    model it tends to the data's as gamma falls to 0.

    Source: Ben-Hamu et al. (2025), arXiv 2505.24857, Sec. 3. Kernel: absorbing. Schedule: none;
    calls vary.

    Attributes:
        gamma: nats, 0 or more.
    """

    gamma: float = 0.1
    name = "entropy-bounded"
    kernels = ("absorbing",)
    takes = None
    order = "exact at gamma = 0"
    source = "Ben-Hamu et al. 2025"

    @property
    def calls_in_words(self) -> str:
        return "chosen by the model"

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be zero or more nats, got {self.gamma}")

    def init(self, reverse: ReverseProcess, x: Tensor, t: float, *, free: Tensor) -> Tensor:
        """The number of masked sites at the start, int64 [B]; the model's time follows from it."""
        return reverse.forward.movable(x).sum(-1)

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Tensor,
        *,
        generator: Generator,
    ) -> tuple[Tensor, Tensor, Info]:
        masked = reverse.forward.movable(x)
        active = masked.any(-1)
        if active.any():
            time = time_of_masked(reverse, masked, state)
            rows = active.nonzero()[:, 0]
            w = reverse.at_rows(rows).leave_one_out(x[rows], time[rows], where=masked[rows])
            w = w.to(torch.float64)
            entropy = torch.full(x.shape, torch.inf, dtype=torch.float64, device=x.device)
            # A site whose w is NaN is drawn at once, and so refused.
            entropy[masked] = -torch.xlogy(w, w).sum(-1).nan_to_num(0.0)
            moving = self.choose(entropy) & masked
            drawn = categorical(w[moving[masked]], generator=at_sites(generator, moving))
            x = x.masked_scatter(moving, drawn)
        time = time_of_masked(reverse, reverse.forward.movable(x), state)
        return x, state, Info(nothing_clipped(x).clipped, time)

    def choose(self, entropy: Tensor) -> Tensor:
        """bool [B, L]: the sites to reveal; entropy is infinite where nothing is masked."""
        ordered, order = entropy.sort(-1)
        error = ordered.cumsum(-1) - ordered
        kept = error.nan_to_num(torch.inf) <= self.gamma
        kept[:, 0] = True
        return torch.zeros_like(kept).scatter(-1, order, kept)
