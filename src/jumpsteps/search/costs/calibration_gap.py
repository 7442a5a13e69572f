r"""The calibration gap of a model by rank: -log p of data minus the entropy, with less noise.

A model evaluation with the first m sites of an order known gives, for every later rank j,
:math:`d_j(m) = -\log p(x_{\pi_j}) - H(p(x_{\pi_j}))`, whose mean is zero for a calibrated model.
It is noisier than the entropy and varies more slowly.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.tensors import sent
from jumpsteps.search.costs.smoothing import GAP_BANDWIDTHS, local_line, local_lines

__all__ = ["smoothed_gap"]

Counts = NDArray[np.int64]

GAP_OCTAVES = 0.5
"""Bandwidth of the smoothing of the calibration gap over ranks, in octaves of their distance to
the known ones."""


def smoothed_gap(gap: Tensor, counts: Counts, bandwidth: float, *, exchangeable: bool) -> Tensor:
    """The mean calibration gap of [K, B, sites] with less noise, [K, 1, sites]; zero if revealed.

    It is taken for a function of the number m of known ranks and, except in a random order, of the
    distance j + 1 - m of rank j to them. It is smoothed over the evaluations, and over the
    logarithm of the distance. What is left is shrunk towards zero by its standard error e, by the
    factor 1 - (2 e / gap)^2 or 0: a calibrated model has the costs of its entropies.
    """
    table, sites = by_distance(gap, counts), gap.shape[-1]
    if bandwidth > 0:
        if not exchangeable:
            smooth_over_distances(table, counts)
        smooth_over_counts(table, counts, GAP_BANDWIDTHS * bandwidth)
    mean, sequences = table.mean(-1), table.shape[-1]
    # PyTorch's own standard deviation takes ten times as long on a CPU.
    norm = torch.linalg.vector_norm(table - mean[..., None], dim=-1)
    error = norm / math.sqrt(sequences * (sequences - 1))
    share = 1 - torch.where(mean != 0, 2 * error / mean, 1.0) ** 2
    shrunk, smooth = mean * share.clamp_min(0), gap.new_zeros(len(counts), 1, sites)
    for k, m in enumerate(counts.tolist()):
        smooth[k, 0, m:] = shrunk[k, : sites - m]
    return smooth


def by_distance(values: Tensor, counts: Counts) -> Tensor:
    """Values [K, B, sites] by the distance of their ranks to the known ones, [K, sites, B]: those
    of rank m first; zero where no ranks are left.
    """
    sites = values.shape[-1]
    table = values.new_zeros(len(counts), sites, values.shape[1])
    for k, m in enumerate(counts.tolist()):
        table[k, : sites - m] = values[k, :, m:].T
    return table


def smooth_over_distances(table: Tensor, counts: Counts) -> None:
    """Replace the values [K, sites, B] of each evaluation by those of lines over the logarithm of
    the distance to the known ranks.
    """
    sites = table.shape[1]
    # A line through two points or fewer smooths nothing.
    sizes = [sites - m for m in counts.tolist() if sites - m >= 3]
    at = torch.arange(1, sites + 1, dtype=torch.float64, device=table.device).log()
    lines = local_lines(at, GAP_OCTAVES * math.log(2), sizes)
    for each, n, (fit, waves) in zip(table, sizes, lines, strict=False):
        each[:n] = fit @ (waves @ each[:n])


def smooth_over_counts(table: Tensor, counts: Counts, bandwidth: float) -> None:
    """Replace each value [K, sites, B] by that of a line through those at the same distance from
    the known ranks in other evaluations.
    """
    sites, at = table.shape[1], np.arange(len(counts), dtype=np.float64)
    ends = (sites - np.append(counts, sites)).tolist()
    for n in range(2, len(counts) + 1):
        # The n first evaluations are those that have ranks at these distances.
        those = table[:n, ends[n] : ends[n - 1]]
        fit = sent(torch.from_numpy(local_line(at[:n], at[:n], bandwidth)), table.device)
        those.copy_((fit @ those.flatten(1)).view(those.shape))
