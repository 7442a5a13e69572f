r"""The uniform kernel.

:math:`R_b = \frac1V \mathbf 1 \mathbf 1^\top - I`: at rate sigma(t) a site is hit and takes a
uniform symbol, its own included. With :math:`\alpha_t = e^{-\bar\sigma(t)}`,

.. math:: q_{t|0}(\cdot \mid x_0) = \alpha_t \delta_{x_0} + \frac{1 - \alpha_t}{V},
    \qquad w(x_0) \propto \frac{p(x_0 \mid x_t)}
    {1 + V \frac{\alpha_t}{1 - \alpha_t} \mathbf 1[x_0 = x_t]}

(Austin et al. 2021; Campbell et al. 2022). tauLDR's uniform kernel with ``rate_const`` r is this
one with the noise ``Constant(r V)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import integers, poisson, uniform
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.tensors import like, one_hot, precise, sent
from jumpsteps.process.exit_rates import UniformExit
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["Uniform"]


@kinds_checked()
@dataclass(frozen=True, kw_only=True)
class Uniform(ForwardProcess):
    """Every symbol is replaced by a uniform one at rate sigma(t)."""

    name: ClassVar[str] = "uniform"
    source: ClassVar[str] = "Austin et al. 2021; Campbell et al. 2022"

    def rate_matrix(self) -> Tensor:
        v = self.vocab_size
        return torch.full((v, v), 1 / v, dtype=torch.float64) - torch.eye(v, dtype=torch.float64)

    def transition(self, s: float, t: float) -> Tensor:
        kept = self.survival(s, t)
        return kept * torch.eye(self.vocab_size, dtype=torch.float64) + (1 - kept) / self.vocab_size

    def push(self, w: Tensor, t: Time) -> Tensor:
        alpha, total = self.noise.alpha(t), w.sum(-1, keepdim=True)
        if alpha.ndim == 0:
            return torch.add(float((1 - alpha) / self.vocab_size) * total, w, alpha=float(alpha))
        return like(alpha, w) * w + like((1 - alpha) / self.vocab_size, w) * total

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        alpha = sent(self.noise.alpha(t), x.device)[..., None]
        return alpha * one_hot(x, self.vocab_size, torch.float64) + (1 - alpha) / self.vocab_size

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        kept = like(self.survival(s, t), w)
        back = kept * one_hot(x, self.vocab_size, w.dtype) + (1 - kept) / self.vocab_size
        return back * self.push(w, s)

    def sample_prior(
        self, shape: tuple[int, ...], *, generator: Generator, device: torch.device
    ) -> Tensor:
        return integers(self.vocab_size, shape, generator=generator, device=device)

    def sample_path(self, x0: Tensor, *, generator: Generator) -> Callable[[Time], Tensor]:
        horizon = sent(self.noise.total(1.0), x0.device)
        jumps = poisson(horizon.expand(x0.shape), generator=generator, now=True)
        most = int(jumps.max()) if jumps.numel() else 0
        shape = (*x0.shape, most)
        clocks = horizon * uniform(shape, generator=generator, device=x0.device)
        unused = torch.arange(most, device=x0.device) >= jumps[..., None]
        clocks = clocks.masked_fill(unused, torch.inf)
        symbols = integers(self.vocab_size, shape, generator=generator, device=x0.device)
        states = torch.cat([x0[..., None], symbols], -1)

        def at(t: Time) -> Tensor:
            elapsed = sent(self.noise.total(t), x0.device)[..., None]
            return states.gather(-1, (clocks <= elapsed).sum(-1, keepdim=True)).squeeze(-1)

        return at

    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        survive = sent(self.survival(s, t), x.device)
        other = integers(self.vocab_size, tuple(x.shape), generator=generator, device=x.device)
        return torch.where(u < survive, x, other)

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """The likelihood of x0 = x exceeds all others by the factor 1 + V alpha / (1 - alpha)."""
        alpha = sent(self.noise.alpha(t), x.device)
        more = torch.log1p(self.vocab_size * alpha / (1 - alpha)).expand(x.shape)[..., None]
        dtype = precise(log_posterior)
        return log_posterior.to(dtype).scatter_add(-1, x[..., None], -more.to(dtype))

    def put_in(self, w: Tensor, x: Tensor, t: Time) -> Tensor:
        alpha = sent(self.noise.alpha(t), x.device)
        more = (1 + self.vocab_size * alpha / (1 - alpha)).expand(x.shape)[..., None]
        own = w.gather(-1, x[..., None])
        return w.scatter(-1, x[..., None], own * more.to(w))

    def possible(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        if bool((self.noise.alpha(t) < 1).all()):
            return log_posterior.to(precise(log_posterior))
        return super().possible(log_posterior, x, t)

    def can_become(self, x0: Tensor, x: Tensor, t: Time) -> Tensor:
        alpha = self.noise.alpha(t)
        if bool((alpha < 1).all()):
            return torch.ones_like(x, dtype=torch.bool)
        return (x0 == x) | (sent(alpha, x.device) < 1)

    def sample_bridge(
        self, x0: Tensor, x: Tensor, t: float, s: float, *, generator: Generator
    ) -> Tensor:
        """Each of the two steps 0 -> s -> t keeps the symbol, or replaces it by a uniform one."""
        first, then = float(self.noise.alpha(s)), float(self.survival(s, t))
        both = (x0 == x) * (first * then * self.vocab_size)
        keep_x, keep_x0, neither = then * (1 - first), first * (1 - then), (1 - first) * (1 - then)
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        u = u * (both + (keep_x + keep_x0 + neither))
        other = integers(self.vocab_size, tuple(x.shape), generator=generator, device=x.device)
        replaced = torch.where(u < both + (keep_x + keep_x0), x0, other)
        return torch.where(u < both + keep_x, x, replaced)

    def exits(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        more = self.more_likely(t)
        rate = float(self.noise.rate(t)) / self.vocab_size
        own = p.gather(-1, x[..., None]) * (rate * (self.vocab_size - 1) / (1 + more))
        return (p * (rate * (self.vocab_size - 1 + more))).scatter(-1, x[..., None], own)

    def possible_table(self, t: float, device: torch.device) -> Tensor | None:
        if float(self.noise.alpha(t)) == 1:
            return None
        return torch.ones(self.vocab_size, self.vocab_size, device=device)

    def leaving_table(self, t: float, device: torch.device) -> Tensor | None:
        certain = torch.ones(self.vocab_size, self.vocab_size, device=device)
        return self.exits(certain, torch.arange(self.vocab_size, device=device), t)

    def sample_jump(self, x0: Tensor, x: Tensor, t: float, *, generator: Generator) -> Tensor:
        more, others = self.more_likely(t), self.vocab_size - 1
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        other = integers(others, tuple(x.shape), generator=generator, device=x.device)
        other = other + (other >= x)  # Uniform among the symbols that differ from x.
        return torch.where((x0 != x) & (u * (others + more) < more), x0, other)

    def more_likely(self, t: float) -> float:
        """q_{t|0}(x | x) / q_{t|0}(y | x) - 1, y differing from x."""
        alpha = float(self.noise.alpha(t))
        return self.vocab_size * alpha / (1 - alpha)

    def pull(self, log_probs: Tensor, t: Time) -> Tensor:
        """By the inverse of q_{t|0}; negative parts of an inexact distribution are cut off."""
        probs = log_probs.softmax(-1)
        exact = probs.to(torch.float64)  # w is a difference of nearly equal numbers.
        alpha = like(self.noise.alpha(t), exact)
        normalised = exact / exact.sum(-1, keepdim=True)
        w = ((normalised - (1 - alpha) / self.vocab_size) / alpha).clamp_min(0)
        return (w / w.sum(-1, keepdim=True)).to(probs)

    def rates_into(self, x: Tensor) -> Tensor:
        return (1 - one_hot(x, self.vocab_size, torch.float64)) / self.vocab_size

    def rates_from(self, x: Tensor) -> Tensor:
        return self.rates_into(x)

    def jump_rates(self, ratio: Tensor, x: Tensor, t: Time) -> Tensor:
        return like(self.noise.rate(t) / self.vocab_size, ratio) * ratio.scatter(
            -1, x[..., None], 0
        )

    def prior(self) -> Tensor:
        return torch.full((self.vocab_size,), 1 / self.vocab_size, dtype=torch.float64)

    def stay_probability(self, t: float) -> Tensor:
        alpha = self.noise.alpha(t)
        return (alpha + (1 - alpha) / self.vocab_size).expand(self.vocab_size)

    @property
    def max_exit_rate(self) -> float:
        """The rate of being hit, above the rate of leaving by 1/V."""
        return 1.0

    @property
    def spectral_gap(self) -> float:
        return 1.0

    @property
    def exit_rate_bound(self) -> UniformExit:
        return UniformExit()
