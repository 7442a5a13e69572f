r"""Draws from the U-Net's logistic distribution times a table of weights, in one compiled pass.

A step needs for each site with the token x a symbol from :math:`p(v)\, w(x, v)`, and the mean of w
under p, the distribution of ``logistic_bins.truncated_logistic`` over V bins. The masses are made
where they are added up, and again for the run of about sqrt(V) neighbours that the symbol is drawn
from (``core.draws.categorical`` draws in the same two stages). Nothing waits for a GPU, and the
compiler writes one float32 tensor of V numbers for each site at most.

With l < u the edges of a bin relative to the location, in units of the scale, and d its distance
from the location in these units, the mass with its floor is

.. math:: e^{-d} \left(c\, a\, b + 10^{-6} \min(a, b)\right), \quad
    a = \frac{1}{1 + e^{-|l|}}, \quad b = \frac{1}{1 + e^{-|u|}}, \quad c = 1 - e^{-(u - l)}.

The least d of a site's bins is subtracted first, so that float32 holds the masses of bins far from
the location, too.
"""

import math

import torch
from torch import Tensor

from jumpsteps.models.networks.logistic_bins import FLOOR

__all__ = ["weighted_draw", "weighted_masses"]


def weighted_draw(rows: Tensor, x: Tensor, table: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    """A symbol of each site from p(v) w(x, v), and the mean of w(x, v) under p.

    Args:
        rows: location and log-scale, [K, 2], of heads whose both tails are floored.
        x: int64 [K].
        table: w, float32 [V, V], row x; negative where p(v) is to be zero.
        u: uniform numbers, float64 [K].

    Returns:
        symbols int64 [K], means float64 [K], and the sums of the masses and of the weighted masses,
        float64 [K], which are positive and finite where there is something to draw.
    """
    symbols = table.shape[1]
    width = math.isqrt(symbols)
    runs = -(-symbols // width)
    location, inverse, least = site_numbers(rows, x, table)
    columns = torch.arange(runs * width, device=x.device)
    mass, weight = masses(
        location[:, None], inverse[:, None], least[:, None], x[:, None], columns, table
    )
    of_runs = (each.unflatten(1, (runs, width)).sum(-1) for each in (mass, mass * weight))
    parts, sums = ([part.double() for part in each.unbind(1)] for each in of_runs)
    total = sum(parts[1:], parts[0])
    run, share, whole = place_of(sums, u)
    parts = []
    for i in range(width):
        mass, weight = masses(location, inverse, least, x, run * width + i, table)
        parts.append((mass * weight).double())
    place, _, _ = place_of(parts, share)
    drawn = (run * width + place).clamp_max(symbols - 1)
    return drawn, whole / total, total, whole


def weighted_masses(
    rows: Tensor, x: Tensor, table: Tensor, rates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """p(v) w(x, v), float32 [K, V], the mean of a second table's r(x, v) under p, float32 [K], and
    the sums of the masses before they are made probabilities, float32 [K].

    Args:
        rows, x: see ``weighted_draw``.
        table, rates: w and r, float32 [V, V], row x; negative, both, where p(v) is to be zero.
    """
    location, inverse, least = site_numbers(rows, x, table)
    columns = torch.arange(table.shape[1], device=x.device)
    mass, weight = masses(
        location[:, None], inverse[:, None], least[:, None], x[:, None], columns, table
    )
    total = mass.sum(-1)
    mean = (mass * rates[x].clamp_min(0)).sum(-1) / total
    return mass / total[:, None] * weight, mean, total


def site_numbers(rows: Tensor, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Location, inverse scale and the least distance of a bin that p leaves to each site, [K]."""
    location, log_scale = rows.float().unbind(-1)
    inverse, symbols = torch.exp(2 - log_scale), table.shape[1]
    columns = torch.arange(symbols, device=x.device)
    lower, upper = edges(location[:, None], inverse[:, None], columns, symbols)
    apart = torch.where(table[x] < 0, torch.inf, distance(lower, upper))
    return location, inverse, apart.amin(-1)


def edges(
    location: Tensor, inverse: Tensor, columns: Tensor, symbols: int
) -> tuple[Tensor, Tensor]:
    """Of these bins, relative to the location in units of the scale."""
    lower, upper = (((2 * columns + i) / symbols - 1 - location) * inverse for i in (0, 2))
    return lower, upper


def distance(lower: Tensor, upper: Tensor) -> Tensor:
    """Of a bin from the location; zero if it holds it."""
    return lower.clamp_min(0) + (-upper).clamp_min(0)


def masses(
    location: Tensor, inverse: Tensor, least: Tensor, x: Tensor, columns: Tensor, table: Tensor
) -> tuple[Tensor, Tensor]:
    """Masses of bins, up to a factor of each site and zero where p is, and their weights."""
    symbols = table.shape[1]
    lower, upper = edges(location, inverse, columns, symbols)
    value = table.flatten()[x * symbols + columns.clamp_max(symbols - 1)]
    a, b = (1 / (1 + torch.exp(-edge.abs())) for edge in (lower, upper))
    shape = -torch.expm1(-2 / symbols * inverse) * a * b + FLOOR * torch.minimum(a, b)
    mass = torch.exp(least - distance(lower, upper)) * shape
    kept = (value >= 0) & (columns < symbols)
    return torch.where(kept, mass, 0.0), value.clamp_min(0)


def place_of(parts: list[Tensor], u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the share u of the sum of ``parts``, float64 [K] each, falls: the part, int64 [K], the
    share of that part, and the sum.
    """
    total = sum(parts[1:], parts[0])
    threshold = torch.minimum(u * total, total * (1 - 2**-53))  # Below the total, by rounding.
    cumulative, place = torch.zeros_like(total), torch.zeros_like(total, dtype=torch.int64)
    before, own = torch.zeros_like(total), parts[0]
    for i, part in enumerate(parts[:-1]):
        cumulative = cumulative + part
        passed = cumulative <= threshold
        place = place + passed
        before = torch.where(passed, cumulative, before)
        own = torch.where(passed, parts[i + 1], own)
    return place, (threshold - before) / own, total
