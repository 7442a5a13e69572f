r"""The Kullback-Leibler upper bound (KLUB) of one interval, as published.

For u > s > t, the gain of stopping at s on the way from u to t (Park et al. 2025, Thm. 3.2 and
Eq. 13-14):

.. math:: \mathrm{KLUB} = (s - t) \, E \sum_l \sum_{y \ne x_s} \hat R_s(x_s \to y)
          \log \frac{\hat R_s(x_s \to y)}{\hat R_u(x_u \to y)}.

It is the path KL divergence (Girsanov) between the run that stops at s and the run that does not,
with rates constant after s and without the part that carries no logarithm. Both states lie on one
forward path of the same data (common random numbers), so it is a smooth function of s.

Where :math:`x_u` and :math:`x_s` differ at a site, :math:`\hat R_u(x_u \to y)` has no value at
:math:`y = x_u`. The coarse rate is therefore taken from the site's own state :math:`x_s`, with
context and time frozen at u; for the absorbing kernel the two are the same. Both rates are formed
from leave-one-out posteriors, so that log-scores that belong to no distribution are normalised
alike in both.

Two options depart from the published form. ``full`` adds the part without a logarithm,
:math:`\hat R_u - \hat R_s`, so the integrand is never negative. ``hold_time=False`` freezes only
the context at u: then the bound has no part from rates that merely change in time, which Tweedie's
steps follow exactly.

``CountKlub`` is the KLUB of samplers that count sites (k-Gillespie). With n_u > n_s > n_t sites
masked, each of the n_s - n_t sites revealed after the stop is a random masked one, and its symbol
is drawn from :math:`p(x_0 \mid x_s)` in place of :math:`p(x_0 \mid x_u)`:

.. math:: \mathrm{KLUB} = (n_s - n_t) \, E \, \frac{1}{n_s} \sum_{l \text{ masked at } s}
          \mathrm{KL}\big( p(x_0^l \mid x_s) \,\|\, p(x_0^l \mid x_u) \big).
"""

import torch
from torch import Tensor

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.search.paths import Paths

__all__ = ["CountKlub", "Klub"]


class Klub:
    """The KLUB of u -> s -> t against u -> t, as a function of s.

    It takes one model evaluation at u, and one for each s.

    Args:
        reverse: the reverse process.
        paths: forward paths of B sequences of data; observed sites do not count.
        u: where the interval begins.
        t: where it ends, t < u.
        full: the whole Girsanov integrand, in place of its logarithm part.
        hold_time: the coarse rates are those of time u; else only their context is.

    Raises:
        ValueError: no interval in [0, 1].
    """

    @torch.no_grad()
    def __init__(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        u: float,
        t: float,
        *,
        full: bool = False,
        hold_time: bool = True,
    ) -> None:
        if not 0 <= t < u <= 1:
            raise ValueError(f"an interval needs 0 <= t < u <= 1, got u={u}, t={t}")
        self.reverse, self.all, self.paths, self.u, self.t = reverse, paths, paths.own, u, t
        self.full, self.hold_time = full, hold_time
        x_u = self.paths(u)
        self.movable = self.paths.movable(x_u)
        self.w = reverse.leave_one_out(x_u, u, where=self.movable)

    @torch.no_grad()
    def values(self, s: float) -> Tensor:
        """One value per sequence, float64 [B], in nats.

        Raises:
            ValueError: s outside (t, u), or a jump that is possible at s and impossible from u,
                where the bound is infinite.
        """
        if not self.t < s < self.u:
            raise ValueError(f"s must lie between t={self.t} and u={self.u}, got s={s}")
        x, forward = self.paths(s), self.reverse.forward
        where = self.paths.movable(x)
        level = self.u if self.hold_time else s
        fine, fine_odds = self.rates(self.reverse.leave_one_out(x, s, where=where), x[where], s)
        coarse, coarse_odds = self.rates(self.w[where[self.movable]], x[where], level)
        faster = torch.log(forward.noise.rate(s) / forward.noise.rate(level))
        ratios = fine_odds - coarse_odds + float(faster)
        gain = log_ratios(fine, ratios, where, f"at s={s}")
        if self.full:
            gain += by_sequence((coarse - fine).sum(-1), where)
        return self.all.of_all((s - self.t) * gain)

    def rates(self, w: Tensor, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Reverse rates out of x [K], and log p_t(y) / p_t(x), both float64 [K, V].

        A rate may be too small for a number where its logarithm is not.
        """
        forward = self.reverse.forward
        probs = forward.push(w.to(torch.float64), t)
        own = probs.gather(-1, x[:, None])
        return forward.jump_rates(probs / own, x, t), probs.log() - own.log()

    def __call__(self, s: float) -> float:
        """The mean over the sequences."""
        return float(self.values(s).mean())


class CountKlub:
    """The KLUB over numbers of masked sites, as a function of n_s.

    It takes one model evaluation at n_u, and one for each n_s.

    Args:
        reverse: an absorbing reverse process.
        paths: forward paths of B sequences with the same number of free sites.
        n_u: masked sites before.
        n_t: masked sites after, n_t < n_u.

    Raises:
        ValueError: no interval of numbers of free sites.
    """

    @torch.no_grad()
    def __init__(self, reverse: ReverseProcess, paths: Paths, n_u: int, n_t: int) -> None:
        if not 0 <= n_t < n_u <= paths.sites:
            raise ValueError(
                f"an interval needs 0 <= n_t < n_u <= {paths.sites} free sites, "
                f"got n_u={n_u}, n_t={n_t}"
            )
        self.reverse, self.all, self.paths = reverse, paths, paths.own
        self.n_u, self.n_t = n_u, n_t
        self.masked, self.p = self.posterior(n_u)

    def posterior(self, n: int) -> tuple[Tensor, Tensor]:
        """The masked sites with n of them left, bool [B, L], and their distributions [K, V]."""
        x = self.paths.with_masked(n)
        where = self.paths.movable(x)
        t = time_of_masked(self.paths.forward, n, self.paths.sites)
        return where, self.reverse.leave_one_out(x, t, where=where).to(torch.float64)

    @torch.no_grad()
    def values(self, n_s: int) -> Tensor:
        """One value per sequence, float64 [B], in nats.

        Raises:
            ValueError: n_s outside (n_t, n_u), or a symbol that is possible at n_s and impossible
                from n_u.
        """
        if not self.n_t < n_s < self.n_u:
            raise ValueError(
                f"n_s must lie between n_t={self.n_t} and n_u={self.n_u}, got n_s={n_s}"
            )
        where, fine = self.posterior(n_s)
        ratios = fine.log() - self.p[where[self.masked]].log()
        gain = log_ratios(fine, ratios, where, f"with {n_s} sites masked")
        return self.all.of_all((n_s - self.n_t) / n_s * gain)

    def __call__(self, n_s: int) -> float:
        """The mean over the sequences."""
        return float(self.values(n_s).mean())


def log_ratios(fine: Tensor, ratios: Tensor, where: Tensor, when: str) -> Tensor:
    """sum fine log(fine / coarse) over the K selected sites, for each sequence, float64 [B].

    Args:
        fine: rates or probabilities, [K, V].
        ratios: log(fine / coarse), [K, V]; read where ``fine`` is not zero.
        where: bool [B, L], the selected sites.
        when: for the error message.
    """
    if ((fine > 0) & (ratios == torch.inf)).any():
        raise ValueError(
            f"a jump {when} has rate zero from the interval's start, the bound is infinite; "
            "smooth the model"
        )
    return by_sequence((fine * ratios).masked_fill(fine == 0, 0).sum(-1), where)


def by_sequence(values: Tensor, where: Tensor) -> Tensor:
    """Sums of values of the selected sites [K] over each sequence, float64 [B]."""
    total = torch.zeros(len(where), dtype=torch.float64, device=where.device)
    return total.index_add_(0, where.nonzero()[:, 0], values)
