"""Search the schedules that the built-in models ship with, and write them beside the models.

One search for each model gives a schedule for every number of model calls from 1 to 64: in the best
of several orders for masked models, else times. Masked models are searched on 64 sequences, and 32
others certify the schedules, as far as the model calls of ``optimize_schedule`` go.

    python experiments/ship_schedules.py
    python experiments/ship_schedules.py piano-absorbing --data pop909.zip
    python experiments/ship_schedules.py text-small --data novels.npz --device cuda --also 128 256

The first command writes those of all models that bring data of their own.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import AutoOrder, ShortestPath, load, optimize_schedule, save_schedules
from jumpsteps.models import LoadedModel, schedules_file
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.books import read_split
from jumpsteps.tasks.piano import GIVEN

WITH_DATA = (
    "toy-absorbing",
    "toy-uniform",
    "toy-gaussian",
    "countdown-exact",
    "countdown-exact-uniform",
    "countdown-exact-gaussian",
    "countdown",
)
MOST = 64
SEQUENCES, HELD_OUT = 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=WITH_DATA, help=", ".join(WITH_DATA))
    parser.add_argument("--data", type=Path, help="MIDI files, or books of text_models.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--also", type=int, nargs="*", default=[], help="model calls beyond 64")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.models:
        model, began = load(name, device=args.device), time.monotonic()
        found = search(model, args.data, args.also, args.seed, args.device)
        path = schedules_file(name)
        save_schedules(path, found)
        known = found[min(8, max(found))].provenance
        print(f"{path}: {len(found)} schedules, {known.excess_limit=}, {known.model_calls=}")
        print(f"{time.monotonic() - began:.0f} s, order {known.order or 'of the method'}")


def search(
    model: LoadedModel, data: Path | None, also: list[int], seed: int, device: str
) -> dict[int, Schedule]:
    """A schedule for every number of model calls; a masked model has no more than sites."""
    masked = isinstance(model.reverse.forward, Absorbing)
    generator = torch.Generator(device).manual_seed(seed)
    tokens, mask, name = sequences(model, data, SEQUENCES + HELD_OUT * masked, generator)
    return optimize_schedule(
        model.reverse,
        tokens,
        [*range(1, 1 + (min(MOST, model.length) if masked else MOST)), *also],
        generator=generator,
        method=AutoOrder() if masked else ShortestPath(),
        given_mask=mask,
        held_out=HELD_OUT if masked else None,
        about=model.provenance(data=name),
        progress=True,
    )


def sequences(
    model: LoadedModel, data: Path | None, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None, str]:
    """n sequences, the mask of the sites that are given in them, and the name of the data."""
    task = model.task
    if task is None and data is not None:
        books = read_split(data, "validation").sequences(model.length)
        rows = torch.randperm(len(books), generator=generator, device=generator.device)[:n].cpu()
        return books[rows].to(generator.device), None, f"{data.name}, validation"
    if task is None:
        raise ValueError(f"{model.name} has no data")
    if task.read_data is None or data is None:
        return task.sample_data(n, generator), None, task.name
    tokens, name = task.read_data(data, n, generator)
    return tokens, torch.arange(model.length) < GIVEN, f"{name}, the first two bars given"


if __name__ == "__main__":
    main()
