"""Text in few steps: every schedule, order and sampler on a model of the novels, judged alike.

    python experiments/text.py NOVELS.npz OUT.json --model FOLDER --evaluator FOLDER
        [--device cuda] [--bf16] [--compile] [-n 1024] [--nfe 8 16 32 64 128 256]
        [--methods NAME ...] [--minutes M] [--borrow SCHEDULES.json]

NOVELS.npz is that of `text_models.py --prepare`, FOLDERs are what it trains. Every method samples n
sequences with seed 1 at every number of model calls, and `text_judge.py` measures them. Searches
see 64 sequences of the validation books (seed 0).

OUT.json is written after every row (`text_rows.py`), and a run continues what is there: it skips
rows and searches that were made with the same weights, numbers and seeds. With --minutes it starts
no row after so long. Several runs can share the methods, each with an OUT of its own;
`text_figures.py` joins their files. Schedules go to OUT.searches/NAME.json. --borrow takes those of
`k-gillespie-auto.json` for another model (k-gillespie:borrowed: the counts of a small model used on
a larger one). --bf16 computes the network's blocks in bfloat16, and its head, all probabilities and
the evaluator as without.

Methods NAME are `tweedie:`, `euler:` and `k-gillespie:` with a schedule, `maskgit`, `remdm`, and

* eb, klass, threshold: samplers that choose their own steps, at the mean number of calls nearest to
  the NFE, found by bisection of their one parameter on 64 sequences (seed 5). NFE is then the
  measured mean over sequences, and one call can be worth less than that of a fixed schedule;
* corrector: half of the calls in golden order, half redraw an eighth of the sites
  (docs/corrector.md).

NAME@0.95 samples at a temperature, by the schedules of temperature 1.

The first row is real text: n other sequences of the test books, or as many as there are.
"""

import argparse
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import corrected, seeded
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
    tempered,
)
from jumpsteps.models import LoadedModel
from jumpsteps.models.evaluator import load_evaluator
from jumpsteps.models.loaded import file_hash
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import run_batches
from jumpsteps.sampling.klass import KLASS
from jumpsteps.sampling.loop import Simulation
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.parallel_decoding import EntropyBounded
from jumpsteps.schedules.fixed import cosine, cosine_counts, uniform, uniform_counts
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.method import Method
from novels import Novels
from results import Json, device_name
from text_judge import Judge
from text_rows import REAL, Report, fits

BUDGETS = (8, 16, 32, 64, 128, 256)
TRIED = 64
CORRECTED = 1 / 8
ADAPTIVE = ("eb", "threshold", "klass")

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
        folder: where schedules are kept.
        searches: name of a search -> its model calls and seconds; filled as they are made.
        means: sampler that chooses its own steps -> its mean number of calls; filled likewise.
    """

    model: LoadedModel
    data: Tensor
    budgets: tuple[int, ...]
    device: str
    batch: int
    borrowed: Mapping[int, Schedule]
    folder: Path
    searches: dict[str, list[float]]
    means: dict[Sampler, float] = field(default_factory=dict)

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
        """NFE -> schedule of a search, or of the same one before."""
        wanted = set(budgets or self.budgets)
        path = self.folder / f"{name.replace(':', '-')}.json"
        known = load_schedules(path) if path.exists() else {}
        if wanted == known.keys() and all(fits(one, self.model.digest) for one in known.values()):
            return known
        began = time.monotonic()
        made = optimize_schedule(
            self.model.reverse,
            self.data,
            wanted,
            generator=seeded(0, self.device),
            method=method,
            sampler=sampler,
            held_out=0,
            about=self.model.provenance("validation books"),
        )
        calls = next(iter(made.values())).provenance.model_calls
        self.searches[name] = [calls, time.monotonic() - began]
        print(f"{name}: {calls} model calls, {self.searches[name][1]:.0f} s", flush=True)
        save_schedules(path, made)
        return made

    @cached_property
    def golden(self) -> dict[int, Schedule]:
        """Counts in golden order, for the budgets and for half of each."""
        budgets = {*self.budgets, *(n // 2 for n in self.budgets)}
        return self.found("k-gillespie:golden", ShortestPath(order=Golden()), budgets=budgets)

    def runs(self, name: str, budgets: list[int], stop: float) -> Iterator[tuple[int, Run]]:
        """(NFE, sampler and schedule) of one method, for some of the budgets, until the clock shows
        ``stop``.
        """
        for n, run in self.planned(name, budgets) if budgets and time.monotonic() < stop else ():
            yield n, run
            if time.monotonic() > stop:
                return

    def planned(self, name: str, budgets: Iterable[int]) -> Iterator[tuple[int, Run]]:
        kind, _, schedule = name.partition(":")
        if kind in ("tweedie", "euler"):
            sampler = Tweedie() if kind == "tweedie" else Euler()
            made = self.timed(name, sampler, schedule)
        elif kind == "k-gillespie":
            sampler, made = KGillespie(), self.counted(name, schedule)
        elif kind == "k-gillespie-multistep":
            sampler, made = MultistepKGillespie(), self.counted(f"k-gillespie:{schedule}", schedule)
        elif name.startswith("maskgit"):
            counts = cosine_counts if name.endswith("cosine") else uniform_counts
            sampler, made = MaskGIT(), {n: counts(n, self.length) for n in budgets}
        elif name == "remdm":
            sampler = ReMDM(0.1)
            made = {n: uniform(sampler.steps(n)) for n in budgets}
        for n in budgets:
            if name == "corrector":
                yield n, (corrected(n - n // 2, CORRECTED), self.golden[n // 2])
            elif name in ADAPTIVE:
                yield n, (adaptive(name, self.matched(name, n)), None)
            elif n in made:
                yield n, (sampler, made[n])

    def timed(self, name: str, sampler: Sampler, schedule: str) -> dict[int, Schedule]:
        fixed = {"uniform": uniform, "cosine": cosine}
        if schedule in fixed:
            return {n: fixed[schedule](sampler.steps(n)) for n in self.budgets}
        if schedule == "jys":  # The search does not depend on the sampler.
            return self.found("jys", JYS())
        # With log-linear noise Euler's step is Tweedie's, whose costs take no tables [K, V].
        return self.found("tweedie:shortest-path", ShortestPath(), Tweedie())

    def counted(self, name: str, schedule: str) -> Mapping[int, Schedule]:
        orders = {"random": Random(), "spread": Spread(), "dilated": Dilated()}
        if schedule == "golden":
            return self.golden
        if schedule == "auto":
            return self.found(name, AutoOrder())
        if schedule == "borrowed":
            return self.borrowed
        if schedule in ("uniform", "dus"):
            order = Random() if schedule == "uniform" else Dilated()
            return {n: uniform_counts(n, self.length, order) for n in self.budgets}
        return self.found(name, ShortestPath(order=orders[schedule]), KGillespie())

    def matched(self, name: str, nfe: int, bisections: int = 12) -> float:
        """The tightness whose mean number of calls is nearest to ``nfe``."""
        low, high, best = 0.0, 1.0, (math.inf, 1.0)
        for _ in range(bisections):
            tightness = 0.5 * (low + high)
            mean = self.mean_of(adaptive(name, tightness))
            best = min(best, (abs(mean - nfe), tightness))
            low, high = (tightness, high) if mean < nfe else (low, tightness)
            if best[0] < 0.01 * nfe:
                break
        return best[1]

    def mean_of(self, sampler: Sampler) -> float:
        """Mean number of calls of ``TRIED`` sequences."""
        if sampler not in self.means:
            self.means[sampler] = mean_calls(
                run_batches(
                    self.model.reverse,
                    sampler,
                    None,
                    (TRIED, self.length),
                    generator=seeded(5, self.device),
                    batch=TRIED,
                )
            )
        return self.means[sampler]


def mean_calls(runs: Iterable[Simulation]) -> float:
    """Mean number of calls until a sequence was done, over all sequences."""
    return float(torch.cat([run.calls for run in runs]).double().mean())


NAMES = [
    *(f"tweedie:{schedule}" for schedule in ("uniform", "cosine", "jys", "shortest-path")),
    *(f"euler:{schedule}" for schedule in ("uniform", "jys", "shortest-path")),
    *(f"k-gillespie:{name}" for name in ("uniform", "random", "spread", "golden", "dilated")),
    *("k-gillespie:dus", "k-gillespie:auto", "k-gillespie-multistep:auto"),
    *("maskgit", "maskgit-cosine", "remdm"),
    *ADAPTIVE,
    "corrector",
]


def measure_all(
    methods: Methods, names: Iterable[str], report: Report, judge: Judge, n: int, stop: float
) -> None:
    """Sample n sequences and measure them, for every method and number of model calls that the
    report has not, until the clock shows ``stop``.
    """
    for name in names:
        method, _, temperature = name.partition("@")
        reverse = tempered(methods.model.reverse, float(temperature or 1))
        missing = [n for n in methods.budgets if (name, n) not in report]
        for nfe, (sampler, schedule) in methods.runs(method, missing, stop):
            began = time.monotonic()
            runs = run_batches(
                reverse,
                sampler,
                schedule,
                (n, methods.length),
                generator=seeded(1, methods.device),
                batch=methods.batch,
            )
            samples, steps = (
                torch.cat([getattr(run, part) for run in runs]) for part in ("samples", "step_map")
            )
            if sampler.takes is not None and max(run.nfe for run in runs) > nfe:
                raise AssertionError(f"{name} took {runs[0].nfe} model calls for NFE {nfe}")
            calls = nfe if sampler.takes is not None else mean_calls(runs)
            row = {"method": name, "budget": nfe, "NFE": calls, "sampler": repr(sampler)}
            report.add(row | {"seconds": time.monotonic() - began}, judge, samples, steps)


def in_bfloat16(model: LoadedModel) -> None:
    """Compute the blocks of a DiT under bfloat16 autocast from now on, and its head as before."""
    network = model.reverse.model.network
    layers = network.layers

    def cast(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            hidden = layers(x, sigma)
        return hidden.float()

    network.layers = cast


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


def flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--evaluator", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="compute the blocks in bfloat16")
    parser.add_argument("--compile", action="store_true", help="compile the blocks")
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--nfe", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--sequences", type=int, default=64, help="that searches see")
    parser.add_argument("--methods", nargs="+", metavar="NAME[@TEMPERATURE]", default=NAMES)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no row after them")
    parser.add_argument("--borrow", type=Path, help="schedules of another model")
    args = parser.parse_args()
    for name in args.methods:
        if not re.fullmatch(rf"({'|'.join(map(re.escape, NAMES))})(@\d*\.?\d+)?", name):
            raise SystemExit(f"no method {name!r}; the methods are {', '.join(NAMES)}")
    return args


def provenance(args: argparse.Namespace, model: LoadedModel, novels: Novels) -> dict[str, Json]:
    """What rows of one file have in common."""
    return {
        "model": Path(model.name).name,
        "weights": model.digest,
        "evaluator": file_hash(args.evaluator / "model.safetensors"),
        "data": novels.name,
        "seeds": {"search": 0, "samples": 1, "data": 3, "clusters": 4, "matching": 5},
        "samples": args.n,
        "searched": args.sequences,
        "precision": "bfloat16 blocks" if args.bf16 else "float32",
        "device": device_name(args.device),
    }


def run() -> None:
    """Print and write the table."""
    args = flags()
    stop = time.monotonic() + 60 * args.minutes
    names = [*args.methods, *(["k-gillespie:borrowed"] if args.borrow else [])]
    torch.set_float32_matmul_precision("high")
    model, novels = load(args.model, device=args.device), Novels(args.data)
    if args.bf16:
        in_bfloat16(model)
    if args.compile:
        model.reverse.model.compile_trunk()
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
    report = Report.opened(args.out, judge.formats, provenance(args, model, novels))
    methods = Methods(
        model,
        searched,
        tuple(sorted(args.nfe)),
        args.device,
        args.batch,
        load_schedules(args.borrow) if args.borrow else {},
        args.out.with_suffix(".searches"),
        report.searches,
    )
    if (REAL, 0) not in report:
        row = {"method": REAL, "budget": 0, "NFE": 0, "sampler": "", "seconds": 0.0}
        report.add(row, judge, others)
    measure_all(methods, names, report, judge, args.n, stop)


if __name__ == "__main__":
    run()
