"""What a search costs: Jump Your Steps against one pass, NFE 2 to 64 together, the same data.

    python benchmarks/optimise.py OUT.json [--model countdown-exact] [--device cuda] [-n 256]

Prints and writes model calls, seconds and the violation rates of the found schedules. The ratios
are to JYS in the same run.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch

from jumpsteps import load
from jumpsteps.core.files import write_json
from jumpsteps.evaluation.compare import compare
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

NFE = (2, 4, 8, 16, 32, 64)
SEQUENCES = 64
METHODS: list[Method] = [JYS(), ShortestPath()]
OF_ABSORBING: list[Method] = [ShortestPath(order=Spread())]


def timed(model, method: Method, device: torch.device) -> tuple[dict[int, Schedule], float]:
    """The schedules and the seconds they took."""
    generator = torch.Generator(device).manual_seed(0)
    data = model.task.sample_data(SEQUENCES, generator)
    start = time.perf_counter()
    found = optimize_schedule(model.reverse, data, NFE, generator=generator, method=method)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="countdown-exact")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=256, help="samples for each schedule")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = load(args.model, device=device)
    timed(model, ShortestPath(evaluations=4), device)  # warm up
    lines = []
    for method in METHODS + OF_ABSORBING * isinstance(model.reverse.forward, Absorbing):
        found, seconds = timed(model, method, device)
        size = {"seed": 1, "device": device, "batch": 16 if device.type == "cpu" else 1024}
        rows = compare(
            model.reverse,
            None,
            {method.name: found},
            (args.n, model.length),
            metric=model.task.metric,
            **size,
        )
        calls = found[NFE[0]].provenance.model_calls
        lines.append(
            {
                "method": method.name,
                "calls": calls,
                "seconds": seconds,
                "rows": [asdict(row) for row in rows],
            }
        )
        first, last = lines[0], lines[-1]
        rates = " ".join(f"{100 * row.metric.mean:.2f}" for row in rows)
        fewer, faster = first["calls"] / calls, first["seconds"] / last["seconds"]
        searched = f"{calls:5d} calls ({fewer:.1f}x fewer), {seconds:7.2f} s ({faster:.1f}x faster)"
        print(f"{method.name:22s} {searched}")
        print(f"    violations at NFE {NFE}, %: {rates}", flush=True)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    write_json(
        args.out,
        {
            "model": args.model,
            "device": name,
            "sequences": SEQUENCES,
            "samples": args.n,
            "methods": lines,
        },
    )


if __name__ == "__main__":
    run()
