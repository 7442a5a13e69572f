"""Which sites each call draws: steps in golden order, then corrections. Nothing is measured.

    python experiments/corrector_figure.py docs/figures/corrector.png

One sequence of 64 sites, six steps and six corrections of a quarter of the sites (seed 0).
"""

import argparse
from itertools import accumulate
from pathlib import Path

import torch
from matplotlib.colors import ListedColormap
from torch import Tensor

from jumpsteps.evaluation.plots import new_figure, write
from jumpsteps.schedules.orders import Golden

SITES, COUNTS, CALLS, SHARE = 64, (2, 2, 4, 8, 16, 32), 6, 0.25
MASKED, KNOWN, DRAWN, REDRAWN = range(4)


def calls() -> Tensor:
    """What every site is in every call, int64 [N, L]."""
    generator = torch.Generator().manual_seed(0)
    ranks = Golden().ranks(1, SITES, generator=generator)[0]
    rows = []
    for count, end in zip(COUNTS, accumulate(COUNTS), strict=True):
        row = torch.where(ranks < end, KNOWN, MASKED)
        rows.append(row.masked_fill((ranks >= end - count) & (ranks < end), DRAWN))
    for _ in range(CALLS):
        chosen = Golden().ranks(1, SITES, generator=generator)[0] < SHARE * SITES
        rows.append(torch.where(chosen, REDRAWN, KNOWN))
    return torch.stack(rows)


def run() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out, drawn = parser.parse_args().out, calls()
    figure = new_figure(9, 2.8)
    axes = figure.subplots()
    colours = ListedColormap(["#ffffff", "#d9d9d9", "#1f77b4", "#ff7f0e"])
    axes.pcolormesh(drawn.numpy(), cmap=colours, vmin=0, vmax=3, edgecolors="#f2f2f2", lw=0.3)
    axes.invert_yaxis()
    axes.set_xlabel("site")
    axes.set_ylabel("model call")
    axes.set_yticks([n + 0.5 for n in range(len(drawn))], [str(n + 1) for n in range(len(drawn))])
    axes.set_title(
        "white: masked; grey: known; blue: drawn by a step; orange: drawn again by a correction",
        fontsize=9,
    )
    write(figure, out)


if __name__ == "__main__":
    run()
