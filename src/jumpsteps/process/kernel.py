r"""Forward processes: every site is corrupted independently by a continuous-time Markov chain.

The chain of a site has rates :math:`R_t = \sigma(t) R_b`, with :math:`R_b(x, y)` the rate of x -> y and rows that
sum to zero, so that :math:`q_{t|s} = \exp((\bar\sigma(t) - \bar\sigma(s)) R_b)`, s < t. A kernel is the choice of
:math:`R_b`. Everything a reverse process or a sampler needs of the kernel is here, so that neither of them knows which
kernel it serves:

* ``push`` and ``pull``: w -> w q_{t|0} and back;
* ``likelihood``: q_{t|0}(x | x0) as a function of x0; ``leave_out``: what is left of a posterior without it;
* ``reverse_rates``: the rates of the time reversal, from the leave-one-out posterior w;
* ``draw_moving`` and ``bridge``: one exact leap of one site, t -> s, given w.

Shapes: x is int64 [...]; w and all results are [..., V] with the same leading shape; a time is a number or a tensor that
broadcasts against x. V counts all states of a site, MASK included.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.draws import poisson, uniform
from jumpsteps.process.noise import NoiseSchedule, Time

__all__ = ["Absorbing", "ForwardProcess", "Uniform"]


def one_hot(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros((*x.shape, size), dtype=dtype, device=x.device).scatter_(-1, x[..., None], 1)


def precise(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def like(value: Tensor, w: Tensor) -> Tensor:
    """A float64 number per site as a [..., 1] factor of w, in w's dtype and device."""
    return value.to(w)[..., None]


@dataclass(frozen=True, kw_only=True)
class ForwardProcess(ABC):
    """A kernel with its noise schedule.

    Attributes:
        vocab_size: V, the number of states of a site (MASK included).
        noise: the noise schedule.
        heals: whether the reverse process can undo a sampler's mistakes, because it can change any site at any time; with the
            absorbing kernel a revealed site stays.
    """

    vocab_size: int
    noise: NoiseSchedule
    name: ClassVar[str]
    heals: ClassVar[bool] = True

    @property
    def gap(self) -> float:
        r"""The slowest rate, per unit of noise, at which a site forgets: exp(-gap total(t)) is the largest correlation that any
        functions of x_0 and x_t can have, in the kernel's stationary law (for the absorbing kernel: the survival)."""
        return 1.0

    def clock(self, t: Time) -> Tensor | None:
        """c(t), if odds p(y)/p(x) of laws p = w q_{t|0} at a movable site x are c(t) times something without t; else None."""
        return None

    @property
    def fastest(self) -> float:
        """The largest rate of leaving a state, per unit of noise."""
        return 1.0

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 states, got vocab_size={self.vocab_size}")

    @abstractmethod
    def rate_matrix(self) -> Tensor:
        """R_b, float64 [V, V]; rows sum to zero."""

    @abstractmethod
    def transition(self, s: float, t: float) -> Tensor:
        """q_{t|s} = exp((total(t) - total(s)) R_b), float64 [V, V]; row x is the law of x_t given x_s = x."""

    @abstractmethod
    def push(self, w: Tensor, t: Time) -> Tensor:
        """w q_{t|0}: the law at time t of a site whose law at time 0 is w."""

    @abstractmethod
    def pull(self, law: Tensor, t: Time) -> Tensor:
        """The law w at time 0 with w q_{t|0} proportional to ``law``; negative parts of an inexact law are cut off."""

    def pull_log(self, log_law: Tensor, t: Time) -> Tensor:
        """``pull`` of exp(log_law)."""
        return self.pull(log_law.softmax(-1), t)

    @abstractmethod
    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        """q_{t|0}(x | x0) as a function of x0, float64; zero at an x0 that data never shows (MASK)."""

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """log w up to a constant: log p(x0^l | x_t) less what the own state says, log q_{t|0}(x^l | x0); float32 at least."""
        evidence = self.likelihood(x, t).log()
        return log_posterior - evidence.masked_fill(evidence == -torch.inf, torch.inf).to(precise(log_posterior))

    @abstractmethod
    def movable(self, x: Tensor) -> Tensor:
        """bool, shape of x: the sites that the reverse process can change."""

    @abstractmethod
    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: torch.Generator) -> Tensor:
        """bool, shape of x: the sites that this leap t -> s will redraw, as far as that does not depend on the model."""

    @abstractmethod
    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """The law of x_s given x_t = x at a site that ``draw_moving`` chose, w being its leave-one-out posterior."""

    @abstractmethod
    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
        """Noise: int64 of the given shape, from the law a sampler starts from at t = 1."""

    @abstractmethod
    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        """One forward path from x0, as a function of time.

        The returned function gives x_t for any t in [0, 1]; all randomness is drawn now, so that different times see the
        same path (common random numbers) and every pair (x_s, x_t) has its true joint law.
        """

    @abstractmethod
    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator) -> Tensor:
        """x_t given x_s = x, for s < t."""

    def staying(self, t: float) -> Tensor:
        """q_{t|0}(y | y), the probability that a site shows its symbol still, for every y, float64 [V]."""
        return self.transition(0.0, t).diagonal()

    def check_states(self, x: Tensor, what: str) -> None:
        """Raises ValueError for a token outside 0..V-1; says that ``what`` holds it."""
        if x.numel() and not (int(x.min()) >= 0 and int(x.max()) < self.vocab_size):
            raise ValueError(f"{what} holds tokens {int(x.min())}..{int(x.max())}, the vocabulary is 0..{self.vocab_size - 1}")

    def check_data(self, x: Tensor, what: str) -> None:
        """Raises ValueError for a token that data cannot hold: one outside 0..V-1, or MASK; says that ``what`` holds it."""
        self.check_states(x, what)

    def rate(self, t: float) -> Tensor:
        """R_t = sigma(t) R_b, float64 [V, V]."""
        return self.noise.rate(t) * self.rate_matrix()

    def survival(self, s: Time, t: Time) -> Tensor:
        """alpha(t) / alpha(s), the probability that a site is not hit between s and t, float64."""
        return torch.exp(self.noise.total(s) - self.noise.total(t))

    @abstractmethod
    def rates_into(self, x: Tensor) -> Tensor:
        """R_b(y, x) as a function of y, float64; zero at y = x."""

    @abstractmethod
    def rates_from(self, x: Tensor) -> Tensor:
        """R_b(x, y) as a function of y, float64; zero at y = x."""

    def jump_rates(self, ratio: Tensor, x: Tensor, t: Time) -> Tensor:
        """sigma(t) R_b(y, x) ratio(y): the reverse rates x -> y when ratio(y) = p_t(y)/p_t(x); zero at y = x."""
        return like(self.noise.rate(t), ratio) * self.rates_into(x).to(ratio) * ratio

    @abstractmethod
    def exit_bound(self, total: Tensor) -> Tensor:
        """A bound of the rate at which any movable site leaves in the time reversal, per unit of noise, at noise ``total`` > 0.

        The rate of leaving is an average over x0 of sum_y R_b(y, x) q(y | x0) / q(x | x0), weighted with the law of x0; the bound
        is its maximum, so that it holds for every model. Exact thinning (``Gillespie``) proposes jumps at it.
        """

    @abstractmethod
    def exit_bound_integral(self, total: Tensor) -> Tensor:
        """An integral of ``exit_bound``: increasing, minus infinity at 0."""

    @abstractmethod
    def exit_bound_time(self, value: Tensor) -> Tensor:
        """The noise at which ``exit_bound_integral`` has this value."""

    def reverse_rates(self, w: Tensor, x: Tensor, t: Time) -> Tensor:
        r"""Rates of the time reversal out of x, 1/time; zero at y = x.

        .. math:: \hat R_t(x \to y) = R_t(y, x) \frac{(w q_{t|0})(y)}{(w q_{t|0})(x)}

        (Campbell et al. 2022, Eq. 7, written with the leave-one-out posterior w, which does not depend on x.)
        """
        law = self.push(w, t)
        return self.jump_rates(law / law.gather(-1, x[..., None]), x, t)


@dataclass(frozen=True, kw_only=True)
class Absorbing(ForwardProcess):
    """Every symbol turns into MASK at rate sigma(t) and stays there: masked diffusion.

    Attributes:
        mask_id: the state that is MASK; the last one unless given.
    """

    mask_id: int = -1
    name: ClassVar[str] = "absorbing"
    heals: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.vocab_size - 1)
        if not 0 <= self.mask_id < self.vocab_size:
            raise ValueError(f"mask_id must lie in 0..{self.vocab_size - 1}, got {self.mask_id}")

    def check_data(self, x: Tensor, what: str) -> None:
        super().check_data(x, what)
        if (x == self.mask_id).any():
            raise ValueError(f"{what} holds MASK (token {self.mask_id}), which is noise and not data; leave it out")

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

    def pull(self, law: Tensor, t: Time) -> Tensor:
        w = law.clamp_min(0)
        w[..., self.mask_id] = 0
        return w / w.sum(-1, keepdim=True)

    def pull_log(self, log_law: Tensor, t: Time) -> Tensor:
        log_w = log_law.clone()
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
        own = log_posterior.new_full(x.shape, torch.finfo(dtype).max / 2, dtype=dtype).masked_fill(x == self.mask_id, -torch.inf)
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
        return one_hot(torch.full_like(x, self.mask_id), self.vocab_size, torch.float64) * ~self.movable(x)[..., None]

    def exit_bound(self, total: Tensor) -> Tensor:
        return 1 / torch.expm1(total)

    def exit_bound_integral(self, total: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-total))

    def exit_bound_time(self, value: Tensor) -> Tensor:
        return -torch.log(-torch.expm1(value))

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
        return torch.full(shape, self.mask_id, dtype=torch.int64, device=device)

    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        u = uniform(tuple(x0.shape), generator=generator, device=x0.device)

        def at(t: Time) -> Tensor:
            return x0.masked_fill(u >= self.noise.alpha(t).to(x0.device), self.mask_id)

        return at

    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        survive = self.survival(s, t).to(x.device)
        return x.masked_fill(u >= survive, self.mask_id)


@dataclass(frozen=True, kw_only=True)
class Uniform(ForwardProcess):
    """Every symbol is replaced by a uniform one at rate sigma(t) (itself included): R_b = 11'/V - I."""

    name: ClassVar[str] = "uniform"

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

    def pull(self, law: Tensor, t: Time) -> Tensor:
        exact = law.to(torch.float64)  # a difference of nearly equal numbers where alpha is small
        alpha = like(self.noise.alpha(t), exact)
        normalised = exact / exact.sum(-1, keepdim=True)
        w = ((normalised - (1 - alpha) / self.vocab_size) / alpha).clamp_min(0)
        return (w / w.sum(-1, keepdim=True)).to(law)

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        alpha = self.noise.alpha(t).to(x.device)[..., None]
        return alpha * one_hot(x, self.vocab_size, torch.float64) + (1 - alpha) / self.vocab_size

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """Seen from x its own symbol is more likely than any other by the factor 1 + V alpha / (1 - alpha)."""
        alpha = self.noise.alpha(t).to(x.device)
        more = torch.log1p(self.vocab_size * alpha / (1 - alpha)).expand(x.shape)[..., None]
        dtype = precise(log_posterior)
        return log_posterior.to(dtype).scatter_add(-1, x[..., None], -more.to(dtype))

    def staying(self, t: float) -> Tensor:
        alpha = self.noise.alpha(t)
        return (alpha + (1 - alpha) / self.vocab_size).expand(self.vocab_size)

    def movable(self, x: Tensor) -> Tensor:
        return torch.ones_like(x, dtype=torch.bool)

    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: torch.Generator) -> Tensor:
        return self.movable(x)

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        kept = like(self.survival(s, t), w)
        back = kept * one_hot(x, self.vocab_size, w.dtype) + (1 - kept) / self.vocab_size
        return back * self.push(w, s)

    def rates_into(self, x: Tensor) -> Tensor:
        return (1 - one_hot(x, self.vocab_size, torch.float64)) / self.vocab_size

    def rates_from(self, x: Tensor) -> Tensor:
        return self.rates_into(x)

    def jump_rates(self, ratio: Tensor, x: Tensor, t: Time) -> Tensor:
        return like(self.noise.rate(t) / self.vocab_size, ratio) * ratio.scatter(-1, x[..., None], 0)

    def exit_bound(self, total: Tensor) -> Tensor:
        return -1 / torch.expm1(-total)

    def exit_bound_integral(self, total: Tensor) -> Tensor:
        return total + torch.log(-torch.expm1(-total))

    def exit_bound_time(self, value: Tensor) -> Tensor:
        return torch.nn.functional.softplus(value, threshold=700)

    def sample_prior(self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
        return torch.randint(self.vocab_size, shape, generator=generator, device=device)

    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        horizon = self.noise.total(1.0).to(x0.device)
        jumps = poisson(horizon.expand(x0.shape), generator=generator)
        most = int(jumps.max()) if jumps.numel() else 0
        shape = (*x0.shape, most)
        clocks = horizon * uniform(shape, generator=generator, device=x0.device)
        unused = torch.arange(most, device=x0.device) >= jumps[..., None]
        clocks = clocks.masked_fill(unused, torch.inf)
        symbols = torch.randint(self.vocab_size, shape, generator=generator, device=x0.device)
        states = torch.cat([x0[..., None], symbols], -1)

        def at(t: Time) -> Tensor:
            elapsed = self.noise.total(t).to(x0.device)[..., None]
            return states.gather(-1, (clocks <= elapsed).sum(-1, keepdim=True)).squeeze(-1)

        return at

    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        survive = self.survival(s, t).to(x.device)
        other = torch.randint(self.vocab_size, tuple(x.shape), generator=generator, device=x.device)
        return torch.where(u < survive, x, other)
