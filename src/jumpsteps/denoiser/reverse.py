r"""Reverse processes: a forward process and a model that knows the data.

Reversing the forward process in time gives a Markov chain with rates
:math:`\hat R_t(x \to y) = R_t(y, x)\, p_t(y) / p_t(x)` for y that differs from x at one site. A model gives what is
unknown there, in one of three parameterisations:

* ``PosteriorReverse``: log p(x0^l | x_t) (tauLDR, MDLM, LLaDA ...);
* ``LeaveOneOutReverse``: log p(x0^l | x_t without x_t^l) (D3PM, UDLM, Duo);
* ``LogScoreReverse``: log p_t(y)/p_t(x), zero at y = x (SEDD).

All answer the same four questions. The one that samplers ask most is the *leave-one-out* posterior
:math:`w(x_0^l) = p(x_0^l \mid x_t^{-l}) \propto p(x_0^l \mid x_t) / q_{t|0}(x_t^l \mid x_0^l)`: what all other sites say about
site l. It does not depend on the site's own state, and every rate and every leap follows from it.

Shapes: x is int64 [B, L]; t > 0 is a number or [B]; ``where`` is bool [B, L] and selects K sites. Results are [B, L, V], or
[K, V] with ``where``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from jumpsteps.core.site_mask import selected
from jumpsteps.process.kernel import Absorbing, ForwardProcess, one_hot, precise
from jumpsteps.process.noise import Time

__all__ = ["LeaveOneOutReverse", "LogScoreReverse", "Model", "PosteriorReverse", "Remembered", "ReverseProcess", "remember"]


class Model(Protocol):
    """A network, or an exact law, evaluated at noisy tokens.

    Takes x int64 [B, L], t (a number or [B]) and ``where`` (bool [B, L] or None); returns floats [B, L, V], or only the
    rows of the selected sites, [K, V], in the order of ``x[where]``.
    """

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor: ...


class Remembered:
    """A model at one state and time, evaluated once at some sites; a ``Model`` for those sites.

    Args:
        rows: what is kept of each site, [S, ...]: the output, or the hidden states that a head turns into it.
        where: bool [B, L], the S sites.
        read: rows [K, ...] and tokens [K] -> outputs [K, V].
    """

    def __init__(self, rows: Tensor, where: Tensor, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.rows, self.read = rows, read
        self.row = torch.zeros_like(where, dtype=torch.int64).masked_scatter(where, torch.arange(len(rows), device=where.device))

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """Outputs [K, V] at ``where``, which selects some of the sites; x and t are those that were evaluated."""
        where = torch.ones_like(x, dtype=torch.bool) if where is None else where
        return self.read(self.rows[selected(self.row, where)], selected(x, where))


@runtime_checkable
class Remembers(Protocol):
    """A model that can keep less than its output: a network with a large head keeps its trunk's hidden states."""

    def remember(self, x: Tensor, t: Time, where: Tensor) -> Remembered: ...


def remember(model: Model, x: Tensor, t: Time, where: Tensor) -> Remembered:
    """One call of the model, to be read later, site by site."""
    if isinstance(model, Remembers):
        return model.remember(x, t, where)
    return Remembered(model(x, t, where), where, lambda rows, tokens: rows)


def time_of_sites(t: Time, x: Tensor, where: Tensor | None) -> Time:
    """t as the forward process wants it: a number, or a tensor that broadcasts against the selected sites."""
    if not isinstance(t, Tensor) or t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must be a number or have shape [B] = [{x.shape[0]}], got {list(t.shape)}")
    column = t[:, None]
    return column if where is None else selected(column.expand(x.shape), where)


@dataclass(frozen=True)
class ReverseProcess(ABC):
    """The forward process and the model of its reversal; see the module's docstring for shapes."""

    forward: ForwardProcess
    model: Model

    def call_model(self, x: Tensor, t: Time, where: Tensor | None) -> Tensor:
        """The model's output, checked for its number of symbols and for the shape of t."""
        time_of_sites(t, x, where)
        out = self.model(x, t, where)
        if out.shape[-1] != self.forward.vocab_size:
            raise ValueError(
                f"the model returned {out.shape[-1]} values per site, the {self.forward.name} kernel has "
                f"{self.forward.vocab_size} states; build the forward process with the model's vocabulary"
            )
        return out

    @abstractmethod
    def leave_one_out(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """p(x0^l | x_t^{-l}), probabilities over x0. Absorbing kernel: meaningful at masked sites only."""

    def posterior(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """p(x0^l | x_t), probabilities over x0."""
        sites = selected(x, where)
        w = self.leave_one_out(x, t, where)
        joint = w * self.forward.likelihood(sites, time_of_sites(t, x, where)).to(w)
        frozen = ~self.forward.movable(sites)[..., None]
        joint = torch.where(frozen, one_hot(sites, self.forward.vocab_size, joint.dtype), joint)
        return joint / joint.sum(-1, keepdim=True)

    def log_score(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """log p_t(y)/p_t(x), y differing from x at site l; zero at y = x. Absorbing kernel: at masked sites only."""
        sites = selected(x, where)
        log_law = self.forward.push(self.leave_one_out(x, t, where), time_of_sites(t, x, where)).log()
        return log_law - log_law.gather(-1, sites[..., None])

    def rates(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """Reverse rates x -> y, in 1/time; zero at y = x.

        Raises:
            ValueError: t = 0, where the reverse rates of a data site are not defined.
        """
        refuse_time_zero(t)
        w = self.leave_one_out(x, t, where)
        return self.forward.reverse_rates(w, selected(x, where), time_of_sites(t, x, where))


def refuse_time_zero(t: Time) -> None:
    if (torch.as_tensor(t) <= 0).any():
        raise ValueError("reverse rates are defined for t > 0 only; end the run with a leap to 0 instead of a rate at 0")


@dataclass(frozen=True)
class PosteriorReverse(ReverseProcess):
    """A model that gives log p(x0^l | x_t), normalised or not (tauLDR, MDLM, LLaDA ...)."""

    def posterior(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        sites = selected(x, where)
        possible = self.forward.likelihood(sites, time_of_sites(t, x, where)) > 0
        return self.call_model(x, t, where).masked_fill(~possible, -torch.inf).softmax(-1)

    def leave_one_out(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        sites = selected(x, where)
        out = self.call_model(x, t, where)
        return self.forward.leave_out(out, sites, time_of_sites(t, x, where)).softmax(-1)


@dataclass(frozen=True)
class LeaveOneOutReverse(ReverseProcess):
    r"""A model that gives log w(x0) = log p(x0^l | x_t^{-l}), normalised or not.

    So does every network that is trained and sampled by putting its law x_theta in the place of x0 (D3PM, UDLM, Duo):

    .. math:: q(x_s \mid x_t, x_\theta) = q_{t|s}(x_t \mid x_s) \frac{(x_\theta q_{s|0})(x_s)}{(x_\theta q_{t|0})(x_t)}, \quad s < t

    (Austin et al. 2021, Eq. 4). The loss is E KL(q(x_s | x_t, x0) || q(x_s | x_t, x_theta)), or its limit s -> t. Given x_t the law
    of x_s that minimises it is the mean of q(x_s | x_t, x0) over p(x0^l | x_t), that is p(x_s^l | x_t). With p(x0^l | x_t) =
    q_{t|0}(x_t^l | x0^l) w(x0^l) / (w q_{t|0})(x_t^l) this mean is the formula at x_theta = w; and at no other law, because
    x_theta q_{s|0} determines x_theta. The posterior in its place would count the site's own symbol twice.

    Raises:
        ValueError: the absorbing kernel, whose networks give the posterior, MASK excluded.
    """

    def __post_init__(self) -> None:
        if isinstance(self.forward, Absorbing):
            raise ValueError(
                "with the absorbing kernel a network's law of x0 is the posterior of masked sites; use PosteriorReverse"
            )

    def leave_one_out(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = self.call_model(x, t, where)
        return out.to(precise(out)).softmax(-1)


@dataclass(frozen=True)
class LogScoreReverse(ReverseProcess):
    """A model that gives log p_t(y)/p_t(x) (Lou, Meng, Ermon 2024, Eq. 5); its value at y = x is replaced by zero."""

    def log_score(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        sites = selected(x, where)
        return self.call_model(x, t, where).scatter(-1, sites[..., None], 0)

    def leave_one_out(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        log_law = self.log_score(x, t, where)
        return self.forward.pull_log(log_law, time_of_sites(t, x, where))

    def rates(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        refuse_time_zero(t)
        ratio = self.log_score(x, t, where).exp()
        return self.forward.jump_rates(ratio, selected(x, where), time_of_sites(t, x, where))
