r"""What a model's output means: the three parameterisations of a denoiser.

.. math::
    \text{PosteriorReverse:} \quad & \mathrm{out} = \log p(x_0^l \mid x_t) + \text{const}
        && \text{tauLDR, MDLM, LLaDA} \\
    \text{LeaveOneOutReverse:} \quad & \mathrm{out} = \log p(x_0^l \mid x_t^{-l}) + \text{const}
        && \text{D3PM, UDLM, Duo} \\
    \text{LogScoreReverse:} \quad & \mathrm{out} = \log p_t(y) / p_t(x)
        && \text{SEDD}

A parameterisation turns its output into the leave-one-out posterior w and overrides what it gives
more directly; all else follows in ``ReverseProcess``, with the same shapes.
"""

from dataclasses import dataclass

from torch import Tensor

from jumpsteps.core.site_mask import selected
from jumpsteps.denoiser.reverse import ReverseProcess, Where, time_of_sites
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Time

__all__ = ["LeaveOneOutReverse", "LogScoreReverse", "PosteriorReverse"]


@dataclass(frozen=True)
class PosteriorReverse(ReverseProcess):
    """A model that gives log p(x0^l | x_t), normalised or not (tauLDR, MDLM, LLaDA ...).

    Values at impossible symbols (MASK; all others at a revealed site) are ignored.
    """

    def posterior_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        self.check_symbols(output)
        sites, times = selected(x, where), time_of_sites(t, x, where)
        return self.forward.possible(output, sites, times).softmax(-1)

    def data_weights_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        return self.posterior_from(output, x, t, where)

    def leave_one_out_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        self.check_symbols(output)
        sites, times = selected(x, where), time_of_sites(t, x, where)
        return self.forward.leave_out(output, sites, times).softmax(-1)


@dataclass(frozen=True)
class LeaveOneOutReverse(ReverseProcess):
    r"""A model that gives log w(x0) = log p(x0^l | x_t^{-l}), normalised or not (D3PM, UDLM, Duo).

    So does every network that is trained and sampled with its distribution x_theta in the place of
    x0,

    .. math:: q(x_s \mid x_t, x_\theta) = q_{t|s}(x_t \mid x_s)
        \frac{(x_\theta q_{s|0})(x_s)}{(x_\theta q_{t|0})(x_t)}, \quad s < t

    (Austin et al. 2021, Eq. 4). Its loss is E KL(q(x_s | x_t, x0) || q(x_s | x_t, x_theta)), or the
    limit s -> t. The minimiser is the mean of q(x_s | x_t, x0) over p(x0^l | x_t), that is
    p(x_s^l | x_t). With p(x0^l | x_t) = q_{t|0}(x_t^l | x0^l) w(x0^l) / (w q_{t|0})(x_t^l) this
    mean is the formula at x_theta = w, and at no other distribution, because x_theta q_{s|0}
    determines x_theta. The posterior in the place of w would count the site's own symbol twice.

    Raises:
        ValueError: the absorbing kernel, whose networks give the posterior, MASK excluded.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.forward, Absorbing):
            raise ValueError(
                "with the absorbing kernel a network's distribution of x0 is the posterior of "
                "masked sites; use PosteriorReverse"
            )

    def leave_one_out_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        self.check_symbols(output)
        return output.to(self.forward.weight_dtype(output)).softmax(-1)


@dataclass(frozen=True)
class LogScoreReverse(ReverseProcess):
    """A model that gives log p_t(y) / p_t(x); its value at y = x^l is replaced by zero.

    Source: Lou, Meng, Ermon (2024), Eq. 5.
    """

    models_data = False

    def log_score_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        self.check_symbols(output)
        return output.scatter(-1, selected(x, where)[..., None], 0)

    def leave_one_out_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        log_probs = self.log_score_from(output, x, t, where)
        return self.forward.pull(log_probs, time_of_sites(t, x, where))

    def rates_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        ratio = self.log_score_from(output, x, t, where).exp()
        return self.forward.jump_rates(ratio, selected(x, where), time_of_sites(t, x, where))
