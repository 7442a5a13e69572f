r"""Reverse processes: a forward process, and a model of the data that reverses it.

Reversed in time, the forward process is a Markov chain with the rates

.. math:: \hat R_t(x \to y) = R_t(y, x) \frac{p_t(y)}{p_t(x)}

for states x, y that differ at one site. A model gives the unknown ratio, in one of three
parameterisations (``parameterisations``): the posterior :math:`p(x_0^l \mid x_t)`, the
leave-one-out posterior w, or the log-score :math:`\log p_t(y) / p_t(x)`. With

.. math:: w(x_0^l) = p(x_0^l \mid x_t^{-l})
    \propto \frac{p(x_0^l \mid x_t)}{q_{t|0}(x_t^l \mid x_0^l)},
    \qquad \frac{p_t(y)}{p_t(x)} = \frac{(w q_{t|0})(y^l)}{(w q_{t|0})(x^l)}

each of them gives the other two. Samplers use w most: it does not depend on the site's own state,
and rates and steps follow from it.

A ``ReverseProcess`` answers four questions, ``posterior``, ``leave_one_out``, ``log_score`` and
``rates``. Each makes one call of the model (``call_model``) and reads its output. The readings are
methods of their own, which call no model: ``posterior_from(output, x, t)`` and so on.

Shapes: x is int64 [B, L]; t > 0 is a number or a tensor [B]; ``where`` is bool [B, L], or a
``SiteMask``, and selects K sites. Outputs and results are [B, L, V], or [K, V] with ``where``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from jumpsteps.core.arguments import check_kind, said
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.conditioning import ClampedModel
from jumpsteps.denoiser.model import Evaluation, call, evaluate
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["ReverseProcess", "time_of_sites"]

Where = Tensor | SiteMask | None


@said("a reverse process such as model.reverse")
@dataclass(frozen=True)
class ReverseProcess(ABC):
    """The forward process and the model of its reversal; see the module's docstring for shapes.

    Attributes:
        forward: the forward process.
        model: any callable that ``model.call`` can call; None where none is called.

    Raises:
        ValueError: attributes of another kind.
    """

    forward: ForwardProcess
    model: Callable[..., Any]
    models_data: ClassVar[bool] = True
    """Whether the output is a distribution of x_0, so that rates are means over x_0."""

    def __post_init__(self) -> None:
        check_kind("forward", self.forward, ForwardProcess)
        check_kind("model", self.model, Callable[..., Any] | None, "a network or a function")

    # One call of the model.

    def call_model(self, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """The model's output.

        Raises:
            ValueError: t of another shape, or an output that is not V numbers for each site.
        """
        time_of_sites(t, x, None)
        output = call(self.model, x, t, where)
        self.check_symbols(output)
        return output

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        """One call of the model at the selected sites, to be read in chunks."""
        return evaluate(self.model, x, t, where)

    def at_rows(self, rows: Tensor | slice) -> Self:
        """The reverse process of these sequences of a batch: a mask [B], indices or a slice.

        A sampler that evaluates a part of the batch calls the model through it, because observed
        sites (``Given``) may differ from sequence to sequence.
        """
        if not isinstance(self.model, ClampedModel):
            return self
        return replace(self, model=self.model.at_rows(rows))

    # The four questions.

    def leave_one_out(self, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """w = p(x0^l | x_t^{-l}), probabilities. Absorbing kernel: meaningful at masked sites."""
        where = SiteMask.of(where)
        return self.leave_one_out_from(self.call_model(x, t, where), x, t, where)

    def posterior(self, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """p(x0^l | x_t), probabilities."""
        where = SiteMask.of(where)
        return self.posterior_from(self.call_model(x, t, where), x, t, where)

    def log_score(self, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """log p_t(y) / p_t(x), y differing from x at site l; zero at y = x^l.

        Absorbing kernel: meaningful at masked sites.
        """
        where = SiteMask.of(where)
        return self.log_score_from(self.call_model(x, t, where), x, t, where)

    def rates(self, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """Reverse rates x -> y, in 1/time; zero at y = x^l.

        Raises:
            ValueError: t = 0, where the reverse rates of a data site are not defined.
        """
        refuse_time_zero(t)
        where = SiteMask.of(where)
        return self.rates_from(self.call_model(x, t, where), x, t, where)

    # The same, read from an output of the model at (x, t, where).

    @abstractmethod
    def leave_one_out_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """``leave_one_out`` from the model's output."""

    def posterior_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """``posterior`` from the model's output."""
        sites = selected(x, where)
        w = self.leave_one_out_from(output, x, t, where)
        joint = self.forward.put_in(w, sites, time_of_sites(t, x, where))
        if not self.forward.revisable:
            known = one_hot(sites, self.forward.vocab_size, joint.dtype)
            joint = torch.where(self.forward.movable(sites)[..., None], joint, known)
        return joint / joint.sum(-1, keepdim=True)

    def data_weights_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """p(x0^l | x_t) at sites that can move, unnormalised."""
        w = self.leave_one_out_from(output, x, t, where)
        return self.forward.put_in(w, selected(x, where), time_of_sites(t, x, where))

    def log_score_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """``log_score`` from the model's output."""
        w = self.leave_one_out_from(output, x, t, where)
        log_probs = self.forward.push(w, time_of_sites(t, x, where)).log()
        return log_probs - log_probs.gather(-1, selected(x, where)[..., None])

    def rates_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        """``rates`` from the model's output; t > 0 is not checked."""
        w = self.leave_one_out_from(output, x, t, where)
        return self.forward.reverse_rates(w, selected(x, where), time_of_sites(t, x, where))

    def check_symbols(self, output: Tensor) -> None:
        """Raises ValueError for an output that is not V numbers for each site."""
        values, states = output.shape[-1], self.forward.vocab_size
        if values == states:
            return
        without_mask = not self.forward.revisable and values == states - 1
        pad = ", or pad the logits if the network has none for MASK: nn.functional.pad(out, (0, 1))"
        raise ValueError(
            f"the model returned {values} values per site, the {self.forward.name} kernel has "
            f"{states} states; build the forward process with the model's vocabulary"
            f"{pad if without_mask else ''}"
        )


def time_of_sites(t: Time, x: Tensor, where: Where) -> Time:
    """t as the forward process takes it: a number, or a tensor that broadcasts against the sites.

    Raises:
        ValueError: t is a tensor of another shape than [B].
    """
    if not isinstance(t, Tensor) or t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t must be a number or have shape [B] = [{x.shape[0]}], got {list(t.shape)}"
        )
    column = t[:, None]
    return column if where is None else selected(column.expand(x.shape), where)


def refuse_time_zero(t: Time) -> None:
    """Raises ValueError for t = 0."""
    if (torch.as_tensor(t) <= 0).any():
        raise ValueError(
            "reverse rates are defined for t > 0 only; "
            "end the run with a step to 0 instead of a rate at 0"
        )
