"""Posteriors extrapolated from the last calls against Tweedie's sampler, at equal numbers of calls.

    python experiments/multistep.py OUT.json [--device cuda] [-n 4096] [--nfe 4 8 16 32 64]
        [--models countdown-exact countdown-exact-uniform countdown] [--schedules NAME ...]

CountDown, uniform times, the shortest path of times, and with the absorbing kernel that of counts
in spread order; searches see 64 sequences of seed 0 (`Measure.MODEL`), and sample i has the same
random numbers in all runs (seed 1). Tables of the violation rate, of its paired difference from the
sampler without extrapolation, and of the two-sample distance of 1,024 samples from data (the task's
similarity, x 1000; data of the exact models with their smoothing, seed 9). What is done is written
after each number of calls. On two cores about 5 s for each call of 4096 samples of an exact model.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import command_line
from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import Generator, SampleGenerators, at_sites
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.metrics import Interval, mean_interval
from jumpsteps.evaluation.two_sample import two_sample_distance
from jumpsteps.models.load import load
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Info, Sampler, nothing_clipped
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.multistep import MultistepKGillespie, MultistepTweedie
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule, Step
from jumpsteps.search.costs.information_profile import Measure
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown
from results import Json, Table, device_name, table, write_results

MODELS = ("countdown-exact", "countdown-exact-uniform", "countdown")
SCHEDULES = ("uniform times", "shortest path", "shortest path, spread order")
SEQUENCES, COMPARED = 64, 1024


@dataclass(frozen=True)
class Extrapolated(Sampler):
    """Tweedie's sampler of every kernel, by an extrapolated leave-one-out posterior w; tried, and
    not in the package.

    Attributes:
        two_stage: every second step by w_2^2 / w_1, w_1 of the step before (the logarithms are
            extrapolated, the trapezoidal rule with a trial stage of half the step); else every step
            by the cut (1 + c) w_2 - c w_1, as the multistep sampler.
    """

    two_stage: bool
    name = "extrapolated"

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: tuple[Step, Tensor] | None,
        *,
        generator: Generator,
    ) -> tuple[Tensor, tuple[Step, Tensor] | None, Info]:
        forward, where = reverse.forward, reverse.forward.movable(x)
        w = torch.zeros(*x.shape, forward.vocab_size, dtype=torch.float64, device=x.device)
        w[where] = reverse.leave_one_out(x, step.t, where).to(torch.float64)
        used = w if state is None else self.ahead(reverse, w[where], state, step, where)
        probs = forward.bridge(used if state else w[where], x[where], step.t, step.s)
        if isinstance(forward, Absorbing):
            revealed = float(forward.reveal_probability(step.t, step.s))
            probs = revealed * probs / probs.sum(-1, keepdim=True)
            probs[:, forward.mask_id] += 1 - revealed
        y = categorical(probs, generator=at_sites(generator, where))
        kept = None if self.two_stage and state is not None else (step, w)
        return x.masked_scatter(where, y), kept, nothing_clipped(x)

    def ahead(
        self,
        reverse: ReverseProcess,
        w: Tensor,
        state: tuple[Step, Tensor],
        step: Step,
        where: Tensor,
    ) -> Tensor:
        last, before = state[0], state[1][where]
        if self.two_stage:
            return torch.where(before > 0, w * (w / before), w)
        alpha = reverse.forward.noise.alpha
        c = (alpha(step.s) - alpha(step.t)) / (2 * (alpha(last.s) - alpha(last.t)))
        return (w + float(c) * (w - before)).clamp_min(0)


@dataclass
class Found:
    """The measures of one model: (schedule, sampler) -> NFE -> mean and half the interval."""

    rates: dict[tuple[str, str], dict[int, list[float]]] = field(default_factory=dict)
    differences: dict[tuple[str, str], dict[int, list[float]]] = field(default_factory=dict)
    distances: dict[tuple[str, str], dict[int, list[float]]] = field(default_factory=dict)

    def tables(self, model: str, nfe: list[int]) -> dict[str, Table]:
        named = {"": self.rates, "-differences": self.differences, "-distances": self.distances}
        return {model + end: as_table(cells, nfe) for end, cells in named.items()}


def as_table(found: dict[tuple[str, str], dict[int, list[float]]], nfe: list[int]) -> Table:
    lines: list[Json] = [
        [schedule, sampler, *(cells.get(n) for n in nfe)]
        for (schedule, sampler), cells in found.items()
    ]
    return table(["schedule", "sampler", f"NFE {nfe[0]}", *map(str, nfe[1:])], lines)


def schedules_of(
    reverse: ReverseProcess, nfe: list[int], device: torch.device
) -> dict[str, dict[int, Schedule]]:
    """Name -> number of steps -> schedule; half as many steps are for two stages."""
    generator = torch.Generator(device).manual_seed(0)
    data = countdown.sample_data(SEQUENCES, generator=generator)
    steps = sorted({*nfe, *(n // 2 for n in nfe)})

    def path(method: ShortestPath) -> dict[int, Schedule]:
        return optimize_schedule(
            reverse, data, steps, generator=generator, method=method, held_out=0
        )

    times: dict[int, Schedule] = {n: uniform(n) for n in steps}
    found = [times, path(ShortestPath(measure=Measure.MODEL))]
    if isinstance(reverse.forward, Absorbing):
        found.append(path(ShortestPath(order=Spread(), measure=Measure.MODEL)))
    return dict(zip(SCHEDULES, found, strict=False))


def samplers_of(reverse: ReverseProcess, schedule: str) -> dict[str, Sampler]:
    """Name -> sampler, the one without extrapolation first."""
    if schedule == SCHEDULES[2]:
        return {"k-gillespie": KGillespie(), "k-gillespie-multistep": MultistepKGillespie()}
    found = {
        "tweedie": Tweedie(),
        "theta-trapezoidal": ThetaTrapezoidal(),
        "theta-rk2": ThetaRK2(),
        "two stages (tried)": Extrapolated(two_stage=True),
    }
    if isinstance(reverse.forward, Absorbing):
        return found | {"tweedie-multistep": MultistepTweedie()}
    return found | {"multistep (tried)": Extrapolated(two_stage=False)}


def half_of(interval: Interval, scale: float) -> list[float]:
    return [scale * interval.mean, scale * (interval.high - interval.mean)]


def measure(
    model: str,
    nfe: list[int],
    n: int,
    device: torch.device,
    found: Found,
    chosen: list[str],
) -> Iterator[int]:
    """Adds the chosen schedules to ``found``; an NFE for each that is done."""
    reverse = load(model, device=device).reverse
    smoothing = 1e-3 if model.startswith("countdown-exact") else 0.0
    generator = torch.Generator().manual_seed(9)
    data = countdown.sample_data(COMPARED, generator=generator, smoothing=smoothing).to(device)
    schedules = {k: v for k, v in schedules_of(reverse, nfe, device).items() if k in chosen}
    for calls in nfe:
        for schedule, by_steps in schedules.items():
            plain: Tensor | None = None
            for name, sampler in samplers_of(reverse, schedule).items():
                made, used = sample_batches(
                    reverse,
                    sampler,
                    by_steps[sampler.steps(calls)],
                    (n, countdown.LENGTH),
                    generator=SampleGenerators(1, range(n), device),
                    batch=64 if device.type == "cpu" else 2048,
                )
                assert used == calls
                rates = countdown.violations(made)
                distance = two_sample_distance(made[:COMPARED], data, countdown.similarity)
                key = (schedule, name)
                found.rates.setdefault(key, {})[calls] = half_of(mean_interval(rates), 100)
                found.distances.setdefault(key, {})[calls] = half_of(distance, 1000)
                if plain is not None:
                    change = half_of(mean_interval(rates - plain), 100)
                    found.differences.setdefault(key, {})[calls] = change
                plain = rates if plain is None else plain
                shown = " ".join(f"{v:8.3f}" for v in (*found.rates[key][calls], distance.mean))
                print(f"{model:24s} {calls:3d} {schedule:28s} {name:24s} {shown}", flush=True)
        yield calls


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-n", type=int, default=4096, help="samples")
    parser.add_argument("--nfe", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    args = parser.parse_args()
    tables: dict[str, Table] = {}
    for model in args.models:
        found = Found()
        device = torch.device(args.device)
        for done in measure(model, args.nfe, args.n, device, found, args.schedules):
            tables |= found.tables(model, [k for k in args.nfe if k <= done])
            write_results(
                args.out,
                __file__,
                tables,
                command=command_line(),
                device=device_name(args.device),
                samples=args.n,
                sequences=SEQUENCES,
                search_seed=0,
                sampling_seed=1,
            )


if __name__ == "__main__":
    run()
