"""Ancestral sampling of the absorbing kernel, with and without remasking."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical, uniform
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Held, Info, Sampler, nothing_clipped
from jumpsteps.schedules.schedule import Step

__all__ = ["Ancestral", "ReMDM"]


def absorbing(reverse: ReverseProcess) -> Absorbing:
    assert isinstance(reverse.forward, Absorbing)
    return reverse.forward


def reveal(
    reverse: ReverseProcess, x: Tensor, t: float, where: Tensor, generator: torch.Generator
) -> Tensor:
    """A symbol for each of the selected masked sites, int64 [K], from p(x0 | x_t); one model call."""
    return in_chunks(
        reverse,
        x,
        t,
        where,
        lambda kept, chunk: categorical(kept.leave_one_out(x, t, chunk), generator=generator),
    )


@dataclass(frozen=True)
class Ancestral(Sampler):
    """Ancestral sampling that calls the model only when some site is revealed, and only on the sequences with such a site.

    The distribution is Tweedie's. Which sites are revealed does not depend on the model and is drawn first; where MDLM reuses its last
    output as long as nothing changed, this makes no call, which is right for models that see the time, too.

    Source: Sahoo et al. (2024), Sec. 4.2. Kernel: absorbing. Schedule: times. Calls per step: at most 1.
    """

    name = "ancestral"
    kernels = ("absorbing",)
    holds = Held.CONTEXT

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        moving = reverse.forward.draw_moving(x, step.t, step.s, generator=generator)
        rows = moving.any(-1)
        if rows.any():
            x = x.masked_scatter(moving, reveal(reverse, x[rows], step.t, moving[rows], generator))
        return x, None, nothing_clipped(x)


@dataclass(frozen=True)
class ReMDM(Sampler):
    r"""Ancestral sampling that masks revealed sites again, with probability :math:`\varsigma = \min(\text{cap},
    \text{rescale} \cdot (1 - \alpha_s) / \alpha_t)`, and reveals masked ones with

    .. math:: \frac{\alpha_s - (1 - \varsigma) \alpha_t}{1 - \alpha_t},

    so that the distribution of a single site is the same as without. Mistakes can be corrected.

    Source: Wang et al. (2025), arXiv 2503.00307, Sec. 3 and 4.1. Kernel: absorbing. Schedule: times. Calls per step: 1.
    """

    cap: float = 0.02
    rescale: float = 1.0
    name = "remdm"
    kernels = ("absorbing",)

    def __post_init__(self) -> None:
        if not (0 <= self.cap <= 1 and 0 <= self.rescale <= 1):
            raise ValueError(
                f"cap and rescale must lie between 0 and 1, got {self.cap} and {self.rescale}"
            )

    def remask_probability(self, forward: Absorbing, t: float, s: float) -> float:
        alpha_t, alpha_s = float(forward.noise.alpha(t)), float(forward.noise.alpha(s))
        return min(self.cap, self.rescale * min(1.0, (1 - alpha_s) / alpha_t))

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        forward = absorbing(reverse)
        remask = self.remask_probability(forward, step.t, step.s)
        alpha_t, alpha_s = float(forward.noise.alpha(step.t)), float(forward.noise.alpha(step.s))
        unmask = (alpha_s - (1 - remask) * alpha_t) / (1 - alpha_t)
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        masked = forward.movable(x)
        moving = masked & (u < unmask)
        revealed = x.masked_scatter(moving, reveal(reverse, x, step.t, moving, generator))
        return (
            revealed.masked_fill(~masked & (u < remask), forward.mask_id),
            None,
            nothing_clipped(x),
        )
