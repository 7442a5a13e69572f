"""The demo: find schedules for the trained CountDown network, sample with each, compare."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from jumpsteps.cli.reporting import EXAMPLES, calibration_on_task, save_comparison
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.plots import plot_comparison
from jumpsteps.evaluation.report import factors, table
from jumpsteps.evaluation.results import Row
from jumpsteps.models import LoadedModel, load
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks.task import Task

__all__ = ["DemoConfig", "run_demo"]

HEADLINE = ShortestPath(order=Spread())
"""Optimised counts in a spread-out order."""


CORRECTED = "corrected"
"""Its steps for half of the model calls, then corrections for the others."""


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demo.

    Attributes:
        model: a CountDown model.
        nfe: numbers of model calls, powers of two.
        samples: for each schedule.
        sequences: of data for a shortest path.
        jys_sequences: of data for JYS; fewer, because it makes many more model calls.
        seed: of the searches; sampling uses the next one.
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
    """Write schedules, results, a report and a picture to ``out``; print a table.

    Args:
        command: how the reader calls jumpsteps, for the line that says what to run next.

    Raises:
        ValueError: a model without a metric.
    """
    model = load(config.model, device=device)
    if (task := model.task) is None:
        raise ValueError(f"{config.model!r} has no metric; the demo needs a CountDown model")
    say(introduction(model, task))
    schedules: dict[str, dict[int, Schedule]] = {
        "uniform": {n: uniform(n) for n in config.nfe},
        "cosine": {n: cosine(n) for n in config.nfe},
    }
    for method, sequences, file in searches_of(config):
        say(f"{method.name}: searching ...")
        found = find(model, task, method, sequences, config, device, progress=progress)
        known = found[config.nfe[0]].provenance
        say(
            f"{method.name}: schedules for NFE {', '.join(map(str, config.nfe))} from "
            f"{known.model_calls} model calls on {sequences} sequences"
        )
        save_schedules(out / file, found)
        schedules[method.name] = found
    corrections = with_corrections(schedules[HEADLINE.name])
    rows = compare(
        model.reverse,
        None,
        schedules | {CORRECTED: corrections},
        (config.samples, model.length),
        metric=task.metric,
        seed=config.seed + 1,
        device=device,
        batch=10,
        examples=EXAMPLES,
        progress=progress,
    )
    page = save_report(out, rows, model, schedules | {CORRECTED: corrections}, config, device)
    title = f"{model.name}, {config.samples} samples"
    plot_comparison(out / "comparison.png", rows, metric_name=task.metric_name, title=title)
    say("\n" + table(rows, task.metric_name) + "\n")
    say(conclusion(factors(rows, HEADLINE.name, "uniform")))
    for nfe, plan in corrections.items():
        say(correction(rows, nfe, plan))
    say(f"The report: {page}, to be opened in a browser.")
    say(
        f"Table, schedules and picture are in {out}/. Next: {command} sample {model.name} "
        f"--schedule {out}/schedules.json --nfe 8"
    )


def save_report(
    out: Path,
    rows: list[Row],
    model: LoadedModel,
    schedules: Mapping[str, Mapping[int, Schedule]],
    config: DemoConfig,
    device: torch.device,
) -> Path:
    """Write results.json and the report; the path of the report."""
    about = {"command": f"jumpsteps demo --out {out}", **asdict(config)}
    curve = calibration_on_task(model, config.seed, device)
    return save_comparison(out / "results.json", rows, about, model, schedules, curve, device)


def searches_of(config: DemoConfig) -> list[tuple[Method, int, str]]:
    """Method, sequences of data, and file of schedules of each search."""
    return [
        (JYS(), config.jys_sequences, "schedules-jys.json"),
        (ShortestPath(), config.sequences, "schedules-times.json"),
        (HEADLINE, config.sequences, "schedules.json"),
    ]


def introduction(model: LoadedModel, task: Task) -> str:
    """What is sampled, measured and counted, a line each."""
    return (
        f"CountDown: sequences of {model.length} symbols 0..{task.symbols - 1} that count down by "
        "one; after 0 any symbol follows.\n"
        "A violation is a pair of neighbours that breaks this rule; data have none.\n"
        "NFE is the number of model calls that a sample costs.\n"
    )


def find(
    model: LoadedModel,
    task: Task,
    method: Method,
    sequences: int,
    config: DemoConfig,
    device: torch.device,
    *,
    progress: bool,
) -> dict[int, Schedule]:
    """The schedules of one search, which draws its data from the demo's seed."""
    generator = torch.Generator(device).manual_seed(config.seed)
    return optimize_schedule(
        model.reverse,
        task.sample_data(sequences, generator),
        config.nfe,
        generator=generator,
        method=method,
        about=model.provenance(),
        progress=progress,
    )


def with_corrections(found: Mapping[int, Schedule]) -> dict[int, Schedule]:
    """NFE -> plan: the largest NFE that is twice another, half of it for corrections."""
    budgets = [n for n in found if 2 * n in found]
    if not budgets:
        return {}
    steps = max(budgets)
    return {2 * steps: replace(found[steps], redraws=(Redraw(steps),))}


def correction(rows: list[Row], nfe: int, plan: Schedule) -> str:
    """What corrections in place of steps change, whichever way."""
    shares = {row.schedule: 100 * row.metric.mean for row in rows if row.nfe == nfe}
    redraw = plan.redraws[0]
    return (
        f"A corrector: of {nfe} calls, {nfe - redraw.calls} for steps and {redraw.calls} that each "
        f"draw {redraw.share:.0%} of the sites again leave {shares[CORRECTED]:.2f}% of violations; "
        f"{nfe} steps leave {shares[HEADLINE.name]:.2f}%."
    )


def conclusion(gains: dict[int, float]) -> str:
    """What the headline method gains: NFE -> violations of uniform times over its own."""
    each = ", ".join(f"{factor:.1f} at NFE {nfe}" for nfe, factor in gains.items())
    return (
        f"Optimised counts in a spread-out order ({HEADLINE.name}) cut the violations of uniform "
        f"times by a factor of {each}."
    )
