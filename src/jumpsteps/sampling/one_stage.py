r"""Samplers that call the model once in a step and serve every kernel: Tweedie, Euler, tau-leaping.

All draw the sites independently given x_t, from the leave-one-out posterior :math:`w^l = p(x_0^l
\mid x_t^{-l})` of each. They differ in what they hold fixed during the step (``Held``):

* Tweedie holds w, and each site follows its exact kernel,

  .. math:: p(x_s^l = y \mid x_t) \propto q_{t|s}(x_t^l \mid y)\, (w^l q_{s|0})(y);

* Euler and tau-leaping hold the reverse rates :math:`\hat R_t(x_t \to y) = R_t(y, x_t^l)\, (w^l
  q_{t|0})(y) / (w^l q_{t|0})(x_t^l)` as well, for a duration h = t - s. Euler lets a site jump to y
  with probability :math:`h \hat R_t(y)`, tau-leaping draws :math:`N_y \sim \mathrm{Poisson}(h \hat
  R_t(y))` jumps.

Rates are infinite at t = 0, so the step that ends there is Tweedie's for all of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical, poisson, uniform
from jumpsteps.core.sample_generators import Generator, at_rows, at_sites
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.data_draws import draw_data, draw_jump_sum, draw_leaving
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.sampling.base import (
    Held,
    Info,
    Sampler,
    count_sites,
    movable_sites,
    nothing_clipped,
    sites_that_move,
    sites_to_redraw,
)
from jumpsteps.schedules.schedule import Step

__all__ = ["Euler", "TauLeaping", "Tweedie"]


@dataclass(frozen=True)
class Tweedie(Sampler):
    r"""Tweedie tau-leaping: each site is drawn from its exact conditional at s, given all of x_t.

    .. math:: p(x_s^l = y \mid x_t) \propto q_{t|s}(x_t^l \mid y)\, (w^l q_{s|0})(y),

    with w the leave-one-out posterior. The only error of a step is the dependence between sites
    given x_t. Absorbing kernel: a masked site is revealed with probability (alpha_s - alpha_t) / (1
    - alpha_t), its symbol drawn from p(x_0 | x_t). Which sites are revealed is drawn first, and the
    model's head runs on those alone.

    Source: Lou, Meng, Ermon (2024), Eq. 19; Sun et al. (2023). Kernels: all. Schedule: times. Calls
    per step: 1.
    """

    name = "tweedie"
    holds = Held.CONTEXT
    order = "1.0"
    source = "Lou et al. 2024; Sun et al. 2023"

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        moving = sites_to_redraw(reverse.forward, x, step, generator=generator)
        x0 = draw_data(reverse, x, step.t, moving, generator=generator)
        own, source = moving.select(x), at_sites(generator, moving)
        y = reverse.forward.sample_bridge(x0, own, step.t, step.s, generator=source)
        return moving.put(x, y), None, nothing_clipped(x)

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        def distribution(where: Tensor) -> Tensor:
            output = reverse.call_model(x, step.t, where)
            probs = drawn_from(reverse, output, x, step, where).to(torch.float64)
            forward = reverse.forward
            if not isinstance(forward, Absorbing):
                return probs
            revealed = float(forward.reveal_probability(step.t, step.s))
            probs = revealed * probs / probs.sum(-1, keepdim=True)
            probs[:, forward.mask_id] += 1 - revealed
            return probs

        return movable_sites(reverse.forward, x, where, distribution)


def drawn_from(
    reverse: ReverseProcess, output: Tensor, x: Tensor, step: Step, where: Tensor | SiteMask
) -> Tensor:
    """What Tweedie's step draws sites from that it redraws, unnormalised [K, V]."""
    sites = selected(x, where)
    w = reverse.leave_one_out_from(output, x, step.t, where)
    return reverse.forward.bridge(w, sites, step.t, step.s)


def denoise(reverse: ReverseProcess, x: Tensor, t: float, generator: Generator) -> Tensor:
    """Tweedie's step from t to 0, the last one of every sampler that uses rates."""
    return Tweedie().step(reverse, x, Step(t, 0.0), None, generator=generator)[0]


def first_jump(rates: Tensor, x: Tensor, h: float, *, generator: Generator) -> Tensor:
    """The state of sites x [...] after their first jump, if any, in a duration h of constant rates
    [..., V].
    """
    return categorical(first_jump_distribution(rates, x, h), generator=generator)


def first_jump_distribution(rates: Tensor, x: Tensor, h: float) -> Tensor:
    r"""Of sites x [...] after their first jump in a duration h of constant rates R [..., V], zero
    at y = x:

    .. math:: p(x) = e^{-h r}, \quad p(y) = (1 - e^{-h r})\, R(y) / r, \quad r = \sum_y R(y).
    """
    total = rates.sum(-1, keepdim=True)
    stay = torch.exp(-h * total)
    probs = (1 - stay) * rates / total.masked_fill(total == 0, 1)
    return probs.scatter(-1, x[..., None], stay)


@dataclass(frozen=True)
class Euler(Sampler):
    r"""Euler step: the rates at t, held fixed, and at most one jump for each site.

    .. math:: p(x_s^l = y \mid x_t) = (t - s)\, \hat R_t(x_t \to y), \quad y \ne x_t^l.

    Where the probability of leaving exceeds 1 it is scaled down to 1 and counted in
    ``Info.clipped``. The step to t = 0 is Tweedie's.

    Source: Lou, Meng, Ermon (2024), Eq. 17; Gillespie (2001). Kernels: all. Schedule: times. Calls
    per step: 1.
    """

    name = "euler"
    holds = Held.FIRST_JUMP
    order = "1.0"
    source = "Lou et al. 2024"

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        if step.s == 0:
            return denoise(reverse, x, step.t, generator), None, nothing_clipped(x)
        movable = sites_that_move(reverse.forward, x)
        if jumps_by_data(reverse):
            site, jump, total = first_jumps_by_data(reverse, x, step, movable, generator)
            source = at_sites(generator, movable)
            u = uniform(tuple(total.shape), generator=source, device=x.device)
            y = torch.where(u < total, jump, site)
            clipped = count_sites(x, movable, total > 1)
            return movable.put(x, y), None, Info(clipped=clipped)

        def draw(output: Tensor, where: SiteMask, generator: Generator) -> tuple[Tensor, Tensor]:
            probs, total = self.one_jump(reverse, output, x, step, where)
            return categorical(probs, generator=generator), total > 1

        y, clipped = in_chunks(reverse, x, step.t, movable, draw, generator=generator)
        return movable.put(x, y), None, Info(clipped=count_sites(x, movable, clipped))

    def one_jump(
        self,
        reverse: ReverseProcess,
        output: Tensor,
        x: Tensor,
        step: Step,
        where: Tensor | SiteMask,
    ) -> tuple[Tensor, Tensor]:
        """Distributions of the selected sites [K, V], and their probabilities of leaving before the
        cut [K].
        """
        leave = jump_means(reverse, output, x, step, where)
        total = leave.sum(-1, keepdim=True)
        stay = (1 - total).clamp_min(0)
        probs = (leave / total.clamp_min(1)).scatter(-1, selected(x, where)[:, None], stay)
        return probs, total[:, 0]

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        if step.s == 0:
            return Tweedie().site_distribution(reverse, x, step, where)

        def distribution(where: Tensor) -> Tensor:
            output = reverse.call_model(x, step.t, where)
            return self.one_jump(reverse, output, x, step, where)[0]

        return movable_sites(reverse.forward, x, where, distribution)


def jump_means(
    reverse: ReverseProcess, output: Tensor, x: Tensor, step: Step, where: Tensor | SiteMask
) -> Tensor:
    """h times the reverse rates of the selected sites, float64 [K, V]."""
    return (step.t - step.s) * reverse.rates_from(output, x, step.t, where).to(torch.float64)


def jumps_by_data(reverse: ReverseProcess) -> bool:
    """Whether a jump is drawn by its data first, x_0 before y.

    It is where the model tells of data, and the kernel jumps between all symbols.
    """
    return reverse.models_data and reverse.forward.revisable


def first_jumps_by_data(
    reverse: ReverseProcess, x: Tensor, step: Step, movable: SiteMask, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The movable sites of x, where each jumps if it does, int64 [K], and its mean number of jumps
    in the step, float64 [K]; one model call.
    """
    x0, rate = draw_leaving(reverse, x, step.t, movable, generator=generator)
    site, source = movable.select(x), at_sites(generator, movable)
    y = reverse.forward.sample_jump(x0, site, step.t, generator=source)
    return site, y, (step.t - step.s) * rate.to(torch.float64)


@kinds_checked()
@dataclass(frozen=True)
class TauLeaping(Sampler):
    r"""tau-leaping: the rates at t, held fixed, and a Poisson number of jumps to each symbol.

    .. math:: N_y \sim \mathrm{Poisson}((t - s)\, \hat R_t(x_t \to y))

    Symbols that are categories: a site moves if it has exactly one jump. Symbols that are numbers
    (``ordinal``): the jumps add up, :math:`x + \sum_y N_y (y - x)`, and the sum is clamped to
    0..V-1. The step to t = 0 is Tweedie's.

    Source: Campbell et al. (2022), Sec. 4.2 and App. H; Gillespie (2001). Kernels: all; ordinal:
    all but absorbing, whose MASK is no number. Schedule: times. Calls per step: 1.
    """

    ordinal: bool = False
    holds = Held.RATES
    order = "0.9 to 1.0"
    source = "Campbell et al. 2022"

    @property
    def name(self) -> str:
        return "tau-leaping-ordinal" if self.ordinal else "tau-leaping"

    @classmethod
    def variants(cls) -> tuple[Sampler, ...]:
        return cls(), cls(ordinal=True)

    def check(self, forward: ForwardProcess) -> None:
        if self.ordinal and forward.name == "absorbing":
            raise ValueError(
                "ordinal tau-leaping adds symbols up, and the absorbing kernel's MASK is no "
                "number; use tau-leaping"
            )

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        if step.s == 0:
            return denoise(reverse, x, step.t, generator), None, nothing_clipped(x)
        movable = sites_that_move(reverse.forward, x)
        by_data = jumps_by_data(reverse)
        if by_data and not self.ordinal:
            site, jump, total = first_jumps_by_data(reverse, x, step, movable, generator)
            source = at_sites(generator, movable)
            y = torch.where(poisson(total, generator=source) == 1, jump, site)
            return movable.put(x, y), None, nothing_clipped(x)
        if by_data:
            h = step.t - step.s
            y = draw_jump_sum(reverse, x, step.t, h, movable, generator=generator)
            y = y.clamp(0, reverse.forward.vocab_size - 1)
            return movable.put(x, y), None, nothing_clipped(x)
        jumps = self.add_jumps if self.ordinal else self.single_jumps

        def draw(output: Tensor, where: SiteMask, generator: Generator) -> Tensor:
            return jumps(jump_means(reverse, output, x, step, where), where.select(x), generator)

        y = in_chunks(reverse, x, step.t, movable, draw, generator=generator)
        return movable.put(x, y), None, nothing_clipped(x)

    def single_jumps(self, mean: Tensor, x: Tensor, generator: Generator) -> Tensor:
        """The sum of Poisson numbers is Poisson, and its one jump goes where the rates say: one
        number for each site is enough.
        """
        jumps = poisson(mean.sum(-1), generator=generator)
        once = jumps == 1
        landed = categorical(mean[once], generator=at_rows(generator, once))
        return x.masked_scatter(once, landed)

    def add_jumps(self, mean: Tensor, x: Tensor, generator: Generator) -> Tensor:
        jumps = poisson(mean, generator=generator)
        distance = torch.arange(mean.shape[-1], device=x.device) - x[:, None]
        return (x + (jumps * distance).sum(-1)).clamp(0, mean.shape[-1] - 1)

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        if step.s == 0:
            return Tweedie().site_distribution(reverse, x, step, where)
        landing = added_jumps if self.ordinal else single_jump

        def distribution(where: Tensor) -> Tensor:
            output = reverse.call_model(x, step.t, where)
            return landing(jump_means(reverse, output, x, step, where), selected(x, where))

        return movable_sites(reverse.forward, x, where, distribution)


def single_jump(mean: Tensor, x: Tensor) -> Tensor:
    """The distribution of sites x [K] that move if they have exactly one jump, [K, V]."""
    once = mean * torch.exp(-mean.sum(-1, keepdim=True))
    return once + (1 - once.sum(-1, keepdim=True)) * one_hot(x, mean.shape[-1], mean.dtype)


def added_jumps(mean: Tensor, x: Tensor) -> Tensor:
    r"""The distribution of x + sum_y N_y (y - x), clamped, for sites x [K], [K, V].

    The sum of jumps has the characteristic function :math:`\exp \sum_y m_y (e^{i \omega (y - x)} -
    1)`, which is inverted on a circle so long that its wrapped part is below 1e-12.
    """
    symbols = torch.arange(mean.shape[-1], device=x.device)
    distance = (symbols - x[:, None]).to(torch.float64)
    total = float(mean.sum(-1).max()) if mean.numel() else 0.0
    reach = mean.shape[-1] * math.ceil(total + 10 * math.sqrt(total) + 30)
    omega = math.pi / reach * torch.arange(2 * reach, dtype=torch.float64, device=x.device)
    exponent = torch.zeros(len(x), 2 * reach, dtype=torch.complex128, device=x.device)
    for y in symbols.tolist():
        angle = omega * distance[:, y, None]
        exponent += mean[:, y, None] * (torch.polar(torch.ones_like(angle), angle) - 1)
    shift = torch.fft.fft(exponent.exp()).real / (2 * reach)
    moved = torch.arange(2 * reach, device=x.device)
    moved = torch.where(moved < reach, moved, moved - 2 * reach)
    landed = (x[:, None] + moved).clamp(0, mean.shape[-1] - 1)
    return torch.zeros_like(mean).scatter_add(-1, landed, shift).clamp_min(0)
