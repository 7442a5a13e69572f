"""What to cite for what was used: a sampler, kernel, order, search, schedule or a name of these."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from jumpsteps.core.references import REFERENCES, Reference
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.rate_matrix import RateMatrix
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.registry import SAMPLERS
from jumpsteps.schedules.orders import ORDERS
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.search.jys import JYS
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.method import Method
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["CITABLE", "Citation", "cite"]

SEARCHES: tuple[Method, ...] = (
    ShortestPath(),
    LearnedOrder(),
    AutoOrder(),
    JYS(),
    ClosedForm("equal-error", equal_error),
    ClosedForm("equal-entropy", equal_entropy),
)
CITABLE: dict[str, Any] = {
    **{kind.name: kind for kind in (Absorbing, Uniform, Gaussian, RateMatrix)},
    **ORDERS,
    **SAMPLERS,
    **{search.name: search for search in SEARCHES},
}
"""By name: what ``cite`` takes besides objects."""


@dataclass(frozen=True)
class Citation:
    """References of something; printed, their lines and their BibTeX.

    Attributes:
        references: the papers, and this library where it adds something of its own.
    """

    references: tuple[Reference, ...]

    @property
    def line(self) -> str:
        """The references in one line."""
        return " ".join(one.line for one in self.references)

    @property
    def bibtex(self) -> str:
        """An entry of BibTeX for each reference."""
        return "\n".join(one.bibtex for one in self.references)

    def __str__(self) -> str:
        return "\n".join([*(one.line for one in self.references), "", self.bibtex])


def cite(thing: Any) -> Citation:
    """What to cite for a sampler, kernel, order, search or schedule, or a class or name of these.

    The papers are those of its ``source``, and of the parts that have one: the predictor of a
    corrector, the order of a search. Of a schedule they are those of its order, and of the search
    and the sampler that its provenance names. Where this library adds something of its own it is
    cited, too.

    Args:
        thing: such as ``Tweedie()``, ``Golden`` or "jys".

    Raises:
        ValueError: nothing that names a source, or an unknown name or source.
    """
    found = named(thing) if isinstance(thing, str) else thing
    if found is None:
        raise ValueError(f"there is nothing called {thing!r} to cite; known: {', '.join(CITABLE)}")
    labels = dict.fromkeys(labels_of(found))
    if not labels:
        raise ValueError(
            f"{thing!r} names no source; pass a sampler, kernel, order, search or schedule"
        )
    if unknown := [label for label in labels if label not in REFERENCES]:
        raise ValueError(f"the source {unknown[0]!r} is not among the references; cite it by hand")
    return Citation(tuple(REFERENCES[label] for label in labels))


def named(name: str) -> Any:
    """The object or class of this name; "shortest-path-golden" is a search in golden order.

    None if there is none.
    """
    search, _, order = name.rpartition("-")
    if search == "shortest-path" and order in ORDERS:
        return (ShortestPath, ORDERS[order])
    return CITABLE.get(name)


def labels_of(thing: Any) -> list[str]:
    """The labels of a thing's sources, then those of its parts."""
    if isinstance(thing, tuple):
        return [label for part in thing for label in labels_of(part)]
    source = getattr(thing, "source", "")
    found = [part.strip() for part in source.split(";")] if isinstance(source, str) else []
    if provenance := getattr(thing, "provenance", None):
        for name in (provenance.method, provenance.sampler):
            found += labels_of(named(name))
    if isinstance(thing, type):
        return [label for label in found if label]
    if is_dataclass(thing):
        parts = [getattr(thing, field.name) for field in fields(thing)]
    else:
        parts = [getattr(thing, "order", None)]
    found += [label for part in parts if hasattr(part, "source") for label in labels_of(part)]
    return [label for label in found if label]
