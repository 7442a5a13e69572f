"""What random numbers of each sample cost, against those of a whole batch.

    python benchmarks/draws.py OUT.json --device cuda

It measures microseconds for one uniform number of every site, and milliseconds for a step of
``simulate`` by Tweedie's sampler and by k-Gillespie's, with a ``torch.Generator`` and with
``SampleGenerators``. The network is that of ``step.py``; on a CPU it is the small one that comes
with jumpsteps, "countdown". Either kind of run is repeated in turn, and the ratio is that of the
medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step import SIZES, model, wait

import jumpsteps
from jumpsteps.core.draws import uniform
from jumpsteps.core.files import write_json
from jumpsteps.core.sample_generators import Generator, SampleGenerators
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.schedules.schedule import Schedule

BATCHES = {"cuda": (8, 32), "cpu": (16,)}
NFE = {"cuda": 64, "cpu": 4}
REPEATS = 9


def in_turn(
    device: torch.device, actions: dict[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of every action, each once in every round, after a round that does not count; of the
    processor on a CPU.
    """
    taken: dict[str, list[float]] = {name: [] for name in actions}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for i in range(repeats + 1):
        for name, action in actions.items():
            wait(device)
            start = clock()
            action()
            wait(device)
            if i:
                taken[name].append(clock() - start)
    return taken


def generators(batch: int, device: torch.device) -> dict[str, Generator]:
    return {
        "batch": torch.Generator(device).manual_seed(0),
        "sample": SampleGenerators(0, range(batch), device),
    }


def compared(taken: dict[str, list[float]], scale: float) -> dict[str, Any]:
    """Median, least and most of either kind, and the ratio of the medians."""
    found: dict[str, Any] = {
        name: {
            "median": scale * statistics.median(each),
            "least": scale * min(each),
            "most": scale * max(each),
        }
        for name, each in taken.items()
    }
    return found | {"ratio": found["sample"]["median"] / found["batch"]["median"]}


def measure_draws(shape: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Microseconds for a uniform number of every site."""
    actions = {
        name: lambda generator=generator: [
            uniform(shape, generator=generator, device=device) for _ in range(100)
        ]
        for name, generator in generators(shape[0], device).items()
    }
    return compared(in_turn(device, actions, REPEATS), 1e4)


def measure_steps(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule,
    shape: tuple[int, int],
    device: torch.device,
) -> dict[str, Any]:
    """Milliseconds for a step."""
    actions = {
        name: lambda generator=generator: simulate(
            reverse, sampler, schedule, shape, generator=generator
        )
        for name, generator in generators(shape[0], device).items()
    }
    return compared(in_turn(device, actions, REPEATS), 1e3 / schedule.steps)


def measure(device: torch.device) -> list[dict[str, Any]]:
    """A row for each batch and sampler."""
    if device.type == "cuda":
        reverse, length = model(SIZES["cuda"], device, compiled=True)[1], SIZES["cuda"]["length"]
    else:
        loaded = jumpsteps.load("countdown", device=device)
        reverse, length = loaded.reverse, loaded.length
    rows, nfe = [], NFE[device.type]
    for batch in BATCHES[device.type]:
        shape = (batch, length)
        rows.append({"batch": batch, "draw_us": measure_draws(shape, device)})
        for sampler, schedule in (
            (jumpsteps.Tweedie(), jumpsteps.uniform(nfe)),
            (jumpsteps.KGillespie(), jumpsteps.uniform_counts(nfe, length)),
        ):
            step = measure_steps(reverse, sampler, schedule, shape, device)
            rows.append({"batch": batch, "sampler": sampler.name, "nfe": nfe, "step_ms": step})
        print(*rows[-3:], sep="\n", flush=True)
    return rows


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    content = {"device": name, "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_json(args.out, content | {"rows": measure(device)})


if __name__ == "__main__":
    run()
