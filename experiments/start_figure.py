"""The picture at the top of the README: a measured curve, and which sites each step draws.

    python experiments/start_figure.py docs/figures/start.png

Nothing is measured: the curve is that of docs/results/countdown.json, and the counts are those that
the README's code prints for 8 steps.
"""

import argparse
import json
from pathlib import Path

from jumpsteps.evaluation.plots import new_figure, write
from jumpsteps.evaluation.reveals import plot_orders
from jumpsteps.schedules.orders import Random, Spread
from jumpsteps.schedules.schedule import CountSchedule

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "countdown.json"
COUNTS = (4, 4, 8, 16, 32, 48, 16, 128)
CURVES = {
    "uniform": ("uniform steps", "#8c8c8c", "o"),
    "JYS": ("Jump Your Steps", "#4477aa", "s"),
    "shortest path, spread order": ("optimised counts, spread order", "#aa3377", "v"),
}
"""Column of the table -> legend, colour and marker."""


def run() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    table = json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]["countdown"]
    figure = new_figure(11, 3.6)
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    axes = left.subplots()
    calls = [int(row[0]) for row in table["rows"]]
    for column, (label, colour, marker) in CURVES.items():
        cells = [row[table["head"].index(column)] for row in table["rows"]]
        mean, half = zip(*cells, strict=True)
        axes.errorbar(calls, mean, half, label=label, color=colour, marker=marker, capsize=3)
    axes.set(xscale="log", yscale="log", xlabel="calls of the network for a sample")
    axes.set_ylabel("broken pairs of neighbours, %")
    axes.set_xticks(calls, [str(n) for n in calls])
    axes.set_yticks([0.1, 1, 10, 50], ["0.1", "1", "10", "50"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    uniform = CountSchedule([32] * 8, order=Random())
    ours = CountSchedule(COUNTS, order=Spread())
    shown = {"equal counts, random order": uniform, "optimised counts, spread order": ours}
    plot_orders(right, shown, seed=0)
    write(figure, out)


if __name__ == "__main__":
    run()
