"""Piano (Park et al. 2025, Sec. 4.3, Figure 8 left): 14 bars after two given ones.

    python experiments/piano.py OUT --uniform MODEL --absorbing MODEL --data DATA [--device cuda]

For every test song 16 samples by each schedule, and as many of NFE 512 as a reference (uniform
times; tau-leaping for the uniform kernel, Tweedie's sampler for the absorbing one). All have the
same two bars given. Measured:

* hellinger: the Hellinger distance of the notes' frequencies in the 16 samples from those in the
  reference's;
* energy: the energy distance of the distributions of single samples' histograms of notes; pairs: of
  histograms of neighbouring notes. They are unbiased, and see how much the samples differ
  (``metrics.energy_distance``);
* outliers, notes out of key, trigrams that the given bars have.

Means over songs, with 95% bootstrap intervals over them. Searches use 64 training sequences with
their first two bars given. "published" is tau-leaping as tauLDR ends it: equal times end at
t = 0.01, and one more call denoises.

Writes OUT/piano.json, OUT/<kernel>-<sampler>.png, OUT/piano.png with some of all, and the tables of
docs/piano.md as OUT/results/piano.json; prints tables. Results of the other kernel in
OUT/piano.json are kept. Five minutes for the uniform kernel and three for the absorbing one on an
H200.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps import load, optimize_schedule
from jumpsteps.core.files import read_json, write_json
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.compare import times_of
from jumpsteps.evaluation.metrics import (
    Interval,
    bootstrap_interval,
    energy_distance,
    hellinger_distance,
)
from jumpsteps.evaluation.plots import COLOURS, MARKERS, new_figure, plot_comparison, write
from jumpsteps.evaluation.report import table
from jumpsteps.evaluation.results import Row
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import cosine, uniform, uniform_counts
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.costs.correction import NO_CORRECTION, ErrorCorrection
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import piano
from jumpsteps.tasks.music.dataset import PianoData, read_songs
from piano_tables import write_tables

NFE = (2, 4, 8, 16, 32, 64)
REFERENCE, SEARCHED, T_MIN = 512, 64, 0.01
FREE = piano.LENGTH - piano.GIVEN
SYMBOLS = piano.SYMBOLS


@dataclass(frozen=True)
class Trial:
    """A model and what it is given.

    Attributes:
        given: the first two bars of S songs, ``repeats`` times each, [n, 256].
        data: training sequences for the searches.
    """

    model: LoadedModel
    given: Given
    songs: int
    data: Tensor
    batch: int

    def sample(self, sampler: Sampler, schedule: Schedule, seed: int) -> tuple[Tensor, int]:
        """int64 [n, 256] and the model calls."""
        generator = torch.Generator(self.given.tokens.device).manual_seed(seed)
        shape = (len(self.given.tokens), piano.LENGTH)
        return sample_batches(
            self.model.reverse,
            sampler,
            schedule,
            shape,
            generator=generator,
            batch=self.batch,
            given=self.given,
        )

    def search(
        self, method: Method, sampler: Sampler, nfe: tuple[int, ...] = NFE
    ) -> dict[int, Schedule]:
        generator = torch.Generator(self.data.device).manual_seed(0)
        mask = self.given.mask[0]
        return optimize_schedule(
            self.model.reverse,
            self.data,
            nfe,
            generator=generator,
            method=method,
            sampler=sampler,
            given_mask=mask,
        )

    def grouped(self, samples: Tensor) -> Tensor:
        """The generated bars by song, [S, repeats, 224]."""
        return samples[:, piano.GIVEN :].reshape(self.songs, -1, FREE)

    def by_song(self, values: Tensor) -> Tensor:
        """The mean of [n] numbers over the samples of each song, [S]."""
        return values.cpu().reshape(self.songs, -1).mean(-1)


Find = Callable[[Trial, Sampler], Mapping[int, Schedule]]
"""Schedules by NFE."""


def searched(method: Method) -> Find:
    return lambda trial, sampler: trial.search(method, sampler)


def published(method: JYS | None) -> Find:
    """Equal times or those of JYS, to t = 0.01, and one more call that denoises."""

    def find(trial: Trial, sampler: Sampler) -> Mapping[int, Schedule]:
        if method is None:
            return {n + 1: TimeSchedule([*np.linspace(1, T_MIN, n + 1), 0.0]) for n in NFE}
        return {
            n + 1: TimeSchedule([*s.times[:-1], T_MIN, 0.0])
            for n, s in trial.search(method, sampler).items()
        }

    return find


TIMES: dict[str, Find] = {
    "uniform": lambda trial, sampler: {n: uniform(n) for n in NFE},
    "cosine": lambda trial, sampler: {n: cosine(n) for n in NFE},
    "jys": searched(JYS()),
    "shortest-path": searched(ShortestPath()),
}
VARIANTS: dict[str, Find] = {
    "jys-full": searched(JYS(full=True)),
    "jys-context": searched(JYS(hold_time=False)),
    "no-correction": searched(ShortestPath(correction=NO_CORRECTION)),
    "constant-correction": searched(ShortestPath(correction=ErrorCorrection(0.002))),
}
PUBLISHED: dict[str, Find] = {
    "uniform": published(None),
    "jys": published(JYS(t_min=T_MIN)),
    "shortest-path": lambda trial, sampler: trial.search(
        ShortestPath(), sampler, tuple(n + 1 for n in NFE)
    ),
}
JUMPS: dict[str, Find] = {
    "uniform": lambda trial, sampler: {n: uniform_counts(n, FREE) for n in NFE},
    "shortest-path": searched(ShortestPath()),
    "spread": searched(ShortestPath(order=Spread())),
}
RUNS: dict[str, list[tuple[str, Sampler, dict[str, Find]]]] = {
    "uniform": [
        ("tau-leaping", TauLeaping(), TIMES),
        ("tau-leaping-variants", TauLeaping(), VARIANTS),
        ("tau-leaping-published", TauLeaping(), PUBLISHED),
        ("euler", Euler(), TIMES),
        ("tweedie", Tweedie(), TIMES),
    ],
    "absorbing": [("tweedie", Tweedie(), TIMES), ("k-gillespie", KGillespie(), JUMPS)],
}
LINES = [
    ("uniform, tau-leaping", "uniform"),
    ("uniform, tau-leaping", "jys"),
    ("uniform, tau-leaping", "shortest-path"),
    ("uniform, tweedie", "uniform"),
    ("absorbing, k-gillespie", "uniform"),
    ("absorbing, k-gillespie", "spread"),
]
"""Kernel, sampler and schedule: what the picture of both kernels shows."""
REFERENCE_SAMPLER: dict[str, Sampler] = {"uniform": TauLeaping(), "absorbing": Tweedie()}


def make_trial(
    model: LoadedModel, data: PianoData, songs: int, repeats: int, batch: int, device: torch.device
) -> Trial:
    tokens = data.songs()[:songs].to(device)
    seen = data.to(device).sample_data(SEARCHED, torch.Generator(device).manual_seed(7))
    return Trial(
        model, piano.given_bars(tokens.repeat_interleave(repeats, 0)), len(tokens), seen, batch
    )


Measures = dict[str, Callable[[Tensor], Tensor]]
"""By name, int64 [n, 256] -> one number for each song, [S]."""


def pairs(samples: Tensor) -> Tensor:
    """Sixteenths beside each other as one symbol."""
    return samples[..., :-1] * SYMBOLS + samples[..., 1:]


def measures(trial: Trial, reference: Tensor) -> Measures:
    known = trial.grouped(reference)
    return {
        "hellinger": lambda samples: hellinger_distance(
            trial.grouped(samples).flatten(1), known.flatten(1), SYMBOLS
        ).cpu(),
        "energy": lambda samples: energy_distance(trial.grouped(samples), known, SYMBOLS),
        "pairs": lambda samples: energy_distance(
            pairs(trial.grouped(samples)), pairs(known), SYMBOLS**2
        ),
        "outliers": lambda samples: trial.by_song(piano.note_outliers(samples, reference)),
        "out_of_key": lambda samples: 1 - trial.by_song(piano.notes_in_key(samples)),
        "trigrams_of_given_bars": lambda samples: trial.by_song(piano.ngram_overlap(samples)),
    }


def intervals(samples: Tensor, measured: Measures) -> dict[str, Interval]:
    return {
        name: bootstrap_interval(f(samples), torch.Generator().manual_seed(0))
        for name, f in measured.items()
    }


def measure(
    trial: Trial, sampler: Sampler, finds: Mapping[str, Find], measured: Measures
) -> tuple[dict[str, list[Row]], list[dict]]:
    """Rows for each metric, and everything that is known."""
    rows: dict[str, list[Row]] = {name: [] for name in measured}
    details = []
    for name, find in finds.items():
        began = time.monotonic()
        schedules = find(trial, sampler)
        seconds = time.monotonic() - began
        for schedule in schedules.values():
            samples, calls = trial.sample(sampler, schedule, seed=1)
            assert torch.equal(samples[:, : piano.GIVEN], trial.given.tokens[:, : piano.GIVEN])
            found = intervals(samples, measured)
            for metric, interval in found.items():
                rows[metric].append(
                    Row(calls, name, times_of(schedule, trial.model.reverse), interval)
                )
            known = {
                "search_seconds": seconds,
                "provenance": asdict(schedule.provenance),
                "schedule": name,
                "nfe": calls,
            }
            details.append(known | {metric: asdict(interval) for metric, interval in found.items()})
        calls = schedule.provenance.model_calls
        print(f"{sampler.name}, {name}: search {seconds:.1f} s, {calls} calls", flush=True)
    return rows, details


def run_kernel(kernel: str, trial: Trial, out: Path) -> dict[str, object]:
    """All samplers and schedules of a kernel; prints tables and writes pictures."""
    reference, again = (
        trial.sample(REFERENCE_SAMPLER[kernel], uniform(REFERENCE), seed=seed)[0] for seed in (0, 2)
    )
    measured, results = measures(trial, reference), {}
    for title, sampler, finds in RUNS[kernel]:
        rows, results[f"{kernel}, {title}"] = measure(trial, sampler, finds, measured)
        for metric in rows:
            print(f"\n{kernel}, {title}\n{table(rows[metric], metric)}", flush=True)
        label = f"piano, {kernel} kernel, {title}, {trial.songs} songs"
        plot_comparison(
            out / f"{kernel}-{title}.png",
            rows["hellinger"],
            metric_name="Hellinger distance",
            title=label,
        )
    floor = {name: asdict(interval) for name, interval in intervals(again, measured).items()}
    print(
        f"\n{kernel}, NFE {REFERENCE} again:",
        {name: round(100 * one["mean"], 2) for name, one in floor.items()},
        flush=True,
    )
    return results | {f"{kernel}, again": floor}


def draw(path: Path, results: Mapping[str, list[dict]]) -> None:
    """The Hellinger distance of notes (Figure 8, left) and the energy distance of pairs, by NFE."""
    figure = new_figure(11, 4.2)
    for axes, (metric, label) in zip(
        figure.subplots(1, 2),
        (("hellinger", "Hellinger distance"), ("pairs", "energy distance, pairs")),
        strict=True,
    ):
        for i, (run, schedule) in enumerate(LINES):
            rows = [row for row in results.get(run, []) if row["schedule"] == schedule]
            mean, low, high = (
                100 * np.array([row[metric][key] for row in rows])
                for key in ("mean", "low", "high")
            )
            style = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4, "capsize": 3}
            axes.errorbar(
                [row["nfe"] for row in rows],
                mean,
                [mean - low, high - mean],
                label=f"{run}, {schedule}",
                **style,
            )
        axes.set(xscale="log", xlabel="model calls (NFE)", ylabel=f"{label}, %")
        axes.set_xticks(NFE, [str(n) for n in NFE])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].legend(
        frameon=False, fontsize=8, title="kernel, sampler, times", title_fontsize=8
    )
    write(figure, path)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--uniform")
    parser.add_argument("--absorbing")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--songs", type=int, default=1000, help="test songs at most")
    parser.add_argument("--repeats", type=int, default=16, help="samples for each song")
    parser.add_argument("--batch", type=int, default=1488)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device, data, file = torch.device(args.device), read_songs(args.data), args.out / "piano.json"
    results = read_json(file)["results"] if file.exists() else {}
    for kernel in (kernel for kernel in RUNS if vars(args)[kernel]):
        model = load(vars(args)[kernel], device=device)
        results |= run_kernel(
            kernel, make_trial(model, data, args.songs, args.repeats, args.batch, device), args.out
        )
    about = {
        "data": data.name,
        "repeats": args.repeats,
        "reference": REFERENCE,
        "searched": SEARCHED,
    }
    write_json(file, about | {"results": results})
    draw(args.out / "piano.png", results)
    sizes = {"reference_nfe": REFERENCE, "sequences": SEARCHED, "samples_per_song": args.repeats}
    write_tables(args.out / "results" / "piano.json", results, args.device, sizes)


if __name__ == "__main__":
    run()
