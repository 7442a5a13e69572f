r"""The calibration gap of a model by rank: -log p of data minus the entropy, with less noise.

A model evaluation with the first m sites of an order known gives, for every later rank j,
:math:`d_j(m) = -\log p(x_{\pi_j}) - H(p(x_{\pi_j}))`, whose mean is zero for a calibrated model.
It is noisier than the entropy and varies more slowly.
"""

import numpy as np
from numpy.typing import NDArray

from jumpsteps.core.information import Floats, standard_error
from jumpsteps.search.costs.smoothing import GAP_BANDWIDTHS, local_line, local_lines

__all__ = ["mean_over_ranks", "smoothed_gap"]

Counts = NDArray[np.int64]

GAP_OCTAVES = 0.5
"""Bandwidth of the smoothing of the calibration gap over ranks, in octaves of their distance to
the known ones."""


def mean_over_ranks(values: Floats, counts: Counts) -> Floats:
    """Values [K, B, sites] of a random order: the mean over all masked ranks for each of them."""
    masked = np.arange(values.shape[-1]) >= counts[:, None, None]
    return np.where(masked, values.sum(-1, keepdims=True) / masked.sum(-1, keepdims=True), 0.0)


def smoothed_gap(gap: Floats, counts: Counts, bandwidth: float, *, exchangeable: bool) -> Floats:
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
    mean, error = table.mean(-1), standard_error(table)
    share = 1 - np.divide(2 * error, mean, out=np.full_like(mean, 1.0), where=mean != 0) ** 2
    shrunk, smooth = mean * share.clip(0), np.zeros((len(counts), 1, sites))
    for k, m in enumerate(counts.tolist()):
        smooth[k, 0, m:] = shrunk[k, : sites - m]
    return smooth


def by_distance(values: Floats, counts: Counts) -> Floats:
    """Values [K, B, sites] by the distance of their ranks to the known ones, [K, sites, B]: those
    of rank m first; zero where no ranks are left.
    """
    sites = values.shape[-1]
    table = np.zeros((len(counts), sites, values.shape[1]))
    for k, m in enumerate(counts.tolist()):
        table[k, : sites - m] = values[k, :, m:].T
    return table


def smooth_over_distances(table: Floats, counts: Counts) -> None:
    """Replace the values [K, sites, B] of each evaluation by those of lines over the logarithm of
    the distance to the known ranks.
    """
    sites = table.shape[1]
    # A line through two points or fewer smooths nothing.
    sizes = [sites - m for m in counts.tolist() if sites - m >= 3]
    at = np.log(np.arange(1, sites + 1, dtype=np.float64))
    lines = local_lines(at, GAP_OCTAVES * np.log(2), sizes)
    for each, n, (fit, waves) in zip(table, sizes, lines, strict=False):
        each[:n] = fit @ (waves @ each[:n])


def smooth_over_counts(table: Floats, counts: Counts, bandwidth: float) -> None:
    """Replace each value [K, sites, B] by that of a line through those at the same distance from
    the known ranks in other evaluations.
    """
    sites, at = table.shape[1], np.arange(len(counts), dtype=np.float64)
    ends = sites - np.append(counts, sites)
    for n in range(2, len(counts) + 1):
        # The n first evaluations are those that have ranks at these distances.
        those, fit = table[:n, ends[n] : ends[n - 1]], local_line(at[:n], at[:n], bandwidth)
        those[:] = (fit @ those.reshape(n, -1)).reshape(those.shape)
