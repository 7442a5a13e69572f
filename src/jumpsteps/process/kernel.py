r"""Forward processes: every site is corrupted independently by a continuous-time Markov chain.

The chain of one site has rates :math:`R_t = \sigma(t) R_b`. Here :math:`R_b(x, y)` is the rate of
x -> y, rows of :math:`R_b` sum to zero, and a *kernel* is the choice of :math:`R_b`. With
:math:`\bar\sigma(t) = \int_0^t \sigma`,

.. math:: q_{t|s} = \exp\big((\bar\sigma(t) - \bar\sigma(s)) R_b\big), \qquad s < t,

a row-stochastic matrix whose row x is the distribution of x_t given x_s = x. Reversed in time the
chain has the rates (Campbell et al. 2022, Eq. 7)

.. math:: \hat R_t(x \to y) = R_t(y, x) \frac{(w q_{t|0})(y)}{(w q_{t|0})(x)},

and one step t -> s of one site has the distribution

.. math:: p(x_s = y \mid x_t = x) \propto q_{t|s}(x \mid y) \, (w q_{s|0})(y).

Both depend on the data through the leave-one-out posterior :math:`w(x_0^l) = p(x_0^l \mid
x_t^{-l})` alone, which a denoiser gives. Reverse processes and samplers use a kernel through the
methods below and do not know which one it is.

To add a kernel, subclass ``MatrixKernel`` and write ``rate_matrix`` and ``stationary``; all else is
matrix algebra. For a kernel with closed forms, which scale to large V, subclass ``ForwardProcess``
and write its eight abstract methods. The methods after them have defaults.

Shapes: x is int64 [...]; w and results are [..., V] with the same leading shape; a time is a number
or a tensor that broadcasts against x. V counts all states of a site, MASK included.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import said
from jumpsteps.core.draws import categorical, poisson_times
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.tensors import like, one_hot, precise
from jumpsteps.process.exit_rates import ExitRateBound, MatrixExit
from jumpsteps.process.given_data import DataAtSites, DrawData, JumpTables, draw_pairs
from jumpsteps.process.jump_lists import add_jumps
from jumpsteps.process.noise import NoiseSchedule, Time
from jumpsteps.process.rate_checks import check_rates

__all__ = ["ForwardProcess"]


@said("a forward process such as model.reverse.forward")
@dataclass(frozen=True, kw_only=True)
class ForwardProcess(ABC):
    """A kernel with its noise schedule.

    Attributes:
        vocab_size: V, the number of states of a site (MASK included).
        noise: the noise schedule sigma(t).
        name: of the kernel, e.g. "absorbing"; schedules and files refer to it.
        source: author and year of the paper, for ``cite``.
        revisable: whether the reverse process can change a site more than once. Later steps can
            then correct the errors of earlier ones, and costs count the surviving fraction of an
            error. False for the absorbing kernel, where a revealed site never changes again.

    Raises:
        ValueError: fewer than 2 states.
    """

    vocab_size: int
    noise: NoiseSchedule
    name: ClassVar[str]
    source: ClassVar[str] = ""
    revisable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 states, got vocab_size={self.vocab_size}"
            )

    # Every kernel writes these eight methods.

    @abstractmethod
    def rate_matrix(self) -> Tensor:
        """R_b, float64 [V, V]; rows sum to zero."""

    def announce(self, times: Sequence[float], device: torch.device) -> None:  # noqa: B027
        """The decreasing times of a run that is about to start; a kernel may make together what its
        steps need. Not every kernel has anything to make.
        """

    @abstractmethod
    def transition(self, s: float, t: float) -> Tensor:
        """q_{t|s} as a matrix, float64 [V, V]; row x is the distribution of x_t given x_s = x."""

    @abstractmethod
    def push(self, w: Tensor, t: Time) -> Tensor:
        """w q_{t|0}: the distribution of x_t where that of x_0 is w."""

    @abstractmethod
    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        """q_{t|0}(x | x0) as a function of x0, float64; zero where x0 is no data symbol (MASK)."""

    @abstractmethod
    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """p(x_s | x_t = x), unnormalised, at a site that ``draw_moving`` selected."""

    @abstractmethod
    def sample_prior(
        self, shape: tuple[int, ...], *, generator: Generator, device: torch.device
    ) -> Tensor:
        """Noise, int64 of the given shape: the distribution that a run starts from at t = 1."""

    @abstractmethod
    def sample_path(self, x0: Tensor, *, generator: Generator) -> Callable[[Time], Tensor]:
        """One forward path from x0, as a function of time.

        The returned function gives x_t for any t in [0, 1]. All randomness is drawn before it is
        returned, so that different times lie on the same path (common random numbers) and every
        pair (x_s, x_t) has its true joint distribution.
        """

    @abstractmethod
    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: Generator) -> Tensor:
        """x_t given x_s = x, for s < t."""

    # A kernel overrides these where a default is wrong for it or slow.

    def movable(self, x: Tensor) -> Tensor:
        """The sites that the reverse process can change, bool of x's shape; all by default."""
        return torch.ones_like(x, dtype=torch.bool)

    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: Generator) -> Tensor:
        """The sites that the step t -> s redraws from ``bridge``, bool of x's shape.

        A kernel draws here what does not depend on the model, so that the model is evaluated at
        fewer sites. The default is every movable site.
        """
        return self.movable(x)

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """log w = log p(x0^l | x_t) - log q_{t|0}(x^l | x0), up to a constant, in the dtype of
        ``weight_dtype``.
        """
        evidence = self.likelihood(x, t).log()
        return log_posterior - evidence.masked_fill(evidence == -torch.inf, torch.inf).to(
            self.weight_dtype(log_posterior)
        )

    def weight_dtype(self, value: Tensor) -> torch.dtype:
        """The dtype of leave-one-out posteriors that are made of ``value``: float32 at least."""
        return precise(value)

    def put_in(self, w: Tensor, x: Tensor, t: Time) -> Tensor:
        """p(x0^l | x_t), unnormalised, from the leave-one-out posterior w, at sites that can
        move.
        """
        return w * self.likelihood(x, t).to(w)

    def possible(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """log p(x0^l | x_t) without symbols that cannot have become x, float32 at least."""
        log_posterior = log_posterior.to(precise(log_posterior))
        return log_posterior.masked_fill(self.likelihood(x, t) <= 0, -torch.inf)

    def can_become(self, x0: Tensor, x: Tensor, t: Time) -> Tensor:
        """Whether q_{t|0}(x | x0) > 0, as ``possible`` has it, bool [...]."""
        return self.likelihood(x, t).gather(-1, x0[..., None])[..., 0] > 0

    def sample_bridge(
        self, x0: Tensor, x: Tensor, t: float, s: float, *, generator: Generator
    ) -> Tensor:
        """x_s given x_0 and x_t = x [K], at sites that ``draw_moving`` selected."""
        data = one_hot(x0, self.vocab_size, torch.float64)
        return categorical(self.bridge(data, x, t, s), generator=generator)

    def exits(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """p(x0) times the reverse rate of leaving x given x0, 1/time, [..., V].

        Its sum over x0 is the reverse rate of leaving x where p = p(x0 | x_t).
        """
        q = self.transition(0.0, t).to(x.device)
        tables = JumpTables.of(q, self.rates_between.to(x.device))
        return p * (float(self.noise.rate(t)) * tables.exits.to(p))[x]

    def possible_table(self, t: float, device: torch.device) -> Tensor | None:
        """``can_become`` as a table, float32 [V, V], row x and column x0: 1, and -1 where x0 cannot
        have become x. None: the kernel has no table.
        """
        return None

    def leaving_table(self, t: float, device: torch.device) -> Tensor | None:
        """The reverse rate of leaving x given x0, 1/time, float32 [V, V], row x and column x0; -1
        where x0 cannot have become x. None: the kernel has no table.
        """
        return None

    def sample_jump(self, x0: Tensor, x: Tensor, t: float, *, generator: Generator) -> Tensor:
        """Where the reverse process jumps from x at time t, given x_0 [K], if it jumps."""
        q = self.transition(0.0, t).to(x.device)
        tables = JumpTables.of(q, self.rates_between.to(x.device))
        return draw_pairs(x0, x, self.vocab_size, tables.jumps, generator=generator)

    def sample_jump_sum(
        self, p: Tensor, x: Tensor, t: float, h: float, *, generator: Generator
    ) -> Tensor:
        """x plus the sum of all jumps' displacements in a duration h of the reverse rates of t.

        Each jump by its data, as many at a time as there are sites. p is p(x0 | x_t = x),
        normalised.
        """
        weights = self.exits(p, x, t)

        def draw(sites: Tensor, generator: Generator) -> Tensor:
            return categorical(weights[sites], generator=generator)

        return self.sum_one_by_one(h * weights.sum(-1), draw, x, t, generator=generator)

    def sample_jump_sum_of(
        self, data: DataAtSites, x: Tensor, t: float, h: float, *, generator: Generator
    ) -> Tensor:
        """``sample_jump_sum`` of a kernel that has both tables.

        Raises:
            ValueError: it has no ``leaving_table``.
        """
        table = self.leaving_table(t, x.device)
        if table is None:
            raise ValueError(
                f"the {self.name} kernel has a possible_table and no leaving_table; write both"
            )
        _, rates, draw = data.weighted(table, table)
        return self.sum_one_by_one(h * rates, draw, x, t, generator=generator)

    def sum_one_by_one(
        self, means: Tensor, draw: DrawData, x: Tensor, t: float, *, generator: Generator
    ) -> Tensor:
        """x plus the sum of Poisson numbers of jumps, of means [K], whose x0 ``draw`` draws."""
        times, number = poisson_times(means, generator=generator)

        def displacements(site: Tensor, generator: Generator) -> Tensor:
            x0, before = draw(site, generator), x[site]
            return self.sample_jump(x0, before, t, generator=generator) - before

        return add_jumps(
            x.clone(), times, number, displacements, ahead=len(x) // 4, generator=generator
        )

    def pull(self, log_probs: Tensor, t: Time) -> Tensor:
        """The w with w q_{t|0} proportional to exp(log_probs); log-score models need it.

        Raises:
            ValueError: the kernel cannot undo its noise.
        """
        raise ValueError(
            f"a log-score cannot be turned into a posterior for the {self.name} kernel: the noise "
            "cannot be undone stably; use a model that gives p(x0 | x_t), with PosteriorReverse"
        )

    def rates_into(self, x: Tensor) -> Tensor:
        """R_b(y, x) as a function of y, float64; zero at y = x."""
        return self.rates_between.T.to(x.device)[x]

    def rates_from(self, x: Tensor) -> Tensor:
        """R_b(x, y) as a function of y, float64; zero at y = x."""
        return self.rates_between.to(x.device)[x]

    def jump_rates(self, ratio: Tensor, x: Tensor, t: Time) -> Tensor:
        """sigma(t) R_b(y, x) ratio(y), 1/time; zero at y = x.

        These are the reverse rates x -> y when ratio(y) = p_t(y) / p_t(x).
        """
        return like(self.noise.rate(t), ratio) * self.rates_into(x).to(ratio) * ratio

    def stay_probability(self, t: float) -> Tensor:
        """q_{t|0}(y | y) for every y, float64 [V]."""
        return self.transition(0.0, t).diagonal()

    def prior(self) -> Tensor:
        """The distribution of ``sample_prior`` at one site, float64 [V]; the stationary one of R_b
        by default.
        """
        return stationary_distribution(self.rate_matrix())

    @property
    def max_exit_rate(self) -> float:
        """The largest rate of leaving a state, per unit of noise."""
        return float(self.rates_between.sum(-1).max())

    @property
    def spectral_gap(self) -> float:
        r"""The slowest rate, per unit of noise, at which a site forgets its symbol.

        :math:`e^{-\mathrm{gap}\,\bar\sigma(t)}` is the maximal correlation of x_0 and x_t.
        """
        return -float(torch.linalg.eigvals(self.rate_matrix()).real.sort().values[-2])

    @property
    def exit_rate_bound(self) -> ExitRateBound:
        """A bound of the reverse rate of leaving a state, for exact thinning (``Gillespie``)."""
        return MatrixExit.of(self.rates_between, float(self.noise.total(1.0)))

    def check_data(self, x: Tensor, what: str) -> None:
        """Raises ValueError for a token that data cannot hold; ``what`` names x in the message."""
        self.check_states(x, what)

    # These follow from the methods above.

    def check_states(self, x: Tensor, what: str) -> None:
        """Raises ValueError for a token outside 0..V-1; ``what`` names x in the message."""
        if x.numel() and not (int(x.min()) >= 0 and int(x.max()) < self.vocab_size):
            raise ValueError(
                f"{what} holds tokens {int(x.min())}..{int(x.max())}, "
                f"the vocabulary is 0..{self.vocab_size - 1}; pass tokens of this model's data"
            )

    @property
    def rates_hash(self) -> str:
        """What tells kernels of the same name apart; empty where the name says enough."""
        return ""

    @cached_property
    def rates_between(self) -> Tensor:
        """R_b off the diagonal, zero on it, float64 [V, V]; R_b is checked.

        Raises:
            ValueError: ``rate_matrix`` gives no matrix of rates.
        """
        rates = self.rate_matrix()
        check_rates(rates, self.vocab_size, f"{type(self).__name__}.rate_matrix()")
        return rates.clone().fill_diagonal_(0)

    def rate(self, t: float) -> Tensor:
        """R_t = sigma(t) R_b, float64 [V, V]."""
        return self.noise.rate(t) * self.rate_matrix()

    def survival(self, s: Time, t: Time) -> Tensor:
        """alpha(t) / alpha(s), the probability that no hit falls between s and t, float64."""
        return torch.exp(self.noise.total(s) - self.noise.total(t))

    def reverse_rates(self, w: Tensor, x: Tensor, t: Time) -> Tensor:
        """Rates of the time reversal out of x, 1/time; zero at y = x."""
        probs = self.push(w, t)
        return self.jump_rates(probs / probs.gather(-1, x[..., None]), x, t)


def stationary_distribution(rates: Tensor) -> Tensor:
    r"""The :math:`\pi` with :math:`\pi R_b = 0`, float64 [V], of rates [V, V] with only one."""
    last = rates.T.clone()
    last[-1] = 1
    right = torch.zeros(len(last), dtype=torch.float64)
    right[-1] = 1
    probs = torch.linalg.solve(last, right).clamp_min(0)
    return probs / probs.sum()
