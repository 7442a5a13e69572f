"""The three parameterisations of a denoiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.site_mask import selected
from jumpsteps.core.tensors import precise
from jumpsteps.denoiser.reverse import ReverseProcess, refuse_time_zero, time_of_sites
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time

__all__ = ["LeaveOneOutReverse", "LogScoreReverse", "PosteriorReverse"]


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

    So does every network that is trained and sampled by putting its distribution x_theta in the place of x0 (D3PM, UDLM, Duo):

    .. math:: q(x_s \mid x_t, x_\theta) = q_{t|s}(x_t \mid x_s) \frac{(x_\theta q_{s|0})(x_s)}{(x_\theta q_{t|0})(x_t)}, \quad s < t

    (Austin et al. 2021, Eq. 4). The loss is E KL(q(x_s | x_t, x0) || q(x_s | x_t, x_theta)), or its limit s -> t. Given x_t the distribution
    of x_s that minimises it is the mean of q(x_s | x_t, x0) over p(x0^l | x_t), that is p(x_s^l | x_t). With p(x0^l | x_t) =
    q_{t|0}(x_t^l | x0^l) w(x0^l) / (w q_{t|0})(x_t^l) this mean is the formula at x_theta = w; and at no other distribution, because
    x_theta q_{s|0} determines x_theta. The posterior in its place would count the site's own symbol twice.

    Raises:
        ValueError: the absorbing kernel, whose networks give the posterior, MASK excluded.
    """

    def __post_init__(self) -> None:
        if isinstance(self.forward, Absorbing):
            raise ValueError(
                "with the absorbing kernel a network's distribution of x0 is the posterior of masked sites; use PosteriorReverse"
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
        log_probs = self.log_score(x, t, where)
        return self.forward.pull(log_probs, time_of_sites(t, x, where))

    def rates(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        refuse_time_zero(t)
        ratio = self.log_score(x, t, where).exp()
        return self.forward.jump_rates(ratio, selected(x, where), time_of_sites(t, x, where))
