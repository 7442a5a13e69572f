"""Which sites each step of a schedule of counts reveals, as numbers and as a picture."""

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jumpsteps.schedules.schedule import CountSchedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["DRAWN", "KNOWN", "MASKED", "plot_orders", "reveals"]

MASKED, KNOWN, DRAWN = range(3)
COLOURS = ("#ffffff", "#d9d9d9", "#aa3377")
SITES = 64
"""Sites that a picture shows, from the first on."""


def reveals(schedule: CountSchedule, *, generator: torch.Generator) -> Tensor:
    """What every site is in every step: MASKED, KNOWN before it, or DRAWN in it, int64 [N, L].

    Of one sequence; L is the schedule's number of sites.
    """
    ranks = schedule.order.ranks(1, schedule.total, generator=generator)[0]
    ends = torch.tensor(list(accumulate(schedule.counts)), device=ranks.device)[:, None]
    starts = ends - torch.tensor(schedule.counts, device=ranks.device)[:, None]
    return KNOWN * (ranks < starts) + DRAWN * ((ranks >= starts) & (ranks < ends))


def plot_orders(figure: "FigureBase", schedules: Mapping[str, CountSchedule], seed: int) -> None:
    """Draw which sites each step reveals, one sequence for each schedule, side by side."""
    figure.suptitle(
        "which sites each step draws: white masked, grey known, purple drawn together", fontsize=9
    )
    for axes, (name, schedule) in zip(
        figure.subplots(1, len(schedules), squeeze=False)[0], schedules.items(), strict=True
    ):
        plot_reveals(axes, schedule, seed)
        axes.set_title(name, fontsize=9)


def plot_reveals(axes: "Axes", schedule: CountSchedule, seed: int) -> None:
    """The steps from top to bottom, sites from left to right."""
    from matplotlib.colors import ListedColormap

    states = reveals(schedule, generator=torch.Generator().manual_seed(seed))
    axes.pcolormesh(
        states[:, :SITES].numpy(),
        cmap=ListedColormap(COLOURS),
        vmin=MASKED,
        vmax=DRAWN,
        edgecolors="#f2f2f2",
        linewidth=0.2,
    )
    axes.invert_yaxis()
    axes.set_yticks([n + 0.5 for n in range(len(states))], [str(n + 1) for n in range(len(states))])
    axes.tick_params(labelsize=7)
    shown = min(SITES, schedule.total)
    axes.set_xlabel(f"site (the first {shown} of {schedule.total})", fontsize=8)
    axes.set_ylabel("step", fontsize=8)
