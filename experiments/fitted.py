"""How far the closed form of ``get_schedule`` is from the schedules of models' own searches.

For each model and number of model calls it prints, on sequences that chose nothing, the few-step
NLL of the best schedule of a search on 64 sequences (a model's shipped one, where it has one), and
by how much it is higher for

* ``get_schedule``, which knows neither the model nor data;
* equal counts in golden order;
* uniform times, which are in random order.

    python experiments/fitted.py OUT                                  # CountDown
    python experiments/fitted.py OUT --models piano-absorbing --data pop909.zip
    python experiments/fitted.py OUT --models checkpoints/text-small --text novel.txt --sequences 8

``--fit`` fits the two parameters to cost tables of these models instead. Writes OUT/fitted.json; a
second run adds its models to it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

import results
from jumpsteps import (
    CountSchedule,
    Golden,
    KGillespie,
    LoadedModel,
    Measure,
    Paths,
    ShortestPath,
    Tweedie,
    count_costs,
    few_step_nll,
    get_schedule,
    load,
    shortest_paths,
    uniform,
    uniform_counts,
)
from jumpsteps.cli.sequence_files import load_text
from jumpsteps.core.information import half_width, standard_error
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.piano import GIVEN

MODELS = ("countdown-exact", "countdown")
NFE = (4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--data", type=Path, help="MIDI files, for the piano models")
    parser.add_argument("--text", type=Path, help="text, for models of text")
    parser.add_argument("--nfe", nargs="+", type=int, default=NFE)
    parser.add_argument("--sequences", type=int, default=64, help="of a search, and of a measure")
    parser.add_argument("--evaluations", type=int, default=32, help="of a search")
    parser.add_argument("--fit", action="store_true", help="fit the parameters, on these models")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.fit:
        fit(args)
        return
    rows = [row for name in args.models for row in compared(name, args)]
    file = args.out / "fitted.json"
    kept = json.loads(file.read_text())["tables"]["fitted"]["rows"] if file.exists() else []
    mine = {row[0] for row in rows}
    head = ["model", "NFE", "own schedule", "fitted", "equal counts", "uniform times"]
    plain = {"model": "{}", "NFE": "{}"}
    made = results.table(
        head,
        [*(row for row in kept if row[0] not in mine), *rows],
        "{:+.2f} ±{:.2f}",
        plain | {"own schedule": "{:.2f} ±{:.2f}"},
    )
    results.write_results(
        file,
        __file__,
        {"fitted": made},
        command="python experiments/fitted.py, as its docstring says",
        seeds="search 0, measure 1 and 2",
        interval="95%, over sequences",
        device=results.device_name("cpu"),
    )


def data_of(
    model: LoadedModel, args: argparse.Namespace, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Sequences, and the mask of the sites that are given."""
    generator = torch.Generator().manual_seed(seed)
    if model.text is not None:
        return load_text(args.text, model.text, model.length, args.sequences, generator)[0], None
    assert model.task is not None
    if model.task.read_data is None:
        return model.task.sample_data(args.sequences, generator), None
    tokens, _ = model.task.read_data(args.data, args.sequences, generator)
    return tokens, torch.arange(model.length) < GIVEN


def compared(name: str, args: argparse.Namespace) -> list[list]:
    """A row for each number of model calls."""
    model = load(name)
    own: dict[int, Schedule] = dict(model.schedules) or searched(model, args)
    data, given = data_of(model, args, args.seed + 1)
    free = model.length - (0 if given is None else int(given.sum()))
    rows = []
    for nfe in args.nfe:
        nll = {
            title: nll_of(model, data, given, schedule, args.seed)
            for title, schedule in {
                "own": own[nfe],
                "fitted": get_schedule(nfe, free),
                "equal": uniform_counts(nfe, free, Golden()),
                "uniform": uniform(nfe),
            }.items()
        }
        rows.append(
            [Path(name).name, nfe, mean(nll["own"])]
            + [mean(nll[title] - nll["own"]) for title in ("fitted", "equal", "uniform")]
        )
        print(*rows[-1])
    return rows


def nll_of(
    model: LoadedModel, data: Tensor, given: Tensor | None, schedule: Schedule, seed: int
) -> np.ndarray:
    """The few-step NLL of every sequence, nats."""
    return few_step_nll(
        model.reverse,
        data,
        schedule,
        KGillespie() if isinstance(schedule, CountSchedule) else Tweedie(),
        generator=torch.Generator().manual_seed(seed + 2),
        given_mask=given,
        reference_calls=2,
    ).per_sequence


def mean(values: np.ndarray) -> list[float]:
    """Mean and half its 95% interval."""
    return [float(values.mean()), half_width(float(standard_error(values)), len(values))]


def searched(model: LoadedModel, args: argparse.Namespace) -> dict[int, Schedule]:
    """Counts in golden order, searched on other sequences."""
    data, given = data_of(model, args, args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    paths = Paths.draw(model.reverse.forward, data, generator=generator, given_mask=given)
    method = ShortestPath(order=Golden(), evaluations=args.evaluations)
    found = method.find(model.reverse, paths, list(args.nfe), KGillespie(), generator=generator)
    return {n: one.schedule for n, one in found.items()}


def fit(args: argparse.Namespace) -> None:
    """Print the parameters with the least mean excess over the best counts, relative to the NLL of
    one site at a time. CountDown's two models count half each.
    """
    tables = {}
    for name in args.models:
        model = load(name)
        data, given = data_of(model, args, args.seed)
        generator = torch.Generator().manual_seed(args.seed)
        paths = Paths.draw(model.reverse.forward, data, generator=generator, given_mask=given)
        tables[name] = count_costs(
            model.reverse,
            paths,
            Golden(),
            evaluations=args.evaluations,
            measure=Measure.DATA,
            generator=generator,
        )
    best = {name: shortest_paths(costs, args.nfe) for name, costs in tables.items()}

    def excess(parameters: np.ndarray) -> float:
        total = weights = 0.0
        for name, costs in tables.items():
            assert costs.alone is not None
            weight = 0.5 if name in MODELS else 1.0
            for nfe in args.nfe:
                made = get_schedule(nfe, int(costs.grid[0]), shape=tuple(parameters))
                lost = costs.predict(made)[0] - costs.predict(best[name][nfe])[0]
                total += weight * lost / float(costs.alone.mean())
                weights += weight
        return total / weights

    found = minimize(excess, [1.5, 1.5], method="Nelder-Mead", options={"xatol": 0.01})
    print(f"a, b = {found.x.round(2).tolist()}, mean relative excess {100 * found.fun:.2f}%")


if __name__ == "__main__":
    main()
