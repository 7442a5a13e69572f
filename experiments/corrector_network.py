"""A CountDown network by the published recipe, whose mistakes a corrector can repair.

    python experiments/corrector_network.py DIR [--device cuda] [--minutes 4]

The shipped network, but trained by score entropy on flawless sequences, and for minutes: one site
at a time it breaks more rules than the shipped one, which no number of steps repairs. Then

    python experiments/corrector.py DIR OUT.json --device cuda -n 1024 --batch 256
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from jumpsteps.tasks import countdown
from jumpsteps.training.losses import ScoreEntropy
from jumpsteps.training.recipes import RECIPES, train_recipe

RECIPE = replace(
    RECIPES["countdown"],
    output="log-score",
    loss=ScoreEntropy(),
    data=lambda n, generator: countdown.sample_data(n, generator=generator),
)


def run() -> None:
    """Train and write the checkpoint folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    args = parser.parse_args()
    train_recipe(
        RECIPE,
        args.out,
        torch.device(args.device),
        steps=args.steps,
        batch=args.batch,
        max_minutes=args.minutes,
    )


if __name__ == "__main__":
    run()
