"""Figures 4, 9 and 10 of Park et al. (2025) on CountDown, with the shortest path beside JYS.

    python experiments/figures.py OUT [--figures 4 9 10] [--device cuda] [-n 2048]

* Figure 4: the KLUB against the time of a stop. One hump in every interval lets golden section find
  it.
* Figure 9: the schedules of the three kernels.
* Figure 10: violations against the number of sequences that a search uses, 4 to 1024, two searches
  for each.

Writes OUT/figure-<number>.png and .json. 4 and 9 take two minutes on two cores, 10 takes two
minutes on an H200.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from jumpsteps import load
from jumpsteps.core.files import write_json
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.plots import COLOURS, MARKERS, new_figure, write
from jumpsteps.models import LoadedModel
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.klub import Klub
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath

KERNELS = {
    "absorbing": "countdown-exact",
    "uniform": "countdown-exact-uniform",
    "gaussian": "countdown-exact-gaussian",
}
INTERVALS = ((1.0, 0.001), (0.9, 0.5), (0.5, 0.1))
METHODS: list[Method] = [JYS(), ShortestPath()]
SEQUENCES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
NFE = 8


def search(
    model: LoadedModel, method: Method, sequences: int, nfe: int, seed: int, device: torch.device
) -> Schedule:
    generator = torch.Generator(device).manual_seed(seed)
    data = model.task.sample_data(sequences, generator)
    return optimize_schedule(model.reverse, data, [nfe], generator=generator, method=method)[nfe]


def klub_of_stops(folder: Path, device: torch.device, n: int) -> None:
    """Figure 4: 64 sequences, 25 stops in each of three intervals."""
    figure, curves = new_figure(11, 3.4), {}
    for axes, (kernel, name) in zip(figure.subplots(1, 3), KERNELS.items(), strict=True):
        model, generator = load(name, device=device), torch.Generator(device).manual_seed(0)
        paths = Paths.draw(
            model.reverse.forward, model.task.sample_data(64, generator), generator=generator
        )
        for i, (u, t) in enumerate(INTERVALS):
            stops = np.linspace(u, t, 27)[1:-1].tolist()
            klub = Klub(model.reverse, paths, u, t)
            values = [klub(s) for s in stops]
            curves[f"{kernel}, {u} to {t}"] = {"stops": stops, "klub": values}
            axes.plot(
                stops,
                values,
                color=COLOURS[i + 1],
                marker=MARKERS[i],
                markersize=3,
                label=f"from {u:g} to {t:g}",
            )
        dress(axes, kernel, "time s of the stop")
    figure.axes[0].set_ylabel("KLUB, nats per sequence")
    save(folder, 4, figure, curves)


def schedules_of_kernels(folder: Path, device: torch.device, n: int) -> None:
    """Figure 9: the times of 16 steps, 64 sequences."""
    figure, found = new_figure(11, 3.4), {}
    for axes, (kernel, name) in zip(figure.subplots(1, 3), KERNELS.items(), strict=True):
        model = load(name, device=device)
        for i, method in enumerate(METHODS):
            schedule = search(model, method, 64, 16, 0, device)
            assert isinstance(schedule, TimeSchedule)
            found[f"{kernel}, {method.name}"] = list(schedule.times)
            axes.plot(
                schedule.times,
                color=COLOURS[i + 1],
                marker=MARKERS[i],
                markersize=3,
                label=method.name,
            )
        axes.plot(np.linspace(1, 0, 17), color=COLOURS[0], label="uniform")
        dress(axes, kernel, "steps done")
    figure.axes[0].set_ylabel("time t")
    save(folder, 9, figure, found)


def number_of_sequences(folder: Path, device: torch.device, n: int) -> None:
    """Figure 10: two searches for each number of sequences, NFE 8."""
    figure, results = new_figure(8, 3.6), {}
    for axes, kernel in zip(figure.subplots(1, 2), ("absorbing", "uniform"), strict=True):
        model = load(KERNELS[kernel], device=device)
        for i, method in enumerate(METHODS):
            found = {
                f"{k}-{seed}": {NFE: search(model, method, k, NFE, 100 + seed, device)}
                for k in SEQUENCES
                for seed in range(2)
            }
            size = {"seed": 1, "device": device, "batch": 16 if device.type == "cpu" else 2048}
            rows = compare(
                model.reverse, None, found, (n, model.length), metric=model.task.metric, **size
            )
            mean = np.array([100 * row.metric.mean for row in rows]).reshape(-1, 2)
            results[f"{kernel}, {method.name}"] = mean.tolist()
            axes.plot(
                SEQUENCES,
                mean,
                color=COLOURS[i + 1],
                marker=MARKERS[i],
                markersize=4,
                linestyle="none",
            )
            axes.plot(SEQUENCES, mean.mean(1), color=COLOURS[i + 1], label=method.name)
        axes.set_xscale("log")
        axes.set_xticks(SEQUENCES, [str(k) for k in SEQUENCES], fontsize=8)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        dress(axes, f"{kernel}, NFE {NFE}", "sequences of the search")
    figure.axes[0].set_ylabel("violation rate, %")
    save(folder, 10, figure, {"sequences": SEQUENCES, "samples": n} | results)


def dress(axes, title: str, label: str) -> None:
    axes.set(title=title, xlabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def save(folder: Path, number: int, figure, numbers: dict) -> None:
    write(figure, folder / f"figure-{number}.png")
    write_json(folder / f"figure-{number}.json", numbers)


FIGURES = {4: klub_of_stops, 9: schedules_of_kernels, 10: number_of_sequences}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--figures", type=int, nargs="+", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=2048, help="samples for each schedule of figure 10")
    args = parser.parse_args()
    for number in args.figures:
        FIGURES[number](args.out, torch.device(args.device), args.n)
        print(f"figure {number}: {args.out}/figure-{number}.png", flush=True)


if __name__ == "__main__":
    run()
