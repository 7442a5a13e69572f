"""Corrections of a run: when, how often and which sites are drawn again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jumpsteps.core.arguments import kinds_checked, said
from jumpsteps.schedules.orders import Golden, RevealOrder, order_from_json, order_to_json

__all__ = ["Redraw", "redraw_from_json", "redraw_to_json"]

TOLERANCE = 2e-3
"""Log-linear noise, whose survival ends at eps = 1e-3, has a share m of the sites masked at the
time m / (1 - eps), up to 0.001 later than m. Corrections at the time m shall follow that step."""


@said("a correction such as jumpsteps.Redraw()")
@kinds_checked()
@dataclass(frozen=True)
class Redraw:
    """Calls of a blocked Gibbs sampler at one time of a run.

    Attributes:
        calls: of the model, each with sites of its own.
        share: of the free sites that each call draws again; one site at least.
        time: the first step that ends at this time (to 0.002) or earlier is followed by the calls;
            0 for the last step.
        sets: the order whose first ranks are drawn together, with a new random shift for each call.

    Raises:
        ValueError: calls below 1, a share outside (0, 1], or a time outside [0, 1).
    """

    calls: int = 8
    share: float = 0.25
    time: float = 0.0
    sets: RevealOrder = Golden()

    def __post_init__(self) -> None:
        if self.calls != int(self.calls) or self.calls < 1:
            raise ValueError(f"a corrector makes 1 call or more, got {self.calls}")
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of sites must lie in (0, 1], got {self.share}")
        if not 0 <= self.time < 1:
            raise ValueError(f"the time of a corrector must lie in [0, 1), got {self.time}")

    def due(self, t: float, s: float) -> bool:
        """Whether the calls follow the step from t to s."""
        latest = min(self.time + TOLERANCE, 0.5 * (self.time + 1)) if self.time > 0 else 0.0
        return s <= latest < t


def redraw_to_json(redraw: Redraw) -> dict[str, Any]:
    """The JSON object of a redraw."""
    return {
        "calls": redraw.calls,
        "share": redraw.share,
        "time": redraw.time,
        "sets": order_to_json(redraw.sets),
    }


def redraw_from_json(content: Mapping[str, Any]) -> Redraw:
    """The redraw of ``redraw_to_json``.

    Raises:
        ValueError: numbers out of range, or an unknown order.
    """
    return Redraw(**{**content, "sets": order_from_json(content["sets"])})
