r"""Training losses: evidence bounds of x0, in nats per sequence, estimated at one random time for each sequence.

Both bounds are tight for the exact model when the prior is the forward law at t = 1, up to the sites that the noise has not
reached there.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from jumpsteps.forward import Absorbing
from jumpsteps.random import uniform
from jumpsteps.reverse import ReverseProcess

__all__ = ["Loss", "MaskedCrossEntropy", "ScoreEntropy", "spread_times"]


class Loss(Protocol):
    """Maps data int64 [B, L] to one number per sequence, float [B], whose mean is minimised."""

    def __call__(self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator) -> Tensor: ...


def spread_times(n: int, *, t_min: float, generator: torch.Generator) -> Tensor:
    """n uniform times in [t_min, 1), float64, one in each of n equal cells: lower variance (Kingma et al. 2021, App. I.1)."""
    shift = uniform((1,), generator=generator, device=generator.device)
    cell = torch.arange(n, device=generator.device, dtype=torch.float64)
    return t_min + (1 - t_min) * ((shift + cell / n) % 1)


@dataclass(frozen=True)
class MaskedCrossEntropy:
    r"""The masked cross-entropy bound, for the absorbing kernel and posterior models.

    .. math:: \int \frac{-\dot\alpha}{1 - \alpha} \, E \sum_{l \text{ masked}} -\log p(x_0^l \mid x_t) \, dt

    Source: Sahoo et al. (2024), Eq. 10; Shi et al. (2024), Eq. 5.
    """

    t_min: float = 1e-3

    def __call__(self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator) -> Tensor:
        forward = reverse.forward
        if not isinstance(forward, Absorbing):
            raise ValueError(f"the masked cross-entropy needs the absorbing kernel, got {forward.name}; use ScoreEntropy()")
        t = spread_times(len(x0), t_min=self.t_min, generator=generator)
        x = forward.sample_path(x0, generator=generator)(t[:, None])
        log_p = reverse.call_model(x, t, None).gather(-1, x0[..., None]).squeeze(-1)
        hazard = forward.noise.rate(t) / torch.expm1(forward.noise.total(t))
        return -(log_p * forward.movable(x)).sum(-1) * hazard.to(log_p) * (1 - self.t_min)


@dataclass(frozen=True)
class ScoreEntropy:
    r"""Denoising score entropy, for log-score models and any kernel.

    .. math:: \int \sigma(t) E \sum_l \sum_{y \ne x} R_b(y, x) [ e^{s_y} - r_y s_y + r_y (\log r_y - 1) ] \, dt,
              \quad r_y = q_{t|0}(y \mid x_0) / q_{t|0}(x \mid x_0), \; s = \log\text{-score}

    Source: Lou, Meng, Ermon (2024), Eq. 9 and Thm. 3.6.
    """

    t_min: float = 1e-3

    def __call__(self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator) -> Tensor:
        forward = reverse.forward
        t = spread_times(len(x0), t_min=self.t_min, generator=generator)
        x = forward.sample_path(x0, generator=generator)(t[:, None])
        log_score = reverse.log_score(x, t)
        w = torch.nn.functional.one_hot(x0, forward.vocab_size).to(log_score)
        law = forward.push(w, t[:, None])
        ratio = law / law.gather(-1, x[..., None])
        entropy = log_score.exp() - ratio * log_score + torch.xlogy(ratio, ratio) - ratio
        return forward.jump_rates(entropy, x, t[:, None]).sum((-1, -2)) * (1 - self.t_min)
