"""Tables, pictures and pages of what ``experiments/text.py`` wrote, in one file or in several.

    python experiments/text_figures.py OUT.json [MORE.json ...] [--results docs/results/text.json]
        [--figures docs/figures] [--name text] [--nfe 16 64] [--rows 0 1] [--tokenizer FILE]
        [--methods NAME ...]

The files must be of one model, with the same numbers and seeds; of a row that two of them have the
first counts. --methods leaves the others out. Numbers of figures are those of Park et al. (2025).
In the folder of --figures:

* NAME.png, Figure 8 (right): the evaluator's nats per token, entropy and MAUVE against model calls;
* NAME-samples-NFE.png, Figures 12 to 15: samples side by side, of the same seeds and chosen by
  their index, every token in the colour of its step; the whole samples are on NAME-samples-NFE.html
  beside OUT.json.

--tokenizer is a `tokenizer.json`, that of text-small by default.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jumpsteps.core.files import read_json
from jumpsteps.evaluation.examples import pieces_of
from jumpsteps.evaluation.plots import COLOURS, MARKERS, new_figure, write
from novels import decoder
from results import Json, Table, table, write_results
from text_rows import MAUVE, REAL, SETTINGS, Row, Samples, read_rows, records, score
from text_samples import Column, page, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOKENIZER = Path(__file__).parents[1] / "checkpoints" / "text-small" / "tokenizer.json"
TITLES = {
    "tweedie:uniform": "uniform times",
    "tweedie:cosine": "cosine times",
    "tweedie:jys": "Jump Your Steps",
    "tweedie:shortest-path": "shortest path, times",
    "euler:uniform": "Euler, uniform times",
    "euler:jys": "Euler, Jump Your Steps",
    "euler:shortest-path": "Euler, shortest path",
    "k-gillespie:uniform": "equal counts, random order",
    "k-gillespie:random": "shortest path, random order",
    "k-gillespie:dilated": "shortest path, dilated order",
    "k-gillespie:dus": "equal counts, dilated order",
    "k-gillespie:spread": "shortest path, spread order",
    "k-gillespie:golden": "shortest path, golden order",
    "k-gillespie:auto": "shortest path, the order that data choose",
    "k-gillespie-multistep:auto": "the order that data choose, multistep",
    "k-gillespie:borrowed": "counts of the smaller model",
    "corrector": "golden order, half of the calls correct",
    "maskgit": "MaskGIT, equal counts",
    "maskgit-cosine": "MaskGIT, cosine counts",
    "remdm": "ReMDM",
    "eb": "entropy-bounded",
    "threshold": "confidence threshold",
    "klass": "KLASS",
}
TITLES |= {
    f"{name}@{temperature}": f"{TITLES[name]}, temperature {temperature}"
    for name in ("tweedie:uniform", "k-gillespie:auto", "k-gillespie-multistep:auto")
    for temperature in (0.975, 0.95)
}
CHOSEN = ("k-gillespie:auto", "k-gillespie-multistep:auto")
MAIN = ("tweedie:uniform", "tweedie:jys", *CHOSEN, "corrector", "maskgit")
EULER = tuple(name for name in TITLES if name.startswith("euler"))
SIDE_BY_SIDE = ("tweedie:uniform", "tweedie:jys", *CHOSEN)
COMPARED = ("tweedie:uniform", *CHOSEN)
Rows = list[Row]


def of_method(rows: Rows, name: str) -> Rows:
    return sorted((row for row in rows if row["method"] == name), key=lambda row: row["budget"])


def present(rows: Rows, names: Iterable[str] = TITLES) -> list[str]:
    return [name for name in names if of_method(rows, name)]


def score_at(row: Row) -> Json:
    """The evaluator's mean and half its interval, and the mean number of model calls where it is
    not the one that was asked for.
    """
    if abs(row["NFE"] - row["budget"]) <= 0.02 * row["budget"]:
        return score(row)
    return {"values": [*score(row), row["NFE"]], "cell": "{:.3f} ±{:.3f} at {:.1f}"}


def by_budget(rows: Rows, value: Callable[[Row], Json], form: str) -> Table:
    """A line for each method, a column for each number of model calls."""
    names = present(rows)
    budgets = sorted({row["budget"] for name in names for row in of_method(rows, name)})
    lines = []
    for name in names:
        cells = {row["budget"]: value(row) for row in of_method(rows, name)}
        lines.append([TITLES[name], *(cells.get(n) for n in budgets)])
    return table(["NFE", *map(str, budgets)], lines, form)


def measures_of(rows: Rows, formats: dict[str, str]) -> Table:
    """Measures of uniform times and of the order that data choose at every number of model calls,
    real text first.
    """
    left_out = ("budget", "NFE", "seconds", "known, %", "distinct-2, %", "Hamming")
    head = [title for title in formats if title not in left_out]
    lines = [[REAL, "", *(row[each] for each in head)] for row in of_method(rows, REAL)]
    for name in present(rows, COMPARED):
        for row in of_method(rows, name):
            lines.append([TITLES[name], row["budget"], *(row[each] for each in head)])
    return table(["method", "NFE", *head], lines, columns=formats | {"NFE": "{}"})


def measures(rows: Rows, nfe: int, formats: dict[str, str]) -> Table:
    """All measures of every method at one number of model calls, real text first."""
    head = [title for title in formats if title not in ("budget", "NFE", "seconds")]
    chosen = [(REAL, row) for row in of_method(rows, REAL)]
    for name in present(rows):
        chosen += [(TITLES[name], row) for row in of_method(rows, name) if row["budget"] == nfe]
    lines = [[title, *(row[each] for each in head)] for title, row in chosen]
    return table(["method", *head], lines, columns=formats)


def title_of(search: str) -> str:
    """That of its method; a search for times serves more than one sampler."""
    return TITLES.get(search) or TITLES[f"tweedie:{search}"]


def tables(read: dict[str, Table], nfe: int) -> dict[str, Table]:
    rows, formats = records(read["rows"]), read["rows"]["columns"]
    reached = {name: cells for name, *cells in read["reach"]["rows"]}
    seconds = [[title_of(name), *cells] for name, *cells in read["searches"]["rows"]]
    return {
        "nll": by_budget(rows, score_at, "{:.3f} ±{:.3f}"),
        "entropy": by_budget(rows, lambda row: row["entropy"], "{:.2f}"),
        "mauve": by_budget(rows, near, "{:.1f} ±{:.1f}"),
        f"measures-{nfe}": measures(rows, nfe, formats),
        "measures": measures_of(rows, formats),
        "reach": read["reach"]
        | {"rows": [[TITLES[name], *reached[name]] for name in TITLES if name in reached]},
        "searches": read["searches"] | {"rows": seconds, "columns": {"seconds": "{:.1f}"}},
    }


def near(row: Row) -> Sequence[float]:
    """MAUVE and half its interval."""
    return row[MAUVE]


def curve(
    axes: "Axes", rows: Rows, name: str, i: int, value: Callable[[Row], Sequence[float]]
) -> None:
    """One method's values and intervals against its mean number of model calls."""
    points = [(row["NFE"], *value(row)) for row in of_method(rows, name)]
    axes.errorbar(
        *zip(*points, strict=True),
        label=TITLES[name],
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        capsize=3,
        markersize=4,
    )


def curves(rows: Rows, path: Path) -> None:
    """Figure 8, right."""
    unit = next(title for title in rows[0] if title.startswith("evaluator"))
    unit = f"{unit.partition(', ')[2]} per token under the evaluator"
    panels = [(unit, MAIN, score), (unit, EULER, score)]
    panels.append(("unigram entropy, nats", MAIN, lambda row: (row["entropy"], 0.0)))
    panels.append(("MAUVE, per cent", MAIN, near))
    panels = [panel for panel in panels if present(rows, panel[1])]
    down = math.ceil(len(panels) / 2)
    figure = new_figure(11, 4.4 * down)
    for i, (label, names, value) in enumerate(panels):
        axes = figure.add_subplot(down, 2, i + 1)
        for name in present(rows, names):
            curve(axes, rows, name, names.index(name), value)
        for row in of_method(rows, REAL) if value is not near else ():  # It is far above.
            axes.axhline(value(row)[0], color="black", linewidth=0.8, label=REAL)
        budgets = sorted({row["budget"] for row in rows if row["budget"]})
        axes.set(xscale="log", xlabel="model calls (NFE)", ylabel=label)
        axes.set_xticks(budgets, [str(n) for n in budgets])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.margins(y=0.25)
        if value is near:
            axes.set_ylim(bottom=0)
        if value is score:  # The other panels have the methods of the first.
            axes.legend(frameon=False, fontsize=7, loc="upper right")
    write(figure, path)


def columns(
    samples: Samples, nfe: int, decode: Callable[[Sequence[int]], str]
) -> dict[str, Column]:
    """Samples with their steps by title, for one number of model calls."""
    made = {}
    for name in SIDE_BY_SIDE:
        if f"{name}/{nfe}/steps" in samples:
            steps = samples[f"{name}/{nfe}/steps"].tolist()
            tokens = samples[f"{name}/{nfe}/tokens"][: len(steps)].tolist()
            made[TITLES[name]] = Column([pieces_of(row, decode) for row in tokens], steps)
    return made


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--name", default="text", help="of the pictures and pages")
    parser.add_argument("--nfe", type=int, nargs="+", default=[16, 64], help="of the samples")
    parser.add_argument("--rows", type=int, nargs="+", default=[0, 1], help="indices of samples")
    parser.add_argument("--methods", nargs="+", choices=TITLES, metavar="NAME", help="all")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    args = parser.parse_args()
    read, samples = read_rows(args.files, methods=args.methods)
    decode = decoder(read_json(args.tokenizer))
    curves(records(read["rows"]), args.figures / f"{args.name}.png")
    for nfe in args.nfe:
        if shown := columns(samples, nfe, decode):
            name = f"{args.name}-samples-{nfe}"
            picture(args.figures / f"{name}.png", shown, args.rows)
            title = f"Samples by {nfe} model calls"
            page(args.files[0].parent / f"{name}.html", title, shown, args.rows)
    if args.results is not None:
        known = read_json(args.files[0])["provenance"]
        commands = [read_json(path)["provenance"]["command"] for path in args.files]
        kept = {name: known[name] for name in ("model", *SETTINGS)}
        about = [[known[name] for name in ("model", "samples", "precision", "device")]]
        head = ["model", "sequences in each row", "precision", "device"]
        made = {"run": table(head, about, "{}")} | tables(read, args.nfe[0])
        write_results(args.results, __file__, made, command="; ".join(commands), **kept)
    print(f"{len(read['rows']['rows'])} rows; pictures in {args.figures}")


if __name__ == "__main__":
    run()
