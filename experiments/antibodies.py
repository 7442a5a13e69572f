"""AntiBERTy, published weights: heavy chains and CDR-H3 designs by every schedule and order.

    python experiments/antibodies.py FOLDER OUT.json [--device cuda] [-n 1024] [--nfe 2 4 8 16]

FOLDER is that of the package: `pip download --no-deps antiberty==0.1.3`, unpacked. Whole heavy
chains have 118 residues. Designs fill the CDR-H3 (Kabat 95 to 102) of four antibodies from the
literature. Measures of n samples:

* nats: the model's own any-order bound, of the designed residues given the rest;
* Hamming: the mean share of designed sites at which two samples differ;
* pairs: the distance of all pair frequencies from n samples drawn one at a time, times 1e4.

Measures of the schedule, on sequences that no search saw:

* few-step NLL, with half of its 95% interval;
* excess over one residue at a time, and its 95% upper limit, the certificate.

Searches see samples that the model draws one at a time, or real sequences of 118 residues (--data,
whole chains only); half as many others of the same kind are held out. The first title of every
table says which. Small, on a CPU:

    python experiments/antibodies.py FOLDER OUT.json -n 16 --nfe 2 4 --sequences 16 \
        --schedules uniform auto --antibodies

The row "race" is that of the schedule which a race of all others chooses for each NFE, by the
distance of all pair frequencies from other samples drawn one at a time. The choices are printed.

OUT.json holds the tables of docs/antibodies.md. It is written after every schedule.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.agreement import hamming_distance, pair_distance
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.evaluation.race import race
from jumpsteps.evaluation.race_result import Race
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.fixed import cosine, uniform, uniform_counts
from jumpsteps.schedules.orders import Golden, Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.certificate import certify
from jumpsteps.search.jys import JYS
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks.task import Task
from results import Json, Table, device_name, table, write_results

# Heavy chains' variable domains as in the structures 1N8Z, 3WD5, 2OSL and 5DK3 of the Protein Data
# Bank and in the lists of international nonproprietary names, and their CDR-H3.
ANTIBODIES = {
    "trastuzumab": (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRY"
        "ADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS",
        "WGGDGFYAMDY",
    ),
    "adalimumab": (
        "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDY"
        "ADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYCAKVSYLSTASSLDYWGQGTLVTVSS",
        "VSYLSTASSLDY",
    ),
    "rituximab": (
        "QVQLQQPGAELVKPGASVKMSCKASGYTFTSYNMHWVKQTPGRGLEWIGAIYPGNGDTSY"
        "NQKFKGKATLTADKSSSTAYMQLSSLTSEDSAVYYCARSTYYGGDWYFNVWGAGTTVTVSA",
        "STYYGGDWYFNV",
    ),
    "pembrolizumab": (
        "QVQLVQSGVEVKKPGASVKVSCKASGYTFTNYYMYWVRQAPGQGLEWMGGINPSNGGTNF"
        "NEKFKNRVTLTTDSSTTTAYMELKSLQFDDTAVYYCARRDYRFDMGFDYWGQGTTVTVSS",
        "RDYRFDMGFDY",
    ),
}
SEARCHES: dict[str, Method] = {
    "JYS": JYS(),
    "shortest path, random order": ShortestPath(),
    "shortest path, spread": ShortestPath(order=Spread()),
    "shortest path, golden": ShortestPath(order=Golden()),
    "shortest path, learned order": LearnedOrder(),
    "auto": AutoOrder(),
}
FIXED = {"uniform": uniform, "cosine": cosine}
TITLES = [*FIXED, *SEARCHES]
DATA_SEED, SEARCH_SEED, SAMPLE_SEED, REFERENCE_SEED, NLL_SEED, CERTIFICATE_SEED, RACE_SEED = range(
    7
)
CERTIFICATE_CALLS = 64
FORMATS = {
    "nats": "{:.1f} ±{:.1f}",
    "Hamming": "{:.3f}",
    "pairs": "{:.1f} ±{:.1f}",
    "few-step NLL": "{:.1f} ±{:.1f}",
    "excess": "{:.1f}, at most {:.1f}",
}

RACED = ("uniform", "cosine", "JYS")
"""What a race compares its choice with again."""

Cells = dict[str, list[float]]
"""Measure -> numbers of a cell."""


@dataclass(frozen=True)
class Run:
    """A model with what is observed of its sequences, and the sizes of an experiment."""

    model: LoadedModel
    given: Given | None
    nfe: tuple[int, ...]
    n: int
    sequences: int
    held_out: int
    batch: int
    evaluations: int
    device: torch.device
    titles: tuple[str, ...]
    racing: int

    @property
    def free(self) -> Tensor:
        """The designed sites, bool [L]."""
        if self.given is None:
            return torch.ones(self.model.length, dtype=torch.bool, device=self.device)
        return ~self.given.mask.to(self.device)

    def seeded(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)

    def sample(self, schedule: Schedule, n: int, seed: int) -> Tensor:
        """Samples by the schedule's default sampler, int64 [n, L]."""
        samples, _ = sample_batches(
            self.model.reverse,
            default_sampler(schedule),
            schedule,
            (n, self.model.length),
            generator=self.seeded(seed),
            batch=self.batch,
            given=self.given,
        )
        return samples

    def one_at_a_time(self, n: int, seed: int) -> Tensor:
        sites = int(self.free.sum())
        return self.sample(uniform_counts(sites, sites), n, seed)

    def nll(self, x: Tensor, evaluations: int) -> Tensor:
        """The any-order bound of the designed residues, nats, [B]."""
        return any_order_nll(
            self.model.reverse,
            x,
            given_mask=~self.free,
            evaluations=evaluations,
            batch=self.batch,
            generator=self.seeded(NLL_SEED),
        )

    def measure(self, samples: Tensor, reference: Tensor) -> Cells:
        nats = mean_interval(self.nll(samples, self.evaluations))
        designed, target = samples[:, self.free], reference[:, self.free]
        pairs = pair_distance(designed, target)
        return {
            "nats": [nats.mean, nats.high - nats.mean],
            "Hamming": [hamming_distance(designed)],
            "pairs": [1e4 * pairs.mean, 1e4 * (pairs.high - pairs.mean)],
        }

    def schedules(self, title: str, data: Tensor) -> dict[int, Schedule]:
        """NFE -> schedule; a search sees ``data`` but for those that are held out at their end."""
        if title in FIXED:
            return {n: FIXED[title](n) for n in self.nfe}
        method, searched = SEARCHES[title], data[: len(data) - self.held_out]
        by_data = isinstance(method, AutoOrder | ShortestPath)
        return optimize_schedule(
            self.model.reverse,
            data if by_data else searched,
            self.nfe,
            generator=self.seeded(SEARCH_SEED),
            method=method,
            given_mask=~self.free,
            held_out=self.held_out if by_data else 0,
        )

    def certified(self, schedules: Mapping[int, Schedule], data: Tensor) -> dict[int, Cells]:
        """NFE -> few-step NLL and excess on the held-out sequences."""
        generator = self.seeded(CERTIFICATE_SEED)
        paths = Paths.draw(
            self.model.reverse.forward,
            data[len(data) - self.held_out :],
            generator=generator,
            given_mask=~self.free,
        )
        found = certify(
            self.model.reverse, paths, schedules, calls=CERTIFICATE_CALLS, generator=generator
        )
        return {
            nfe: {
                "few-step NLL": [one.nll, one.interval[1] - one.nll],
                "excess": [one.excess, one.excess_limit],
            }
            for nfe, one in found.items()
        }

    def measured(self, data: Tensor) -> Iterator[tuple[str, dict[str, Cells]]]:
        """Each schedule with NFE -> measures, and "one at a time" before them."""
        reference = self.one_at_a_time(self.n, REFERENCE_SEED)
        limit = self.measure(self.one_at_a_time(self.n, SAMPLE_SEED), reference)
        yield "one at a time", {"all": limit}
        found: dict[str, dict[int, Schedule]] = {}
        rows: dict[str, dict[str, Cells]] = {}
        for title in self.titles:
            schedules = found[title] = self.schedules(title, data)
            certificates = self.certified(schedules, data)
            cells: dict[str, Cells] = {}
            for nfe, schedule in schedules.items():
                samples = self.sample(schedule, self.n, SAMPLE_SEED)
                cells[str(nfe)] = self.measure(samples, reference) | certificates.get(nfe, {})
                known = schedule.provenance
                order = f"{known.order}, then {known.runner_up}" if known.order else ""
                print(title, nfe, order, cells[str(nfe)], flush=True)
            rows[title] = cells
            yield title, cells
        if self.racing:
            chosen = self.race(found)
            yield "race", {str(n): rows[title][str(n)] for n, title in chosen.items()}

    def race(self, schedules: Mapping[str, Mapping[int, Schedule]]) -> dict[int, str]:
        """NFE -> the title that a race of these schedules chooses."""
        result: Race = race(
            self.model.reverse,
            self.one_at_a_time(max(16, self.sequences), RACE_SEED),
            schedules,
            given_mask=~self.free,
            samples=self.racing,
            plain=RACED,
            batch=max(self.batch, 512),
            generator=self.seeded(RACE_SEED),
        )
        print(result, flush=True)
        return {nfe: choice.winner for nfe, choice in result.choices.items()}


def task_of(model: LoadedModel) -> Task:
    """The task; raises ValueError for a model of something else than antibodies."""
    if model.task is None or model.task.name != "antibodies":
        raise ValueError(f"{model.name} is no model of antibodies; pass the folder of antiberty")
    return model.task


def tables_of(
    prefix: str, data: str, results: Mapping[str, Mapping[str, Mapping[str, Cells]]]
) -> dict[str, Table]:
    """A table for each measure: a line for each case and schedule, a column for each NFE.

    Args:
        data: what the searches saw.
        results: case -> schedule -> NFE -> measures.
    """
    budgets = list(
        dict.fromkeys(
            nfe for case in results.values() for row in case.values() for nfe in row if nfe != "all"
        )
    )
    made = {}
    for measure, form in FORMATS.items():
        lines: list[Json] = []
        for case, rows in results.items():
            limit = rows["one at a time"]["all"].get(measure)
            for title, row in rows.items():
                if title != "one at a time":
                    cells = [row[nfe].get(measure) if nfe in row else None for nfe in budgets]
                    lines.append([f"{case}, {title}", *cells, limit])
        head = [f"{measure}; searches on {data}", *budgets, "one at a time"]
        made[f"{prefix}-{measure.lower().replace(' ', '-')}"] = table(head, lines, form)
    return made


def chains(run: Run, data_file: Path | None, save: Callable[[dict[str, Table]], None]) -> None:
    """Whole heavy chains."""
    wanted = run.sequences + run.held_out
    if data_file is None:
        data, name = run.one_at_a_time(wanted, DATA_SEED), "own samples, one at a time"
    else:
        data, name = task_of(run.model).read_data(data_file, wanted, run.seeded(DATA_SEED))
        run = replace(run, held_out=len(data) // 3)
    rows: dict[str, dict[str, Cells]] = {}
    for title, row in run.measured(data):
        rows[title] = row
        save(tables_of("chains", about(run, len(data), name), {"heavy chain": rows}))


def about(run: Run, sequences: int, name: str) -> str:
    """Which data the searches saw, and which certify."""
    return f"{sequences - run.held_out} sequences: {name}; certificates on {run.held_out} others"


def designs(
    model: LoadedModel, names: list[str], settings: Run, save: Callable[[dict[str, Table]], None]
) -> None:
    """CDR-H3 of each antibody, and the bounds of the natural sequences."""
    results: dict[str, dict[str, dict[str, Cells]]] = {}
    natural: list[Json] = []
    for name in names:
        sequence, cdr = ANTIBODIES[name]
        fitted = model.resized(len(sequence))
        task = task_of(fitted)
        given = task.read_template(sequence.replace(cdr, "?" * len(cdr)))
        whole = task.read_template(sequence + "?").tokens[None, :-1].to(settings.device)
        budgets = tuple(n for n in settings.nfe if n <= len(cdr))
        run = replace(settings, model=fitted, given=given, nfe=budgets)
        repeated = whole.expand(16, -1)
        bounds = [mean_interval(replace(run, given=g).nll(repeated, 32)) for g in (None, given)]
        values = [[bound.mean, bound.high - bound.mean] for bound in bounds]
        natural.append([name, str(len(sequence)), cdr, *values])
        head = ["antibody", "residues", "CDR-H3", "nats", "nats of CDR-H3 given the rest"]
        data = run.one_at_a_time(run.sequences + run.held_out, DATA_SEED)
        results[name] = {}
        for title, row in run.measured(data):
            results[name][title] = row
            tables = {"natural": table(head, natural, FORMATS["nats"])}
            seen = about(run, len(data), "own designs, one at a time")
            save(tables | tables_of("designs", seen, results))


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=1024, help="samples for each schedule")
    parser.add_argument("--nfe", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--sequences", type=int, default=128, help="that a search sees")
    parser.add_argument("--data", type=Path, help="real sequences for the searches, FASTA or lines")
    parser.add_argument("--length", type=int, default=118, help="residues of a whole chain")
    parser.add_argument("--evaluations", type=int, default=32, help="for the NLL of a sample")
    parser.add_argument("--antibodies", nargs="*", default=list(ANTIBODIES), choices=ANTIBODIES)
    parser.add_argument("--schedules", nargs="+", default=TITLES, choices=TITLES, metavar="TITLE")
    parser.add_argument("--race", type=int, default=256, help="samples in a race; 0 for no race")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = load(args.folder, device=device, length=args.length)
    settings = Run(
        model=model,
        given=None,
        nfe=tuple(args.nfe),
        n=args.n,
        sequences=args.sequences,
        held_out=max(16, args.sequences // 2),
        batch=16 if device.type == "cpu" else 256,
        evaluations=args.evaluations,
        device=device,
        titles=tuple(args.schedules),
        racing=args.race,
    )
    tables: dict[str, Table] = {}

    def save(made: dict[str, Table]) -> None:
        tables.update(made)
        write_results(
            args.out,
            __file__,
            tables,
            model="AntiBERTy_md_smooth, antiberty 0.1.3",
            model_hash=model.digest,
            samples=args.n,
            length=args.length,
            search_sequences=args.sequences,
            evaluations=args.evaluations,
            seeds="data 0, searches 1, samples 2, reference 3, bounds 4, certificates 5, races 6",
            device=device_name(args.device),
        )

    chains(settings, args.data, save)
    if args.antibodies:
        designs(model, args.antibodies, settings, save)
    print(f"written to {args.out}")


if __name__ == "__main__":
    run()
