"""How much faster several processes are than one, at the same work.

    torchrun --nproc-per-node 2 benchmarks/scale.py OUT.json --device cuda --compile
    torchrun --nproc-per-node 2 benchmarks/scale.py OUT.json --device cuda --only costs search

The network is that of ``step.py`` (SEDD-small's size, random weights); on a CPU it is small. Three
pieces of work are done in turn, by the first process alone and by all together:

* sampling: samples by Tweedie's sampler, in the parts that each process writes, read by the first;
* costs: the step costs of a masked model in spread order by data (``count_costs``);
* search: ``optimize_schedule`` by the best of several orders, certificates included.

Speed-up is T(1) / T(N) by medians, efficiency the speed-up over N. The time of one estimate of
costs is divided into model evaluations, exchange (waiting for the others included) and the rest.

What more processes would give (``predict``) is predicted from times measured here: of a run of
``simulate`` and of a model evaluation by their batch, of an exchange, of joining parts, and of the
rest of costs. ``ASSUMPTIONS`` has what is taken for granted.
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
from unittest.mock import patch

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
from jumpsteps.search.costs import uncertainties
from jumpsteps.search.costs.by_count import count_costs, grid_counts, revealed_counts
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths

WORK = {
    "cuda": {"samples": 1024, "batch": 256, "nfe": 32, "sequences": 64},
    "cpu": {"samples": 64, "batch": 8, "nfe": 8, "sequences": 16},
}
SMALL: Size = {"symbols": 300, "length": 128, "width": 96, "blocks": 3}
"""The network on a CPU."""

PIECES = ("sampling", "costs", "search", "predict")

EXCHANGES = 20
"""Timed together."""

EVALUATIONS, GRID_INTERVALS, NFES = 32, 512, (4, 8, 16, 32, 64)
PREDICTED, MANY = (8, 64, 512), 50_000
"""Numbers of processes for which efficiency is predicted, and how many samples they draw."""

ASSUMPTIONS = (
    "every process has a device like those measured, and none waits for its input",
    "a batch takes the time measured here, interpolated between batch sizes",
    "an exchange is a ring: its latency grows with n - 1, its transfer has the bandwidth measured "
    "here, between machines too",
    "the rest of costs has a part that all processes do and a part that they share, by its times "
    "alone and together",
    "loading the network and meeting the other processes are not counted",
    "parts are on a file system that all machines share, and reading them takes the first process "
    "the time measured here for each sample",
)


@dataclass(frozen=True)
class Bench:
    """The network and the amount of work.

    Attributes:
        network: makes a network, always the same. One that is compiled pads a batch to a larger
            size that it was compiled for, if that is less than twice as large, so every piece of
            work has its own and begins with its smallest batches.
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
        grid = {"evaluations": EVALUATIONS, "grid_intervals": GRID_INTERVALS}
        count_costs(reverse, paths, Spread(), **grid, **options)

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

    def scaled(self, action: Callable[[Workers], object], rounds: int) -> dict[str, Any]:
        """Seconds together and alone, in turn, after a round that does not count."""
        taken: dict[str, list[float]] = {"together": [], "alone": []}
        for i in range(rounds + 1):
            for name, workers in (("together", self.workers), ("alone", ALONE)):
                seconds = self.timed(action, workers)
                if i:
                    taken[name].append(seconds)
        alone, together = (statistics.median(taken[name]) for name in ("alone", "together"))
        speed_up = alone / together
        return taken | {"speed_up": speed_up, "efficiency": speed_up / self.workers.count}

    def divided(self, reverse: ReverseProcess, rounds: int) -> dict[str, Any]:
        """How the seconds of ``costs`` divide, together and alone, in the first process; it waits
        for the device before and after each part.
        """
        kinds = {"together": self.workers, "alone": ALONE}
        each = {
            name: [self.parts_of_costs(reverse, workers) for _ in range(rounds + 1)][1:]
            for name, workers in kinds.items()
        }
        return {
            name: {part: statistics.median(one[part] for one in found) for part in found[0]}
            for name, found in each.items()
        }

    def parts_of_costs(self, reverse: ReverseProcess, workers: Workers) -> dict[str, float]:
        spent = {"evaluations": 0.0, "exchange": 0.0}

        def counted(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
            def act(*args: Any) -> Any:
                wait(self.device)
                start = time.perf_counter()
                result = action(*args)
                wait(self.device)
                spent[name] += time.perf_counter() - start
                return result

            return act

        evaluate = counted("evaluations", site_entropies_and_nll)
        exchange = counted("exchange", Workers.of_all)
        with (
            patch.object(uncertainties, "site_entropies_and_nll", evaluate),
            patch.object(Workers, "of_all", exchange),
        ):
            total = self.timed(partial(self.costs, reverse), workers)
        return spent | {"rest": total - sum(spent.values())}

    def by_batch(self, action: Callable[[int], object], largest: int, rounds: int) -> list[Any]:
        """Pairs of a number of sequences and the median seconds of an action on so many."""
        found = []
        for size in sorted({1, max(largest // 8, 1), largest}):

            def act(workers: Workers, size: int = size) -> None:
                action(size)

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

    def exchange(self, rows: int, width: int, device: torch.device) -> float:
        """Seconds of one exchange of so many numbers [rows, width] of all processes together."""
        own = torch.zeros(len(self.workers.rows_of(rows)), width, device=device).double()

        def often(workers: Workers) -> None:
            for _ in range(EXCHANGES):
                workers.of_all(own, rows)

        seconds = [self.timed(often, self.workers) for _ in range(3)]
        return statistics.median(seconds) / EXCHANGES

    def joining(self, reverse: ReverseProcess) -> float:
        """Seconds for each sample in which the first process reads the parts of all."""
        parts = Parts(self.folder, self.samples)
        generator = SampleGenerators(0, range(self.samples), self.device)
        shape = (self.samples, self.data.shape[1])
        if self.workers.is_first:
            options: dict[str, Any] = {"generator": generator, "batch": self.batch}
            runs = batches(reverse, Tweedie(), uniform(1), shape, **options)
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
    largest, calls = evaluations[-1][0], measured["evaluations"]
    rest, together = (measured["parts_of_costs"][name]["rest"] for name in ("alone", "together"))
    shared = min(max((rest - together) / (1 - 1 / processes), 0.0), rest)
    # What evaluations found is exchanged, and the table of costs.
    latency = 2 * measured["exchange_least"]
    transfer = measured["exchange"] + measured["exchange_of_table"] - latency

    def sampling(n: int) -> float:
        return interpolated(runs, -(-MANY // n)) + MANY * measured["join_of_sample"] * (n > 1)

    def costs(n: int) -> float:
        share = calls * interpolated(evaluations, -(-largest // n))
        hops = latency * (n - 1) / max(processes - 1, 1)
        return rest - shared + shared / n + share + (hops + transfer if n > 1 else 0.0)

    numbers = (processes, *PREDICTED)
    return {
        "assumptions": ASSUMPTIONS,
        "samples": MANY,
        "seconds_of_costs_not_shared": rest - shared,
        "sampling": {n: sampling(1) / (n * sampling(n)) for n in numbers},
        "costs": {n: costs(1) / (n * costs(n)) for n in numbers},
    }


def measure(bench: Bench, rounds: int, pieces: list[str]) -> dict[str, Any]:
    """All times; of each piece of work they are printed as soon as they are known."""
    found: dict[str, Any] = {}
    for name in pieces:
        if name == "predict":
            found |= measure_parts(bench, rounds)
            continue
        reverse = bench.network()
        if name == "costs":
            found["parts_of_costs"] = bench.divided(reverse, rounds)
            if bench.workers.is_first:
                show_parts(found["parts_of_costs"])
        found[name] = bench.scaled(partial(getattr(bench, name), reverse), rounds)
        if bench.workers.is_first:
            show_speed_up(name, found[name], bench.workers.count)
    if "predict" in pieces:
        found.setdefault("parts_of_costs", bench.divided(bench.network(), rounds))
        found["predicted"] = predictions(found, bench.workers.count)
    return found


@torch.no_grad()
def measure_parts(bench: Bench, rounds: int) -> dict[str, Any]:
    """What predictions take: times by batch, of exchanges, and of joining parts."""
    (batch, length), cpu = bench.data.shape, torch.device("cpu")
    calls = len(revealed_counts(length, EVALUATIONS, exchangeable=False))
    grid = len(grid_counts(length, GRID_INTERVALS))
    reverse = bench.network()
    found = {
        "run_by_batch": bench.by_batch(partial(bench.run_of, reverse), bench.batch, rounds),
        "join_of_sample": bench.joining(reverse),
    }
    evaluate = partial(bench.evaluation_of, bench.network())
    return found | {
        "evaluation_by_batch": bench.by_batch(evaluate, batch, rounds),
        "evaluations": calls,
        "exchange": bench.exchange(calls * batch, 2 * length, bench.device),
        "exchange_of_table": bench.exchange(grid, grid + 1, cpu),
        "exchange_least": bench.exchange(bench.workers.count, 1, bench.device),
    }


def show_parts(found: dict[str, Any]) -> None:
    for kind, parts in found.items():
        shown = ", ".join(f"{seconds:.3g} s {part}" for part, seconds in parts.items())
        print(f"costs, one estimate {kind}: {shown}", flush=True)


def show_speed_up(name: str, found: dict[str, Any], processes: int) -> None:
    times = ", ".join(
        f"{statistics.median(found[kind]):.3g} s {kind}" for kind in ("alone", "together")
    )
    print(
        f"{name}: {times}; {found['speed_up']:.2f} times faster with {processes} processes, "
        f"efficiency {100 * found['efficiency']:.1f}%",
        flush=True,
    )


def show_predictions(predicted: dict[str, Any]) -> None:
    for name in ("sampling", "costs"):
        each = predicted[name].items()
        shown = ", ".join(f"{100 * value:.1f}% of {n}" for n, value in each)
        print(f"{name}, predicted efficiency: {shown} processes")
    print("if", *predicted["assumptions"], sep="\n- ")


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PIECES, default=PIECES, help="these pieces")
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
            if args.compile:  # A process compiles few sizes before it gives up.
                torch.compiler.reset()
            return model(size, device, compiled=args.compile)[1]

        bench = Bench(network, data, **work, device=device, workers=workers, folder=folder)
        found = measure(bench, args.rounds, [name for name in PIECES if name in args.only])
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
            if "predicted" in found:
                show_predictions(found["predicted"])


if __name__ == "__main__":
    run()
