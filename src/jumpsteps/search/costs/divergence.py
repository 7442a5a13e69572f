r"""Divergence rates: how fast the paths of a step depart from those of the time reversal.

For times :math:`t \ge \tau` on one forward path, with R the rates of the time reversal at
:math:`\tau` and R' the rates that a step from t uses there,

.. math:: \frac{e(t, \tau)}{\sigma(\tau)} = \frac{1}{\sigma(\tau)}
    \sum_l \sum_{y \ne x_\tau} \phi(R(y), R'(y)), \quad \phi(a, b) = a \log\frac{a}{b} - a + b,

for each sequence and every pair of evaluated times. Sites are compared chunk by chunk, so memory
stays bounded for large vocabularies. ``by_path`` integrates these rates to costs of steps.

Shapes: S sites are compared at K times; w [S, K, V] are leave-one-out posteriors, x [S, K] the
sites' own states, p = w q_{t|0} [S, K, V] the sites' distributions at their own times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.information import Floats
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import precise
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.search.paths import Paths

__all__ = ["EvaluationAt", "PathEvaluations", "some_free_sites"]

SITES, NUMBERS = 2**13, 2**25
"""The most sites that are compared by default, and the most sites times symbols."""


@dataclass(frozen=True)
class EvaluationAt:
    """One model evaluation on forward paths of data.

    Attributes:
        t: the time.
        x: the state x_t, int64 [B, L].
        model: the model at (x_t, t), evaluated once.
    """

    t: float
    x: Tensor
    model: Evaluation


@dataclass(frozen=True)
class PathEvaluations:
    """Model evaluations of the same sites at several times of the same forward paths.

    Attributes:
        reverse: the reverse process.
        paths: forward paths of B sequences; each process evaluates its own.
        where: bool [b, L], the sites of these that are compared.
        by_time: the evaluations, by decreasing time, K of them.
    """

    reverse: ReverseProcess
    paths: Paths
    where: Tensor
    by_time: tuple[EvaluationAt, ...] = ()

    @classmethod
    def draw(
        cls, reverse: ReverseProcess, paths: Paths, sites: int | None, *, generator: torch.Generator
    ) -> "PathEvaluations":
        """No evaluations yet, of ``some_free_sites``."""
        where = some_free_sites(paths, sites, generator=generator)
        return cls(reverse, paths, where[paths.own_rows])

    def with_times(self, times: list[float]) -> "PathEvaluations":
        """The same with evaluations at these times added: one model call for each."""
        where, own = SiteMask.of(self.where), self.paths.own
        states = ((t, own(t)) for t in times)
        added = [EvaluationAt(t, x, self.reverse.evaluate(x, t, where)) for t, x in states]
        return replace(self, by_time=tuple(sorted((*self.by_time, *added), key=lambda one: -one.t)))

    @property
    def times(self) -> list[float]:
        return [evaluation.t for evaluation in self.by_time]

    def divergence_rates(self, *hold_times: bool) -> list[Floats]:
        """e(t_i, t_j) / sigma(t_j) of each sequence, i < j, float64 [K, K, B]; zero elsewhere.

        Args:
            hold_times: for each result, whether the step holds its rates fixed; else only its
                context.

        Raises:
            ValueError: a jump that is possible at one time and impossible from an earlier one.
        """
        count, forward = len(self.by_time), self.reverse.forward
        factors = [self.rate_factors(hold_time=hold) for hold in hold_times]
        total = torch.zeros(
            (len(self.where), len(factors), count, count),
            dtype=torch.float64,
            device=self.where.device,
        )
        later = torch.ones_like(total[0, 0], dtype=torch.bool).triu(1)
        # All times take part in each chunk, so that chunks may be larger than those of one call.
        for chunk in site_chunks(self.where, count * forward.vocab_size // 4):
            w = torch.stack([self.leave_one_out(one, chunk) for one in self.by_time], 1)
            x = torch.stack([chunk.select(one.x) for one in self.by_time], 1)
            phi = torch.stack(divergences(forward, w, x, self.times, factors), 1)
            counted = forward.movable(x)[:, None, None] & later
            total.index_add_(0, chunk.rows, torch.where(counted, phi, 0).to(total.dtype))
        share = self.where.sum(-1) / self.paths.own.free.sum(-1)
        rates = self.paths.of_all(total / share[:, None, None, None])
        if not rates.isfinite().all():
            raise ValueError(
                "a jump has rate zero from an earlier time, so that a step costs infinitely much; "
                "smooth the model"
            )
        return list(rates.permute(1, 2, 3, 0).cpu().numpy())

    def rate_factors(self, *, hold_time: bool) -> Tensor | None:
        """The step's rates at t_j over those at t_i for the same distribution of x, [K, K].

        None where they differ by more than a factor.
        """
        forward, times = self.reverse.forward, torch.tensor(self.times, dtype=torch.float64)
        clock = forward.noise.rate(times).reciprocal() if hold_time else common_odds(forward, times)
        return None if clock is None else clock / clock[:, None]

    def leave_one_out(self, evaluation: EvaluationAt, where: SiteMask) -> Tensor:
        """Leave-one-out posteriors [S, V], float32 at least."""
        output = evaluation.model(evaluation.x, evaluation.t, where)
        w = self.reverse.leave_one_out_from(output, evaluation.x, evaluation.t, where)
        return w.to(precise(w))


def some_free_sites(paths: Paths, sites: int | None, *, generator: torch.Generator) -> Tensor:
    """At most so many random free sites, as many in every sequence, bool [B, L].

    The default is ``SITES``, and fewer for large vocabularies.
    """
    most = sites or min(SITES, NUMBERS // paths.forward.vocab_size)
    each = max(most // len(paths.data), 1)
    keys = uniform(tuple(paths.free.shape), generator=generator, device=paths.free.device)
    keys = keys.masked_fill(~paths.free, torch.inf)
    return paths.free & (keys.argsort(-1).argsort(-1) < each)


def common_odds(forward: ForwardProcess, t: Tensor) -> Tensor | None:
    """c(t), if at a movable site x the odds p(y) / p(x) of p = w q_{t|0} are c(t) times a number
    that does not depend on t, as for the absorbing kernel, where x is MASK; else None."""
    if not isinstance(forward, Absorbing):
        return None
    alpha = forward.noise.alpha(t)
    return alpha / (1 - alpha)


def divergences(
    forward: ForwardProcess,
    w: Tensor,
    x: Tensor,
    times: list[float],
    factors: Sequence[Tensor | None],
) -> list[Tensor]:
    """sum_y phi from t_i (row) at t_j (column), [S, K, K], for each kind of step.

    Args:
        w, x: of S sites at K times, [S, K, V] and [S, K].
        factors: for each kind of step its ``rate_factors``, or None.
    """
    given = [f for f in factors if f is not None]
    scaled = iter(scaled_rates(forward, w, x, times, given) if given else ())
    return [frozen_posteriors(forward, w, x, times) if f is None else next(scaled) for f in factors]


def scaled_rates(
    forward: ForwardProcess, w: Tensor, x: Tensor, times: list[float], factors: Sequence[Tensor]
) -> list[Tensor]:
    """Steps that keep the distribution p of their start up to a factor f: one result per factor.

    With r_y = R_b(y, x) p(y)/p(x) at t_j, and p', r' those of t_i, the sum of phi is
    sum_y r_y (log p(y)/p'(y) - log p(x)/p'(x) - log f - 1) + f sum_y r'_y,
    so all pairs of times are one matrix product. Factors and results are [K, K] and [S, K, K].
    """
    probs = torch.stack([forward.push(w[:, k], t) for k, t in enumerate(times)], 1)
    # Sites that cannot move are left out later; their probabilities must only not be zero.
    probs.masked_fill_(~forward.movable(x)[..., None], 1)
    into, own = forward.rates_into(x).to(w), probs.gather(-1, x[:, None].expand(-1, len(times), -1))
    rates = into * probs / own.diagonal(dim1=1, dim2=2)[..., None]
    cross = expected_logs(probs, rates.mT)
    exits, total = (probs @ into.mT) / own, rates.sum(-1)[:, None]
    log_own = own.log() - own.diagonal(dim1=1, dim2=2).log()[:, None]
    same = cross.diagonal(dim1=1, dim2=2)[:, None] - cross + total * (log_own - 1)
    return [same - total * f.log() + f * exits for f in (factor.to(w) for factor in factors)]


def expected_logs(probs: Tensor, weight: Tensor) -> Tensor:
    """sum_y weight(y) log p(y), [S, I, J], for p [S, I, V] and weights [S, V, J].

    Minus infinity where a weight is on a symbol of probability zero.
    """
    logs = probs.log() @ weight
    if logs.isfinite().all():
        return logs
    zero = probs <= 0
    return (probs.masked_fill(zero, 1).log() @ weight).masked_fill(
        zero.to(weight) @ weight > 0, -torch.inf
    )


def frozen_posteriors(forward: ForwardProcess, w: Tensor, x: Tensor, times: list[float]) -> Tensor:
    """The sum of phi, [S, K, K], for steps that keep w alone, for every kernel.

    Their distribution at t_j is w of t_i carried to the noise of t_j.
    """
    phi = w.new_zeros(len(w), len(times), len(times))
    for j in range(1, len(times)):
        probs, own = forward.push(w[:, : j + 1], times[j]), x[:, j]
        into = forward.rates_into(own).to(w)
        at_own = probs.gather(-1, own[:, None, None].expand(-1, j + 1, 1))[..., 0]
        rates = into * probs[:, j] / at_own[:, j, None]
        cross = expected_logs(probs, rates[..., None])[..., 0]
        exits = (probs @ into[..., None])[..., 0] / at_own
        log_own = at_own.log() - at_own[:, j, None].log()
        total = rates.sum(-1, keepdim=True)
        phi[:, : j + 1, j] = cross[:, j, None] - cross + total * (log_own - 1) + exits
    return phi
