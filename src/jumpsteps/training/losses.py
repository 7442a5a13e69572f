r"""Training losses: evidence bounds of x0, in nats per sequence, estimated at one random time for each sequence.

Both bounds are tight for the exact model when the prior is the forward distribution at t = 1, up to the sites that the noise has not
reached there.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["Loss", "MaskedCrossEntropy", "ScoreEntropy", "spread_times"]


class Loss(Protocol):
    """Maps data int64 [B, L] to one number per sequence, float [B], whose mean is minimised."""

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor: ...


def spread_times(n: int, *, t_min: float, generator: torch.Generator) -> Tensor:
    """n uniform times in [t_min, 1), float64, one in each of n equal cells: lower variance (Kingma et al. 2021, App. I.1)."""
    shift = uniform((1,), generator=generator, device=generator.device)
    cell = torch.arange(n, device=generator.device, dtype=torch.float64)
    return t_min + (1 - t_min) * ((shift + cell / n) % 1)


def noised(
    forward: ForwardProcess, x0: Tensor, t: Tensor, given: int, generator: torch.Generator
) -> Tensor:
    """x_t for times t [B]; the first ``given`` sites stay as they are."""
    if not 0 <= given < x0.shape[1]:
        raise ValueError(
            f"the loss was told that {given} sites are given, sequences have {x0.shape[1]}; leave at least one free"
        )
    x = forward.sample_path(x0, generator=generator)(t[:, None])
    return torch.cat([x0[:, :given], x[:, given:]], 1)


def negative_log_likelihood(output: Tensor, x0: Tensor) -> Tensor:
    """-log p(x0 | x_t), [B, L], of outputs [B, L, V], normalised or not."""
    return output.logsumexp(-1) - output.gather(-1, x0[..., None]).squeeze(-1)


@dataclass(frozen=True)
class MaskedCrossEntropy:
    r"""The masked cross-entropy bound, for the absorbing kernel and posterior models.

    .. math:: \int \frac{-\dot\alpha}{1 - \alpha} \, E \sum_{l \text{ masked}} -\log p(x_0^l \mid x_t) \, dt

    Source: Sahoo et al. (2024), Eq. 10; Shi et al. (2024), Eq. 5.

    Attributes:
        t_min: the least time that is drawn.
        given: this many leading sites are never noised and do not count: the bound is of the others given them.

    Raises:
        ValueError: another kernel, or no site that is not given.
    """

    t_min: float = 1e-3
    given: int = 0

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        forward = reverse.forward
        if not isinstance(forward, Absorbing):
            raise ValueError(
                f"the masked cross-entropy needs the absorbing kernel, got {forward.name}; use ScoreEntropy()"
            )
        t = spread_times(len(x0), t_min=self.t_min, generator=generator)
        x = noised(forward, x0, t, self.given, generator)
        output = reverse.call_model(x, t, None)[:, self.given :]
        x, x0 = x[:, self.given :], x0[:, self.given :]
        is_mask = torch.arange(forward.vocab_size, device=x.device) == forward.mask_id
        nll = negative_log_likelihood(output.masked_fill(is_mask, -torch.inf), x0)
        hazard = forward.noise.rate(t) / torch.expm1(forward.noise.total(t))
        return (nll * forward.movable(x)).sum(-1) * hazard.to(nll) * (1 - self.t_min)


@dataclass(frozen=True)
class ScoreEntropy:
    r"""Denoising score entropy: for log-score models and any kernel, and for posterior models and any kernel without MASK.

    .. math:: \int \sigma(t) E \sum_l \sum_{y \ne x} R_b(y, x) [ e^{s_y} - r_y s_y + r_y (\log r_y - 1) ] \, dt,
              \quad r_y = q_{t|0}(y \mid x_0) / q_{t|0}(x \mid x_0), \; s = \log\text{-score}

    Source: Lou, Meng, Ermon (2024), Eq. 9 and Thm. 3.6.

    With the log-score of a posterior model this is the ELBO of Campbell et al. (2022), Prop. 2: there the second term is
    the expectation over jumps x -> x~ of the forward process, here its sum, and the constant is such that the bound is that of
    -log p(x0) less KL(q_{1|0}(. | x0) || prior).

    Attributes:
        t_min: the least time that is drawn.
        given: this many leading sites are never noised and do not count: the bound is of the others given them.
        cross_entropy: weight of -log p(x0 | x_t), summed over the sites that count, which is added; not for log-score models. (The
            published tauLDR models have 0.001 times its mean over sites.)

    Raises:
        ValueError: a posterior model of the absorbing kernel, a cross entropy of a log-score model, or no site that is not given.
    """

    t_min: float = 1e-3
    given: int = 0
    cross_entropy: float = 0.0

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        forward = reverse.forward
        self.check(reverse)
        t = spread_times(len(x0), t_min=self.t_min, generator=generator)
        x = noised(forward, x0, t, self.given, generator)
        output = reverse.call_model(x, t, None)[:, self.given :]
        x, x0 = x[:, self.given :], x0[:, self.given :]

        def answer(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
            return output

        bound = score_entropy(replace(reverse, model=answer), x0, x, t) * (1 - self.t_min)
        if self.cross_entropy == 0:
            return bound
        return bound + self.cross_entropy * negative_log_likelihood(
            log_posterior(reverse, output, x, t), x0
        ).sum(-1)

    def check(self, reverse: ReverseProcess) -> None:
        if isinstance(reverse, PosteriorReverse) and isinstance(reverse.forward, Absorbing):
            raise ValueError(
                "a posterior model of the absorbing kernel has a score at masked sites only; use MaskedCrossEntropy()"
            )
        if self.cross_entropy != 0 and isinstance(reverse, LogScoreReverse):
            raise ValueError(
                "the cross entropy needs a model of x0, this one gives the log-score; pass cross_entropy=0"
            )


def log_posterior(reverse: ReverseProcess, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """log p(x0 | x_t) [B, L, V], up to a constant at each site, from the output of a model of x0."""
    if isinstance(reverse, LeaveOneOutReverse):
        return output - reverse.forward.leave_out(torch.zeros_like(output), x, t[:, None])
    return output


def score_entropy(reverse: ReverseProcess, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The integrand of ``ScoreEntropy`` at times t [B], in float32 at least: [B], nats per sequence and time."""
    forward = reverse.forward
    log_score = reverse.log_score(x, t)
    probs = forward.push(one_hot(x0, forward.vocab_size, log_score.dtype), t[:, None])
    ratio = probs / probs.gather(-1, x[..., None])
    entropy = log_score.exp() - ratio * log_score + torch.xlogy(ratio, ratio) - ratio
    return forward.jump_rates(entropy, x, t[:, None]).sum((-1, -2))
