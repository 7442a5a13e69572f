r"""Multistep samplers: what the last two model calls say is extrapolated to the middle of the step.

A step of Tweedie's sampler or of k-Gillespie draws every site that it reveals from the posterior at
its start, :math:`p_k^l = p(x_0^l \mid x_{t_k})`, as if no other site were revealed in between. On
average half of the others are. The two-step Adams-Bashforth rule takes the change of the posterior
during the last step for that of half a step ahead,

.. math:: \tilde p_k^l \propto [(1 + c)\, p_k^l - c\, p_{k-1}^l]_+, \quad
          c = \frac{\text{sites that this step reveals}}{2 \times \text{those of the last step}},

at no further model call. Symbols that one jump has made less likely by more than the factor c / (1
+ c) are cut off. The first step of a run has nothing to extrapolate from.

Before the cut, :math:`\tilde p_k` has the mean :math:`p_{k-1}` given x_{t_{k-1}}, so the
distribution of a single site is right. The cut takes symbols away that are rare but possible.

The posterior of an exact model is a martingale, so its last change does not tell the next one, and
by Gibbs' inequality no other distribution of independent sites has a lower NLL of data than
:math:`p_k`. What the rule does is to sharpen it, most where it has changed: samples have fewer of
the errors of large steps, and miss rare symbols. See docs/samplers.md for what that is worth.

What the model gave at the masked sites is kept for the next step (``model.Evaluation``): the hidden
states of a network that has them, B L D numbers, from which the head of the network runs again at
the sites that the next step reveals; of any other model its output, B L V numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import Generator, at_sites
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import one_hot, sent
from jumpsteps.denoiser.chunks import read_in_chunks
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time
from jumpsteps.sampling.base import Info, Sampler, count_sites, joint_distribution
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie, next_in_order
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

__all__ = ["MultistepKGillespie", "MultistepTweedie"]


@dataclass(frozen=True)
class LastStep:
    """What a step keeps for the next one.

    Attributes:
        evaluation: the model's, at the sites that were masked.
        time: of the evaluation, a number or [B].
        size: float64 [B], how much the step revealed: a number of sites, or a share of them.
    """

    evaluation: Evaluation
    time: Time
    size: Tensor

    def posterior(self, reverse: ReverseProcess, x: Tensor, where: SiteMask) -> Tensor:
        """p_{k-1} of masked sites of x, [K, V]; some distribution where ``known`` is false."""
        kept = self.evaluation
        if len(kept.rows):
            rows = kept.rows[where.select(kept.row)]
        else:
            rows = kept.rows.new_ones(len(where), *kept.rows.shape[1:])
        output = kept.read(rows, where.select(x))
        return reverse.leave_one_out_from(output, x, self.time, where)

    def known(self, where: SiteMask) -> Tensor:
        """Whether each of the sites was masked, bool [K]."""
        return where.select(self.evaluation.mask)


def extrapolated(now: Tensor, last: Tensor, c: Tensor | float) -> Tensor:
    """(1 + c) p_k - c p_{k-1}, float64, without the cut; its sum is 1."""
    now = now.to(torch.float64)
    return (now - last).mul_(c).add_(now)


def reveal_extrapolated(
    reverse: ReverseProcess,
    x: Tensor,
    step: Step,
    moving: Tensor,
    last: LastStep | None,
    half: Tensor,
    size: Tensor,
    generator: Generator,
) -> tuple[Tensor, LastStep, Info]:
    """x with the sites ``moving`` drawn from the extrapolated posterior; one model call.

    Sites that a corrector has masked since the last step have nothing to extrapolate from.

    Args:
        half: float64 [B], half of what the step reveals beside a site.
        size: float64 [B], what it reveals.
    """
    time, where = step.model_time, SiteMask(moving)
    evaluation = reverse.evaluate(x, time, SiteMask(reverse.forward.movable(x)))

    def draw(output: Tensor, sites: SiteMask, generator: Generator) -> tuple[Tensor, Tensor]:
        probs = reverse.leave_one_out_from(output, x, time, sites)
        if last is None:
            cut = torch.zeros(len(sites), dtype=torch.bool, device=x.device)
            return categorical(probs, generator=generator), cut
        c = torch.where(last.size > 0, half / last.size, 0.0)[sites.rows] * last.known(sites)
        probs = extrapolated(probs, last.posterior(reverse, x, sites), c[:, None])
        cut = (probs < 0).any(-1)
        return categorical(probs.clamp_min_(0), generator=generator), cut

    numbers = 2 * reverse.forward.vocab_size  # The posteriors of two calls.
    source = at_sites(generator, where)
    drawn, cut = read_in_chunks(evaluation, x, time, where, numbers, draw, source)
    info = Info(clipped=count_sites(x, where, cut))
    return where.put(x, drawn), LastStep(evaluation, time, size), info


@dataclass(frozen=True)
class MultistepTweedie(Sampler):
    r"""Tweedie's sampler with the posterior extrapolated from the last two calls.

    .. math:: c = \frac{\alpha_{t_{k+1}} - \alpha_{t_k}}{2\, (\alpha_{t_k} - \alpha_{t_{k-1}})},

    the ratio of the mean numbers of sites revealed; see the module's docstring. Schedules found for
    Tweedie's sampler serve it.

    Source: the multistep solver of Lu et al. (2022), arXiv 2211.01095, DPM-Solver++(2M), which
    extrapolates the prediction of continuous data; here it is the distribution of symbols. Kernel:
    absorbing. Schedule: times. Calls per step: 1.
    """

    name = "tweedie-multistep"
    kernels = ("absorbing",)
    order = "1.0 to 1.1"
    source = "Lu et al. 2022; this library"

    @property
    def schedules_of(self) -> Sampler:
        return Tweedie()

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: LastStep | None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, LastStep, Info]:
        moving = reverse.forward.draw_moving(x, step.t, step.s, generator=generator)
        size = sent(revealed_share(reverse, step), x.device).expand(len(x))
        return reveal_extrapolated(reverse, x, step, moving, state, size / 2, size, generator)

    def transition_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """Of the first step of a run, which is Tweedie's; ``run_distribution`` has all of them."""
        return Tweedie().transition_matrix(reverse, states, step)

    def run_distribution(
        self, reverse: ReverseProcess, states: Tensor, schedule: TimeSchedule, start: Tensor
    ) -> Tensor:
        """By the joint distribution of the last state and this one, [S, S]."""
        forward, joint, last, c = reverse.forward, torch.diag(start), None, 0.0
        assert isinstance(forward, Absorbing)
        masked, own = forward.movable(states), one_hot(states, forward.vocab_size, start.dtype)
        for step in schedule.plan(forward):
            now, size = reverse.leave_one_out(states, step.t), revealed_share(reverse, step)
            before, size_before = (now, size) if last is None else last
            c = 0.0 if last is None else float(size / (2 * size_before))
            probs = extrapolated(now[None], before[:, None], c).clamp_min(0)
            probs = probs / probs.sum(-1, keepdim=True)
            revealed = float(forward.reveal_probability(step.t, step.s))
            sites = torch.where(masked[..., None], revealed * probs + (1 - revealed) * own, own)
            joint = torch.einsum("wx,wxy->xy", joint, joint_distribution(sites, states))
            last = now, size
        return joint.sum(0)


def revealed_share(reverse: ReverseProcess, step: Step) -> Tensor:
    """alpha_s - alpha_t, float64: the mean share of all sites that a step reveals."""
    noise = reverse.forward.noise
    return (noise.alpha(step.s) - noise.alpha(step.t)).to(torch.float64)


@dataclass(frozen=True)
class MultistepKGillespie(Sampler):
    r"""k-Gillespie with the posterior extrapolated from the last two calls.

    .. math:: c = \frac{k - 1}{2\, k_\mathrm{last}},

    because half of the k - 1 other sites of the step are revealed before a site on average; see the
    module's docstring. One site for each call is therefore k-Gillespie itself, and exact. Schedules
    and reveal orders found for k-Gillespie serve it.

    Source: as ``MultistepTweedie``. Kernel: absorbing. Schedule: counts. Calls per step: 1.
    """

    name = "k-gillespie-multistep"
    kernels = ("absorbing",)
    takes = CountSchedule
    source = "Lu et al. 2022; this library"

    @property
    def schedules_of(self) -> Sampler:
        return KGillespie()

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: tuple[Tensor, LastStep] | None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, tuple[Tensor, LastStep], Info]:
        """The state is every site's rank, int64 [B, L], drawn once, and the last step."""
        ranks, last = (None, None) if state is None else state
        moving, ranks = next_in_order(reverse, x, step, ranks, generator)
        moving = moving & reverse.forward.movable(x)  # Where fewer are masked than the count.
        size = moving.sum(-1).to(torch.float64)
        half = (size - 1).clamp_min(0) / 2
        x, last, info = reveal_extrapolated(reverse, x, step, moving, last, half, size, generator)
        return x, (ranks, last), info
