r"""Fixed schedules: uniform, cosine and powers. They need neither a model nor data.

With the share of masked sites :math:`m(u)` after a share u of the N steps,

* uniform: :math:`m(u) = 1 - u`;
* cosine: :math:`m(u) = \cos(\pi u / 2)`, few sites first (MaskGIT, Chang et al. 2022);
* power: :math:`m(u) = (1 - u)^p`, many sites first for p > 1, few for p < 1;
* ``get_schedule``: :math:`m(u) = 1 - (e^{b u^a} - 1) / (e^b - 1)`, few sites first, for counts in
  golden order. Its two parameters are fitted to the costs of several models.

In times, t takes the place of the masked share, which is the same for log-linear noise.
"""

import math
from collections.abc import Callable

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.schedules.conversion import counts_between
from jumpsteps.schedules.interpolation import check_steps
from jumpsteps.schedules.orders import Golden, Random, RevealOrder
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

__all__ = ["cosine", "cosine_counts", "get_schedule", "power", "uniform", "uniform_counts"]

FITTED = (1.5, 1.58)
"""a and b of ``get_schedule``, by experiments/fitted.py."""


@kinds_checked()
def uniform(steps: int) -> TimeSchedule:
    """Equal steps in time: t_i = 1 - i/N. Raises ValueError for fewer than one step."""
    check_steps(steps)
    return TimeSchedule([1 - i / steps for i in range(steps)] + [0.0], Provenance(method="uniform"))


@kinds_checked()
def cosine(steps: int) -> TimeSchedule:
    """t_i = cos(pi/2 i/N): short steps first. Raises ValueError for fewer than one step."""
    check_steps(steps)
    times = [math.cos(0.5 * math.pi * i / steps) for i in range(steps)]
    return TimeSchedule([*times, 0.0], Provenance(method="cosine"))


@kinds_checked()
def power(steps: int, exponent: float) -> TimeSchedule:
    """t_i = (1 - i/N)^p: uniform for p = 1, short steps last for p > 1.

    Raises:
        ValueError: fewer than one step, an exponent that is not positive, or so large that times
            coincide.
    """
    check_steps(steps)
    if not exponent > 0:
        raise ValueError(f"the exponent must be positive, got {exponent}")
    times = [(1 - i / steps) ** exponent for i in range(steps)]
    return TimeSchedule([*times, 0.0], Provenance(method=f"power {exponent:g}"))


@kinds_checked()
def uniform_counts(steps: int, total: int, order: RevealOrder = Random()) -> CountSchedule:
    """``total`` sites in equal counts, as far as they are whole numbers.

    Raises:
        ValueError: fewer than one step, or more steps than sites.
    """
    return counts_of(lambda done: 1 - done, steps, total, "uniform", order)


@kinds_checked()
def cosine_counts(steps: int, total: int, order: RevealOrder = Random()) -> CountSchedule:
    """``total`` sites, of which a share cos(pi/2 i/N) is masked after i steps: small counts first.

    Raises:
        ValueError: fewer than one step, or more steps than sites.
    """
    return counts_of(lambda done: math.cos(0.5 * math.pi * done), steps, total, "cosine", order)


@kinds_checked()
def get_schedule(
    steps: int,
    total: int = 1024,
    *,
    order: RevealOrder = Golden(),
    shape: tuple[float, float] = FITTED,
) -> CountSchedule:
    """Counts for a masked model that nothing is known of, in closed form.

    They are a compromise of what searches found on melodies, text and CountDown: few sites first,
    then more and more. A search on the model's own data is better.

    Args:
        total: sites; a run with another number rescales the counts.
        order: the parameters are fitted to golden order. In random order they do not fit.
        shape: a and b, positive. (1, b near 0) are equal counts, which are better on text.

    Raises:
        ValueError: fewer than one step, more steps than sites, or parameters that are not positive.
    """
    a, b = shape
    if not (a > 0 and b > 0):
        raise ValueError(f"both parameters of the shape must be positive, got {a} and {b}")
    return counts_of(
        lambda done: 1 - math.expm1(b * done**a) / math.expm1(b), steps, total, "fitted", order
    )


def counts_of(
    masked: Callable[[float], float], steps: int, total: int, method: str, order: RevealOrder
) -> CountSchedule:
    """A count schedule from the share of sites that are masked after a share of the steps; no step
    reveals nothing.
    """
    check_steps(steps)
    inner = [round(total * masked(i / steps)) for i in range(1, steps)]
    return CountSchedule(counts_between([total, *inner, 0]), Provenance(method=method), order)
