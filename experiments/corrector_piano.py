"""Blocked Gibbs on melodies: piano-absorbing, 14 bars after two given ones, at equal model calls.

    python experiments/corrector_piano.py pop909.zip OUT.json [--device cuda] [--songs 93]

For every test song 16 samples by each plan, and as many of 512 calls as a reference (Tweedie's
sampler, uniform times). Counts are the shortest path in golden order on 64 training sequences.
Measures, in per cent, are means over songs with 95% bootstrap intervals (``piano.py``):

* hellinger, energy, pairs: distances from the reference, which is the model's own;
* outliers: notes out of the reference's range; out_of_key: of the given bars' key; trigrams: those
  of the given bars;
* to songs: how much farther than "8, golden" from the held-out songs themselves in all pairs of
  neighbouring sixteenths, times 1e4, with half the 95% jackknife interval over songs; negative is
  nearer (``two_sample``).

The first row has other samples of the reference. OUT.json is written after every plan.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import Comparison, add_flags, golden_counts, plans
from jumpsteps import load
from jumpsteps.evaluation.two_sample import Discrepancy, difference, histogram_similarity
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.tasks import piano
from jumpsteps.tasks.music.dataset import read_songs
from piano import FREE, REFERENCE, Trial, intervals, make_trial, measures
from results import Json

BASELINE = "8, golden"
SIMILARITY = partial(histogram_similarity, neighbours=2)


def bars(x: Tensor) -> Tensor:
    """The generated ones."""
    return x[:, piano.GIVEN :]


def discrepancy(trial: Trial, samples: Tensor, songs: Tensor) -> Discrepancy:
    """Of the samples from the songs, [S, 256], each sample in the row of its song."""
    rows = torch.arange(len(songs), device=songs.device).repeat_interleave(
        len(samples) // len(songs)
    )
    return Discrepancy.measure(bars(samples), rows, bars(songs), SIMILARITY)


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="piano-absorbing")
    parser.add_argument("--songs", type=int, default=1000, help="test songs at most")
    parser.add_argument("--reference", type=int, default=REFERENCE, help="calls of the reference")
    add_flags(parser, n=16, batch=1488)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    model, data = load(args.model, device=args.device), read_songs(args.data)
    trial = make_trial(model, data, args.songs, args.n, args.batch, torch.device(args.device))
    songs = data.songs()[: trial.songs].to(args.device)
    reference, _ = trial.sample(Tweedie(), uniform(args.reference), seed=0)
    measured = measures(trial, reference)
    counts = golden_counts(model, trial.data[: args.sequences], args.device, trial.given.mask[0])
    made = plans(counts, FREE, long=args.long, others=args.others)
    first, _ = trial.sample(*made[BASELINE], seed=1)
    baseline = discrepancy(trial, first, songs)

    def measure(samples: Tensor) -> list[Json]:
        cells: list[Json] = [
            [100 * one.mean, 100 * (one.high - one.low) / 2]
            for one in intervals(samples, measured).values()
        ]
        change = difference(discrepancy(trial, samples, songs), baseline)
        return [*cells, [1e4 * change.mean, 1e4 * (change.high - change.mean)]]

    again, _ = trial.sample(Tweedie(), uniform(args.reference), seed=2)
    comparison = Comparison(
        args.out,
        __file__,
        model,
        [*measured, "to songs"],
        measure,
        tuple(trial.given.tokens.shape),
        args.batch,
        args.device,
        given=trial.given,
    )
    title = f"{args.reference}, tweedie, uniform times, again"
    comparison.run(made, args.plans, [title, args.reference, *measure(again)])


if __name__ == "__main__":
    run()
