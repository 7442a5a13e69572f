"""Time and memory of a step of k-Gillespie, with and without extrapolation.

    python benchmarks/multistep_cost.py OUT.json [--device cuda] [--batch 32] [--output-kept]

Random weights at the size of SEDD-small (12 blocks, 768 wide, V = 50,258, L = 1024), in bfloat16
with a compiled trunk on a GPU; 2 blocks, L = 256 and float32 on a CPU. For `k-gillespie` and
`k-gillespie-multistep`, uniform counts in golden order: milliseconds for each step of whole runs,
the median, least and most of three, and the peak of a run's memory beyond the model's. With
`--output-kept` the network's outputs are kept, as of a model without hidden states. On a CPU the
time is that of the process, one thread, and so is the memory (Linux); each sampler has one.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from step import SIZES, Size, forget_peak, model, seconds

from jumpsteps.core.files import write_json
from jumpsteps.denoiser.model import call
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform_counts
from jumpsteps.schedules.orders import Golden

SAMPLERS: dict[str, Sampler] = {one.name: one for one in (KGillespie(), MultistepKGillespie())}
LARGE = SIZES["cuda"]
BY_DEVICE: dict[str, Size] = {"cuda": LARGE, "cpu": LARGE | {"blocks": 2, "length": 256}}


def reverse_of(size: Size, device: torch.device, *, output_kept: bool) -> ReverseProcess:
    network, reverse = model(size, device, compiled=device.type == "cuda")
    if device.type == "cpu":
        network.float()
    if not output_kept:
        return reverse
    inner = reverse.model
    return replace(reverse, model=lambda x, t, where=None: call(inner, x, t, where))


def of_process(name: str) -> float:
    """A number of this process in MB, such as VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def peak_of(run: Callable[[], None], device: torch.device) -> float:
    """The peak of the memory of a run beyond what there was before, MB."""
    if device.type == "cuda":
        forget_peak(device)
        before = torch.cuda.memory_allocated() / 1e6
        run()
        return torch.cuda.max_memory_allocated() / 1e6 - before
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the peak.
    before = of_process("VmRSS")
    run()
    return of_process("VmHWM") - before


def milliseconds(run: Callable[[], None], device: torch.device, repeats: int) -> list[float]:
    """Of each of ``repeats`` runs."""
    if device.type == "cuda":
        return [1e3 * each for each in seconds(device, run, repeats)]
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(1e3 * (time.process_time() - start))
    return taken


def measure(sampler: str, args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    device = torch.device(args.device)
    size = BY_DEVICE[device.type]
    reverse = reverse_of(size, device, output_kept=args.output_kept)
    schedule = uniform_counts(args.nfe, size["length"], Golden())
    shape = (args.batch, size["length"])

    def run() -> None:
        generator = torch.Generator(device).manual_seed(0)
        simulate(reverse, SAMPLERS[sampler], schedule, shape, generator=generator)

    if device.type == "cuda":
        run()  # Compiles.
    peak = peak_of(run, device)
    taken = [each / args.nfe for each in milliseconds(run, device, 3)]
    times = {"ms": statistics.median(taken), "ms_least": min(taken), "ms_most": max(taken)}
    return times | {"peak_MB": peak}


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--nfe", type=int, default=8)
    parser.add_argument("--output-kept", action="store_true")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for name in SAMPLERS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            rows[name] = process.submit(measure, name, args).result()
        print(name, {key: round(value, 1) for key, value in rows[name].items()}, flush=True)
    plain, multistep = rows.values()
    ratios = {key: multistep[key] / plain[key] for key in ("ms", "peak_MB")}
    print({key: round(value, 3) for key, value in ratios.items()})
    write_json(args.out, {"options": vars(args) | {"out": ""}, "rows": rows, "ratios": ratios})


if __name__ == "__main__":
    run()
