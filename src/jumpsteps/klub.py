r"""The Kullback-Leibler upper bound of one interval, as published.

For u > s > t, the gain of stopping at s on the way from u to t:

.. math:: \mathrm{KLUB} = (s - t) \, E \sum_l \sum_{y \ne x_s} \hat R_s(x_s \to y)
          \log \frac{\hat R_s(x_s \to y)}{\hat R_u(x_u \to y)}

(Park et al. 2025, Thm. 3.2 and Eq. 13-14). It is the path-space KL divergence (Girsanov) between the run that stops at s and
the run that does not, with the rates held constant after s and the part that does not carry a logarithm left out. Both states
come from the same forward path of the same data (common random numbers), so the objective is a smooth function of s.

Where x_u and x_s differ at a site, :math:`\hat R_u(x_u \to y)` has no value at y = x_u. The coarse rate is therefore taken from
the site's current state x_s, with context and time frozen at u; for the absorbing kernel the two are the same. Both rates
are formed from leave-one-out posteriors, so that a log-score network whose scores do not add up to a law is normalised alike
in both.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from jumpsteps.noise import Time
from jumpsteps.reverse import ReverseProcess

__all__ = ["Klub"]

Path = Callable[[Time], Tensor]
"""x_t as a function of t, int64 [B, L]: what ``ForwardProcess.sample_path`` returns."""


class Klub:
    """The KLUB of u -> s -> t against u -> t, as a function of s: one model call at u, and one for each s.

    Args:
        reverse: the reverse process.
        path: forward paths of B sequences of data.
        u, t: the interval, u > t.
    """

    @torch.no_grad()
    def __init__(self, reverse: ReverseProcess, path: Path, u: float, t: float) -> None:
        if not 0 <= t < u <= 1:
            raise ValueError(f"an interval needs 0 <= t < u <= 1, got u={u}, t={t}")
        self.reverse, self.path, self.u, self.t = reverse, path, u, t
        x_u = path(u)
        self.movable = reverse.forward.movable(x_u)
        self.w = reverse.leave_one_out(x_u, u, where=self.movable)

    @torch.no_grad()
    def values(self, s: float) -> Tensor:
        """One value per sequence, float64 [B], in nats.

        Raises:
            ValueError: s outside (t, u), or a jump that is possible at s and impossible from u, where the bound is infinite.
        """
        if not self.t < s < self.u:
            raise ValueError(f"s must lie between t={self.t} and u={self.u}, got s={s}")
        x = self.path(s)
        where = self.reverse.forward.movable(x)
        fine = self.rates(self.reverse.leave_one_out(x, s, where=where), x[where], s)
        coarse = self.rates(self.w[where[self.movable]], x[where], self.u)
        if ((fine > 0) & (coarse <= 0)).any():
            raise ValueError(f"a jump at s={s} has rate zero from u={self.u}, the bound is infinite; smooth the model")
        per_site = torch.xlogy(fine, fine / coarse.masked_fill(fine == 0, 1)).sum(-1)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return (s - self.t) * total.index_add(0, where.nonzero()[:, 0], per_site)

    def rates(self, w: Tensor, x: Tensor, t: float) -> Tensor:
        return self.reverse.forward.reverse_rates(w.to(torch.float64), x, t)

    def __call__(self, s: float) -> float:
        """The mean over the sequences."""
        return float(self.values(s).mean())
