r"""The leave-one-out corrector: Gibbs sweeps at the time s that a step has reached.

The leave-one-out posterior :math:`w^l(x_0) = p(x_0^l \mid x_s^{-l})` gives the conditional
distribution of one noisy site given all others in closed form,

.. math:: p(x_s^l = y \mid x_s^{-l}) = (w^l q_{s|0})(y).

Drawing one site from it is a Gibbs step. It leaves p_s unchanged and does not depend on the symbol
that it replaces. Drawing k sites after one model call treats them as independent given the others,
which is exact for k = 1 only.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import categorical, uniform
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import one_hot
from jumpsteps.denoiser.chunks import in_chunks
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import joint_distribution
from jumpsteps.sampling.corrector import Corrected
from jumpsteps.sampling.parallel_decoding import smallest
from jumpsteps.schedules.schedule import Step

__all__ = ["LeaveOneOutCorrector"]


@kinds_checked()
@dataclass(frozen=True)
class LeaveOneOutCorrector(Corrected):
    r"""After each step to s > 0, ``corrections`` sweeps that draw ``sites`` sites again, given all
    others.

    A sweep is one model call. It chooses random free sites of every sequence, never observed ones.
    With one site for each sweep p_s is exactly unchanged, and the predictor's errors of earlier
    steps decay: the order of convergence rises from 1 to between 1.7 and 2.0. With more sites a
    sweep is approximate, the more so the more the sites depend on each other, and the error no
    longer vanishes with the number of steps.

    The absorbing kernel masks the chosen sites before the call, because a network reads its own
    symbol off a revealed site. A site becomes MASK with probability :math:`1 - \alpha_s`, so
    revealed symbols can be corrected.

    No sweep follows the step to t = 0. Networks are not trained at t = 0, where the conditional
    distribution of a clean site would have to come from.

    Source: Gourevitch et al. (2026), arXiv 2605.22765. Kernels, schedule: the predictor's. Calls
    per step: the predictor's and ``corrections``, the last step without them.

    Attributes:
        sites: drawn again by each sweep, in every sequence; all free sites if there are fewer.
    """

    sites: int = 1
    source = "Gourevitch et al. 2026"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites != int(self.sites) or self.sites < 1:
            raise ValueError(f"a sweep must draw 1 site or more, got sites={self.sites}")

    @property
    def name(self) -> str:
        return f"{self.predictor.name}-gibbs"

    @property
    def order(self) -> str:
        return "1.7 to 2.0" if self.sites == 1 else "does not converge"

    def correct(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        free: Tensor,
        generator: Generator,
    ) -> Tensor:
        keys = uniform(tuple(x.shape), generator=generator, device=x.device) + ~free
        chosen = smallest(keys, min(self.sites, x.shape[1])) & free
        hidden = hide(reverse, x, chosen)

        def draw(output: Tensor, where: SiteMask, generator: Generator) -> Tensor:
            probs = conditional(reverse, output, hidden, step.s, where)
            return categorical(probs, generator=generator)

        drawn = in_chunks(reverse, hidden, step.s, chosen, draw, generator=generator)
        return x.masked_scatter(chosen, drawn)

    def correction_matrix(self, reverse: ReverseProcess, states: Tensor, step: Step) -> Tensor:
        """The mean over all choices of sites."""
        choices = list(combinations(range(states.shape[1]), min(self.sites, states.shape[1])))
        total = torch.zeros(len(states), len(states), dtype=torch.float64)
        for choice in choices:
            chosen = torch.zeros_like(states, dtype=torch.bool)
            chosen[:, list(choice)] = True
            sites = one_hot(states, reverse.forward.vocab_size, torch.float64)
            hidden = hide(reverse, states, chosen)
            output = reverse.call_model(hidden, step.s, chosen)
            sites[chosen] = conditional(reverse, output, hidden, step.s, chosen)
            total += joint_distribution(sites, states)
        return total / len(choices)


def hide(reverse: ReverseProcess, x: Tensor, chosen: Tensor) -> Tensor:
    """x with the chosen sites masked, where there is a MASK."""
    forward = reverse.forward
    return x.masked_fill(chosen, forward.mask_id) if isinstance(forward, Absorbing) else x


def conditional(
    reverse: ReverseProcess, output: Tensor, x: Tensor, s: float, where: Tensor | SiteMask
) -> Tensor:
    """p(x_s^l | x_s without x_s^l) of the selected sites, float64 [K, V]."""
    w = reverse.leave_one_out_from(output, x, s, where).to(torch.float64)
    return reverse.forward.push(w / w.sum(-1, keepdim=True), s)
