"""The cross-entropy of x_0 at a random time, for kernels that are given by a matrix."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from jumpsteps.core.draws import uniform
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.networks.logistic_bins import log_probability_of_bin
from jumpsteps.models.networks.time_features import time_tensor
from jumpsteps.models.networks.unet import UNetPosterior
from jumpsteps.process.noising_table import NoisingTable
from jumpsteps.process.rate_matrix import MatrixKernel
from jumpsteps.training.losses import log_posterior, negative_log_likelihood

__all__ = ["CrossEntropy", "drawn_times"]


@dataclass(frozen=True)
class CrossEntropy:
    r"""-log p(x_0^l | x_t), summed over sites, at a random time: no bound of -log p(x_0).

    The cross-entropy is a proper score, so with any density of times the posterior minimises it.
    Here t = t_min + (1 - t_min) u^2 with u uniform: small times, at which details are decided, are
    drawn more often than late ones. Times come from a set of ``times`` equally likely values of u,
    and x_t from a table of their transition rows.

    A ``UNetPosterior`` is read at the bin of x_0 alone, by two numbers per site.

    Attributes:
        t_min: smallest time.
        times: number K of times; the table takes 8 K V^2 bytes.

    Raises:
        ValueError: a kernel that is not given by a matrix, or a model that is not of x_0.
    """

    t_min: float = 0.002
    times: int = 1024

    def __call__(
        self, reverse: ReverseProcess, x0: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        if not isinstance(reverse.forward, MatrixKernel):
            raise ValueError(
                f"CrossEntropy needs a kernel that is given by a matrix, got "
                f"{reverse.forward.name}; use ScoreEntropy() or MaskedCrossEntropy()"
            )
        if not isinstance(reverse, PosteriorReverse):
            raise ValueError("CrossEntropy needs a model with output 'posterior'")
        table = table_of(reverse.forward, self.t_min, self.times, x0.device)
        which = drawn_times(len(x0), self.times, generator=generator)
        x, t = table.draw(x0, which, generator=generator), table.times[which]
        return site_nll(reverse, x, t, x0).sum(-1)


@lru_cache(maxsize=1)
def table_of(forward: MatrixKernel, t_min: float, count: int, device: torch.device) -> NoisingTable:
    """The table of the loss; the one in use is kept, since all batches of a run share it."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return NoisingTable(forward, t_min + (1 - t_min) * u**2, device=device)


def drawn_times(n: int, count: int, *, generator: torch.Generator) -> Tensor:
    """n indices of ``count`` equally likely times, int64 [n], one in each of n equal cells."""
    device = generator.device
    within = uniform((n,), generator=generator, device=device)
    cell = torch.arange(n, device=device, dtype=torch.float64)
    return ((cell + within) * (count / n)).long().clamp_max(count - 1)


def site_nll(reverse: PosteriorReverse, x: Tensor, t: Tensor, x0: Tensor) -> Tensor:
    """-log p(x_0^l | x_t) [B, L] of a posterior model."""
    model = reverse.model
    if not isinstance(model, UNetPosterior):
        return negative_log_likelihood(log_posterior(reverse, reverse.call_model(x, t), x, t), x0)
    location, log_scale = model.network(x, time_tensor(t, x.device)).unbind(-1)
    config = model.network.config
    return -log_probability_of_bin(
        location, log_scale, x0, config.vocab_size, symmetric=config.symmetric
    )
