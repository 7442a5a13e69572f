"""Every sampler at equal numbers of model calls on the exact CountDown models, two kernels.

    python experiments/samplers.py OUT [--device cuda] [-n 1024] [--samplers NAME ...]

The violation rate along uniform times, or uniform counts, so that only the samplers differ. Writes
OUT/samplers-<kernel>.json, OUT/samplers.png and the tables of docs/samplers.md as
OUT/results/samplers.json. Under 3 minutes on an NVIDIA H200; on a CPU core about half a second
for each call. With ``--samplers`` these alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from corrector_plans import command_line
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.evaluation.results import Row, save_results
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.event_driven import FirstHitting, Gillespie
from jumpsteps.sampling.parallel_decoding import EntropyBounded
from jumpsteps.sampling.registry import SAMPLERS
from jumpsteps.schedules.fixed import uniform, uniform_counts
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.tasks import countdown
from results import INTERVAL, Table, cells_of, device_name, table, write_results

NFE = (4, 8, 16, 32, 64, 128)
KERNELS = ("absorbing", "uniform")
FREE: dict[str, list[tuple[str, Sampler]]] = {
    "absorbing": [
        *((f"entropy-bounded {gamma:g}", EntropyBounded(gamma)) for gamma in (0.1, 1.0, 10.0)),
        ("first-hitting", FirstHitting()),
        ("gillespie", Gillespie()),
    ],
    "uniform": [("gillespie", Gillespie())],
}


def samplers_of(kernel: str) -> list[Sampler]:
    """The registered samplers that serve the kernel and follow a schedule."""
    forward = countdown.exact_reverse(kernel).forward
    found: list[Sampler] = []
    for sampler in SAMPLERS.values():
        try:
            sampler.check(forward)
        except ValueError:
            continue
        if sampler.takes is not None:
            found.append(sampler)
    return found


def kernels_of(chosen: list[str] | None) -> list[str]:
    """The kernels that one of the chosen samplers serves."""
    return [
        kernel
        for kernel in KERNELS
        if not chosen
        or any(one.name in chosen for one in samplers_of(kernel))
        or any(name in chosen for name, _ in FREE[kernel])
    ]


def schedules_of(sampler: Sampler) -> dict[int, Schedule]:
    """Uniform schedules for each NFE that allows a step."""
    budgets = [n for n in NFE if n >= (sampler.calls(1) or 1)]
    if sampler.takes is CountSchedule:
        return {n: uniform_counts(sampler.steps(n), countdown.LENGTH) for n in budgets}
    return {n: uniform(sampler.steps(n)) for n in budgets}


def measure(
    reverse: ReverseProcess, kernel: str, n: int, device: torch.device, chosen: list[str] | None
) -> list[Row]:
    shape, rows = (n, countdown.LENGTH), []
    for sampler in samplers_of(kernel):
        if chosen and sampler.name not in chosen:
            continue
        named = {sampler.name: schedules_of(sampler)}
        rows += compare(
            reverse,
            sampler,
            named,
            shape,
            metric=countdown.violations,
            seed=1,
            device=device,
            batch=64 if device.type == "cpu" else 1024,
        )
    for name, sampler in FREE[kernel]:
        if chosen and name not in chosen:
            continue
        generator = torch.Generator(device).manual_seed(1)
        samples, calls = sample_batches(
            reverse, sampler, None, shape, generator=generator, batch=1024
        )
        rows.append(Row(calls, name, (), mean_interval(countdown.violations(samples))))
    for row in rows:
        half = 100 * (row.metric.high - row.metric.mean)
        rate = f"{100 * row.metric.mean:7.3f} ±{half:.3f}"
        print(f"{kernel:10s} {row.schedule:22s} {row.nfe:6d} {rate}", flush=True)
    return rows


def draw(out: Path, kernels: list[str]) -> None:
    """The picture, from the JSON files."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    colours = colormaps["tab20"].colors
    panels = figure.subplots(1, len(kernels), sharey=True, squeeze=False)[0]
    for axes, kernel in zip(panels, kernels, strict=True):
        rows = json.loads((out / f"samplers-{kernel}.json").read_text())["rows"]
        for i, name in enumerate(dict.fromkeys(row["schedule"] for row in rows)):
            mine = [row for row in rows if row["schedule"] == name]
            mean = [100 * row["metric"]["mean"] for row in mine]
            half = [100 * row["metric"]["high"] - m for row, m in zip(mine, mean, strict=True)]
            style = {
                "color": colours[i % len(colours)],
                "marker": "osD^v<>PX*phd8H.1234+x|_"[i],
                "markersize": 6,
                "linewidth": 1,
            }
            axes.errorbar([row["nfe"] for row in mine], mean, half, label=name, **style)
        count = rows[0]["metric"]["count"]
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="model calls (NFE)",
            title=f"{kernel} kernel, uniform steps, {count} samples",
        )
        axes.set_xticks(NFE, [str(v) for v in NFE])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(
            frameon=False, fontsize=8, loc="lower left" if kernel == "absorbing" else "upper right"
        )
    figure.axes[0].set_ylabel("violation rate, %")
    ticks = (0.1, 0.3, 1, 3, 10, 30, 100)
    figure.axes[0].set_yticks(ticks, [f"{v:g}" for v in ticks])
    figure.savefig(out / "samplers.png", dpi=110)


def table_of(rows: list[dict[str, Any]], kernel: str) -> Table:
    """A line for each sampler; the last column is of those that choose their own steps."""
    cells, lines = cells_of(rows), []
    for sampler in samplers_of(kernel):
        name = sampler.name
        if all(name != measured for _, measured in cells):
            continue
        short = (NFE[0], name) not in cells
        used = [n - 1 if short else n for n in NFE]
        title = f"{name} (NFE 1 less)" if short else name
        lines.append([title, *(cells.get((n, name)) for n in used), None])
    for name, _ in FREE[kernel]:
        own = [nfe for nfe, schedule in cells if schedule == name]
        lines += [[name, *[None] * len(NFE), [*cells[calls, name], calls]] for calls in own]
    head = ["sampler", f"NFE {NFE[0]}", *map(str, NFE[1:]), "own"]
    if all(line[-1] is None for line in lines):
        return table(head[:-1], [line[:-1] for line in lines])
    return table(head, lines, columns={"own": INTERVAL + " at {}"})


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=1024, help="samples")
    parser.add_argument("--samplers", nargs="+", help="by default all")
    parser.add_argument("--draw", action="store_true", help="only draw again")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kernels = kernels_of(args.samplers)
    for kernel in () if args.draw else kernels:
        reverse, device = countdown.exact_reverse(kernel), torch.device(args.device)
        rows = measure(reverse, kernel, args.n, device, args.samplers)
        about = {"model": "countdown-exact", "kernel": kernel, "seed": 1}
        save_results(args.out / f"samplers-{kernel}.json", rows, about)
    draw(args.out, kernels)
    rows = {k: json.loads((args.out / f"samplers-{k}.json").read_text())["rows"] for k in kernels}
    write_results(
        args.out / "results" / "samplers.json",
        __file__,
        {kernel: table_of(found, kernel) for kernel, found in rows.items()},
        command=command_line().replace(" --draw", ""),
        device=device_name(args.device),
        samples=args.n,
        sampling_seed=1,
    )


if __name__ == "__main__":
    run()
