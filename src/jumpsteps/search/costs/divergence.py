r"""How fast a step goes wrong: rates of divergence between what is true at one time and what was known at an earlier one.

For times t >= tau on one forward path, with R the rates of the time reversal at tau and R' those that a step from t uses there,

.. math:: \frac{e(t, \tau)}{\sigma(\tau)} = \frac{1}{\sigma(\tau)} \sum_l \sum_{y \ne x_\tau} \phi(R(y), R'(y)), \quad
    \phi(a, b) = a \log\frac{a}{b} - a + b,

for each sequence and every pair of the times that the model was asked at. Sites are compared in blocks, so that memory stays
bounded for large vocabularies. ``rate_costs`` makes costs of it.

Shapes: S sites are compared at K times; w [S, K, V] are leave-one-out posteriors, x [S, K] own states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.core.information import Floats
from jumpsteps.core.site_mask import rows_of, selected
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.denoiser.model import Evaluation, evaluate
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.search.paths import Paths

__all__ = ["Comparison", "EvaluationAt"]


@dataclass(frozen=True)
class EvaluationAt:
    """What the model said at one time.

    Attributes:
        t: the time.
        x: the state, int64 [B, L].
        model: the model at (x, t), evaluated once.
    """

    t: float
    x: Tensor
    model: Evaluation


@dataclass(frozen=True)
class Comparison:
    """What was asked of the model so far: its views of the same sites at several times.

    Attributes:
        reverse, paths: the reverse process, and forward paths of B sequences.
        where: bool [B, L], the sites that are compared.
        views: by decreasing time.
    """

    reverse: ReverseProcess
    paths: Paths
    where: Tensor
    evaluations: tuple[EvaluationAt, ...] = ()

    @classmethod
    def draw(
        cls, reverse: ReverseProcess, paths: Paths, sites: int, *, generator: torch.Generator
    ) -> "Comparison":
        """With so many sites at most, drawn at random, as many of each sequence as of any other."""
        each = max(sites // len(paths.data), 1)
        keys = uniform(
            tuple(paths.free.shape), generator=generator, device=paths.free.device
        ).masked_fill(~paths.free, torch.inf)
        return cls(reverse, paths, paths.free & (keys.argsort(-1).argsort(-1) < each))

    def with_times(self, times: list[float]) -> "Comparison":
        """The same with views at these times, too: one model call for each."""
        states = ((t, self.paths(t)) for t in times)
        fresh = [
            EvaluationAt(t, x, evaluate(self.reverse.model, x, t, self.where)) for t, x in states
        ]
        return replace(
            self,
            evaluations=tuple(
                sorted((*self.evaluations, *fresh), key=lambda evaluation: -evaluation.t)
            ),
        )

    @property
    def times(self) -> list[float]:
        return [evaluation.t for evaluation in self.evaluations]

    def divergences(self, *hold_times: bool) -> list[Floats]:
        """The rates of divergence of each sequence per unit of noise, [K, K, B], from the i-th time at the j-th, i < j; else zero.

        Args:
            hold_times: for each result, whether the step's rates are frozen, or its context alone.

        Raises:
            ValueError: a jump that is possible at one time and impossible from an earlier one.
        """
        count, forward = len(self.evaluations), self.reverse.forward
        factors = [self.factors(hold_time=hold) for hold in hold_times]
        total = torch.zeros(
            len(self.where),
            len(factors),
            count,
            count,
            dtype=torch.float64,
            device=self.where.device,
        )
        for chunk in site_chunks(
            self.where, count * forward.vocab_size // 4
        ):  # Larger ones: all times take part in each.
            w = torch.stack(
                [self.leave_one_out(evaluation, chunk) for evaluation in self.evaluations], 1
            )
            x = torch.stack([selected(evaluation.x, chunk) for evaluation in self.evaluations], 1)
            phi = torch.stack(each_step(forward, w, x, self.times, factors), 1)
            later = forward.movable(x)[:, None, None] & torch.ones_like(
                total[0, 0], dtype=torch.bool
            ).triu(1)
            total.index_add_(0, rows_of(chunk), torch.where(later, phi, 0).to(total.dtype))
        if not total.isfinite().all():
            raise ValueError(
                "a jump has rate zero from an earlier time, so that a step costs infinitely much; smooth the model"
            )
        share = self.where.sum(-1) / self.paths.free.sum(-1)
        return list((total / share[:, None, None, None]).permute(1, 2, 3, 0).cpu().numpy())

    def factors(self, *, hold_time: bool) -> Tensor | None:
        """The step's rates at the j-th time over those of the i-th for the same distribution, [K, K]; None where they differ in shape."""
        forward, times = self.reverse.forward, torch.tensor(self.times, dtype=torch.float64)
        clock = forward.noise.rate(times).reciprocal() if hold_time else common_odds(forward, times)
        return None if clock is None else clock / clock[:, None]

    def leave_one_out(self, evaluation: EvaluationAt, where: Tensor) -> Tensor:
        """Distributions [S, V], as precise as the model: float32 for a network."""
        w = replace(self.reverse, model=evaluation.model).leave_one_out(
            evaluation.x, evaluation.t, where=where
        )
        return w.to(torch.promote_types(evaluation.model.rows.dtype, torch.float32))


def common_odds(forward: ForwardProcess, t: Tensor) -> Tensor | None:
    """c(t), where the odds p(y) / p(x) of p = w q_{t|0} at a movable site x are c(t) times a
    number without t, as for the absorbing kernel (x is MASK); else None."""
    if not isinstance(forward, Absorbing):
        return None
    alpha = forward.noise.alpha(t)
    return alpha / (1 - alpha)


def each_step(
    forward: ForwardProcess,
    w: Tensor,
    x: Tensor,
    times: list[float],
    factors: Sequence[Tensor | None],
) -> list[Tensor]:
    """Sum of phi over symbols for each kind of step, [S, K, K]; w [S, K, V], x [S, K], from i (row) at j."""
    held = [f for f in factors if f is not None]
    of_held = iter(held_distributions(forward, w, x, times, held) if held else ())
    return [
        shifting_contexts(forward, w, x, times) if f is None else next(of_held) for f in factors
    ]


def held_distributions(
    forward: ForwardProcess, w: Tensor, x: Tensor, times: list[float], factors: Sequence[Tensor]
) -> list[Tensor]:
    """When a step keeps its distribution up to a factor f, for each of the factors [K, K].

    With distributions p = w q and rates r_y = R_b(y, x) p(y)/p(x), it is
    sum_y r_y (log p(y)/p'(y) - log p(x)/p'(x) - log f - 1) + f sum_y r'_y: all pairs of times are one matrix product.
    """
    probs = torch.stack([forward.push(w[:, k], t) for k, t in enumerate(times)], 1)
    probs.masked_fill_(
        ~forward.movable(x)[..., None], 1
    )  # Such sites do not jump; whatever they have must not be zero.
    into, own = forward.rates_into(x).to(w), probs.gather(-1, x[:, None].expand(-1, len(times), -1))
    rates = into * probs / own.diagonal(dim1=1, dim2=2)[..., None]
    cross, onto, total = (
        weighted_logs(probs, rates.mT),
        (probs @ into.mT) / own,
        rates.sum(-1)[:, None],
    )
    log_own = own.log() - own.diagonal(dim1=1, dim2=2).log()[:, None]
    same = cross.diagonal(dim1=1, dim2=2)[:, None] - cross + total * (log_own - 1)
    return [same - total * f.log() + f * onto for f in (factor.to(w) for factor in factors)]


def weighted_logs(probs: Tensor, weight: Tensor) -> Tensor:
    """sum_y log distribution(y) weight(y), [S, I, J], for distribution [S, I, V] and weight [S, V, J]; minus infinity where weight is on no distribution."""
    logs = probs.log() @ weight
    if logs.isfinite().all():
        return logs
    zero = probs <= 0
    return (probs.masked_fill(zero, 1).log() @ weight).masked_fill(
        zero.to(weight) @ weight > 0, -torch.inf
    )


def shifting_contexts(forward: ForwardProcess, w: Tensor, x: Tensor, times: list[float]) -> Tensor:
    """The same when a step keeps w alone, for every kernel: its distribution w q is that of the moment."""
    phi = w.new_zeros(len(w), len(times), len(times))
    for j in range(1, len(times)):
        probs, own = forward.push(w[:, : j + 1], times[j]), x[:, j]
        into = forward.rates_into(own).to(w)
        at_own = probs.gather(-1, own[:, None, None].expand(-1, j + 1, 1))[..., 0]
        rates = into * probs[:, j] / at_own[:, j, None]
        cross, onto = (
            weighted_logs(probs, rates[..., None])[..., 0],
            (probs @ into[..., None])[..., 0] / at_own,
        )
        log_own = at_own.log() - at_own[:, j, None].log()
        phi[:, : j + 1, j] = (
            cross[:, j, None] - cross + rates.sum(-1, keepdim=True) * (log_own - 1) + onto
        )
    return phi
