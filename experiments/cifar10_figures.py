r"""Tables and pictures of what ``experiments/cifar10.py`` wrote.

    python experiments/cifar10_figures.py OUT [--results docs/results/cifar10.json]
    python experiments/cifar10_figures.py OUT --redraw docs/results/cifar10.json

Writes to OUT/figures, numbers as in Park et al. (2025): 6, FD-cifar against model calls; 9, the
times of each search; 10, FD-cifar against the images that a search sees; 11, galleries of the same
noise for each sampler and number of calls, a row for each schedule; and films of the denoising.
What has no rows yet is left out. The tables go to the file of ``--results``; ``--redraw`` draws
figure 6 from such a file.
"""

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jumpsteps.core.files import read_json
from jumpsteps.evaluation.plots import COLOURS, MARKERS, new_figure, write
from jumpsteps.tasks.image_files import SHAPE, image_module
from results import Json, Table, table, write_results

SCHEDULES = {
    "uniform": "uniform",
    "cosine": "cosine",
    "jys": "JYS as published",
    "jys-cut": "JYS to t = 0.01",
    "jys-context": "JYS, frozen context",
    "shortest-path": "shortest path",
    "shortest-path-noise": "shortest path, weighed by noise",
    "matched-spectrum": "matched spectrum",
    "matched-spectrum-coarse": "matched spectrum, coarse",
    "race": "race",
}
SCHEDULE_COLOURS = (*COLOURS, "#66ccee", "#ee7733", "#332288", "#885522")
SCHEDULE_MARKERS = (*MARKERS, "X", "*", "<", ">")
BESIDE = 1.03
"""Factor between the places of two schedules on the axis of model calls."""
SHADES = 48
"""Colours in a PNG of curves."""
SAMPLERS = ("tau-leaping", "tweedie", "euler", "predictor-corrector")
COLUMNS, FRAMES = 12, 12
"""Images in a row of a gallery, and states in a film."""

Rows = list[dict[str, Any]]


def in_order(values: Iterable[str], order: Iterable[str]) -> list[str]:
    there = set(values)
    return [one for one in order if one in there]


def find(rows: Rows, **wanted: object) -> Rows:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def cell(rows: Rows, *keys: str) -> Json:
    """The values of the one row that is left; None if there is none."""
    return [rows[0][key] for key in keys] if rows else None


def quality(rows: Rows, sampler: str, keys: tuple[str, ...], form: str) -> Table:
    """A line for each schedule, a column for each number of calls."""
    mine = find(rows, sampler=sampler)
    budgets = sorted({row["nfe"] for row in mine})
    lines = [
        [SCHEDULES[name], *(cell(find(mine, schedule=name, nfe=n), *keys) for n in budgets)]
        for name in in_order((row["schedule"] for row in mine), SCHEDULES)
    ]
    return table(["NFE", *map(str, budgets)], lines, form)


def gains(rows: Rows, sampler: str) -> Table:
    """FD-cifar of each schedule minus that of uniform times, with the interval of the
    difference.
    """
    mine = find(rows, sampler=sampler)
    budgets, lines = sorted({row["nfe"] for row in mine}), []
    for name in in_order((row["schedule"] for row in mine), SCHEDULES):
        if name == "uniform":
            continue
        line: list[Json] = [SCHEDULES[name]]
        for nfe in budgets:
            pair = [find(mine, schedule=each, nfe=nfe) for each in (name, "uniform")]
            if not all(pair):
                line.append(None)
                continue
            one, plain = (each[0] for each in pair)
            half = math.hypot(one["half"], plain["half"])
            line.append([one["fd"] - plain["fd"], half])
        lines.append(line)
    return table(["NFE", *map(str, budgets)], lines, "{:+.2f} ±{:.2f}")


def references(rows: Rows) -> Table:
    lines = [
        [row["reference"], [row["fd"], row["half"]], row["precision"], row["recall"]]
        for row in rows
        if "reference" in row
    ]
    lines += [
        [
            f"the model, {row['sampler']}, uniform times, NFE {row['nfe']}",
            [row["fd"], row["half"]],
            row["precision"],
            row["recall"],
        ]
        for row in find(rows, schedule="uniform")
        if row["nfe"] > 256
    ]
    head = ["images", "FD-cifar", "precision", "recall"]
    return table(head, lines, columns={"precision": "{:.3f}", "recall": "{:.3f}"})


def tables(rows: Rows) -> dict[str, Table]:
    made = {"references": references(rows)}
    for sampler in in_order((row.get("sampler", "") for row in rows), SAMPLERS):
        made[f"fd-{sampler}"] = quality(rows, sampler, ("fd", "half"), "{:.2f} ±{:.2f}")
        made[f"gain-{sampler}"] = gains(rows, sampler)
        made[f"precision-recall-{sampler}"] = quality(
            rows, sampler, ("precision", "recall"), "{:.3f}, {:.3f}"
        )
    return made


def rows_of(found: dict[str, Table]) -> Rows:
    """The rows of figure 6 in the tables of a file of results."""
    names = {title: name for name, title in SCHEDULES.items()}
    rows = [
        {"reference": title, "fd": cells[0][0], "half": cells[0][1]}
        for title, *cells in found["references"]["rows"]
    ]
    for sampler in SAMPLERS:
        made = found.get(f"fd-{sampler}", table(["NFE"], []))
        for title, *cells in made["rows"]:
            rows += [
                {"sampler": sampler, "schedule": names[title], "nfe": int(nfe)}
                | {"fd": value[0], "half": value[1]}
                for nfe, value in zip(made["head"][1:], cells, strict=True)
                if value is not None
            ]
    return rows


def style(schedule: str) -> dict[str, Any]:
    """The look of a schedule, its own and the same in all pictures."""
    i = list(SCHEDULES).index(schedule)
    return {
        "color": SCHEDULE_COLOURS[i],
        "marker": SCHEDULE_MARKERS[i],
        "markersize": 5,
        "label": SCHEDULES[schedule],
    }


def write_small(figure: Any, path: Path) -> None:
    """Write a PNG of few colours."""
    write(figure, path)
    image = image_module().open(path).convert("RGB")
    image.quantize(SHADES, method=image_module().Quantize.FASTOCTREE).save(path, optimize=True)


def legend(figure: Any, axes: Iterable[Any]) -> None:
    """One legend for all panels, below them."""
    lines = {
        label: line
        for each in axes
        for line, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )


def curves(rows: Rows, folder: Path) -> None:
    """Figure 6: samplers with two numbers of calls or more; points of equal calls side by side."""
    shown = [
        sampler
        for sampler in in_order((row.get("sampler", "") for row in rows), SAMPLERS)
        if len({row["nfe"] for row in find(rows, sampler=sampler)}) > 1
    ]
    if not shown:
        return
    figure = new_figure(4 * len(shown), 4.2)
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, sampler in zip(panels, shown, strict=True):
        mine = find(rows, sampler=sampler)
        names = in_order((row["schedule"] for row in mine), SCHEDULES)
        for i, name in enumerate(names):
            points = sorted(find(mine, schedule=name), key=lambda row: row["nfe"])
            axes.errorbar(
                [row["nfe"] * BESIDE ** (i - (len(names) - 1) / 2) for row in points],
                [row["fd"] for row in points],
                [row["half"] for row in points],
                **style(name),
            )
        for row in find(rows, reference="training images"):
            axes.axhline(row["fd"], color="black", linewidth=0.8, label="training images")
        axes.set(title=sampler, xscale="log", yscale="log", xlabel="model calls (NFE)")
        budgets = sorted({row["nfe"] for row in mine})
        axes.set_xticks(budgets, [str(n) for n in budgets])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("FD-cifar")
    legend(figure, panels)
    write_small(figure, folder / "figure-6.png")


def times(rows: Rows, folder: Path, nfe: int) -> None:
    """Figure 9."""
    shown = in_order((row["sampler"] for row in find(rows, nfe=nfe)), SAMPLERS[:2])
    if not shown:
        return
    figure = new_figure(4.5 * len(shown), 4.2)
    panels = np.atleast_1d(figure.subplots(1, len(shown)))
    for axes, sampler in zip(panels, shown, strict=True):
        mine = find(rows, sampler=sampler, nfe=nfe)
        for name in in_order((row["schedule"] for row in mine), SCHEDULES):
            (row,) = find(mine, schedule=name)
            axes.plot(row["times"], markevery=0.1, **style(name))
        axes.set(title=f"{sampler}, NFE {nfe}", xlabel="step", ylabel="time")
        axes.grid(alpha=0.3)
    legend(figure, panels)
    write_small(figure, folder / f"figure-9-{nfe}.png")


def search_images(rows: Rows, folder: Path) -> None:
    """Figure 10."""
    mine = [row for row in rows if "@" in row.get("schedule", "")]
    if not mine:
        return
    figure = new_figure(5, 3.6)
    axes = figure.subplots()
    for name in sorted({row["schedule"].partition("@")[0] for row in mine}):
        points = sorted(
            (int(row["schedule"].partition("@")[2]), row["fd"], row["half"])
            for row in mine
            if row["schedule"].startswith(f"{name}@")
        )
        axes.errorbar(*zip(*points, strict=True), **style(name))
        axes.set_xscale("log")
        axes.set_xticks([n for n, _, _ in points], [str(n) for n, _, _ in points])
    axes.minorticks_off()
    title = f"{mine[0]['sampler']}, NFE {mine[0]['nfe']}"
    axes.set(title=title, xlabel="images of the search", ylabel="FD-cifar")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    write_small(figure, folder / "figure-10.png")


def tiled(images: np.ndarray, path: Path, scale: int = 2) -> None:
    """Images uint8 [rows, columns, 3072] as one picture."""
    rows, columns = images.shape[:2]
    pixels = images.reshape(rows, columns, *SHAPE).transpose(0, 3, 1, 4, 2)
    picture = image_module().fromarray(pixels.reshape(rows * SHAPE[1], columns * SHAPE[2], 3))
    picture.resize((scale * columns * SHAPE[2], scale * rows * SHAPE[1]), 0).save(path)


def galleries(rows: Rows, out: Path, folder: Path) -> None:
    """Figure 11, and the names of the schedules, top down, in galleries.json."""
    made = {}
    for sampler, nfe in sorted({(row["sampler"], row["nfe"]) for row in rows if "nfe" in row}):
        mine = find(rows, sampler=sampler, nfe=nfe)
        paths = {
            schedule: out / "samples" / f"{sampler}.{schedule}.{nfe}.npz"
            for schedule in in_order((row["schedule"] for row in mine), SCHEDULES)
        }
        shown = [schedule for schedule, path in paths.items() if path.exists()]
        if not shown:
            continue
        files = [np.load(paths[schedule]) for schedule in shown]
        name = f"figure-11-{sampler}-{nfe}"
        tiled(np.stack([each["samples"][:COLUMNS] for each in files]), folder / f"{name}.png")
        made[name] = [SCHEDULES[each] for each in shown]
        film = files[0]["film"]
        picked = np.linspace(0, len(film) - 1, min(FRAMES, len(film))).round().astype(int)
        tiled(film[picked].transpose(1, 0, 2), folder / f"film-{sampler}-{shown[0]}-{nfe}.png")
    (folder / "galleries.json").write_text(json.dumps(made, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--nfe", type=int, nargs="+", default=[16, 32], help="of Figure 9")
    parser.add_argument("--redraw", type=Path, help="a file of results: figure 6 of its tables")
    args = parser.parse_args()
    folder = args.out / "figures"
    if args.redraw is not None:
        folder.mkdir(parents=True, exist_ok=True)
        curves(rows_of(read_json(args.redraw)["tables"]), folder)
        return
    rows = [read_json(path) for path in sorted((args.out / "rows").glob("*.json"))]
    if not rows:
        parser.error(f"{args.out}/rows has no .json files; run experiments/cifar10.py first")
    folder.mkdir(exist_ok=True)
    curves(rows, folder)
    for nfe in args.nfe:
        times(rows, folder, nfe)
    search_images(rows, folder)
    galleries(rows, args.out, folder)
    if args.results is not None:
        about = read_json(args.out / "about.json")
        kept = ("model", "data", "device", "bf16", "compile", "test")
        write_results(
            args.results,
            __file__,
            tables(rows),
            command="python experiments/cifar10.py cifar10-gaussian DATA OUT",
            interval="1.96 standard deviations of a bootstrap over samples; test images fixed",
            seeds="searches and races 0, samples 1",
            samples=sorted({row["n"] for row in rows}),
            **{key: about[key] for key in kept},
        )
    print(f"{len(rows)} rows; pictures in {folder}")


if __name__ == "__main__":
    main()
