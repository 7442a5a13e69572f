"""Plans of steps and corrections at equal numbers of model calls, and the loop that compares them.

``corrector.py``, ``corrector_text.py`` and ``corrector_piano.py`` measure the same plans.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.agreement import mean_to_others
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.evaluation.two_sample import Similarity
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.ancestral import ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.leave_one_out import LeaveOneOutCorrector
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform, uniform_counts
from jumpsteps.schedules.orders import Golden, Random, RevealOrder, Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from results import Json, Table, device_name, table, write_results

STEPS = (4, 8, 16, 32)
SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
PLANS = [(4, 4, SHARES[1]), *((8, 8, share) for share in SHARES)]
PLANS += [(4, 12, share) for share in SHARES[1:]]
PLANS += [(16, 16, share) for share in SHARES[:2]]
PLANS += [(8, 24, share) for share in SHARES[1:]]
PLANS += [(16, 48, share) for share in SHARES[:2]]
PLANS += [(8, 56, share) for share in SHARES[1:]]
LONG = [(16, calls, share) for calls in (112, 240, 496, 1008) for share in SHARES[:2]]
OTHER_CORRECTORS = ("remdm", "tweedie-corrected", "tweedie-gibbs")

Plan = tuple[Sampler, Schedule]
Measure = Callable[[Tensor], list[Json]]


def seeded(seed: int, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def corrected(calls: int, share: Fraction, sets: RevealOrder = Golden()) -> BlockedGibbs:
    return BlockedGibbs(KGillespie(), (Redraw(calls, float(share), sets=sets),))


def plans(
    counts: Mapping[int, Schedule], sites: int, *, long: bool = False, others: bool = False
) -> dict[str, Plan]:
    """What is compared, by title.

    Args:
        counts: number of steps -> schedule in golden order.
        sites: free ones of a sequence.
        long: with up to 1,024 calls.
        others: with other correctors in several settings each.
    """
    made: dict[str, Plan] = {f"{n}, golden": (KGillespie(), counts[n]) for n in STEPS}
    for steps, calls, share in PLANS + LONG * long:
        made[f"{steps} + {calls} of {share}"] = corrected(calls, share), counts[steps]
    for sets in (Spread(), Random()):
        for share in SHARES[1:]:
            title = f"8 + 8 of {share}, {sets.name} sites"
            made[title] = corrected(8, share, sets), counts[8]
    for nfe in (16, 64) if others else ():
        for setting, sampler in other_correctors(sites).items():
            made[f"{nfe}, {setting}, uniform times"] = sampler, uniform(sampler.steps(nfe))
    last = min(sites, 256)
    title = "one at a time" if last == sites else f"{last}, uniform counts, random order"
    made[title] = KGillespie(), uniform_counts(last, sites, Random())
    return made


def other_correctors(sites: int) -> dict[str, Sampler]:
    """ReMDM, tauLDR's corrector and leave-one-out Gibbs, each in three settings."""
    made: dict[str, Sampler] = {f"remdm, cap {cap}": ReMDM(cap) for cap in (0.02, 0.1, 0.3)}
    for size in (0.25, 0.5, 1.0):
        made[f"tweedie-corrected, size {size}"] = PredictorCorrector(size=size)
    for part in (16, 8, 4):
        made[f"tweedie-gibbs, 1/{part} of the sites"] = LeaveOneOutCorrector(sites=sites // part)
    return made


def golden_counts(
    model: LoadedModel, data: Tensor, device: str, given_mask: Tensor | None = None
) -> dict[int, Schedule]:
    """Number of steps -> counts by the shortest path in golden order."""
    return optimize_schedule(
        model.reverse,
        data,
        STEPS,
        generator=seeded(0, device),
        method=ShortestPath(order=Golden()),
        given_mask=given_mask,
        held_out=0,
    )


def interval(values: Tensor) -> list[float]:
    found = mean_interval(values.cpu())
    return [found.mean, found.high - found.mean]


def squared_discrepancy(x: Tensor, y: Tensor, similarity: Similarity) -> list[float]:
    """1e4 times the squared maximum mean discrepancy, unbiased, and half its 95% interval.

    The interval is the normal one of the linear part, as in ``pair_distance``.
    """
    within_x, within_y = (mean_to_others(similarity(z, z)) for z in (x, y))
    across = similarity(x, y)
    value = float(within_x.mean() + within_y.mean() - 2 * across.mean())
    parts = (within_x - across.mean(1), within_y - across.mean(0))
    variance = sum(float(4 * part.var() / len(part)) for part in parts)
    return [1e4 * value, 1e4 * NormalDist().inv_cdf(0.975) * variance**0.5]


def add_flags(parser: argparse.ArgumentParser, n: int, batch: int) -> None:
    """Flags of every comparison, with default sizes."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=n)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--sequences", type=int, default=64, help="that searches see")
    parser.add_argument("--long", action="store_true", help="also up to 1,024 calls")
    parser.add_argument("--others", action="store_true", help="also other correctors")
    parser.add_argument("--plans", nargs="*", help="titles; by default all")


@dataclass(frozen=True)
class Comparison:
    """Samples of every plan, measured and written as they come.

    Attributes:
        script: the experiment's ``__file__``.
        titles: of the measures.
        shape: (n, L) of the samples.
        given: observed sites of the samples.
        formats: title -> format of a column.
        tables: others of the same file.
    """

    out: Path
    script: str
    model: LoadedModel
    titles: Sequence[str]
    measure: Measure
    shape: tuple[int, int]
    batch: int
    device: str
    given: Given | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)

    def run(self, made: Mapping[str, Plan], chosen: Sequence[str] | None, first: Json) -> None:
        """Measure the plans, or those of these titles.

        Args:
            first: the row of data.
        """
        unknown = sorted(set(chosen or []) - set(made))
        if unknown:
            raise SystemExit(f"no plan {unknown[0]!r}; the plans are {', '.join(made)}")
        rows = [first]
        for title in chosen or made:
            sampler, schedule = made[title]
            samples, nfe = sample_batches(
                self.model.reverse,
                sampler,
                schedule,
                self.shape,
                generator=seeded(1, self.device),
                batch=self.batch,
                given=self.given,
            )
            rows.append([title, nfe, *self.measure(samples)])
            print(rows[-1], flush=True)
            columns = {"model calls": "{}"} | dict(self.formats)
            head = ["plan", "model calls", *self.titles]
            self.save({"plans": table(head, rows, columns=columns)})

    def save(self, found: Mapping[str, Table]) -> None:
        """Write these tables and the others."""
        write_results(
            self.out,
            self.script,
            {**found, **self.tables},
            command=command_line(),
            model=Path(self.model.name).name,
            seeds={"search": 0, "samples": 1, "data": 3},
            samples=self.shape[0],
            device=device_name(self.device),
        )


def command_line() -> str:
    """What repeats the run, with the names of files alone."""
    script, *values = sys.argv
    names = [Path(value).name if "/" in value and " " not in value else value for value in values]
    quoted = [f'"{name}"' if " " in name else name for name in names]
    return " ".join(["python", f"experiments/{Path(script).name}", *quoted])
