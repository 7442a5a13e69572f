"""AntiBERTy, published weights: heavy chains and CDR-H3 designs by every schedule and order.

    python experiments/antibodies.py FOLDER OUT.json [--device cuda] [-n 1024] [--nfe 2 4 8 16]

FOLDER is that of the package: `pip download --no-deps antiberty==0.1.3`, unpacked. Whole heavy
chains have 118 residues. Designs fill the CDR-H3 (Kabat 95 to 102) of four antibodies from the
literature. Measures of n samples:

* nats: the model's own any-order bound, of the designed residues given the rest;
* Hamming: the mean share of designed sites at which two samples differ;
* pairs: the distance of all pair frequencies from n samples drawn one at a time, times 1e4.

Searches see samples that the model draws one at a time, or real sequences of 118 residues (--data,
whole chains only). The first title of every table says which. Small, on a CPU:

    python experiments/antibodies.py FOLDER OUT.json -n 16 --nfe 2 4 --sequences 16

OUT.json holds the tables of docs/antibodies.md.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.agreement import hamming_distance, pair_distance
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.fixed import cosine, uniform, uniform_counts
from jumpsteps.schedules.orders import Golden, Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.jys import JYS
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
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
}
DATA_SEED, SEARCH_SEED, SAMPLE_SEED, REFERENCE_SEED, NLL_SEED = range(5)
FORMATS = {"nats": "{:.1f} ±{:.1f}", "Hamming": "{:.3f}", "pairs": "{:.1f} ±{:.1f}"}

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
    batch: int
    evaluations: int
    device: torch.device

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

    def schedules(self, data: Tensor) -> dict[str, dict[int, Schedule]]:
        """Title -> NFE -> schedule; searches see ``data``."""
        found: dict[str, dict[int, Schedule]] = {
            "uniform": {n: uniform(n) for n in self.nfe},
            "cosine": {n: cosine(n) for n in self.nfe},
        }
        for title, method in SEARCHES.items():
            found[title] = optimize_schedule(
                self.model.reverse,
                data,
                self.nfe,
                generator=self.seeded(SEARCH_SEED),
                method=method,
                given_mask=~self.free,
            )
        return found

    def measured(self, data: Tensor) -> dict[str, dict[str, Cells]]:
        """Schedule -> NFE, or "one at a time" -> measures."""
        reference = self.one_at_a_time(self.n, REFERENCE_SEED)
        cells: dict[str, dict[str, Cells]] = {}
        for title, schedules in self.schedules(data).items():
            cells[title] = {}
            for nfe, schedule in schedules.items():
                samples = self.sample(schedule, self.n, SAMPLE_SEED)
                cells[title][str(nfe)] = self.measure(samples, reference)
                print(title, nfe, cells[title][str(nfe)], flush=True)
        limit = self.measure(self.one_at_a_time(self.n, SAMPLE_SEED), reference)
        return cells | {"one at a time": {"all": limit}}


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
            limit = rows["one at a time"]["all"][measure]
            for title, row in rows.items():
                if title != "one at a time":
                    cells = [row[nfe][measure] if nfe in row else None for nfe in budgets]
                    lines.append([f"{case}, {title}", *cells, limit])
        head = [f"{measure}; searches on {data}", *budgets, "one at a time"]
        made[f"{prefix}-{measure.lower()}"] = table(head, lines, form)
    return made


def chains(run: Run, data_file: Path | None) -> dict[str, Table]:
    """Whole heavy chains."""
    if data_file is None:
        data, name = run.one_at_a_time(run.sequences, DATA_SEED), "own samples, one at a time"
    else:
        data, name = task_of(run.model).read_data(data_file, run.sequences, run.seeded(DATA_SEED))
    about = f"{len(data)} sequences: {name}"
    return tables_of("chains", about, {"heavy chain": run.measured(data)})


def designs(model: LoadedModel, names: list[str], sizes: dict[str, Json]) -> dict[str, Table]:
    """CDR-H3 of each antibody, and the bounds of the natural sequences."""
    results, natural = {}, []
    for name in names:
        sequence, cdr = ANTIBODIES[name]
        fitted = model.resized(len(sequence))
        task = task_of(fitted)
        given = task.read_template(sequence.replace(cdr, "?" * len(cdr)))
        whole = task.read_template(sequence + "?").tokens[None, :-1].to(sizes["device"])
        budgets = tuple(n for n in sizes["nfe"] if n <= len(cdr))
        run = Run(fitted, given, **(sizes | {"nfe": budgets}))
        repeated = whole.expand(16, -1)
        bounds = [mean_interval(Run(fitted, g, **sizes).nll(repeated, 32)) for g in (None, given)]
        values = [[bound.mean, bound.high - bound.mean] for bound in bounds]
        natural.append([name, str(len(sequence)), cdr, *values])
        results[name] = run.measured(run.one_at_a_time(run.sequences, DATA_SEED))
    about = f"{sizes['sequences']} sequences: own designs, one at a time"
    head = ["antibody", "residues", "CDR-H3", "nats", "nats of CDR-H3 given the rest"]
    tables = {"natural": table(head, natural, FORMATS["nats"])}
    return tables | tables_of("designs", about, results)


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
    args = parser.parse_args()
    device = torch.device(args.device)
    model = load(args.folder, device=device, length=args.length)
    sizes: dict[str, Json] = {
        "nfe": tuple(args.nfe),
        "n": args.n,
        "sequences": args.sequences,
        "batch": 16 if device.type == "cpu" else 256,
        "evaluations": args.evaluations,
        "device": device,
    }
    tables = chains(Run(model, None, **sizes), args.data)
    if args.antibodies:
        tables |= designs(model, args.antibodies, sizes)
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
        seeds="data 0, searches 1, samples 2, reference 3, bounds 4",
        device=device_name(args.device),
    )
    print(f"written to {args.out}")


if __name__ == "__main__":
    run()
