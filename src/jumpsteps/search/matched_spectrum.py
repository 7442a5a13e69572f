r"""Times for symbols that are numbers, by the second moments of the data alone.

Suppose the data were a stationary Gaussian field with the covariance of the data, whose modes
(frequencies, and mixtures of channels) have variances :math:`\lambda_k`, and the network exact.
Under a kernel that pulls numbers towards their mean, with correlation :math:`\rho_t` of x_t with
x_0 and stationary variance v, a mode has the variance :math:`P_k(t) = \rho_t^2 \lambda_k + (1 -
\rho_t^2) v`. One step of Tweedie's sampler is then linear, and the variance of a mode of samples is

.. math:: V_k \leftarrow g_k^2 V_k + \mathrm{mean}_j\, P_j(s) (1 - a g_j), \qquad
    g_k = a P_k(s) / P_k(t), \quad a = \rho_t / \rho_s.

Every site is drawn from its exact conditional, but independently of the others. So all modes get
the same new variance, the mean of what they should get: too little for coarse structure, too much
for details.

So the variances of the samples are a function of the times, which needs no network, and their
distance from those of the data is minimised over the times,

.. math:: \sum_k \lambda_k^{-b} \big( \sqrt{V_k} - \sqrt{\lambda_k} \big)^2.

At b = 0 it is the Frechet distance of the field from the data, in squared intensities, where coarse
structure counts most; at b = 1 all modes count alike. What is not Gaussian in the data does not
enter, nor does the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.paths import Paths

__all__ = ["MatchedSpectrum", "Spectrum"]

GROUPS = 64
"""Modes of nearly the same variance are one group."""

LEAST = 1 / 12
"""The least variance of a mode: that of rounding to whole numbers."""

ITERATIONS = 400


@dataclass(frozen=True)
class Spectrum:
    """Variances of the modes of a stationary field, in groups.

    Attributes:
        variance: float64 [M], in squared symbols.
        share: the share of all modes that are in each group, float64 [M].
    """

    variance: Tensor
    share: Tensor

    @classmethod
    def of(cls, data: Tensor, shape: tuple[int, ...]) -> "Spectrum":
        """From sequences int64 [B, L] that are fields of ``shape``, channels first.

        Raises:
            ValueError: one sequence only, or L is not the product of ``shape``.
        """
        if len(data) < 2 or data.shape[1] != prod(shape):
            raise ValueError(
                f"a spectrum needs two sequences or more of {prod(shape)} sites for fields of "
                f"shape {list(shape)}, got {list(data.shape)}; pass the shape of your data"
            )
        space = tuple(range(2, len(shape) + 1))
        field = data.to(torch.float64).view(-1, *shape)
        field = field - field.mean((0, *space), keepdim=True)
        waves = torch.fft.fftn(field, dim=space, norm="ortho").flatten(2)
        covariance = torch.einsum("bik,bjk->kij", waves, waves.conj()) / len(data)
        modes = torch.linalg.eigvalsh(covariance).flatten().clamp_min(LEAST)
        scale = modes.log()
        width = (scale.max() - scale.min()).clamp_min(1e-9)
        group = ((scale - scale.min()) / width * (GROUPS - 1)).round().long()
        count = torch.bincount(group, minlength=GROUPS).to(modes)
        total = torch.zeros_like(count).index_add_(0, group, modes)
        there = count > 0
        return cls((total / count)[there], (count / count.sum())[there])


@kinds_checked()
@dataclass(frozen=True)
class MatchedSpectrum:
    """The times along which samples of a Gaussian field with the data's spectrum are nearest to it.

    It makes no model call, and serves any number of steps of Tweedie's sampler with the Gaussian
    kernel.

    Attributes:
        shape: of a sequence as a field, channels first; (1, L) for a line.
        detail: b, between 0 (coarse structure counts most) and 1 (all modes count alike).
        t_min: no step ends between this time and 0.

    Raises:
        ValueError: a detail outside [0, 1] or a t_min outside [0, 1).
    """

    shape: tuple[int, ...] = (3, 32, 32)
    detail: float = 0.5
    t_min: float = 1e-3
    max_evaluations: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.detail <= 1 and 0 <= self.t_min < 1):
            raise ValueError(
                "MatchedSpectrum needs a detail in [0, 1] and a t_min in [0, 1), "
                f"got {self.detail} and {self.t_min}"
            )

    @property
    def name(self) -> str:
        return "matched-spectrum"

    @property
    def sampler(self) -> Sampler:
        return Tweedie()

    def find(
        self,
        reverse: ReverseProcess,
        paths: Paths,
        steps: list[int],
        sampler: Sampler,
        *,
        generator: torch.Generator,
    ) -> Mapping[int, FoundSchedule]:
        """The schedule for each number of steps; without predicted errors.

        Raises:
            ValueError: another kernel or sampler, observed sites, or what ``Spectrum.of`` refuses.
        """
        if not isinstance(reverse.forward, Gaussian):
            raise ValueError(
                "method matched-spectrum is for the Gaussian kernel, this model has the "
                f"{reverse.forward.name} kernel; use --method shortest-path"
            )
        if sampler != Tweedie():
            raise ValueError(
                f"method matched-spectrum serves tweedie, got {sampler.name}; use "
                "--method shortest-path-noise"
            )
        if not paths.free.all():
            raise ValueError("method matched-spectrum needs all sites free; use shortest-path")
        spectrum = Spectrum.of(paths.data.cpu(), self.shape)
        return {n: FoundSchedule(self.times(reverse.forward, spectrum, n)) for n in steps}

    def times(self, forward: Gaussian, spectrum: Spectrum, steps: int) -> TimeSchedule:
        """By L-BFGS from uniform times; the unknowns are logarithms of the steps' lengths."""
        if steps == 1:
            return TimeSchedule([1.0, 0.0])

        def times_of(z: Tensor) -> Tensor:
            inner = 1 - (1 - self.t_min) * z.softmax(0).cumsum(0)[:-1]
            return torch.cat([inner.new_ones(1), inner, inner.new_zeros(1)])

        with torch.inference_mode(False), torch.enable_grad():
            z = torch.zeros(steps, dtype=torch.float64, requires_grad=True)
            optimiser = torch.optim.LBFGS(
                [z], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
            )

            def loss() -> Tensor:
                optimiser.zero_grad()
                value = self.distance(forward, spectrum, times_of(z)).log()
                value.backward()
                return value

            optimiser.step(loss)
            return TimeSchedule(times_of(z.detach()).tolist())

    def distance(self, forward: Gaussian, spectrum: Spectrum, times: Tensor) -> Tensor:
        """The distance of samples along these times from the data, a float64 number."""
        made = variances(forward, spectrum, times)
        apart = (made.sqrt() - spectrum.variance.sqrt()).square()
        return (spectrum.share * apart * spectrum.variance**-self.detail).sum()


def variances(forward: Gaussian, spectrum: Spectrum, times: Tensor) -> Tensor:
    """V of each group after a run along ``times`` [N + 1], differentiable, float64 [M]."""
    symbols, prior = torch.arange(forward.vocab_size, dtype=torch.float64), forward.prior()
    v = prior @ (symbols - prior @ symbols).square()
    rho = torch.exp(-forward.spectral_gap * forward.noise.total(times))
    noisy = rho[:, None].square() * spectrum.variance + (1 - rho[:, None].square()) * v
    before, after = noisy[:-1], noisy[1:]
    a = (rho[:-1] / rho[1:])[:, None]
    g = a * after / before
    c = (after * (1 - a * g)) @ spectrum.share
    kept = g.square().flip(0).cumprod(0).flip(0)  # Of the variance before each step.
    later = torch.cat([kept[1:], torch.ones_like(kept[:1])])
    return v * kept[0] + (c[:, None] * later).sum(0)
