"""The demo: find schedules for the trained CountDown network, sample with each, compare."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from jumpsteps.cli.reporting import EXAMPLES, calibration_on_task, save_comparison
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.plots import plot_comparison
from jumpsteps.evaluation.report import factor, factors, table
from jumpsteps.evaluation.results import Row
from jumpsteps.models import LoadedModel, load
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.orders import Golden, Random, Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks.countdown import broken
from jumpsteps.tasks.task import Task

__all__ = ["DemoConfig", "run_demo"]

HEADLINE = ShortestPath(order=Spread())
"""Optimised counts in a spread-out order."""


SHOWN = 28
"""Numbers of a sample that are printed."""

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
    schedules |= found_schedules(model, task, config, device, out, say, progress=progress)
    corrections = with_corrections(schedules[HEADLINE.name])
    rows = compare(
        model.reverse,
        None,
        schedules | {CORRECTED: corrections},
        (config.samples, model.length),
        metric=task.metric,
        unit=task.unit,
        seed=config.seed + 1,
        device=device,
        batch=10,
        examples=EXAMPLES,
        progress=progress,
    )
    page = save_report(out, rows, model, schedules | {CORRECTED: corrections}, config, device)
    title = f"{model.name}, {config.samples} samples"
    orders = in_other_orders(schedules[HEADLINE.name])
    picture = out / "comparison.png"
    plot_comparison(picture, rows, metric_name=task.metric_name, title=title, orders=orders)
    say("\n" + table(rows, task.metric_name) + "\n")
    say(samples_of(rows))
    say(conclusion(factors(rows, HEADLINE.name, "uniform")))
    for nfe, plan in corrections.items():
        say(correction(rows, nfe, plan))
    say(
        f"Next: {command} sample {model.name} --schedule {out}/schedules.json --nfe 8\n"
        f"The report, for a browser: {page}\n"
        f"The picture: {picture}"
    )


def found_schedules(
    model: LoadedModel,
    task: Task,
    config: DemoConfig,
    device: torch.device,
    out: Path,
    say: Callable[[str], None],
    *,
    progress: bool,
) -> dict[str, dict[int, Schedule]]:
    """Name -> NFE -> schedule of every search; writes them to ``out``."""
    schedules = {}
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
    return schedules


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
    """What is sampled, measured and counted."""
    top = min(task.symbols - 1, 7)
    right = [*range(top, -1, -1), *range(task.symbols - 1, task.symbols - 6, -1)]
    wrong = [*right[:4], *right[1:5], *right[8:]]
    return (
        f"CountDown is a made-up language: {model.length} numbers from 0 to {task.symbols - 1}. A "
        "number is followed by the\none below it, and 0 by any number.\n"
        f"    correct:  {marked(right)}\n"
        f"    broken:   {marked(wrong)}\n"
        "A > breaks the rule, which is called a violation. Data have none.\n"
        "A sample starts from nothing, and each call of the network fills in some of the numbers, "
        "which do\nnot see each other. NFE is the number of calls that a sample costs.\n"
    )


def marked(tokens: Sequence[int]) -> str:
    """Numbers with a > between neighbours that break CountDown's rule."""
    rows = torch.tensor([tokens])
    signs = ["", *(" >"[int(bad)] for bad in broken(rows)[0])]
    return "".join(f"{sign}{token}" for sign, token in zip(signs, tokens, strict=True))


def samples_of(rows: list[Row]) -> str:
    """How the first sample of uniform times and that of the headline method begin."""
    found = {(row.nfe, row.schedule): row.examples for row in rows}
    nfe = middle({nfe for nfe, _ in found})
    lines = [f"How the first samples of {nfe} calls begin:"]
    for title, name in (("uniform:  ", "uniform"), ("optimised:", HEADLINE.name)):
        if (kept := found[nfe, name]) is not None:
            lines.append(f"    {title}  {marked(kept.tokens[0][:SHOWN])}")
    return "\n".join(lines) + "\n"


def middle(budgets: Collection[int]) -> int:
    """8 calls, or the fewest."""
    return 8 if 8 in budgets else min(budgets)


def in_other_orders(found: Mapping[int, Schedule]) -> dict[str, CountSchedule]:
    """The schedule of 8 steps, or the fewest, in random order, in its own and in golden order."""
    own = found[middle(found)]
    assert isinstance(own, CountSchedule)
    orders = {
        "random order": Random(),
        f"{own.order.name} order, the optimised one": own.order,
        "golden order": Golden(),
    }
    return {title: CountSchedule(own.counts, order=order) for title, order in orders.items()}


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


def conclusion(gains: dict[int, Interval]) -> str:
    """What the headline method gains: NFE -> violations of uniform times over its own."""
    each = ", ".join(f"{factor(gain)} at NFE {nfe}" for nfe, gain in gains.items())
    return (
        f"Optimised counts in a spread-out order ({HEADLINE.name}) cut the violations of uniform "
        f"times by a factor of {each}; 95% intervals."
    )
