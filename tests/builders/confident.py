"""Denoisers of 256 intensities that are sure of a symbol near the site's own: what an image network
is at little noise, where most likelihoods are below float32."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.models.networks.logistic_bins import truncated_logistic
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Time

CIFAR = Gaussian()


@dataclass(frozen=True)
class Confident:
    """A logistic distribution around the own symbol, float32, as narrow as ``log_scale`` says.

    Attributes:
        log_scale: before ``switch``, and from this time on.
        switch: a time.
    """

    log_scale: tuple[float, float]
    switch: float = 0.5

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        early, late = self.log_scale
        scale = torch.full(x.shape, early if float(t) < self.switch else late)
        location = ((2 * x + 1) / 256 - 1).to(torch.float32)
        output = truncated_logistic(location, scale, 256, symmetric=True).log_softmax(-1)
        return output if where is None else output[where]


def log_odds(output: Tensor, x: Tensor, t: float, own: Tensor, level: float) -> Tensor:
    """log p(y) / p(own) of p = w q_{level|0}, float64 [K, V], by sums of logarithms.

    w is the leave-one-out posterior of a model's output [K, V] at sites x [K] and time t; the sites
    are in the states ``own`` [K] now.
    """
    log_w = output.to(torch.float64) - CIFAR.transition(0.0, t).log().T[x]
    log_probs = torch.logsumexp(log_w[:, :, None] + CIFAR.transition(0.0, level).log(), 1)
    return log_probs - log_probs.gather(-1, own[:, None])
