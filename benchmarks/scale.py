"""How much faster several processes are than one, at the same work.

    torchrun --nproc-per-node 2 benchmarks/scale.py OUT.json --device cuda --compile

The network is that of ``step.py`` (SEDD-small's size, random weights); on a CPU it is small. Three
pieces of work are done in turn, by the first process alone and by all together:

* sampling: samples by Tweedie's sampler, in the parts that each process writes, read by the first;
* costs: the step costs of a masked model in spread order by data (``count_costs``);
* search: ``optimize_schedule`` by the best of several orders, certificates included.

Speed-up is T(1) / T(N) by medians, efficiency the speed-up over N. What more processes would give
is predicted from times measured here: of a run of ``simulate`` and of a model evaluation by their
batch, of an exchange, of joining parts, and of what all processes do alike. ``ASSUMPTIONS`` has
what is taken for granted.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step import SIZES, Size, model, wait
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers, workers_of_launcher
from jumpsteps.core.files import write_json
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.chunks import site_entropies_and_nll
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.batches import batches, draw_samples
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.run_folder import Parts
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.costs.by_count import count_costs, revealed_counts
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths

WORK = {
    "cuda": {"samples": 1024, "batch": 256, "nfe": 32, "sequences": 64},
    "cpu": {"samples": 64, "batch": 8, "nfe": 8, "sequences": 16},
}
SMALL: Size = {"symbols": 300, "length": 128, "width": 96, "blocks": 3}
"""The network on a CPU."""

EXCHANGES = 20
"""Timed together."""

EVALUATIONS, NFES = 32, (4, 8, 16, 32, 64)
PREDICTED, MANY = (8, 64, 512), 50_000
"""Numbers of processes for which efficiency is predicted, and how many samples they draw."""

ASSUMPTIONS = (
    "every process has a device like those measured, and none waits for its input",
    "a batch takes the time measured here, interpolated between batch sizes",
    "an exchange is a ring: its latency grows with n - 1, its transfer has the bandwidth measured "
    "here, between machines too",
    "loading the network and meeting the other processes are not counted",
    "parts are on a file system that all machines share, and reading them takes the first process "
    "the time measured here for each sample",
)


@dataclass(frozen=True)
class Bench:
    """The network and the amount of work.

    Attributes:
        network: makes a network, always the same; one that is compiled keeps the sizes of batches
            that it was compiled for, so every piece of work has its own.
        data: int64 [sequences, L].
        workers: all processes.
        folder: where samples are kept.
    """

    network: Callable[[], ReverseProcess]
    data: Tensor
    samples: int
    batch: int
    nfe: int
    device: torch.device
    workers: Workers
    folder: Path

    def sampling(self, reverse: ReverseProcess, workers: Workers) -> None:
        draw_samples(
            reverse,
            Tweedie(),
            uniform(self.nfe),
            (self.samples, self.data.shape[1]),
            generator=SampleGenerators(0, range(self.samples), self.device),
            batch=self.batch,
            parts=Parts(self.folder, self.samples),
            workers=workers,
        )
        if workers.is_first:
            shutil.rmtree(self.folder)

    def costs(self, reverse: ReverseProcess, workers: Workers) -> None:
        paths = Paths.draw(reverse.forward, self.data, generator=self.seed(), workers=workers)
        options: dict[str, Any] = {"measure": Measure.DATA, "generator": self.seed()}
        count_costs(reverse, paths, Spread(), evaluations=EVALUATIONS, **options)

    def search(self, reverse: ReverseProcess, workers: Workers) -> None:
        optimize_schedule(
            reverse,
            self.data,
            NFES,
            method=AutoOrder(),
            generator=self.seed(),
            workers=workers,
        )

    def seed(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)

    def timed(self, action: Callable[[Workers], object], workers: Workers) -> float:
        """Seconds of an action of these processes, from when all are here until all are done."""
        wait(self.device)
        self.workers.wait()
        start = time.perf_counter()
        if workers.count > 1 or self.workers.is_first:
            action(workers)
        wait(self.device)
        self.workers.wait()
        return time.perf_counter() - start

    def scaled(
        self, action: Callable[[ReverseProcess, Workers], object], rounds: int
    ) -> dict[str, Any]:
        """Seconds alone and together, in turn, after a round that does not count."""
        kinds = {"together": self.workers, "alone": ALONE}
        networks = {name: self.network() for name in kinds}
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for i in range(rounds + 1):
            for name, workers in kinds.items():
                seconds = self.timed(partial(action, networks[name]), workers)
                if i:
                    taken[name].append(seconds)
        alone, together = (statistics.median(taken[name]) for name in ("alone", "together"))
        speed_up = alone / together
        return taken | {"speed_up": speed_up, "efficiency": speed_up / self.workers.count}

    def by_batch(
        self, action: Callable[[ReverseProcess, int], object], largest: int, rounds: int
    ) -> list[Any]:
        """Pairs of a number of sequences and the median seconds of an action on so many."""
        found = []
        for size in sorted({max(largest // 4**k, 1) for k in range(5)}):
            reverse = self.network()

            def act(workers: Workers, reverse: ReverseProcess = reverse, size: int = size) -> None:
                action(reverse, size)

            times = [self.timed(act, self.workers) for _ in range(rounds + 1)]
            found.append((size, statistics.median(times[1:])))
        return found

    def run_of(self, reverse: ReverseProcess, n: int) -> None:
        generator = SampleGenerators(0, range(n), self.device)
        shape = (n, self.data.shape[1])
        simulate(reverse, Tweedie(), uniform(self.nfe), shape, generator=generator)

    def evaluation_of(self, reverse: ReverseProcess, n: int) -> None:
        x = self.data[torch.arange(n) % len(self.data)].clone()
        hidden = torch.ones_like(x, dtype=torch.bool)
        hidden[:, ::8] = False
        noisy = x.masked_fill(hidden, reverse.forward.vocab_size - 1)
        site_entropies_and_nll(reverse, noisy, 0.5, hidden, x)

    def exchange(self, numbers: int) -> float:
        """Seconds of one exchange of so many numbers of all processes together."""
        owners = torch.arange(numbers) % self.workers.count
        own = torch.zeros(int((owners == self.workers.rank).sum()), device=self.device)

        def often(workers: Workers) -> None:
            for _ in range(EXCHANGES):
                workers.gathered(own.double(), owners)

        seconds = [self.timed(often, self.workers) for _ in range(3)]
        return statistics.median(seconds) / EXCHANGES

    def joining(self) -> float:
        """Seconds for each sample in which the first process reads the parts of all."""
        parts = Parts(self.folder, self.samples)
        generator = SampleGenerators(0, range(self.samples), self.device)
        shape = (self.samples, self.data.shape[1])
        if self.workers.is_first:
            runs = batches(
                self.network(),
                Tweedie(),
                uniform(1),
                shape,
                generator=generator,
                batch=self.batch,
            )
            parts.keep(0, runs)
        seconds = self.timed(lambda _: parts.read(), ALONE)
        if self.workers.is_first:
            shutil.rmtree(self.folder)
        return seconds / self.samples


def interpolated(known: list[Any], n: int) -> float:
    """Seconds for n sequences: whole batches of the largest size, and what is left."""
    sizes, seconds = (np.array(each, dtype=float) for each in zip(*known, strict=True))
    whole, left = divmod(n, int(sizes[-1]))
    return whole * seconds[-1] + (float(np.interp(left, sizes, seconds)) if left else 0.0)


def predictions(measured: dict[str, Any], processes: int) -> dict[str, Any]:
    """Efficiency of n processes on ``MANY`` samples, and on the costs that were measured."""
    runs, evaluations = measured["run_by_batch"], measured["evaluation_by_batch"]
    largest = evaluations[-1][0]
    alone = statistics.median(measured["costs"]["alone"])
    calls = len(revealed_counts(measured["length"], EVALUATIONS, exchangeable=False))
    serial = max(alone - calls * interpolated(evaluations, largest), 0.0)
    latency, transfer = measured["exchange_least"], measured["exchange"]

    def sampling(n: int) -> float:
        return interpolated(runs, -(-MANY // n)) + MANY * measured["join_of_sample"] * (n > 1)

    def costs(n: int) -> float:
        share = interpolated(evaluations, -(-largest // n))
        hops = latency * (n - 1) / max(processes - 1, 1)
        return serial + calls * (share + (hops + transfer - latency if n > 1 else 0.0))

    numbers = (processes, *PREDICTED)
    return {
        "assumptions": ASSUMPTIONS,
        "samples": MANY,
        "serial_seconds_of_costs": serial,
        "sampling": {n: sampling(1) / (n * sampling(n)) for n in numbers},
        "costs": {n: costs(1) / (n * costs(n)) for n in numbers},
    }


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """All times; of each piece of work they are printed as soon as they are known."""
    found: dict[str, Any] = {}
    for name in ("sampling", "costs", "search"):
        found[name] = bench.scaled(getattr(bench, name), rounds)
        if bench.workers.is_first:
            show_speed_up(name, found[name], bench.workers.count)
    numbers, length = 2 * bench.data.numel(), bench.data.shape[1]
    with torch.no_grad():
        found |= {
            "run_by_batch": bench.by_batch(bench.run_of, bench.batch, rounds),
            "evaluation_by_batch": bench.by_batch(bench.evaluation_of, len(bench.data), rounds),
            "length": length,
            "exchange_numbers": numbers,
            "exchange": bench.exchange(numbers),
            "exchange_least": bench.exchange(bench.workers.count),
            "join_of_sample": bench.joining(),
        }
    return found | {"predicted": predictions(found, bench.workers.count)}


def show_speed_up(name: str, found: dict[str, Any], processes: int) -> None:
    times = ", ".join(
        f"{statistics.median(found[kind]):.3g} s {kind}" for kind in ("alone", "together")
    )
    print(
        f"{name}: {times}; {found['speed_up']:.2f} times faster with {processes} processes, "
        f"efficiency {100 * found['efficiency']:.1f}%",
        flush=True,
    )


def show_predictions(found: dict[str, Any]) -> None:
    for name in ("sampling", "costs"):
        each = found["predicted"][name].items()
        shown = ", ".join(f"{100 * value:.1f}% of {n}" for n, value in each)
        print(f"{name}, predicted efficiency: {shown} processes")
    print("if", *found["predicted"]["assumptions"], sep="\n- ")


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    for name in ("samples", "nfe", "sequences"):
        parser.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    with workers_of_launcher() as workers:
        if workers.count == 1:
            sys.exit("start it with torchrun --nproc-per-node 2 or more")
        device = workers.device(torch.device(args.device))
        kind = device.type
        asked = {name: getattr(args, name) for name in ("samples", "nfe", "sequences")}
        done = WORK[kind] | {name: n for name, n in asked.items() if n is not None}
        work = dict(done)
        size = SIZES["cuda"] if kind == "cuda" else SMALL
        seed = torch.Generator().manual_seed(0)
        shape = (work.pop("sequences"), size["length"])
        data = torch.randint(size["symbols"] - 1, shape, generator=seed).to(device)
        folder = args.out.with_name(args.out.name + ".parts")

        def network() -> ReverseProcess:
            return model(size, device, compiled=args.compile)[1]

        bench = Bench(network, data, **work, device=device, workers=workers, folder=folder)
        found = measure(bench, args.rounds)
        if workers.is_first:
            name = torch.cuda.get_device_name() if kind == "cuda" else "cpu"
            about = {
                "device": name,
                "torch": torch.__version__,
                "processes": workers.count,
                "compile": args.compile,
                "size": {key: size[key] for key in SMALL},
                "work": done,
            }
            write_json(args.out, about | found)
            show_predictions(found)


if __name__ == "__main__":
    run()
