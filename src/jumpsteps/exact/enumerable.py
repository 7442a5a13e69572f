r"""Enumerable models: any distribution on at most a few thousand states, with everything computed
exactly.

The states are all S = V^L sequences, and a distribution is a vector of S float64 numbers. From a
table of p_0 matrix algebra gives

* the marginals :math:`p_t = p_0 \, q_{t|0}` and the exact conditional :math:`p(x_s \mid x_t)`;
* the time reversal, :math:`\hat R_t(x \to y) = R_t(y, x) \, p_t(y) / p_t(x)`;
* the posterior :math:`p(x_0^l \mid x_t)` of single sites, which makes an ``Enumerable`` a model for
  ``PosteriorReverse``;
* the compounding decoding error of a step and the distribution at the end of a run.

Tests, the demo and the documentation measure against it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import kl_divergence
from jumpsteps.exact.markov_chain import pad_states
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.schedules.schedule import TimeSchedule

__all__ = ["Enumerable"]

MAX_STATES = 4096


@kinds_checked()
@dataclass(frozen=True)
class Enumerable:
    """Any distribution on V^L states, enumerated: a ``Model`` for ``PosteriorReverse``, and the
    ground truth.

    States are numbered as ``states`` lists them; S = V^L. Matrices have rows x_t and columns x_s.

    Attributes:
        forward: the forward process.
        table: p_0 over data symbols, float64 [N, ..., N] with one axis per site; positive, sums to
            one.
        states: int64 [S, L], all states, the last site fastest.

    Raises:
        ValueError: more than 4096 states, or a table that is not positive, not normalised or not of
            the kernel's size.
    """

    forward: ForwardProcess
    table: Tensor
    states: Tensor = field(init=False)

    def __post_init__(self) -> None:
        v, length = self.forward.vocab_size, self.table.ndim
        if v**length > MAX_STATES:
            raise ValueError(
                f"{v} states at {length} sites are {v**length}, more than {MAX_STATES}; "
                "use a smaller model"
            )
        if not (self.table > 0).all() or not abs(float(self.table.sum()) - 1) < 1e-9:
            raise ValueError(
                "every state of the table must have positive probability, and all must sum to one"
            )
        pad_states(self.table, self.forward)
        grid = torch.cartesian_prod(*[torch.arange(v)] * length).reshape(-1, length)
        object.__setattr__(self, "states", grid)

    @classmethod
    def random(
        cls,
        forward: ForwardProcess,
        *,
        symbols: int,
        length: int,
        seed: int,
        concentration: float = 0.5,
    ) -> "Enumerable":
        """A random table: normalised gamma weights, the more uneven the smaller
        ``concentration``.
        """
        generator = torch.Generator().manual_seed(seed)
        alpha = torch.full((symbols,) * length, concentration, dtype=torch.float64)
        weights = torch._standard_gamma(alpha, generator=generator) + 1e-3
        return cls(forward, weights / weights.sum())

    def index(self, x: Tensor) -> Tensor:
        """The number of each state, int64 [B]; x int64 [B, L]."""
        powers = self.forward.vocab_size ** torch.arange(self.table.ndim - 1, -1, -1)
        return (x * powers.to(x)).sum(-1)

    def data_distribution(self) -> Tensor:
        """p_0, float64 [S]."""
        probs = self.table
        for axis in range(probs.ndim):
            probs = pad_states(probs.movedim(axis, -1), self.forward).movedim(-1, axis)
        return probs.reshape(-1)

    def transition(self, s: float, t: float) -> Tensor:
        """q_{t|s} of whole states, [S, S], row x_s."""
        return reduce(torch.kron, [self.forward.transition(s, t)] * self.table.ndim)

    def marginal(self, t: float) -> Tensor:
        """p_t, [S]."""
        return self.data_distribution() @ self.transition(0.0, t)

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """log p(x0^l | x_t), float64 [B, L, V] or [K, V]; by Bayes' rule over all states."""
        if x.shape[1] != self.table.ndim:
            raise ValueError(
                f"this distribution has {self.table.ndim} sites, the sequences have {x.shape[1]}"
            )
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        joint = self.data_distribution().to(x.device).repeat(len(x), 1)
        for time in times.unique().tolist():
            rows = times == time
            likelihood = self.forward.transition(0.0, time).to(x.device).T[x[rows]]
            for site in range(x.shape[1]):
                joint[rows] *= likelihood[:, site][:, self.states[:, site].to(x.device)]
        posterior = self.site_marginals(joint / joint.sum(-1, keepdim=True))
        return (posterior if where is None else posterior[where]).log()

    def site_marginals(self, probs: Tensor) -> Tensor:
        """Marginals of single sites, [..., L, V], of distributions [..., S]."""
        cube = probs.reshape(*probs.shape[:-1], *[self.forward.vocab_size] * self.table.ndim)
        first = probs.ndim - 1
        axes = range(first, first + self.table.ndim)
        return torch.stack(
            [cube.sum([a for a in axes if a != keep]) if len(axes) > 1 else cube for keep in axes],
            -2,
        )

    def product(self, marginals: Tensor) -> Tensor:
        """The distribution [..., S] with independent sites and these marginals [..., L, V]."""
        probs = torch.ones(*marginals.shape[:-2], len(self.states), dtype=marginals.dtype)
        for site in range(self.table.ndim):
            probs = probs * marginals[..., site, self.states[:, site]]
        return probs

    def conditional(self, t: float, s: float) -> Tensor:
        """p(x_s | x_t), [S, S], row x_t."""
        joint = self.marginal(s)[:, None] * self.transition(s, t)
        return (joint / self.marginal(t)).T

    def reverse_rates(self, t: float) -> Tensor:
        """Rates of the time reversal, [S, S], row x; zero diagonal. 1/time."""
        v, length = self.forward.vocab_size, self.table.ndim
        site = self.forward.rate(t)
        eye = torch.eye(v, dtype=torch.float64)
        rates = sum(
            (
                reduce(torch.kron, [site if i == j else eye for j in range(length)])
                for i in range(length)
            ),
            start=torch.zeros(v**length, v**length, dtype=torch.float64),
        )
        p = self.marginal(t)
        reversal = rates.T * p / p[:, None]
        return reversal.fill_diagonal_(0)

    def tweedie_transition(self, t: float, s: float) -> Tensor:
        """The exact distribution of a Tweedie step, [S, S]: sites independent, each from its exact
        conditional.
        """
        return self.product(self.site_marginals(self.conditional(t, s)))

    def euler_transition(self, t: float, s: float) -> Tensor:
        """The exact distribution of an Euler step, [S, S], from the enumerated time reversal."""
        if s == 0:
            return self.tweedie_transition(t, s)
        rates, v, length = self.reverse_rates(t), self.forward.vocab_size, self.table.ndim
        marginals = torch.zeros(len(self.states), length, v, dtype=torch.float64)
        for site in range(length):
            others = [j for j in range(length) if j != site]
            same = (self.states[:, None, others] == self.states[None, :, others]).all(-1)
            target = torch.nn.functional.one_hot(self.states[:, site], v).to(rates)
            leave = (t - s) * (rates * same) @ target
            total = leave.sum(-1, keepdim=True)
            leave = leave / total.clamp_min(1)
            marginals[:, site] = leave + (1 - total).clamp_min(0) * target
        return self.product(marginals)

    def compounding_error(self, t: float, s: float) -> Tensor:
        """E KL(p(x_s | x_t) || prod_l p(x_s^l | x_t)), the CDE of the step (Park et al. 2025, Eq.
        3-4), nats.
        """
        return self.marginal(t) @ kl_divergence(
            self.conditional(t, s), self.tweedie_transition(t, s)
        )

    def run_distribution(
        self, step: Callable[[float, float], Tensor], schedule: TimeSchedule, start: Tensor
    ) -> Tensor:
        """The distribution [S] at the end of a run from the distribution ``start`` [S].

        Args:
            step: the transition matrix [S, S] of a step (t, s).
        """
        probs = start
        for t, s in pairwise(schedule.times):
            probs = probs @ step(t, s)
        return probs

    def sample_data(self, n: int, *, generator: torch.Generator) -> Tensor:
        """Exact samples of p_0, int64 [n, L]."""
        picks = torch.multinomial(
            self.data_distribution(), n, replacement=True, generator=generator
        )
        return self.states[picks]
