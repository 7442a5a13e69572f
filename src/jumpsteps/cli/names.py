"""Names that the command line takes, and the objects they stand for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from jumpsteps.schedules.fixed import (
    cosine,
    cosine_counts,
    get_schedule,
    uniform,
    uniform_counts,
)
from jumpsteps.schedules.orders import (
    Blocks,
    Dilated,
    Golden,
    Random,
    RevealOrder,
    Sequential,
    Spread,
)
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.search.costs.correction import NOISE_WEIGHTED
from jumpsteps.search.jys import JYS
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.matched_spectrum import MatchedSpectrum
from jumpsteps.search.method import Method
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["DTYPES", "FIXED", "METHODS", "ORDERS", "SHIPPED", "choices", "pick"]

ORDERS: dict[str, RevealOrder] = {
    order.name: order for order in (Random(), Spread(), Golden(), Dilated(), Sequential(), Blocks())
}
T_MIN_OF_IMAGES = 0.01
"""Where tauLDR's runs end before the last step, which denoises."""

SEARCHES: list[Method] = [
    ShortestPath(),
    *(ShortestPath(order=order) for order in ORDERS.values() if order != Random()),
    ShortestPath(correction=NOISE_WEIGHTED, t_min=T_MIN_OF_IMAGES),
    MatchedSpectrum(),
    LearnedOrder(),
    AutoOrder(),
    JYS(),
    JYS(full=True),
    JYS(full=True, hold_time=False),
    ClosedForm("equal-error", equal_error),
    ClosedForm("equal-entropy", equal_entropy),
]
METHODS: dict[str, Method] = {method.name: method for method in SEARCHES}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class FixedSchedule:
    """A schedule that needs neither a model nor data.

    Attributes:
        times: from a number of steps; None where there are counts only.
        counts: from numbers of steps and sites, and an order.
        order: of the counts, unless another is named.
    """

    times: Callable[[int], TimeSchedule] | None
    counts: Callable[[int, int, RevealOrder], CountSchedule]
    order: RevealOrder = Random()


FIXED = {
    "uniform": FixedSchedule(uniform, uniform_counts),
    "cosine": FixedSchedule(cosine, cosine_counts),
    "fitted": FixedSchedule(
        None, lambda steps, sites, order: get_schedule(steps, sites, order=order), Golden()
    ),
}

SHIPPED = "built-in"
"""Among schedules: those that came with the model."""

T = TypeVar("T")


def pick(kind: str, name: str, known: Mapping[str, T], hint: str = "") -> T:
    """What a name stands for.

    Raises:
        ValueError: an unknown name; the message ends in the hint.
    """
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; choose {' or '.join(known)}{hint}")
    return known[name]


def choices(known: Mapping[str, object]) -> str:
    return ", ".join(known)
