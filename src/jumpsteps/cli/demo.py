"""The demo: find schedules for the trained CountDown model, sample with them, compare."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.plots import plot_comparison
from jumpsteps.evaluation.report import factors, table
from jumpsteps.evaluation.results import save_results
from jumpsteps.models import load
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["DemoConfig", "run_demo"]


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demo.

    Attributes:
        model: a built-in model with a task.
        nfe: numbers of steps, powers of two.
        samples: per schedule.
        sequences: of data that the shortest path sees.
        jys_sequences: of data that JYS sees; fewer, because it makes many more model calls.
    """

    model: str = "countdown"
    nfe: tuple[int, ...] = (4, 8, 16)
    samples: int = 40
    sequences: int = 16
    jys_sequences: int = 8
    seed: int = 0


def run_demo(
    out: Path,
    device: torch.device,
    *,
    config: DemoConfig = DemoConfig(),
    say: Callable[[str], None] = print,
    command: str = "jumpsteps",
    progress: bool = True,
) -> None:
    """Write schedules (three files), results.json and comparison.png to ``out``, and say what was seen.

    ``command`` is how the reader calls jumpsteps, for the line that says what to run next.
    """
    model = load(config.model, device=device)
    if model.task is None:
        raise ValueError(
            f"the demo needs a model with a metric, {config.model!r} has none; choose countdown"
        )
    schedules: dict[str, dict[int, Schedule]] = {
        "uniform": {n: uniform(n) for n in config.nfe},
        "cosine": {n: cosine(n) for n in config.nfe},
    }
    methods: list[tuple[Method, int, str]] = [
        (JYS(), config.jys_sequences, "schedules-jys.json"),
        (ShortestPath(), config.sequences, "schedules-times.json"),
        (ShortestPath(order=Spread()), config.sequences, "schedules.json"),
    ]
    for method, sequences, file in methods:
        say(f"{method.name}: searching ...")
        generator = torch.Generator(device).manual_seed(config.seed)
        data = model.task.sample_data(sequences, generator)
        found = optimize_schedule(
            model.reverse,
            data,
            config.nfe,
            generator=generator,
            method=method,
            about=model.provenance(),
        )
        calls = found[config.nfe[0]].provenance.model_calls
        say(
            f"{method.name}: schedules for NFE {', '.join(map(str, config.nfe))} from {calls} model calls on {sequences} sequences"
        )
        save_schedules(out / file, found)
        schedules[method.name] = found
    rows = compare(
        model.reverse,
        None,
        schedules,
        (config.samples, model.length),
        metric=model.task.metric,
        seed=config.seed + 1,
        device=device,
        batch=10,
        progress=progress,
    )
    about = {"model_hash": model.digest, **asdict(config)}
    save_results(out / "results.json", rows, about)
    title = f"{model.name}, {config.samples} samples"
    plot_comparison(out / "comparison.png", rows, metric_name=model.task.metric_name, title=title)
    say("\n" + table(rows, model.task.metric_name) + "\n")
    gains = ", ".join(
        f"{factor:.1f}x at {nfe} steps"
        for nfe, factor in factors(rows, "shortest-path-spread", "uniform").items()
    )
    say(
        f"Fewer errors than uniform steps, at the same number of model calls, with the best jumps in spread order: {gains}."
    )
    say(
        f"Table, schedules and picture are in {out}/. Next: {command} sample {model.name} --schedule {out}/schedules.json --nfe 8"
    )
