r"""Forward processes: every site is corrupted independently by a continuous-time Markov chain.

The chain of a site has rates :math:`R_t = \sigma(t) R_b`, with :math:`R_b(x, y)` the rate of x -> y and rows that
sum to zero, so that :math:`q_{t|s} = \exp((\bar\sigma(t) - \bar\sigma(s)) R_b)`, s < t. A kernel is the choice of
:math:`R_b`. Everything a reverse process or a sampler needs of the kernel is here, so that neither of them knows which
kernel it serves:

* ``push`` and ``pull``: w -> w q_{t|0} and back;
* ``likelihood``: q_{t|0}(x | x0) as a function of x0; ``leave_out``: what is left of a posterior without it;
* ``reverse_rates``: the rates of the time reversal, from the leave-one-out posterior w;
* ``draw_moving`` and ``bridge``: one exact step of one site, t -> s, given w.

Shapes: x is int64 [...]; w and all results are [..., V] with the same leading shape; a time is a number or a tensor that
broadcasts against x. V counts all states of a site, MASK included.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.tensors import like, precise
from jumpsteps.process.noise import NoiseSchedule, Time

__all__ = ["ForwardProcess"]


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
    revisable: ClassVar[bool] = True

    @property
    def gap(self) -> float:
        r"""The slowest rate, per unit of noise, at which a site forgets: exp(-gap total(t)) is the largest correlation that any
        functions of x_0 and x_t can have, in the kernel's stationary distribution (for the absorbing kernel: the survival)."""
        return 1.0

    def clock(self, t: Time) -> Tensor | None:
        """c(t), if odds p(y)/p(x) of distributions p = w q_{t|0} at a movable site x are c(t) times something without t; else None."""
        return None

    @property
    def fastest(self) -> float:
        """The largest rate of leaving a state, per unit of noise."""
        return 1.0

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 states, got vocab_size={self.vocab_size}"
            )

    @abstractmethod
    def rate_matrix(self) -> Tensor:
        """R_b, float64 [V, V]; rows sum to zero."""

    @abstractmethod
    def transition(self, s: float, t: float) -> Tensor:
        """q_{t|s} = exp((total(t) - total(s)) R_b), float64 [V, V]; row x is the distribution of x_t given x_s = x."""

    @abstractmethod
    def push(self, w: Tensor, t: Time) -> Tensor:
        """w q_{t|0}: the distribution at time t of a site whose distribution at time 0 is w."""

    @abstractmethod
    def pull(self, probs: Tensor, t: Time) -> Tensor:
        """The distribution w at time 0 with w q_{t|0} proportional to ``probs``; negative parts of an inexact distribution are cut off."""

    def pull_log(self, log_probs: Tensor, t: Time) -> Tensor:
        """``pull`` of exp(log_probs)."""
        return self.pull(log_probs.softmax(-1), t)

    @abstractmethod
    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        """q_{t|0}(x | x0) as a function of x0, float64; zero at an x0 that data never shows (MASK)."""

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """log w up to a constant: log p(x0^l | x_t) less what the own state says, log q_{t|0}(x^l | x0); float32 at least."""
        evidence = self.likelihood(x, t).log()
        return log_posterior - evidence.masked_fill(evidence == -torch.inf, torch.inf).to(
            precise(log_posterior)
        )

    @abstractmethod
    def movable(self, x: Tensor) -> Tensor:
        """bool, shape of x: the sites that the reverse process can change."""

    @abstractmethod
    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: torch.Generator) -> Tensor:
        """bool, shape of x: the sites that this step t -> s will redraw, as far as that does not depend on the model."""

    @abstractmethod
    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """The distribution of x_s given x_t = x at a site that ``draw_moving`` chose, w being its leave-one-out posterior."""

    @abstractmethod
    def sample_prior(
        self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device
    ) -> Tensor:
        """Noise: int64 of the given shape, from the distribution a sampler starts from at t = 1."""

    @abstractmethod
    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        """One forward path from x0, as a function of time.

        The returned function gives x_t for any t in [0, 1]; all randomness is drawn now, so that different times see the
        same path (common random numbers) and every pair (x_s, x_t) has its true joint distribution.
        """

    @abstractmethod
    def sample_transition(
        self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator
    ) -> Tensor:
        """x_t given x_s = x, for s < t."""

    def staying(self, t: float) -> Tensor:
        """q_{t|0}(y | y), the probability that a site shows its symbol still, for every y, float64 [V]."""
        return self.transition(0.0, t).diagonal()

    def check_states(self, x: Tensor, what: str) -> None:
        """Raises ValueError for a token outside 0..V-1; says that ``what`` holds it."""
        if x.numel() and not (int(x.min()) >= 0 and int(x.max()) < self.vocab_size):
            raise ValueError(
                f"{what} holds tokens {int(x.min())}..{int(x.max())}, the vocabulary is 0..{self.vocab_size - 1}"
            )

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

        The rate of leaving is an average over x0 of sum_y R_b(y, x) q(y | x0) / q(x | x0), weighted with the distribution of x0; the bound
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
        probs = self.push(w, t)
        return self.jump_rates(probs / probs.gather(-1, x[..., None]), x, t)
