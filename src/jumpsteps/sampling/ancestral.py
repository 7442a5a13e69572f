r"""Ancestral sampling of the absorbing kernel (masked diffusion), with and without remasking.

In a step from t to s a masked site is revealed with probability :math:`(\alpha_s - \alpha_t) / (1 -
\alpha_t)`, its symbol drawn from p(x_0 | x_t), and a revealed site stays. ``Ancestral`` makes that
step with as few model calls as it takes. ``ReMDM`` masks revealed sites again, so that mistakes can
be corrected, and reveals masked ones more often to make up for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical, uniform
from jumpsteps.core.sample_generators import Generator, at_rows
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time
from jumpsteps.sampling.base import Held, Info, Sampler, movable_sites, nothing_clipped
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import Step

__all__ = ["Ancestral", "ReMDM"]


def absorbing(reverse: ReverseProcess) -> Absorbing:
    assert isinstance(reverse.forward, Absorbing)
    return reverse.forward


def reveal(
    reverse: ReverseProcess, x: Tensor, t: Time, where: Tensor | SiteMask, generator: Generator
) -> Tensor:
    """A symbol for each of the selected masked sites, int64 [K], from p(x0 | x_t); one model
    call.
    """

    def draw(output: Tensor, where: SiteMask, generator: Generator) -> Tensor:
        w = reverse.leave_one_out_from(output, x, t, where)
        return categorical(w, generator=generator)

    return in_chunks(reverse, x, t, where, draw, generator=generator)


@dataclass(frozen=True)
class Ancestral(Sampler):
    """Tweedie's step for the absorbing kernel, without model calls that reveal nothing.

    Which sites are revealed does not depend on the model and is drawn first. The model is called
    for the sequences in which some site is revealed, and not at all if there is none. MDLM reuses
    its last output as long as no site has changed, which saves the same calls for models that are
    not conditioned on time.

    Source: Sahoo et al. (2024), Sec. 4.2. Kernel: absorbing. Schedule: times. Calls per step: at
    most 1.
    """

    name = "ancestral"
    kernels = ("absorbing",)
    holds = Held.CONTEXT
    order = "Tweedie's"
    source = "Sahoo et al. 2024"

    @property
    def calls_in_words(self) -> str:
        return "at most 1"

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        moving = reverse.forward.draw_moving(x, step.t, step.s, generator=generator)
        rows = moving.any(-1).nonzero()[:, 0]
        if len(rows):
            some, source = reverse.at_rows(rows), at_rows(generator, rows)
            x = x.masked_scatter(moving, reveal(some, x[rows], step.t, moving[rows], source))
        return x, None, nothing_clipped(x)

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        return Tweedie().site_distribution(reverse, x, step, where)


@kinds_checked()
@dataclass(frozen=True)
class ReMDM(Sampler):
    r"""Ancestral sampling with remasking.

    A revealed site is masked again with probability :math:`\varsigma = \min(\text{cap},
    \text{rescale} \cdot (1 - \alpha_s) / \alpha_t)`, and a masked one is revealed with

    .. math:: \frac{\alpha_s - (1 - \varsigma) \alpha_t}{1 - \alpha_t},

    so that the distribution of a single site is the same as without remasking.

    Source: Wang et al. (2025), arXiv 2503.00307, Sec. 3 and 4.1. Kernel: absorbing. Schedule:
    times. Calls per step: 1.

    Attributes:
        cap: the largest probability of remasking.
        rescale: a factor of its upper limit, between 0 and 1.
    """

    cap: float = 0.02
    rescale: float = 1.0
    name = "remdm"
    kernels = ("absorbing",)
    source = "Wang et al. 2025"

    def __post_init__(self) -> None:
        if not (0 <= self.cap <= 1 and 0 <= self.rescale <= 1):
            raise ValueError(
                f"cap and rescale must lie between 0 and 1, got {self.cap} and {self.rescale}"
            )

    def remask_probability(self, forward: Absorbing, t: float, s: float) -> float:
        alpha_t, alpha_s = float(forward.noise.alpha(t)), float(forward.noise.alpha(s))
        return min(self.cap, self.rescale * min(1.0, (1 - alpha_s) / alpha_t))

    def probabilities(self, forward: Absorbing, step: Step) -> tuple[float, float]:
        """Of revealing a masked site and of remasking a revealed one."""
        remask = self.remask_probability(forward, step.t, step.s)
        alpha_t, alpha_s = float(forward.noise.alpha(step.t)), float(forward.noise.alpha(step.s))
        return min(1.0, (alpha_s - (1 - remask) * alpha_t) / (1 - alpha_t)), remask

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, None, Info]:
        forward = absorbing(reverse)
        unmask, remask = self.probabilities(forward, step)
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        masked = forward.movable(x)
        moving = masked & (u < unmask)
        revealed = x.masked_scatter(moving, reveal(reverse, x, step.t, moving, generator))
        remasked = revealed.masked_fill(~masked & (u < remask), forward.mask_id)
        return remasked, None, nothing_clipped(x)

    def site_distribution(
        self, reverse: ReverseProcess, x: Tensor, step: Step, where: Tensor | None = None
    ) -> Tensor:
        forward = absorbing(reverse)
        unmask, remask = self.probabilities(forward, step)
        masked = selected(forward.movable(x), where)[..., None].to(torch.float64)
        mask = one_hot(torch.full_like(x, forward.mask_id), forward.vocab_size, torch.float64)
        now = movable_sites(forward, x, where, lambda w: reverse.leave_one_out(x, step.t, where=w))
        leave = masked * (1 - unmask) + (1 - masked) * remask
        return (1 - leave) * now + leave * selected(mask, where)
