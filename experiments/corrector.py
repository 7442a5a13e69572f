"""Blocked Gibbs at equal numbers of model calls, against steps alone and other correctors.

    python experiments/corrector.py MODEL OUT.json [--device cuda] [-n 256] [--long]

MODEL is `countdown-exact`, `countdown`, a folder of a CountDown network, or the folder of the
package antiberty (docs/antibodies.md). Measures of n samples (seed 1, the same for every plan):

* CountDown: violations in per cent; entropy of the symbols in nats;
* antibodies: the model's own any-order bound, nats;
* both: the mean Hamming distance of two samples, and the distance of all pair frequencies from n
  sequences of data (antibodies: from samples drawn one residue at a time), times 1e4.

Counts are the shortest path in golden order (64 sequences, seed 0). "8 + 8 of 1/4" is 8 steps and
then 8 calls that draw a quarter of the sites again. The second table has the cost of one call: the
total correlation of the redrawn sites given the rest on 64 other sequences, nats.

OUT.json holds the tables of docs/corrector.md; it is written after every plan. On two CPU cores
`countdown-exact` takes 15 minutes.
"""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load
from jumpsteps.core.information import half_width
from jumpsteps.evaluation.agreement import hamming_distance, pair_distance
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.evaluation.metrics import mean_interval
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
from jumpsteps.search.costs.redraw_cost import redraw_cost
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from results import Json, Table, device_name, table, write_results

STEPS = (4, 8, 16, 32)
SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
PLANS = [(4, 4, SHARES[1]), *((8, 8, share) for share in SHARES)]
PLANS += [(16, 16, share) for share in SHARES[:2]]
LONG = [(16, calls, share) for calls in (112, 240, 496, 1008) for share in SHARES[:2]]
PLANS += [(8, 24, SHARES[1]), (16, 48, SHARES[0]), (16, 48, SHARES[1]), (8, 56, SHARES[1])]

Plan = tuple[Sampler, Schedule]
Measure = Callable[[Tensor], list[Json]]


def seeded(seed: int, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def corrected(calls: int, share: Fraction, sets: RevealOrder = Golden()) -> BlockedGibbs:
    return BlockedGibbs(KGillespie(), (Redraw(calls, float(share), sets=sets),))


def plans(counts: dict[int, Schedule], length: int, long: bool) -> dict[str, Plan]:
    """What is compared, by title."""
    made: dict[str, Plan] = {f"{n}, golden": (KGillespie(), counts[n]) for n in STEPS}
    for steps, calls, share in PLANS + LONG * long:
        made[f"{steps} + {calls} of {share}"] = corrected(calls, share), counts[steps]
    for sets in (Spread(), Random()):
        title = f"8 + 8 of 1/4, {sets.name} sites"
        made[title] = corrected(8, SHARES[1], sets), counts[8]
    for nfe in (16, 64):
        for sampler in (
            ReMDM(0.1),
            PredictorCorrector(),
            LeaveOneOutCorrector(sites=length // 4),
        ):
            title = f"{nfe}, {sampler.name}, uniform times"
            made[title] = sampler, uniform(sampler.steps(nfe))
    made["one at a time"] = KGillespie(), uniform_counts(length, length, Random())
    return made


def measures_of(
    model: LoadedModel, data: Tensor, device: str, batch: int
) -> tuple[list[str], Measure]:
    """Titles of the measures, and their values for samples, each with half its interval."""
    antibodies = model.task is not None and model.task.name == "antibodies"

    def first(samples: Tensor) -> list[Json]:
        if antibodies:
            nll = any_order_nll(
                model.reverse,
                samples,
                evaluations=16,
                common=True,
                batch=batch,
                generator=seeded(2, device),
            )
            return [interval(nll), None]
        assert model.task is not None
        p = torch.bincount(samples.flatten(), minlength=32).double() / samples.numel()
        entropy = -float(torch.xlogy(p, p).sum())
        return [interval(100 * model.task.metric(samples).double()), entropy]

    def measure(samples: Tensor) -> list[Json]:
        pairs = pair_distance(samples, data)
        distance = [1e4 * pairs.mean, 1e4 * (pairs.high - pairs.mean)]
        return [*first(samples), hamming_distance(samples), distance]

    titles = ["nats" if antibodies else "violations, %", "entropy", "Hamming", "pairs"]
    return titles, measure


def interval(values: Tensor) -> list[float]:
    found = mean_interval(values.cpu())
    return [found.mean, found.high - found.mean]


def data_of(model: LoadedModel, n: int, device: str, batch: int) -> tuple[Tensor, Tensor]:
    """Sequences for searches, and others that samples are compared with."""
    if model.task is not None and model.task.name != "antibodies":
        return (
            model.task.sample_data(128, seeded(0, device)),
            model.task.sample_data(n, seeded(3, device)),
        )
    one = uniform_counts(model.length, model.length, Random())
    own, _ = sample_batches(
        model.reverse,
        KGillespie(),
        one,
        (n + 128, model.length),
        generator=seeded(3, device),
        batch=batch,
    )
    return own[:128], own[128:]


def costs(model: LoadedModel, data: Tensor, device: str) -> Table:
    """The cost of one call, by share and sets."""
    rows = []
    for share in SHARES:
        row: list[Json] = [str(share)]
        for sets in (Golden(), Spread(), Random()):
            found = redraw_cost(
                model.reverse,
                data,
                Redraw(share=float(share), sets=sets),
                generator=seeded(5, device),
            )
            row.append([found.excess, half_width(found.excess_stderr, len(data))])
        rows.append(row)
    return table(["share", "golden", "spread", "random"], rows)


def command(args: argparse.Namespace) -> str:
    """What repeats the run."""
    name, size = Path(args.model).name, f"-n {args.n} --batch {args.batch}"
    titles = " ".join(f'"{title}"' for title in args.plans or [])
    chosen = (" --long" if args.long else "") + (f" --plans {titles}" if titles else "")
    return f"python experiments/corrector.py {name} OUT.json {size}{chosen}"


def run() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--long", action="store_true", help="also up to 1,024 calls")
    parser.add_argument("--plans", nargs="*", help="titles; by default all")
    args = parser.parse_args()
    model = load(args.model, device=args.device)
    searched, data = data_of(model, args.n, args.device, args.batch)
    counts = optimize_schedule(
        model.reverse,
        searched[:64],
        STEPS,
        generator=seeded(0, args.device),
        method=ShortestPath(order=Golden()),
        held_out=0,
    )
    titles, measure = measures_of(model, data, args.device, args.batch)
    formats = {"model calls": "{}", "entropy": "{:.3f}", "Hamming": "{:.3f}"}
    rows: list[Json] = [["data", None, *measure(data)]]
    made, cost = plans(counts, model.length, args.long), costs(model, searched[64:], args.device)
    for title, (sampler, schedule) in made.items():
        if args.plans and title not in args.plans:
            continue
        samples, nfe = sample_batches(
            model.reverse,
            sampler,
            schedule,
            (args.n, model.length),
            generator=seeded(1, args.device),
            batch=args.batch,
        )
        rows.append([title, nfe, *measure(samples)])
        print(rows[-1], flush=True)
        compared = table(["plan", "model calls", *titles], rows, columns=formats)
        write_results(
            args.out,
            __file__,
            {"plans": compared, "costs": cost},
            command=command(args),
            model=Path(args.model).name,
            seeds={"search": 0, "samples": 1, "data": 3},
            samples=args.n,
            device=device_name(args.device),
        )


if __name__ == "__main__":
    run()
