"""Doubtful input of a search: what it got is allowed, but its numbers may not mean much.

Each doubt is one warning of the class ``DoubtfulInput``, in one line.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from jumpsteps.core.information import half_width
from jumpsteps.denoiser.checks import networks_of
from jumpsteps.search.costs.table import Calibration
from jumpsteps.search.method import FoundSchedule

__all__ = ["DoubtfulInput", "doubt_calibration", "doubt_data", "doubt_found"]

OWN = ("jumpsteps.", "torch.")
"""Modules that no warning points to; torch's wrappers lie between calls of this library."""

FEW_SEQUENCES = 8
"""Fewer sequences give intervals that are hardly intervals."""

FAR = 0.2
"""Entropies are far from -log p of data if they differ by this share of it, significantly, and by
so much that it matters (``LEAST``)."""

LEAST = 0.01
"""Gaps times the share of masked sites that are below this share of -log p with all sites masked
change no schedule."""


class DoubtfulInput(UserWarning):
    """Input of a search whose results may not mean much."""


def warn(message: str) -> None:
    """Warn at the line that called this library."""
    warnings.warn(f"doubtful input: {message}", DoubtfulInput, stacklevel=levels_to_caller())


def levels_to_caller() -> int:
    """How many calls above its own caller the code of others begins, as ``stacklevel`` counts."""
    frame, levels = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(OWN):
        frame, levels = frame.f_back, levels + 1
    return levels


def doubt_data(data: Tensor, model: Callable[..., Any]) -> None:
    """Warn of fewer than ``FEW_SEQUENCES`` sequences, and of a length that is not the network's."""
    count, length = data.shape
    if count < FEW_SEQUENCES:
        sequences = "one sequence" if count == 1 else f"{count} sequences"
        warn(f"a search on {sequences} has hardly an interval; pass 16 to 64")
    known = {length_of(network) for network in networks_of(model)} - {0, length}
    if known:
        warn(
            f"the sequences have {length} tokens, the network is for {max(known)}; a schedule is "
            "good for the length that it was searched at"
        )


def length_of(network: nn.Module) -> int:
    """The number of sites that a network was built for; 0 if it does not say."""
    length = getattr(getattr(network, "config", None), "length", 0)
    return length if isinstance(length, int) else 0


def doubt_calibration(calibration: tuple[Calibration, ...]) -> None:
    """Warn of entropies that are far from what data say, with both at three noise levels."""
    least = LEAST * max((one.nll for one in calibration), default=0.0)
    if not any(
        abs(one.gap) > max(FAR * one.nll, 4 * one.stderr, least / max(one.masked, 1e-9))
        for one in calibration
    ):
        return
    levels = ", ".join(
        f"{one.entropy:.2f} and {one.nll:.2f} with {100 * one.masked:.0f}% of the sites masked"
        for one in calibration
    )
    warn(
        f"the model's entropies are far from -log p of these data (nats per site: {levels}); trust "
        "no error that the model itself predicts, and check that the data are the model's and its "
        "output at a site is for this site, not for the next"
    )


def doubt_found(found: Mapping[int, FoundSchedule], sequences: int) -> None:
    """Warn of errors whose 95% intervals lie below zero, if they do by 0.01 nats.

    ``sequences`` is how many a search saw.
    """
    for nfe, one in found.items():
        if one.cost is None or one.stderr is None:
            continue
        half = half_width(one.stderr, one.held_out or sequences)
        if one.cost + half < 0 and round(one.cost, 2) < 0:
            warn(
                f"at NFE {nfe} the error {one.cost:.2f} ±{half:.2f} nats per sequence lies below "
                "zero: the network predicts these data worse from more context"
            )
