r"""Divergence rates between evaluated times, interpolated and integrated to costs of steps.

The coordinate is the correlation :math:`\rho(t) = \exp(-\mathrm{gap}\, \bar\sigma(t))` in (0, 1],
so that costs do not depend on how the noise runs in time. With :math:`d\bar\sigma = -d\rho /
(\mathrm{gap}\, \rho)`,

.. math:: \mathrm{cost}(t \to s) = f(s) \int_{\rho(t)}^{\rho(s)}
    \frac{e(t, \tau)}{\sigma(\tau)} \,
    \frac{\rho^{p - 1} (1 - \rho^2)^q}{\mathrm{gap}} \, d\rho,

f the surviving fraction, p the power and q the noise power of ``ErrorCorrection``. e is known at
pairs of evaluated times. In between it is interpolated linearly in each triangle that the diagonals
(t_i, t_j), (t_i+1, t_j+1) cut, so that it stays zero at tau = t.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from jumpsteps.core.information import Floats
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.search.costs.correction import ErrorCorrection, corruption_probability
from jumpsteps.search.costs.correlation import correlation, time_of_correlation
from jumpsteps.search.costs.smoothing import local_plane

__all__ = ["DivergenceTable"]


@dataclass(frozen=True)
class DivergenceTable:
    """Divergence rates at K evaluated times, per unit of noise, of B sequences.

    Attributes:
        forward: the forward process.
        times: the evaluated times, decreasing, [K].
        rates: rates[i, j] is e(t_i, t_j) / sigma(t_j) of each sequence, i < j; zero elsewhere.
            Float64 [K, K, B].
        correction: the surviving fraction of errors.
    """

    forward: ForwardProcess
    times: Floats
    rates: Floats
    correction: ErrorCorrection

    def correlation(self, times: Floats) -> Floats:
        """rho(t)."""
        return correlation(self.forward, times)

    def time_of_correlation(self, rho: Floats) -> Floats:
        return time_of_correlation(self.forward, rho)

    @cached_property
    def nodes(self) -> Floats:
        """The nodes of the interpolation: the evaluated times and 0, decreasing, [K + 1]."""
        return np.append(self.times, 0.0)

    @cached_property
    def node_correlation(self) -> Floats:
        """rho at the nodes, increasing to 1, [K + 1]."""
        return self.correlation(self.nodes)

    @cached_property
    def node_rates(self) -> Floats:
        """``rates`` with t = 0 added, [K + 1, K + 1, B].

        Rates are not defined there; they continue to grow as in the interval before.
        """
        rho = self.node_correlation
        growth = self.rates[-2, -1] * (rho[-1] - rho[-2]) / (rho[-2] - rho[-3])
        extended = np.pad(self.rates, ((0, 1), (0, 1), (0, 0)))
        extended[:-1, -1] = self.rates[:, -1] + growth
        return extended

    def positions(self, times: Floats) -> Floats:
        """Where times lie among the nodes: i + f between the i-th and the next."""
        return np.interp(self.correlation(times), self.node_correlation, np.arange(len(self.nodes)))

    def interpolate(self, start: Floats, end: Floats, rates: Floats) -> Floats:
        """Node rates [K + 1, K + 1, ...] at positions start <= end, [N] each; [N, ...]."""
        i, j = (np.minimum(p.astype(int), len(self.nodes) - 2) for p in (start, end))
        lead = (start - i) - (end - j)
        extra = (slice(None), *[None] * (rates.ndim - 2))
        side = np.where((lead > 0)[extra], rates[i + 1, j], rates[i, j + 1])
        far = np.minimum(start - i, end - j)[extra]
        aside = np.abs(lead)[extra]
        return (1 - far - aside) * rates[i, j] + aside * side + far * rates[i + 1, j + 1]

    def integrand(self, rate: Floats, rho: Floats) -> Floats:
        """What is integrated over rho, of divergence rates [..., len(rho)]."""
        weight = self.correction.noise_weight(rho) * rho ** (self.correction.power - 1)
        return rate * weight / self.forward.spectral_gap

    def surviving_fraction(self, times: Floats) -> Floats:
        """f(s) of steps that end at these times."""
        ends = torch.from_numpy(np.ascontiguousarray(times, dtype=np.float64))
        return self.correction.surviving_fraction(
            corruption_probability(self.forward, ends).numpy()
        )

    def interval_costs(self) -> Floats:
        """The cost of the step from each node to the next, [K]."""
        rate, rho = np.diagonal(self.node_rates.mean(-1), 1), self.node_correlation
        surviving = self.surviving_fraction(self.nodes[1:])
        return surviving * 0.5 * self.integrand(rate, rho[1:]) * np.diff(rho)

    def step_costs(self, grid: Floats, rates: Floats) -> Floats:
        """The cost of every step on a grid [G] if all errors survive, [G, G].

        Args:
            rates: at the nodes, [K + 1, K + 1].
        """
        rho, at = self.correlation(grid), self.positions(grid)
        start, end = np.triu_indices(len(grid))
        rate = np.zeros((len(grid), len(grid)))
        rate[start, end] = self.interpolate(at[start], at[end], rates)
        integrand = self.integrand(rate, rho)
        area = 0.5 * (integrand[:, 1:] + integrand[:, :-1]) * np.diff(rho)
        area[np.arange(len(grid))[:, None] > np.arange(len(grid) - 1)] = 0
        return np.concatenate([np.zeros((len(grid), 1)), area.cumsum(-1)], -1)

    def grid(self, intervals: int) -> Floats:
        """Times from 1 to 0, decreasing, with at least so many intervals between them.

        Every interval between nodes is cut in equal parts of rho.
        """
        each = -(-intervals // len(self.times))
        points = np.arange(each * len(self.times) + 1)
        rho = np.interp(points / each, np.arange(len(self.nodes)), self.node_correlation)
        times = self.time_of_correlation(rho)
        times[::each] = self.nodes
        return np.append(times[times > 0], 0.0)

    def smoothed(self, bandwidth: float) -> "DivergenceTable":
        """The table with less noise from pair to pair.

        log(e / |rho_i - rho_j|) is fitted by a plane around every pair; each sequence's rate is
        scaled by the same factor. Rates below a millionth of the largest are raised to it first.

        Args:
            bandwidth: standard deviation of the fit's Gaussian weights, in numbers of evaluated
                times; 0 changes nothing.
        """
        i, j = np.triu_indices(len(self.times), 1)
        rate = self.rates.mean(-1)[i, j]
        if bandwidth == 0 or not rate.max() > 0:
            return self
        rho = self.node_correlation
        apart = rho[j] - rho[i]
        rate = np.maximum(rate, 1e-6 * rate.max())
        plane = local_plane((i, j), np.log(rate / apart), rho[: len(self.times)], bandwidth)
        rates = self.rates.copy()
        rates[i, j] *= (apart * np.exp(plane) / rate)[:, None]
        return replace(self, rates=rates)
