r"""Training losses: the NELBO of x_0 in nats per sequence, estimated at one random time each.

The NELBO (negative evidence lower bound) is an upper bound of the negative log-likelihood
-log p(x_0). For the exact model its mean over the data is the entropy of the data, up to the terms
of times below ``t_min`` and of the prior, KL(q_{1|0}(. | x_0) || prior).
"""

from dataclasses import dataclass
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

__all__ = ["Loss", "MaskedCrossEntropy", "ScoreEntropy", "bell_times", "spread_times"]


class Loss(Protocol):
    """Data int64 [B, L] to one loss per sequence, float [B], whose mean is minimised."""

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor: ...


def spread_times(n: int, *, t_min: float, generator: torch.Generator) -> Tensor:
    """n uniform times in [t_min, 1), float64, one in each of n equal cells.

    The stratification lowers the variance of the loss (Kingma et al. 2021, App. I.1).
    """
    shift = uniform((1,), generator=generator, device=generator.device)
    cell = torch.arange(n, device=generator.device, dtype=torch.float64)
    return t_min + (1 - t_min) * ((shift + cell / n) % 1)


def bell_times(n: int, *, t_min: float, generator: torch.Generator) -> Tensor:
    """n times of the density 6 t (1 - t), stretched to [t_min, 1), float64.

    The quantiles of ``spread_times`` under Beta(2, 2): 1/2 - sin(asin(1 - 2u) / 3).
    """
    u = spread_times(n, t_min=0.0, generator=generator)
    return t_min + (1 - t_min) * (0.5 - torch.sin(torch.asin(1 - 2 * u) / 3))


def noised(
    forward: ForwardProcess, x0: Tensor, t: Tensor, given: int, generator: torch.Generator
) -> Tensor:
    """x_t ~ q_{t|0}(. | x_0) for times t [B], except that the first ``given`` sites keep x_0."""
    if not 0 <= given < x0.shape[1]:
        raise ValueError(
            f"the loss has {given} given sites, sequences have {x0.shape[1]}; "
            "leave at least one free"
        )
    x = forward.sample_path(x0, generator=generator)(t[:, None])
    return torch.cat([x0[:, :given], x[:, given:]], 1)


def negative_log_likelihood(output: Tensor, x0: Tensor) -> Tensor:
    """-log p(x_0^l | x_t), [B, L], from log-probabilities or logits [B, L, V]."""
    return output.logsumexp(-1) - output.gather(-1, x0[..., None]).squeeze(-1)


@dataclass(frozen=True)
class MaskedCrossEntropy:
    r"""Masked cross-entropy: the NELBO of the absorbing kernel, for posterior models.

    .. math:: \int \frac{-\dot\alpha_t}{1 - \alpha_t} \,
              E \sum_{l \text{ masked}} -\log p(x_0^l \mid x_t) \, dt

    Source: Sahoo et al. (2024), Eq. 10; Shi et al. (2024), Eq. 5.

    Attributes:
        t_min: smallest time that is drawn.
        given: number of leading sites that are observed. They are never noised and have no loss:
            the bound is that of the other sites, conditional on these.
        bell: draw times from the bell-shaped density 6 t (1 - t), in the manner of Hong et al.
            (2026), arXiv 2605.13026. Middle times then count more, and the loss is no bound.

    Raises:
        ValueError: another kernel, or no site is free.
    """

    t_min: float = 1e-3
    given: int = 0
    bell: bool = False

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        forward = reverse.forward
        if not isinstance(forward, Absorbing):
            raise ValueError(
                f"the masked cross-entropy needs the absorbing kernel, got {forward.name}; "
                "use ScoreEntropy()"
            )
        draw = bell_times if self.bell else spread_times
        t = draw(len(x0), t_min=self.t_min, generator=generator)
        x = noised(forward, x0, t, self.given, generator)
        output = reverse.call_model(x, t)[:, self.given :]
        x, x0 = x[:, self.given :], x0[:, self.given :]
        is_mask = torch.arange(forward.vocab_size, device=x.device) == forward.mask_id
        nll = negative_log_likelihood(output.masked_fill(is_mask, -torch.inf), x0)
        hazard = forward.noise.rate(t) / torch.expm1(forward.noise.total(t))
        return (nll * forward.movable(x)).sum(-1) * hazard.to(nll) * (1 - self.t_min)


@dataclass(frozen=True)
class ScoreEntropy:
    r"""Denoising score entropy: the NELBO of any kernel in terms of the log-score.

    .. math:: \int \sigma(t) \, E \sum_l \sum_{y \ne x_t^l} R_b(y, x_t^l)
              \left[ e^{s_y} - r_y s_y + r_y (\log r_y - 1) \right] dt,
              \quad r_y = \frac{q_{t|0}(y \mid x_0^l)}{q_{t|0}(x_t^l \mid x_0^l)},

    with the model's log-score s. For log-score models and any kernel, and for models of x_0 and any
    kernel without MASK.

    Source: Lou, Meng, Ermon (2024), Eq. 9 and Thm. 3.6. With the log-score of a posterior model
    this is the ELBO of Campbell et al. (2022), Prop. 2. There the second term is an expectation
    over jumps of the forward process, here the sum over these jumps. The constant is chosen such
    that the integral bounds -log p(x_0) - KL(q_{1|0}(. | x_0) || prior).

    Attributes:
        t_min: smallest time that is drawn.
        given: number of leading sites that are observed. They are never noised and have no loss:
            the bound is that of the other sites, conditional on these.
        cross_entropy: weight of an added cross-entropy -log p(x_0^l | x_t), summed over the free
            sites; not for log-score models. The published tauLDR models add 0.001 times its mean
            over sites.

    Raises:
        ValueError: a posterior model of the absorbing kernel, a cross-entropy of a log-score model,
            or no site is free.
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
        output = reverse.call_model(x, t)[:, self.given :]
        x, x0 = x[:, self.given :], x0[:, self.given :]
        bound = score_entropy(reverse, output, x0, x, t) * (1 - self.t_min)
        if self.cross_entropy == 0:
            return bound
        return bound + self.cross_entropy * negative_log_likelihood(
            log_posterior(reverse, output, x, t), x0
        ).sum(-1)

    def check(self, reverse: ReverseProcess) -> None:
        """Raise ValueError for a model or kernel that this loss does not serve."""
        if isinstance(reverse, PosteriorReverse) and isinstance(reverse.forward, Absorbing):
            raise ValueError(
                "a posterior model of the absorbing kernel has a score at masked sites only; "
                "use MaskedCrossEntropy()"
            )
        if self.cross_entropy != 0 and isinstance(reverse, LogScoreReverse):
            raise ValueError(
                "the cross entropy needs a model of x0, this one gives the log-score; "
                "pass cross_entropy=0"
            )


def log_posterior(reverse: ReverseProcess, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """log p(x_0^l | x_t) [B, L, V] from the output of a model of x_0, up to a constant per site."""
    if isinstance(reverse, LeaveOneOutReverse):
        return output - reverse.forward.leave_out(torch.zeros_like(output), x, t[:, None])
    return output


def score_entropy(
    reverse: ReverseProcess, output: Tensor, x0: Tensor, x: Tensor, t: Tensor
) -> Tensor:
    """The integrand of ``ScoreEntropy`` at times t [B], in nats per sequence and unit time, [B].

    Computed in float32 at least.
    """
    forward = reverse.forward
    log_score = reverse.log_score_from(output, x, t)
    probs = forward.push(one_hot(x0, forward.vocab_size, log_score.dtype), t[:, None])
    ratio = probs / probs.gather(-1, x[..., None])
    entropy = log_score.exp() - ratio * log_score + torch.xlogy(ratio, ratio) - ratio
    return forward.jump_rates(entropy, x, t[:, None]).sum((-1, -2))
