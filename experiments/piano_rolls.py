"""Three rolls for docs/piano.md: continuations of the Ode to Joy by 512 model calls and by 8.

    python experiments/piano_rolls.py OUT

The first two bars are given. The uniform kernel with tau-leaping along 512 and 8 equal times, and
the absorbing kernel in spread order, whose counts are searched on 16 melodies that the model itself
makes with 64 calls after the same bars. The first sample of seed 0 of each. Writes OUT/rolls.png,
and a MIDI file and a WAV file for each. Needs the extras plots and music; two minutes on two cores.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load, optimize_schedule
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import piano
from jumpsteps.tasks.music.melody import REST
from jumpsteps.tasks.music.piano_roll import plot_rolls
from jumpsteps.tasks.music.song import write_song

QUARTERS = (64, 64, 65, 67, 67, 65, 64, 62)
"""The first two bars, a pitch for each quarter note."""


def ode_to_joy() -> Given:
    tokens = torch.full((piano.LENGTH,), REST)
    tokens[: piano.GIVEN] = torch.tensor(QUARTERS).repeat_interleave(piano.GIVEN // len(QUARTERS))
    return piano.given_bars(tokens)


def spread_counts(given: Given, nfe: int) -> Schedule:
    reverse, generator = load("piano-absorbing").reverse, torch.Generator().manual_seed(0)
    data = simulate(
        reverse, Tweedie(), uniform(64), (16, piano.LENGTH), generator=generator, given=given
    ).samples
    method = ShortestPath(order=Spread())
    return optimize_schedule(
        reverse, data, [nfe], generator=generator, method=method, given_mask=given.mask
    )[nfe]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out, given = parser.parse_args().out, ode_to_joy()
    runs = {
        "uniform kernel, tau-leaping, NFE 512": ("piano-uniform", TauLeaping(), uniform(512)),
        "uniform kernel, tau-leaping, NFE 8": ("piano-uniform", TauLeaping(), uniform(8)),
        "absorbing kernel, spread order, NFE 8": (
            "piano-absorbing",
            KGillespie(),
            spread_counts(given, 8),
        ),
    }
    rolls: dict[str, Tensor] = {}
    for number, (title, (name, sampler, schedule)) in enumerate(runs.items(), 1):
        made = simulate(
            load(name).reverse,
            sampler,
            schedule,
            (1, piano.LENGTH),
            generator=torch.Generator().manual_seed(0),
            given=given,
        )
        rolls[title] = made.samples[0]
        write_song(out / f"roll-{number}", rolls[title], given.mask)
    plot_rolls(out / "rolls.png", rolls, given=given.mask)


if __name__ == "__main__":
    run()
