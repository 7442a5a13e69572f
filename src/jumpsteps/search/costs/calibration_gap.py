r"""The calibration gap of a model by rank: -log p of data minus the entropy, with less noise.

A model evaluation with the first m sites of an order known gives, for every later rank j,
:math:`d_j(m) = -\log p(x_{\pi_j}) - H(p(x_{\pi_j}))`, whose mean is zero for a calibrated model.
It is noisier than the entropy and varies more slowly.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.information import Floats, standard_error
from jumpsteps.search.costs.smoothing import GAP_BANDWIDTHS, local_lines

__all__ = ["mean_over_ranks", "smoothed_gap"]

Counts = NDArray[np.int64]

GAP_OCTAVES = 0.5
"""Bandwidth of the smoothing of the calibration gap over ranks, in octaves of their distance to
the known ones."""


def mean_over_ranks(values: Floats, counts: Counts) -> Floats:
    """Values [K, B, sites] of a random order: the mean over all masked ranks for each of them."""
    masked = np.arange(values.shape[-1]) >= counts[:, None, None]
    return np.where(masked, values.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True), 0.0)


def smoothed_gap(
    gap: Floats,
    counts: Counts,
    bandwidth: float,
    *,
    exchangeable: bool,
    workers: Workers = ALONE,
) -> Floats:
    """The mean calibration gap of [K, B, sites] with less noise, [K, 1, sites]; zero if revealed.

    It is taken for a function of the number m of known ranks and, except in a random order, of the
    distance j + 1 - m of rank j to them. It is smoothed over the evaluations, and over the
    logarithm of the distance. What is left is shrunk towards zero by its standard error e, by the
    factor 1 - (2 e / gap)^2 or 0: a calibrated model has the costs of its entropies. Processes,
    which all have the gap, share the work.
    """
    if bandwidth > 0:
        gap = gap.copy()
        if not exchangeable:
            smooth_over_distances(gap, counts, workers)
        gap = smoothed_over_counts(gap, counts, GAP_BANDWIDTHS * bandwidth)
    masked = np.arange(gap.shape[-1]) >= counts[:, None, None]
    mean, error = gap.mean(1, keepdims=True), standard_error(gap.transpose(0, 2, 1))[:, None]
    share = 1 - np.divide(2 * error, mean, out=np.full_like(mean, 1.0), where=mean != 0) ** 2
    return np.where(masked, mean * share.clip(0), 0.0)


def smooth_over_distances(gap: Floats, counts: Counts, workers: Workers) -> None:
    """Replace the values [K, B, sites] of each evaluation by those of lines over the logarithm of
    the distance to the known ranks.
    """
    sites = gap.shape[-1]
    # A line through two points or fewer smooths nothing.
    many = int((sites - counts >= 3).sum())
    mine = slice(workers.rank, many, workers.count)
    starts, at = counts[mine].tolist(), np.log(np.arange(1, sites + 1, dtype=np.float64))
    lines = local_lines(at, GAP_OCTAVES * np.log(2), [sites - m for m in starts])
    for each, m, line in zip(gap[mine], starts, lines, strict=True):
        each[:, m:] = each[:, m:] @ line.T
    gap[:many] = workers.of_all(torch.from_numpy(gap[mine]), many).numpy()


def smoothed_over_counts(gap: Floats, counts: Counts, bandwidth: float) -> Floats:
    """[K, B, sites], each value replaced by that of a line through those at the same distance from
    the known ranks in other evaluations.
    """
    sites, at = gap.shape[-1], np.arange(len(counts), dtype=np.float64)
    shifted = np.zeros_like(gap)
    for k, m in enumerate(counts.tolist()):
        shifted[k, :, : sites - m] = gap[k, :, m:]
    ends = sites - np.append(counts, sites)
    for n, fit in enumerate(local_lines(at, bandwidth, range(2, len(counts) + 1)), 2):
        # The n first evaluations are those that have ranks at these distances.
        those = slice(ends[n], ends[n - 1])
        shifted[:n, :, those] = np.einsum("kn,nbs->kbs", fit, shifted[:n, :, those])
    smooth = np.zeros_like(gap)
    for k, m in enumerate(counts.tolist()):
        smooth[k, :, m:] = shifted[k, :, : sites - m]
    return smooth
