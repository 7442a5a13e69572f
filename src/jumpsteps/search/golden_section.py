r"""Golden-section search, and the hierarchical break-down of intervals in Jump Your Steps.

A unimodal function on (a, b) is evaluated at two inner points that divide the interval in the ratio
:math:`(\sqrt 5 - 1) / 2`; the part beyond the lesser one is cut off, and the other point divides
the rest in the same ratio. On integers the points are Fibonacci numbers apart (Kiefer 1953). The
hierarchy splits every interval of a schedule in two, level by level (Park et al. 2025, Alg. 1, 2).
"""

import math
from collections.abc import Callable
from itertools import pairwise

__all__ = [
    "golden_section",
    "golden_section_integer",
    "hierarchical",
    "hierarchical_counts",
    "most_of_hierarchical",
    "most_of_hierarchical_counts",
]

GOLDEN = (math.sqrt(5) - 1) / 2


def golden_section(
    objective: Callable[[float], float], low: float, high: float, *, tolerance: float
) -> float:
    """The maximiser of a unimodal function on (low, high); never an end point.

    It stops when the two inner points are closer than ``tolerance``. Each iteration after the
    first evaluates the function once.

    Raises:
        ValueError: low >= high.
    """
    if not low < high:
        raise ValueError(f"golden section needs low < high, got {low} and {high}")
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = objective(left), objective(right)
    while right - left > tolerance:
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = objective(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = objective(right)
    return left if at_left > at_right else right


def golden_section_integer(objective: Callable[[int], float], low: int, high: int) -> int:
    """The maximiser of a unimodal function on the integers strictly between low and high.

    Raises:
        ValueError: there is no integer between.
    """
    if high - low < 2:
        raise ValueError(f"there is no integer between {low} and {high}")
    known: dict[int, float] = {}

    def at(n: int) -> float:
        if n >= high:
            return -math.inf
        if n not in known:
            known[n] = objective(n)
        return known[n]

    short, long = 1, 2
    while low + short + long < high:
        short, long = long, short + long
    while long > 1:
        left, right = low + short, low + long
        if at(left) < at(right):
            low = left
        short, long = long - short, short
    return low + 1


def hierarchical(
    split: Callable[[float, float], float], levels: int, *, t_min: float
) -> list[tuple[float, ...]]:
    """Split (1, t_min) into 1, 2, 4, ..., 2^levels steps.

    Args:
        split: u, t -> a time between u and t.
        levels: how often every interval is split.
        t_min: the last time.

    Returns:
        The times of every level, decreasing; level k has 2^k steps.
    """
    times: tuple[float, ...] = (1.0, t_min)
    found = [times]
    for _ in range(levels):
        middle = [split(u, t) for u, t in pairwise(times)]
        times = tuple(sorted({*times, *middle}, reverse=True))
        found.append(times)
    return found


def hierarchical_counts(
    split: Callable[[int, int], int], levels: int, *, total: int
) -> list[tuple[int, ...]]:
    """Split ``total`` masked sites into 1, 2, 4, ..., 2^levels steps.

    A step that reveals one site cannot be split; the step that reveals the most is split in its
    place.

    Args:
        split: n_u, n_t -> a number of masked sites between n_u and n_t.
        levels: how often every step is split.
        total: masked sites at the start.

    Returns:
        The numbers of masked sites between the steps of every level, decreasing from ``total`` to
        0; level k has 2^k steps.

    Raises:
        ValueError: fewer sites than steps.
    """
    if total < 2**levels:
        raise ValueError(
            f"{total} sites cannot be revealed in {2**levels} steps, at least one in each; "
            "ask for fewer steps"
        )
    left: tuple[int, ...] = (total, 0)
    found = [left]
    for level in range(1, levels + 1):
        middle = [split(u, t) for u, t in pairwise(left) if u - t > 1]
        left = tuple(sorted({*left, *middle}, reverse=True))
        while len(left) <= 2**level:
            u, t = max(pairwise(left), key=lambda pair: pair[0] - pair[1])
            left = tuple(sorted({*left, split(u, t)}, reverse=True))
        found.append(left)
    return found


def most_of_hierarchical(levels: int, *, length: float, tolerance: float) -> int:
    """Evaluations by ``golden_section`` in ``hierarchical`` of an interval of this length, at most.

    A split takes two, and one for each time that the distance d of the inner points is multiplied
    by ``GOLDEN`` until it is the tolerance: at most 1 + log(1 + d / tolerance) / log(1 / GOLDEN).
    This is concave in d, so that equal intervals take the most.
    """
    most = 0
    for level in range(levels):
        distance = (2 * GOLDEN - 1) * length / 2**level
        most += 2**level * (3 + math.ceil(math.log(1 + distance / tolerance, 1 / GOLDEN)))
    return most


def most_of_hierarchical_counts(levels: int, *, total: int) -> int:
    """Evaluations by ``golden_section_integer`` in ``hierarchical_counts``, at most.

    There are 2^levels - 1 splits. One of n sites takes one evaluation more than there are Fibonacci
    numbers from 2 up to n, which is at most that of ``total``.
    """
    numbers, short, long = 1, 1, 2
    while short + long < total:
        short, long, numbers = long, short + long, numbers + 1
    return (2**levels - 1) * (numbers + 1)
