"""Films: sites that appear step by step, under a slider.

Every site is a cell of the class of its step's colour, with the step in ``data-s``. Without the
slider's script all cells are shown.
"""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from jumpsteps.evaluation.examples import GIVEN_SITE, Examples
from jumpsteps.evaluation.page.svg import colour_of_step
from jumpsteps.schedules.orders import Golden, Random, RevealOrder
from jumpsteps.schedules.schedule import CountSchedule

__all__ = [
    "Gallery",
    "Panel",
    "cells",
    "class_of_step",
    "film",
    "generic_gallery",
    "order_panels",
    "text_gallery",
]

MOST_CELLS = 1024


@dataclass(frozen=True)
class Panel:
    """One picture of a film.

    Attributes:
        title: what it shows.
        content: its HTML.
        note: a line below.
        series: the number of the schedule, which gives its mark; None for none.
    """

    title: str
    content: str
    note: str = ""
    series: int | None = None


Gallery = Callable[[Examples, int], tuple[str, str]]
"""(examples of a schedule, number of steps) -> HTML of one panel, and a note on it."""


def class_of_step(step: int, steps: int) -> str:
    """The class of a site that came in this step."""
    if step == GIVEN_SITE:
        return "given"
    return "still" if step == 0 else f"c{colour_of_step(step, steps)}"


def cells(
    steps: Sequence[int], total: int, texts: Iterable[str], wrong: Sequence[bool] = ()
) -> str:
    """A grid of sites.

    Args:
        steps: of each site.
        total: number of steps.
        texts: of each site.
        wrong: sites that are marked as mistakes.
    """
    marks = wrong or [False] * len(steps)
    columns = 16 if len(steps) <= 256 else 32
    inside = "".join(
        f'<i class="{"wrong" if bad else class_of_step(step, total)}" data-s="{max(step, 0)}">'
        f"{html.escape(text)}</i>"
        for step, text, bad in zip(steps, texts, marks, strict=True)
    )
    return f'<div class="cells" style="--columns:{columns}" aria-hidden="true">{inside}</div>'


def film(panels: Sequence[Panel], steps: int, name: str) -> Mapping[str, object]:
    """What the template needs of a film; pictures without sites have no slider, drawings are wide.

    Args:
        steps: of the longest panel.
        name: of its slider, an identifier on the page.
    """
    return {
        "panels": panels,
        "steps": steps,
        "name": name,
        "moves": any("data-s=" in panel.content for panel in panels),
        "wide": any("<svg" in panel.content or "<p" in panel.content for panel in panels),
    }


def order_panels(schedule: CountSchedule) -> list[Panel]:
    """The same counts in random order, in golden order and in the schedule's own.

    Nothing is sampled: the orders are drawn with seed 0.
    """
    orders: dict[str, RevealOrder] = {"random": Random(), "golden": Golden()}
    own = schedule.provenance.order or schedule.order.name
    orders[own] = schedule.order
    return [
        Panel(
            f"{name} order",
            cells(steps_in_order(schedule, order), schedule.steps, [""] * schedule.total),
            "the schedule's own" if name == own else "the same counts",
        )
        for name, order in orders.items()
    ]


def steps_in_order(schedule: CountSchedule, order: RevealOrder) -> list[int]:
    """The step in which each site is revealed, from 1."""
    generator = torch.Generator().manual_seed(0)
    ranks = order.ranks(1, schedule.total, generator=generator)[0]
    ends = torch.tensor(schedule.counts).cumsum(0)
    steps: list[int] = (torch.searchsorted(ends, ranks, right=True) + 1).tolist()
    return steps


def generic_gallery(examples: Examples, steps: int) -> tuple[str, str]:
    """The first sample as a grid of token numbers, at most ``MOST_CELLS`` of them."""
    tokens, own = examples.tokens[0], examples.steps[0]
    note = "" if len(tokens) <= MOST_CELLS else f"the first {MOST_CELLS} of {len(tokens)} sites"
    shown = [str(token) for token in tokens[:MOST_CELLS]]
    return cells(own[:MOST_CELLS], steps, shown), note


def text_gallery(examples: Examples, steps: int) -> tuple[str, str]:
    """The first sample as running text, each token in the colour of its step."""
    inside = "".join(
        f'<i class="{class_of_step(step, steps)}" data-s="{max(step, 0)}">{html.escape(piece)}</i>'
        for piece, step in zip(examples.pieces[0], examples.steps[0], strict=True)
    )
    return f'<p class="text">{inside}</p>', ""
