"""Enumerated models of neighbouring pixels, whose symbols are intensities."""

import torch
from torch import Tensor

from jumpsteps.evaluation.features import Moments, frechet_distance
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential


def pixels(intensities: int, sites: int, width: float) -> Enumerable:
    """Neighbouring pixels of dark and light images, which differ by about ``width`` intensities.

    The kernel is that of images, narrower by the number of intensities.
    """
    x = torch.arange(intensities, dtype=torch.float64) / intensities
    dark = torch.exp(-((x - 0.3) ** 2) / (2 * 0.12**2))
    made = dark + 0.6 * torch.exp(-((x - 0.72) ** 2) / (2 * 0.07**2))
    near = torch.exp(-(((x - x[:, None]) * intensities / width) ** 2) / 2) + 1e-4
    for _ in range(sites - 1):
        made = made[..., None] * (near / near.sum(-1, keepdim=True))
    forward = Gaussian(
        vocab_size=intensities,
        rate_sigma=intensities / 40,
        q_sigma=2.0 * intensities,
        noise=Exponential(base=100.0, scale=2.2 * intensities / 24),
    )
    return Enumerable(forward, made / made.sum())


def moments(model: Enumerable, probs: Tensor) -> Moments:
    """Of the symbols at all sites, exactly."""
    mean = probs @ model.states.double()
    centred = model.states - mean
    return Moments(mean, centred.T @ (centred * probs[:, None]))


def frechet_of_symbols(model: Enumerable, probs: Tensor) -> float:
    """The exact Frechet distance of the symbols themselves from those of the data."""
    return frechet_distance(moments(model, probs), moments(model, model.data_distribution()))
