"""The absorbing kernel: masked diffusion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.tensors import like, one_hot, precise
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["Absorbing"]


@dataclass(frozen=True, kw_only=True)
class Absorbing(ForwardProcess):
    """Every symbol turns into MASK at rate sigma(t) and stays there: masked diffusion.

    Attributes:
        mask_id: the state that is MASK; the last one unless given.
    """

    mask_id: int = -1
    name: ClassVar[str] = "absorbing"
    revisable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.vocab_size - 1)
        if not 0 <= self.mask_id < self.vocab_size:
            raise ValueError(f"mask_id must lie in 0..{self.vocab_size - 1}, got {self.mask_id}")

    def check_data(self, x: Tensor, what: str) -> None:
        super().check_data(x, what)
        if (x == self.mask_id).any():
            raise ValueError(
                f"{what} holds MASK (token {self.mask_id}), which is noise and not data; leave it out"
            )

    def rate_matrix(self) -> Tensor:
        matrix = -torch.eye(self.vocab_size, dtype=torch.float64)
        matrix[:, self.mask_id] += 1
        return matrix

    def transition(self, s: float, t: float) -> Tensor:
        kept = self.survival(s, t)
        matrix = kept * torch.eye(self.vocab_size, dtype=torch.float64)
        matrix[:, self.mask_id] += 1 - kept
        return matrix

    def push(self, w: Tensor, t: Time) -> Tensor:
        alpha = self.noise.alpha(t)
        pushed = like(alpha, w) * w
        pushed[..., self.mask_id] += (1 - alpha).to(w)
        return pushed

    def pull(self, probs: Tensor, t: Time) -> Tensor:
        w = probs.clamp_min(0)
        w[..., self.mask_id] = 0
        return w / w.sum(-1, keepdim=True)

    def pull_log(self, log_probs: Tensor, t: Time) -> Tensor:
        log_w = log_probs.clone()
        log_w[..., self.mask_id] = -torch.inf
        return log_w.softmax(-1)

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        alpha = self.noise.alpha(t).to(x.device)[..., None]
        masked = (x == self.mask_id)[..., None]
        value = torch.where(masked, 1 - alpha, alpha * one_hot(x, self.vocab_size, torch.float64))
        value[..., self.mask_id] = 0
        return value

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """MASK says that x0 is not MASK, any other symbol says all."""
        dtype = precise(log_posterior)
        own = log_posterior.new_full(x.shape, torch.finfo(dtype).max / 2, dtype=dtype).masked_fill(
            x == self.mask_id, -torch.inf
        )
        return log_posterior.to(dtype).scatter(-1, x[..., None], own[..., None])

    def clock(self, t: Time) -> Tensor:
        alpha = self.noise.alpha(t)
        return alpha / (1 - alpha)

    def movable(self, x: Tensor) -> Tensor:
        return x == self.mask_id

    def reveal_probability(self, t: Time, s: Time) -> Tensor:
        """P(x_s is revealed | x_t is MASK) = (alpha(s) - alpha(t)) / (1 - alpha(t)), float64."""
        alpha = self.noise.alpha(t)
        return (self.noise.alpha(s) - alpha) / (1 - alpha)

    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: torch.Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        return self.movable(x) & (u < float(self.reveal_probability(t, s)))

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        return w

    def rates_into(self, x: Tensor) -> Tensor:
        rates = self.movable(x).to(torch.float64)[..., None].repeat_interleave(self.vocab_size, -1)
        rates[..., self.mask_id] = 0
        return rates

    def rates_from(self, x: Tensor) -> Tensor:
        return (
            one_hot(torch.full_like(x, self.mask_id), self.vocab_size, torch.float64)
            * ~self.movable(x)[..., None]
        )

    def exit_bound(self, total: Tensor) -> Tensor:
        return 1 / torch.expm1(total)

    def exit_bound_integral(self, total: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-total))

    def exit_bound_time(self, value: Tensor) -> Tensor:
        return -torch.log(-torch.expm1(value))

    def sample_prior(
        self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device
    ) -> Tensor:
        return torch.full(shape, self.mask_id, dtype=torch.int64, device=device)

    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        u = uniform(tuple(x0.shape), generator=generator, device=x0.device)

        def at(t: Time) -> Tensor:
            return x0.masked_fill(u >= self.noise.alpha(t).to(x0.device), self.mask_id)

        return at

    def sample_transition(
        self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator
    ) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        survive = self.survival(s, t).to(x.device)
        return x.masked_fill(u >= survive, self.mask_id)
