"""Piano (Park et al. 2025, Sec. 4.3, Figure 8 left): 14 bars after two given ones, distance of notes from those of 512 model calls.

    python experiments/piano.py OUT --uniform MODEL --absorbing MODEL --data FOLDER [--device cuda]

For every test song: the Hellinger distance of the notes' frequencies in a few samples from those in as many samples of NFE 512
(uniform times, tau-leaping; for the absorbing model Tweedie's sampler), all with the same two bars given; shares of outliers, of
notes out of key, and overlap of trigrams with the given bars. Means over songs with 95% bootstrap intervals over them. Searches see
64 training sequences with their first two bars given. Writes OUT/piano.json, OUT/<kernel>-<sampler>.png and prints tables.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load, optimize_schedule
from jumpsteps.compare import Row, sample_batches, times_of
from jumpsteps.files import write_json
from jumpsteps.masked_samplers import KGillespie
from jumpsteps.metrics import bootstrap_interval, hellinger
from jumpsteps.models import LoadedModel
from jumpsteps.optimize import JYS, Method, ShortestPath
from jumpsteps.orders import Spread
from jumpsteps.plots import plot_comparison
from jumpsteps.report import table
from jumpsteps.samplers import Euler, Sampler, TauLeaping, Tweedie
from jumpsteps.schedule import Schedule, uniform
from jumpsteps.simulate import Given
from jumpsteps.tasks import piano
from jumpsteps.tasks.piano_data import PianoData, read_arrays

NFE = (2, 4, 8, 16, 32, 64)
REFERENCE, SEARCHED = 512, 64
TIMES: dict[str, Method | None] = {"uniform": None, "jys": JYS(), "shortest-path": ShortestPath()}
JUMPS: dict[str, Method | None] = {"shortest-path-spread": ShortestPath(order=Spread())}
RUNS: dict[str, list[tuple[Sampler, dict[str, Method | None]]]] = {
    "uniform": [(TauLeaping(), TIMES), (Euler(), TIMES), (Tweedie(), TIMES)],
    "absorbing": [(Tweedie(), TIMES), (KGillespie(), JUMPS)],
}
REFERENCE_SAMPLER: dict[str, Sampler] = {"uniform": TauLeaping(), "absorbing": Tweedie()}


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
            self.model.reverse, sampler, schedule, shape, generator=generator, batch=self.batch, given=self.given, progress=False
        )

    def schedules(self, method: Method | None, sampler: Sampler) -> Mapping[int, Schedule]:
        if method is None:
            return {n: uniform(sampler.leaps(n)) for n in NFE}
        generator = torch.Generator(self.data.device).manual_seed(0)
        mask = self.given.mask[0]
        return optimize_schedule(
            self.model.reverse, self.data, NFE, generator=generator, method=method, sampler=sampler, given_mask=mask
        )

    def by_song(self, values: Tensor) -> Tensor:
        """The mean of [n] numbers over the samples of each song, [S]."""
        return values.cpu().reshape(self.songs, -1).mean(-1)


def trial(model: LoadedModel, data: PianoData, songs: int, repeats: int, batch: int, device: torch.device) -> Trial:
    first = {int(song): i for i, song in reversed(list(enumerate(data.test_song.tolist())))}
    tokens = data.test[sorted(first.values())[:songs]].to(device)
    seen = data.to(device).sample_data(SEARCHED, torch.Generator(device).manual_seed(7))
    return Trial(model, piano.given_bars(tokens.repeat_interleave(repeats, 0)), len(tokens), seen, batch)


def metrics(test: Trial, reference: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """By name, int64 [n, 256] -> one number for each song."""

    def made(samples: Tensor) -> Tensor:
        return samples[:, piano.GIVEN :].reshape(test.songs, -1).cpu()

    return {
        "hellinger": lambda samples: hellinger(made(samples), made(reference), piano.SYMBOLS),
        "outliers": lambda samples: test.by_song(piano.note_outliers(samples, reference)),
        "out_of_key": lambda samples: 1 - test.by_song(piano.notes_in_key(samples)),
        "trigrams_of_given_bars": lambda samples: test.by_song(piano.ngram_overlap(samples)),
    }


def measure(test: Trial, sampler: Sampler, methods: Mapping[str, Method | None], measures) -> tuple[list[Row], list[dict]]:
    rows, details = [], []
    for name, method in methods.items():
        for schedule in test.schedules(method, sampler).values():
            samples, calls = test.sample(sampler, schedule, seed=1)
            assert torch.equal(samples[:, : piano.GIVEN], test.given.tokens[:, : piano.GIVEN])
            found = {what: bootstrap_interval(f(samples), torch.Generator().manual_seed(0)) for what, f in measures.items()}
            rows.append(Row(calls, name, times_of(schedule, test.model.reverse), found["hellinger"]))
            known = asdict(schedule.provenance)
            details.append({"nfe": calls, "schedule": name, "provenance": known} | {k: asdict(v) for k, v in found.items()})
    return rows, details


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--uniform")
    parser.add_argument("--absorbing")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--songs", type=int, default=1000, help="test songs at most")
    parser.add_argument("--repeats", type=int, default=4, help="samples for each song")
    parser.add_argument("--batch", type=int, default=512)
    args = parser.parse_args()
    device, data, results = torch.device(args.device), read_arrays(args.data), {}
    for kernel in (kernel for kernel in RUNS if vars(args)[kernel]):
        test = trial(load(vars(args)[kernel], device=device), data, args.songs, args.repeats, args.batch, device)
        reference, _ = test.sample(REFERENCE_SAMPLER[kernel], uniform(REFERENCE), seed=0)
        measures = metrics(test, reference)
        for sampler, methods in RUNS[kernel]:
            rows, results[f"{kernel}, {sampler.name}"] = measure(test, sampler, methods, measures)
            print(f"\n{kernel}, {sampler.name}\n{table(rows, 'Hellinger distance')}", flush=True)
            title = f"piano, {kernel} kernel, {sampler.name}, {test.songs} songs"
            plot_comparison(args.out / f"{kernel}-{sampler.name}.png", rows, metric_name="Hellinger distance", title=title)
        again, _ = test.sample(REFERENCE_SAMPLER[kernel], uniform(REFERENCE), seed=2)
        floor = bootstrap_interval(measures["hellinger"](again), torch.Generator().manual_seed(0))
        print(f"{kernel}: two samples of NFE {REFERENCE} from each other: {100 * floor.mean:.2f} %", flush=True)
        results[f"{kernel}, floor"] = asdict(floor)
    about = {"data": data.name, "repeats": args.repeats, "reference": REFERENCE, "searched": SEARCHED}
    write_json(args.out / "piano.json", about | {"results": results})


if __name__ == "__main__":
    run()
