"""Samplers, reveal orders and searches by name: built in, or of the user's own modules."""

import sys

from jumpsteps.cli.names import METHODS, ORDERS, pick
from jumpsteps.cli.your_own import is_own, module_hint, own_instance
from jumpsteps.sampling.base import Held, Sampler
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.registry import SAMPLERS, default_sampler
from jumpsteps.schedules import orders
from jumpsteps.schedules.orders import Random, RevealOrder
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.method import Method

__all__ = ["is_search", "order_named", "sampler_named", "sampler_of", "search_named"]


def sampler_named(name: str | None, order: str | None) -> Sampler | None:
    """The sampler of this name; without one, k-Gillespie for an order, else None.

    Raises:
        ValueError: no such sampler, or one that does not follow the order; an order of the user's
            that is none.
    """
    if order is not None and is_own(order):
        order_named(order)
    if name is None:
        return None if order is None else KGillespie()
    if is_own(name):
        what = "a jumpsteps.Sampler"
        sampler: Sampler = own_instance("--sampler", name, Sampler, what, "mine:MySampler")
    else:
        sampler = pick("sampler", name, SAMPLERS, module_hint(name))
    if order not in (None, Random.name) and sampler.schedules_of.holds is not Held.COUNT:
        raise ValueError(
            f"sampler {name} does not reveal tokens in {order} order; use k-gillespie, or leave "
            "out --order"
        )
    return sampler


def sampler_of(schedule: Schedule) -> Sampler:
    """The sampler that a schedule was found for; its kind's own, with a note where that is not
    known.
    """
    name, default = schedule.provenance.sampler, default_sampler(schedule)
    if name and name not in SAMPLERS:
        print(
            f"note: the schedule was found for the sampler {name!r}, which is not built in; "
            f"{default.name} is used, or name yours with --sampler MODULE:NAME",
            file=sys.stderr,
        )
    return SAMPLERS.get(name, default)


def order_named(name: str, kind: str = "order") -> RevealOrder:
    """The reveal order of this name. One of the user's own can then be read from files, too.

    Args:
        kind: what it is for, in error messages.

    Raises:
        ValueError: no such order, or one without a name; see ``own_instance``.
    """
    if not is_own(name):
        return pick(kind, name, ORDERS, module_hint(name))
    what = "a jumpsteps.RevealOrder"
    order: RevealOrder = own_instance("--order", name, RevealOrder, what, "mine:MyOrder")
    label = getattr(order, "name", None)
    if not isinstance(label, str):
        raise ValueError(f"--order {name} has no name; give its class one, such as name = 'mine'")
    if orders.ORDERS.setdefault(label, type(order)) is not type(order):
        raise ValueError(
            f"--order {name}: its name {label!r} is that of another order; give its class another"
        )
    return order


def is_search(name: str) -> bool:
    """Whether this is the name of a search, not that of a schedule."""
    return name in METHODS or is_own(name)


def search_named(name: str) -> Method:
    """The search of this name.

    Raises:
        ValueError: no such search; see ``own_instance``.
    """
    if not is_own(name):
        return pick("method", name, METHODS, module_hint(name))
    what = "a search, with name, sampler, max_evaluations and find (jumpsteps.Method)"
    method: Method = own_instance("search", name, Method, what, "mine:MySearch")
    return method
