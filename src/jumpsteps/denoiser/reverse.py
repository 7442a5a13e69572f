r"""Reverse processes: a forward process and a model that knows the data.

Reversing the forward process in time gives a Markov chain with rates
:math:`\hat R_t(x \to y) = R_t(y, x)\, p_t(y) / p_t(x)` for y that differs from x at one site. A model gives what is
unknown there, in one of three parameterisations:

* ``PosteriorReverse``: log p(x0^l | x_t) (tauLDR, MDLM, LLaDA ...);
* ``LeaveOneOutReverse``: log p(x0^l | x_t without x_t^l) (D3PM, UDLM, Duo);
* ``LogScoreReverse``: log p_t(y)/p_t(x), zero at y = x (SEDD).

All answer the same four questions. The one that samplers ask most is the *leave-one-out* posterior
:math:`w(x_0^l) = p(x_0^l \mid x_t^{-l}) \propto p(x_0^l \mid x_t) / q_{t|0}(x_t^l \mid x_0^l)`: what all other sites say about
site l. It does not depend on the site's own state, and every rate and every step follows from it.

Shapes: x is int64 [B, L]; t > 0 is a number or [B]; ``where`` is bool [B, L] and selects K sites. Results are [B, L, V], or
[K, V] with ``where``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.site_mask import selected
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.model import Model
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["ReverseProcess"]


def time_of_sites(t: Time, x: Tensor, where: Tensor | None) -> Time:
    """t as the forward process wants it: a number, or a tensor that broadcasts against the selected sites."""
    if not isinstance(t, Tensor) or t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t must be a number or have shape [B] = [{x.shape[0]}], got {list(t.shape)}"
        )
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
        log_probs = self.forward.push(
            self.leave_one_out(x, t, where), time_of_sites(t, x, where)
        ).log()
        return log_probs - log_probs.gather(-1, sites[..., None])

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
        raise ValueError(
            "reverse rates are defined for t > 0 only; end the run with a step to 0 instead of a rate at 0"
        )
