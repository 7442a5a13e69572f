"""Text in few steps: every schedule, order and sampler on a model of the novels, judged alike.

    python experiments/text.py NOVELS.npz OUT.json --model FOLDER --evaluator FOLDER
        [--device cuda] [-n 1024] [--nfe 8 16 32 64 128 256] [--methods NAME ...]
        [--borrow SCHEDULES.json]

NOVELS.npz is that of `text_models.py --prepare`, FOLDERs are what it trains. Every method samples n
sequences with seed 1 at every number of model calls, and `text_judge.py` measures them. Searches
see 64 sequences of the validation books (seed 0). OUT.json is written after every row; the
schedules of `auto` go to OUT.schedules.json, which --borrow takes for another model (NAME.borrowed:
the counts of a small model used on a larger one).

Methods NAME are `tweedie:`, `euler:` and `k-gillespie:` with a schedule, `maskgit`, `remdm`, and

* eb, klass, threshold: samplers that choose their own steps, at the mean number of calls nearest to
  the NFE, found by bisection of their one parameter on 64 sequences (seed 5). NFE is then the
  measured mean over sequences, and one call can be worth less than that of a fixed schedule;
* corrector: half of the calls in golden order, half redraw an eighth of the sites (issue of the
  corrector, docs/corrector.md).

The first row is real text: n other sequences of the test books, or as many as there are.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import command_line, corrected, seeded
from jumpsteps import (
    JYS,
    AutoOrder,
    Dilated,
    Euler,
    Golden,
    KGillespie,
    MaskGIT,
    Random,
    ReMDM,
    ShortestPath,
    Spread,
    Tweedie,
    load,
    load_schedules,
    optimize_schedule,
    save_schedules,
)
from jumpsteps.models import LoadedModel
from jumpsteps.models.evaluator import load_evaluator
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import run_batches
from jumpsteps.sampling.klass import KLASS
from jumpsteps.sampling.loop import Simulation
from jumpsteps.sampling.parallel_decoding import EntropyBounded
from jumpsteps.schedules.fixed import cosine, cosine_counts, uniform, uniform_counts
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.method import Method
from novels import Novels
from results import Json, Table, device_name, table, write_results
from text_judge import Judge

BUDGETS = (8, 16, 32, 64, 128, 256)
EXAMPLES = 4
TRIED = 64
CORRECTED = 1 / 8

Run = tuple[Sampler, Schedule | None]


def adaptive(name: str, tightness: float) -> Sampler:
    """A sampler that chooses its own steps; more ``tightness`` in [0, 1] takes more calls."""
    confidence = tightness
    if name == "eb":
        return EntropyBounded(math.expm1(12 * (1 - tightness)) / 10)
    if name == "threshold":
        return KLASS(confidence, history=0)
    return KLASS(confidence, divergence=-math.log(max(confidence, 1e-9)), history=1)


@dataclass(frozen=True)
class Methods:
    """The methods by name, for one model.

    Attributes:
        data: sequences of the validation books, int64 [B, L].
        budgets: numbers of model calls.
        borrowed: schedules of another model.
        schedules_file: where the schedules of `auto` go.
        searches: name of a search -> its model calls and seconds; filled as they are made.
    """

    model: LoadedModel
    data: Tensor
    budgets: tuple[int, ...]
    device: str
    batch: int
    borrowed: Mapping[int, Schedule]
    schedules_file: Path
    searches: dict[str, tuple[int, float]]

    @property
    def length(self) -> int:
        return self.model.length

    def found(
        self,
        name: str,
        method: Method,
        sampler: Sampler | None = None,
        budgets: Iterable[int] | None = None,
    ) -> dict[int, Schedule]:
        """NFE -> schedule of a search."""
        began = time.monotonic()
        made = optimize_schedule(
            self.model.reverse,
            self.data,
            budgets or self.budgets,
            generator=seeded(0, self.device),
            method=method,
            sampler=sampler,
            held_out=0,
        )
        calls = next(iter(made.values())).provenance.model_calls
        self.searches[name] = (calls, time.monotonic() - began)
        print(f"{name}: {calls} model calls, {self.searches[name][1]:.0f} s", flush=True)
        return made

    @cached_property
    def golden(self) -> dict[int, Schedule]:
        """Counts in golden order, for the budgets and for half of each."""
        budgets = {*self.budgets, *(n // 2 for n in self.budgets)}
        return self.found("k-gillespie:golden", ShortestPath(order=Golden()), budgets=budgets)

    def runs(self, name: str) -> Iterator[tuple[int, Run]]:
        """(NFE, sampler and schedule) of one method."""
        kind, _, schedule = name.partition(":")
        if kind in ("tweedie", "euler"):
            sampler = Tweedie() if kind == "tweedie" else Euler()
            yield from self.timed(name, sampler, schedule)
        elif kind == "k-gillespie":
            yield from self.counted(name, schedule)
        elif name == "corrector":
            for n in self.budgets:
                yield n, (corrected(n - n // 2, CORRECTED), self.golden[n // 2])
        elif name in ("maskgit", "maskgit-cosine"):
            counts = cosine_counts if name.endswith("cosine") else uniform_counts
            for n in self.budgets:
                yield n, (MaskGIT(), counts(n, self.length))
        elif name == "remdm":
            for n in self.budgets:
                yield n, (ReMDM(0.1), uniform(ReMDM(0.1).steps(n)))
        else:
            for n in self.budgets:
                yield n, (adaptive(name, self.matched(name, n)), None)

    def timed(self, name: str, sampler: Sampler, schedule: str) -> Iterator[tuple[int, Run]]:
        fixed = {"uniform": uniform, "cosine": cosine}
        if schedule in fixed:
            made = {n: fixed[schedule](sampler.steps(n)) for n in self.budgets}
        else:
            method = JYS() if schedule == "jys" else ShortestPath()
            made = self.found(name, method, sampler)
        for n in self.budgets:
            yield n, (sampler, made[n])

    def counted(self, name: str, schedule: str) -> Iterator[tuple[int, Run]]:
        orders = {"random": Random(), "spread": Spread(), "dilated": Dilated()}
        if schedule == "golden":
            made = self.golden
        elif schedule == "auto":
            made = self.found(name, AutoOrder())
            save_schedules(self.schedules_file, made)
        elif schedule == "borrowed":
            made = self.borrowed
        elif schedule in ("uniform", "dus"):
            order = Random() if schedule == "uniform" else Dilated()
            made = {n: uniform_counts(n, self.length, order) for n in self.budgets}
        else:
            made = self.found(name, ShortestPath(order=orders[schedule]), KGillespie())
        for n in self.budgets:
            if n in made:
                yield n, (KGillespie(), made[n])

    def matched(self, name: str, nfe: int, bisections: int = 12) -> float:
        """The tightness whose mean number of calls is nearest to ``nfe``."""
        low, high, best = 0.0, 1.0, (math.inf, 1.0)
        for _ in range(bisections):
            tightness = 0.5 * (low + high)
            mean = mean_calls(
                run_batches(
                    self.model.reverse,
                    adaptive(name, tightness),
                    None,
                    (TRIED, self.length),
                    generator=seeded(5, self.device),
                    batch=TRIED,
                )
            )
            best = min(best, (abs(mean - nfe), tightness))
            low, high = (tightness, high) if mean < nfe else (low, tightness)
            if best[0] < 0.01 * nfe:
                break
        return best[1]


def mean_calls(runs: Iterable[Simulation]) -> float:
    """Mean number of calls until a sequence was done, over all sequences."""
    return float(torch.cat([run.calls for run in runs]).double().mean())


BASELINE = ("tweedie:uniform", 256)
EQUAL_ENTROPY = 0.1
"""Nats of unigram entropy within which perplexities are compared."""


def reach(rows: Sequence[Json]) -> Table:
    """The fewest model calls with which each method is as good as the baseline.

    As good is a mean of the evaluator that is no higher, or no higher within the intervals of both;
    a unigram entropy that differs by more than ``EQUAL_ENTROPY`` does not count. A factor is the
    baseline's NFE over the method's.
    """
    cells = {(name, nfe): (*score, entropy) for name, nfe, _, _, score, _, entropy, *_ in rows}
    made = []
    if BASELINE in cells:
        best, half, entropy = cells[BASELINE]
        for method in dict.fromkeys(name for name, nfe in cells if nfe):
            found = [
                min(
                    (
                        nfe
                        for (name, nfe), (mean, width, own) in cells.items()
                        if name == method
                        and abs(own - entropy) <= EQUAL_ENTROPY
                        and mean <= best + slack * math.hypot(half, width)
                    ),
                    default=None,
                )
                for slack in (0, 1)
            ]
            factor = None if found[1] is None else BASELINE[1] / found[1]
            made.append([method, *found, factor])
    head = ["method", "NFE", "NFE within the intervals", "factor"]
    return table(head, made, "{:g}", columns={"factor": "{:.1f}"})


NAMES = [
    *(f"tweedie:{schedule}" for schedule in ("uniform", "cosine", "jys", "shortest-path")),
    *(f"euler:{schedule}" for schedule in ("uniform", "jys", "shortest-path")),
    *(f"k-gillespie:{name}" for name in ("uniform", "random", "spread", "golden", "dilated")),
    *("k-gillespie:dus", "k-gillespie:auto", "maskgit", "maskgit-cosine", "remdm"),
    *("eb", "threshold", "klass", "corrector"),
]


@dataclass
class Report:
    """Rows as they come, and the file that holds them."""

    out: Path
    model: LoadedModel
    judge: Judge
    n: int
    device: str
    searches: dict[str, tuple[int, float]]
    rows: list[Json]
    examples: list[Json]

    def add(self, name: str, nfe: float, sampler: str, seconds: float, samples: Tensor) -> None:
        """Measure samples, and write the file."""
        cells = self.judge.measure(samples)
        self.rows.append([name, nfe, sampler, seconds, *cells])
        for row in samples[:EXAMPLES].tolist():
            self.examples.append([name, nfe, self.judge.novels.decode(row)])
        print(self.rows[-1], flush=True)
        self.write()

    def write(self) -> None:
        columns = {"NFE": "{:g}", "seconds": "{:.1f}"} | self.judge.formats
        head = ["method", "NFE", "sampler", "seconds", *self.judge.formats]
        searches = [[name, *found] for name, found in self.searches.items()]
        write_results(
            self.out,
            __file__,
            {
                "rows": table(head, self.rows, columns=columns),
                "reach": reach(self.rows),
                "searches": table(["search", "model calls", "seconds"], searches, "{:.0f}"),
                "examples": table(["method", "NFE", "text"], self.examples, "{:g}"),
            },
            command=command_line(),
            model=Path(self.model.name).name,
            weights=self.model.digest,
            seeds={"search": 0, "samples": 1, "data": 3, "clusters": 4, "matching": 5},
            samples=self.n,
            device=device_name(self.device),
        )


def measure_all(methods: Methods, names: list[str], report: Report) -> None:
    """Sample and measure every method at every number of model calls."""
    for name in names:
        for nfe, (sampler, schedule) in methods.runs(name):
            began = time.monotonic()
            runs = list(
                run_batches(
                    methods.model.reverse,
                    sampler,
                    schedule,
                    (report.n, methods.length),
                    generator=seeded(1, methods.device),
                    batch=methods.batch,
                )
            )
            samples = torch.cat([run.samples for run in runs])
            calls = nfe if sampler.takes is not None else mean_calls(runs)
            if sampler.takes is not None and max(run.nfe for run in runs) > nfe:
                raise AssertionError(f"{name} took {runs[0].nfe} model calls for NFE {nfe}")
            report.add(name, calls, repr(sampler), time.monotonic() - began, samples)


def sequences(
    novels: Novels, length: int, n: int, searched: int, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences for searches, n of the test books as a reference, and n others."""
    validation = novels.sequences("validation", length)
    test = novels.sequences("test", length)
    if len(test) < n + 2:
        raise SystemExit(f"{len(test)} test sequences are too few for -n {n}")
    test = test[torch.randperm(len(test), generator=seeded(3, "cpu"))]
    reference, others = test[:n], test[n : 2 * n]
    return tuple(x.to(device) for x in (validation[: 8 * searched : 8], reference, others))


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--evaluator", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--nfe", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--sequences", type=int, default=64, help="that searches see")
    parser.add_argument("--methods", nargs="+", metavar="NAME", default=NAMES)
    parser.add_argument("--borrow", type=Path, help="schedules of another model")
    args = parser.parse_args()
    names = [*args.methods, *(["k-gillespie:borrowed"] if args.borrow else [])]
    unknown = sorted(set(args.methods) - set(NAMES))
    if unknown:
        raise SystemExit(f"no method {unknown[0]!r}; the methods are {', '.join(NAMES)}")
    torch.set_float32_matmul_precision("high")
    model, novels = load(args.model, device=args.device), Novels(args.data)
    searched, reference, others = sequences(
        novels, model.length, args.n, args.sequences, args.device
    )
    judge = Judge(
        load_evaluator(args.evaluator, args.device),
        novels,
        reference,
        frozenset(novels.words()),
        args.device,
        args.batch,
    )
    borrowed = load_schedules(args.borrow) if args.borrow else {}
    methods = Methods(
        model,
        searched,
        tuple(sorted(args.nfe)),
        args.device,
        args.batch,
        borrowed,
        args.out.with_suffix(".schedules.json"),
        {},
    )
    report = Report(args.out, model, judge, args.n, args.device, methods.searches, [], [])
    report.add("real text", 0, "", 0.0, others)
    measure_all(methods, names, report)


if __name__ == "__main__":
    run()
