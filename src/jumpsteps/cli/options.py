"""The command line: its options, and which command they go to."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jumpsteps.cli.commands import (
    compare_command,
    demo_command,
    explain_command,
    optimize_command,
    sample_command,
    train_command,
)
from jumpsteps.cli.names import DTYPES, FIXED, METHODS, ORDERS, SAMPLERS, choices
from jumpsteps.models import BUILT_IN
from jumpsteps.training.recipes import RECIPES
from jumpsteps.version import __version__

__all__ = ["main"]


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="jumpsteps", description="Few-step sampling for discrete diffusion models."
    )
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    demo = command(
        commands,
        "demo",
        demo_command,
        "optimise schedules for the trained CountDown model and compare them",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for schedules, results and picture"
    )

    optimize = command(
        commands,
        "optimize",
        optimize_command,
        "find good times for a model and write them to a file",
    )
    add_model(optimize)
    add_search(optimize, required=False)
    optimize.add_argument(
        "--tolerance",
        type=float,
        help="in place of --nfe: the fewest steps with this predicted error, in nats",
    )
    optimize.add_argument(
        "--curve", type=Path, help="also draw a PNG of the predicted error against NFE"
    )
    optimize.add_argument("--method", default="shortest-path", help=choices(METHODS))
    optimize.add_argument(
        "-o", "--out", type=Path, default=Path("schedules.json"), help="JSON file of schedules"
    )

    sample = command(
        commands, "sample", sample_command, "sample from a model and write the tokens to a file"
    )
    add_model(sample)
    sample.add_argument(
        "--schedule", default="uniform", help="uniform, cosine, or a file from 'jumpsteps optimize'"
    )
    sample.add_argument(
        "--nfe",
        type=positive,
        help="number of model calls; not for samplers that choose their own steps",
    )
    add_sampling(sample, n=16)
    sample.add_argument(
        "-o",
        "--out",
        default="samples.npz",
        help=".npz file with arrays samples [n, L] and nfe; the text goes to a .txt file beside it; or, for a task that writes "
        "files of its own (piano: .png, .mid, .wav), a folder for all",
    )

    compare = command(
        commands, "compare", compare_command, "measure schedules side by side, with 95%% intervals"
    )
    add_model(compare)
    add_search(compare)
    compare.add_argument(
        "--schedules",
        nargs="+",
        required=True,
        help=f"{choices(FIXED)}, {choices(METHODS)}, or files",
    )
    add_sampling(compare, n=256, shared=True)
    compare.add_argument(
        "-o", "--out", type=Path, default=Path("results.json"), help="JSON file of results"
    )
    compare.add_argument("--picture", type=Path, help="also draw a PNG")

    explained = command(
        commands,
        "explain",
        explain_command,
        "what each step of a schedule costs, by every bound, and how tight they are",
    )
    add_model(explained)
    add_search(explained)
    explained.add_argument(
        "--schedules",
        nargs="+",
        default=["uniform", "shortest-path"],
        help=f"{choices(FIXED)}, {choices(METHODS)}, or files",
    )

    train = command(
        commands,
        "train",
        train_command,
        "train a model by its recipe; a second run with the same folder continues",
    )
    train.add_argument("recipe", metavar="RECIPE", help=choices(RECIPES))
    train.add_argument(
        "--data",
        type=Path,
        help="for the piano recipes: a folder or zip of MIDI files, or a folder of arrays",
    )
    train.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    train.add_argument("--steps", type=positive, help="optimiser steps; the recipe's unless given")
    train.add_argument(
        "--batch", type=positive, help="sequences per step; the recipe's unless given"
    )
    train.add_argument("--max-minutes", type=float, help="stop after this long")
    return root


Subparsers = argparse._SubParsersAction  # the type of add_subparsers() has no public name


def command(
    commands: "Subparsers[argparse.ArgumentParser]",
    name: str,
    action: Callable[[argparse.Namespace], None],
    text: str,
) -> argparse.ArgumentParser:
    style = argparse.ArgumentDefaultsHelpFormatter
    made = commands.add_parser(
        name, help=text, description=text.capitalize() + ".", formatter_class=style
    )
    made.set_defaults(action=action)
    made.add_argument("--device", help="torch device; cuda where there is one")
    return made


def add_model(to: argparse.ArgumentParser) -> None:
    to.add_argument("model", metavar="MODEL", help=f"{choices(BUILT_IN)}, a folder, or a hub id")
    trusted = "let Python code that comes with the model run (LLaDA, Dream)"
    to.add_argument("--trust-remote-code", action="store_true", help=trusted)
    to.add_argument(
        "--mask-id", type=int, help="MASK of a masked language model that does not name it"
    )
    to.add_argument(
        "--length",
        type=positive,
        help="L for a masked language model; as long as it allows unless given",
    )
    to.add_argument(
        "--tokenizer",
        help="folder or hub id of the model's tokenizer; the one in the model's folder unless given",
    )
    to.add_argument("--prompt", help="text that sequences start with; it stays as it is")
    given = "sites that stay as they are: a .npz file of arrays tokens, int [L] or [n, L], and mask, bool, true where they are "
    given += "given; or a file that the model's task reads (piano: .mid)"
    to.add_argument("--given", metavar="FILE", help=given)
    to.add_argument(
        "--dtype",
        help=f"number format of the network's parameters: {choices(DTYPES)}; the model's own unless given",
    )
    to.add_argument(
        "--compile",
        action="store_true",
        help="compile the network's trunk; the first calls take seconds more",
    )
    to.add_argument(
        "--sampler", help=f"{choices(SAMPLERS)}; unless given, the schedule's own, or tweedie"
    )
    to.add_argument(
        "--order", help=f"reveal order of jumps: {choices(ORDERS)}; in searches also learned"
    )
    to.add_argument("--seed", type=int, default=0, help="seed of all randomness")


def add_search(to: argparse.ArgumentParser, *, required: bool = True) -> None:
    to.add_argument(
        "--nfe", type=positive, nargs="+", required=required, help="numbers of model calls"
    )
    data = "a task's name, a .npy or .npz file of tokens [n, L], or files that the model's task reads (piano: a folder or zip of "
    data += "MIDI files, or a folder of arrays); the model's own task unless given"
    to.add_argument("--data", help=data)
    to.add_argument(
        "--text",
        metavar="FILE",
        help="in place of --data: a text in UTF-8, cut into sequences of L tokens",
    )
    to.add_argument(
        "--sequences", type=positive, default=64, help="sequences of data that a search sees"
    )


def add_sampling(to: argparse.ArgumentParser, *, n: int, shared: bool = False) -> None:
    to.add_argument(
        "-n", type=positive, default=n, help="samples" + (" per schedule" if shared else "")
    )
    to.add_argument(
        "--batch",
        type=positive,
        help="samples made at a time; 16 on a CPU, 256 elsewhere, unless given",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit code 1."""
    args = parser().parse_args(arguments)
    try:
        args.action(args)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
