"""The race on the piano model of the uniform kernel: its choice against the usual schedules.

    python experiments/race.py piano-uniform pop909.zip OUT.json [--device cuda]

Searches see 64 training sequences, a race 128 others, with two bars given. It chooses among the
standard schedules and those of Jump Your Steps. The schedules are then measured on the test songs
as in `experiments/piano.py`: 16 samples for each song and schedule (seed 1) against 16 of NFE 512
(tau-leaping, uniform times, seed 0). Intervals are 95% bootstrap intervals over songs, those of
differences of the songs' differences. Races of other seeds show how much chance there is in the
choice. OUT.json holds the tables of docs/piano.md. Small, on a CPU:

    python experiments/race.py piano-uniform pop909.zip OUT.json --songs 4 --repeats 2 \\
        --reference 16 --race 16 --sequences 8 --seeds 0 --nfe 2 4
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import command_line
from jumpsteps import load
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.evaluation.metrics import bootstrap_interval
from jumpsteps.evaluation.race import race
from jumpsteps.evaluation.race_result import Race
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.candidates import race_candidates
from jumpsteps.search.jys import JYS
from jumpsteps.tasks import piano as task
from jumpsteps.tasks.music.dataset import PianoData, read_songs
from piano import Measures, Trial, make_trial, measures
from results import Json, Table, device_name, table, write_results

SAMPLERS: dict[str, Sampler] = {"tau-leaping": TauLeaping(), "Tweedie": Tweedie()}
SHOWN = {
    "uniform": "uniform",
    "cosine": "cosine",
    "jys": "JYS as published",
    "shortest-path": "shortest path",
}
METRICS = {"pairs": "energy distance of pairs", "hellinger": "Hellinger distance"}
CHOICE = "the race's choice"
CALLS_PER_STEP = 5
"""At most, in a race."""

Schedules = Mapping[str, Mapping[int, Schedule]]
Values = dict[str, dict[int, dict[str, Tensor]]]
"""Schedule -> NFE -> metric -> a value for each song."""


def found(trial: Trial, sampler: Sampler, nfe: tuple[int, ...]) -> tuple[Schedules, dict[str, int]]:
    """The schedules that are raced, and the model calls of their searches."""
    counter = CallCounter(trial.model.reverse.model)
    made = race_candidates(
        replace(trial.model.reverse, model=counter),
        trial.data,
        nfe,
        sampler=sampler,
        given_mask=trial.given.mask[0],
        generator=torch.Generator(trial.data.device).manual_seed(0),
    )
    made["jys"] = trial.search(JYS(), sampler, nfe)
    return made, {"standard": counter.calls, "jys": made["jys"][nfe[0]].provenance.model_calls or 0}


def run_race(
    trial: Trial,
    sampler: Sampler,
    schedules: Schedules,
    data: PianoData,
    rows: int,
    n: int,
    seed: int,
) -> Race:
    device = trial.data.device
    others = data.to(device).sample_data(rows, torch.Generator(device).manual_seed(100 + seed))
    return race(
        trial.model.reverse,
        others,
        schedules,
        sampler=sampler,
        given_mask=trial.given.mask[0],
        samples=n,
        max_calls=CALLS_PER_STEP * sum({n for by_nfe in schedules.values() for n in by_nfe}),
        similarity=task.similarity,
        batch=1024,
        generator=torch.Generator(device).manual_seed(seed),
    )


def measured(trial: Trial, sampler: Sampler, schedules: Schedules, by: Measures) -> Values:
    """Schedules with the same times are sampled once."""
    known: dict[object, dict[str, Tensor]] = {}
    values: Values = {}
    for name, by_nfe in schedules.items():
        values[name] = {}
        for nfe, schedule in by_nfe.items():
            times = tuple(schedule.plan(trial.model.reverse.forward))
            if times not in known:
                samples, _ = trial.sample(sampler, schedule, seed=1)
                known[times] = {metric: by[metric](samples) for metric in METRICS}
            values[name][nfe] = known[times]
    return values


def interval(values: Tensor) -> list[float]:
    """Mean and half the bootstrap interval, in per cent."""
    one = bootstrap_interval(values, torch.Generator().manual_seed(0))
    return [100 * one.mean, 50 * (one.high - one.low)]


def metric_rows(title: str, values: Values, metric: str) -> list[Json]:
    return [
        [title, SHOWN.get(name, name), *(interval(one[metric]) for one in by_nfe.values())]
        for name, by_nfe in values.items()
    ]


def difference_rows(title: str, values: Values) -> list[Json]:
    """The race's choice minus each of the others, for both metrics."""
    return [
        [
            f"{title}, {words}",
            SHOWN[other],
            *(
                interval(values[CHOICE][nfe][metric] - one[metric])
                for nfe, one in values[other].items()
            ),
        ]
        for metric, words in METRICS.items()
        for other in SHOWN
    ]


def run_sampler(
    title: str, trial: Trial, data: PianoData, by: Measures, args: Json
) -> dict[str, list[Json]]:
    """Rows of every table."""
    sampler, nfe = SAMPLERS[title], tuple(args.nfe)
    schedules, spent = found(trial, sampler, nfe)
    rows: dict[str, list[Json]] = {"choices": [], "calls": []}
    races = []
    for seed in args.seeds:
        one = run_race(trial, sampler, schedules, data, 2 * args.sequences, args.race, seed)
        print(f"\n{title}, seed {seed}\n{one}", flush=True)
        winners = [one.choices[n].winner for n in nfe]
        rows["choices"].append([title, str(seed), *winners])
        rows["calls"].append(
            [
                title,
                str(seed),
                one.model_calls,
                one.evaluated,
                spent["standard"],
                spent["jys"],
                spent["jys"] * args.sequences,
            ]
        )
        races.append(one)
    shown = {name: schedules[name] for name in SHOWN} | {CHOICE: races[0].schedules}
    more = {
        f"{CHOICE}, seed {seed}": one.schedules
        for seed, one in zip(args.seeds[1:], races[1:], strict=True)
    }
    values = measured(trial, sampler, shown | more, by)
    for metric in METRICS:
        rows[metric] = metric_rows(title, values, metric)
    rows["differences"] = difference_rows(title, values)
    for name, lines in rows.items():
        print(name, *lines, sep="\n", flush=True)
    return rows


def tables_of(
    rows: Mapping[str, list[Json]], nfe: list[int], floor: Mapping[str, Tensor]
) -> dict[str, Table]:
    heads = [f"NFE {nfe[0]}", *map(str, nfe[1:])]
    cell = "{:.1f} ±{:.1f}"
    rest = [None] * (len(nfe) - 1)
    again = {metric: ["two references", None, interval(floor[metric]), *rest] for metric in METRICS}
    return {
        **{
            metric: table(["sampler", "times", *heads], [*rows[metric], again[metric]], cell)
            for metric in METRICS
        },
        "differences": table(
            ["sampler, metric", "the race's choice minus", *heads],
            rows["differences"],
            "{:+.1f} ±{:.1f}",
        ),
        "choices": table(["sampler", "seed of the race", *heads], rows["choices"], "{}"),
        "calls": table(
            [
                "sampler",
                "seed of the race",
                "model calls of the race",
                "sequences evaluated in them",
                "calls of the searches raced",
                "calls of JYS",
                "sequences evaluated in them by JYS",
            ],
            rows["calls"],
            "{:,}",
        ),
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--nfe", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--race", type=int, default=256, help="samples of a schedule at most")
    parser.add_argument("--sequences", type=int, default=64, help="that a search sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the races")
    parser.add_argument("--songs", type=int, default=1000, help="test songs at most")
    parser.add_argument("--repeats", type=int, default=16, help="samples for each song")
    parser.add_argument("--reference", type=int, default=512, help="NFE of the reference")
    parser.add_argument("--batch", type=int, default=1488)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device, data = torch.device(args.device), read_songs(args.data)
    model = load(args.model, device=device)
    trial = make_trial(model, data, args.songs, args.repeats, args.batch, device)
    trial = replace(trial, data=trial.data[: args.sequences])
    reference, again = (
        trial.sample(TauLeaping(), uniform(args.reference), seed=seed)[0] for seed in (0, 2)
    )
    by = measures(trial, reference)
    rows: dict[str, list[Json]] = {}
    for title in SAMPLERS:
        for name, lines in run_sampler(title, trial, data, by, args).items():
            rows.setdefault(name, []).extend(lines)
    tables = tables_of(rows, args.nfe, {metric: by[metric](again) for metric in METRICS})
    write_results(
        args.out,
        __file__,
        tables,
        command=command_line(),
        model=args.model,
        model_hash=model.digest,
        data=data.name,
        songs=trial.songs,
        samples_per_song=args.repeats,
        reference_nfe=args.reference,
        samples_of_a_race=args.race,
        search_sequences=args.sequences,
        race_sequences=2 * args.sequences,
        seeds="searches 0, races as in the tables, samples 1, references 0 and 2",
        interval="95% bootstrap interval over songs, per cent",
        device=device_name(args.device),
    )
    print(f"written to {args.out}")


if __name__ == "__main__":
    run()
