"""The flags of every command."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from jumpsteps.cli.flag_parts import Subparsers, add_loading, command, positive
from jumpsteps.cli.names import FIXED, METHODS, ORDERS, SHIPPED, choices
from jumpsteps.cli.options import (
    CompareOptions,
    DemoOptions,
    ExplainOptions,
    OptimizeOptions,
    Options,
    SampleOptions,
    TrainOptions,
    build,
)
from jumpsteps.cli.page_flags import add_play, add_report
from jumpsteps.sampling.registry import SAMPLERS
from jumpsteps.search.costs.table import Measure
from jumpsteps.training.recipes import RECIPES
from jumpsteps.version import __version__

__all__ = ["parse"]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options of the command that the arguments name.

    Raises:
        ValueError: flags that contradict each other, or a number out of range.
        SystemExit: an unknown flag, a missing one, a value of another type; help or version asked.
    """
    args = parser().parse_args(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    args.command_line = shlex.join(["jumpsteps", *typed])
    options: Options = build(args.options, args)
    return options


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="jumpsteps", description="Few-step sampling for discrete diffusion models."
    )
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_demo, add_optimize, add_sample, add_compare, add_report, add_play):
        add(commands)
    for add in (add_explain, add_train):
        add(commands)
    return root


def add_demo(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "optimise schedules for the trained CountDown network and compare them by sampling"
    demo = command(commands, "demo", DemoOptions, text)
    demo.add_argument("--out", default="demo", help="folder for schedules, results and picture")


def add_optimize(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "find good schedules for a model and write them to a file"
    optimize = command(commands, "optimize", OptimizeOptions, text)
    add_model(optimize)
    add_search(optimize, required=False)
    optimize.add_argument(
        "--tolerance",
        type=float,
        help="in place of --nfe: find the fewest steps whose excess of the few-step NLL is at "
        "most this, in nats per sequence",
    )
    optimize.add_argument(
        "--curve", metavar="FILE", help="also draw the excess against NFE, as a .png"
    )
    optimize.add_argument(
        "--method",
        help=f"search method: {choices(METHODS)}, or MODULE:NAME; by default auto for masked "
        "models whose sampler counts, else shortest-path",
    )
    optimize.add_argument(
        "--race",
        metavar="N",
        type=positive,
        help="in place of one search: draw up to N samples by each of several schedules (64 to "
        "256), and choose the one whose samples are nearest to data",
    )
    optimize.add_argument(
        "--race-with",
        metavar="SCHEDULE",
        nargs="+",
        default=[],
        help=f"further schedules in the race: {schedule_names()}",
    )
    optimize.add_argument("--race-calls", type=positive, help="model calls of the race at most")
    optimize.add_argument(
        "--block-size",
        metavar="N",
        type=positive,
        help="decode blocks of N tokens one after the other: no step crosses from one into the "
        "next, and --order is that within a block",
    )
    optimize.add_argument(
        "--corrector",
        choices=["auto"],
        help="auto: divide the calls of each NFE between steps and corrections by a race, in the "
        "order of --order (golden by default)",
    )
    optimize.add_argument("-o", "--out", default="schedules.json", help="JSON file of schedules")


def add_sample(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "sample from a model and write the tokens to a file"
    sample = command(commands, "sample", SampleOptions, text)
    add_model(sample)
    sample.add_argument(
        "--schedule",
        help=f"{choices(FIXED)}, a file of 'jumpsteps optimize', or a folder or hub id with a "
        f"schedules.json; by default {SHIPPED}, which came with the model, or uniform if none did",
    )
    sample.add_argument(
        "--nfe", type=positive, help="model calls; not for samplers that choose their own steps"
    )
    sample.add_argument(
        "--corrections",
        metavar="N",
        type=positive,
        help="N of the model calls correct: after the steps of the others, each draws a share of "
        "the sites again, given the rest",
    )
    sample.add_argument(
        "--redraw-share", type=float, help="the share of sites of a correction; by default 0.25"
    )
    sample.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="below 1 rare symbols become rarer: fewer errors of few steps, and less variety",
    )
    add_sampling(sample, n=8, text="number of samples")
    sample.add_argument(
        "--shard-model",
        action="store_true",
        help="of several processes each holds a part of the network, for networks that do not fit "
        "one device",
    )
    sample.add_argument(
        "--colour",
        action="store_true",
        help="text in the colours of the steps in which its tokens came: the first sample on the "
        "terminal, all of them in an .html file beside the others",
    )
    sample.add_argument(
        "-o",
        "--out",
        help=".npz file for the arrays samples [n, L] and nfe, with a .txt file beside it if the "
        "model has a tokenizer; or a .fasta file (antibodies); any name without a suffix is a "
        "folder, for samples.npz and what the model's task writes of each sample (piano: .png, "
        ".mid, .wav; images: .png). By default out/ where there are such files, else samples.npz",
    )


def add_compare(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "sample with several schedules and compare the task's metric, with confidence intervals"
    compare = command(commands, "compare", CompareOptions, text)
    add_model(compare)
    add_search(compare)
    compare.add_argument(
        "--schedules",
        nargs="+",
        default=[],
        help=f"{schedule_names()}; by default uniform and {SHIPPED}, or for a model that came "
        "without schedules uniform and shortest-path",
    )
    text = "samples for each schedule and NFE; by default 256, of a large network on a CPU 64"
    add_sampling(compare, n=None, text=text)
    compare.add_argument(
        "--metric",
        metavar="MODULE:NAME",
        help="a metric of your own: a function of samples, int64 [n, L], that returns one number "
        "for each; lower is better. Or distance, the energy distance from --data or --text. By "
        "default the task's, and for models without a task the distance",
    )
    compare.add_argument(
        "--evaluator",
        metavar="MODEL",
        help="for text: the metric is nats per token under this autoregressive model, a folder of "
        "experiments/text_models.py, or a folder or hub id of a causal model of Hugging Face, such "
        "as openai-community/gpt2; MAUVE is measured from the sequences of --text or --data",
    )
    compare.add_argument(
        "-o",
        "--out",
        default="results.json",
        help="JSON file of results; a report goes to a .html file beside it",
    )
    compare.add_argument("--picture", metavar="FILE", help="also draw the comparison, as a .png")


def add_explain(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "print what each step of a schedule costs, by every bound"
    explain = command(commands, "explain", ExplainOptions, text)
    add_model(explain)
    add_search(explain)
    explain.add_argument(
        "--schedules",
        nargs="+",
        default=["uniform", "shortest-path"],
        help=f"{schedule_names()}; by default uniform and shortest-path",
    )


def add_train(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "train a network by its recipe; a second run with the same folder continues the first"
    train = command(commands, "train", TrainOptions, text)
    train.add_argument("recipe", metavar="RECIPE", help=choices(RECIPES))
    train.add_argument(
        "--data",
        help="for the piano recipes: a folder or zip of MIDI files, or a folder of arrays; for the "
        "image recipe: a folder of CIFAR-10, of .png files, or NAME_train.npz of JPEGs; for text: "
        "what --text of the other commands reads",
    )
    train.add_argument("--tokenizer", help="for text: its folder; by default that of text-small")
    train.add_argument("--column", default="text", help="for text: of documents in a table")
    train.add_argument("--out", required=True, help="checkpoint folder")
    train.add_argument(
        "--steps",
        type=positive,
        help="optimiser steps, of all pieces together; by default those of the recipe",
    )
    train.add_argument(
        "--batch", type=positive, help="sequences per optimiser step; by default the recipe's"
    )
    train.add_argument(
        "--warmup", type=int, help="steps in which the learning rate rises; by default the recipe's"
    )
    train.add_argument(
        "--max-minutes", type=float, help="stop after this time, counted from the first step"
    )
    train.add_argument(
        "--finish",
        action="store_true",
        help="let the learning rate decay to zero at --max-minutes, and end the training there",
    )
    train.add_argument(
        "--start-from",
        metavar="FOLDER",
        help="a checkpoint of the same recipe, whose weights replace random ones; the optimiser is "
        "new, steps count on",
    )
    train.add_argument(
        "--from-step",
        metavar="K",
        type=int,
        help="steps that are behind --start-from; by default those that its config.json names",
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="only continue the training in --out; without one, stop with an error",
    )
    train.add_argument(
        "--cuda-graph",
        action="store_true",
        help="record forward and backward pass as a CUDA graph, if that is possible and faster",
    )
    train.add_argument(
        "--bf16-reduce",
        action="store_true",
        help="with several processes: exchange gradients in bfloat16",
    )
    add_saving(train)


def add_saving(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--save-every",
        metavar="N",
        type=positive,
        help="save the state every N steps, besides at the end and at Ctrl-C; by default 2000",
    )
    train.add_argument(
        "--from-scratch",
        action="store_true",
        help="begin again, and overwrite the training and the model in --out",
    )


def schedule_names() -> str:
    return (
        f"fixed schedules ({choices(FIXED)}), {SHIPPED} for those that came with the model, search "
        f"methods ({choices(METHODS)}, MODULE:NAME), or files of 'jumpsteps optimize'"
    )


def add_model(to: argparse.ArgumentParser) -> None:
    add_loading(to)
    to.add_argument("--prompt", help="text at the start of every sequence; its tokens stay fixed")
    to.add_argument("--suffix", help="text at the end of every sequence; its tokens stay fixed")
    to.add_argument(
        "--given",
        metavar="FILE",
        help="observed sites, which keep their tokens: a .npz file with arrays tokens, int [L] or "
        "[n, L], and mask, bool, true where a site is observed; or a file that the model's task "
        "reads (piano: .mid; antibodies: templates)",
    )
    to.add_argument(
        "--template",
        metavar="SEQUENCE",
        help="a text with [MASK] for each token to sample, or [MASK 20] for 20 of them; or a "
        "sequence of residues with ? for each one to design (antibodies); sets the length",
    )
    to.add_argument(
        "--sampler",
        help=f"{choices(SAMPLERS)}, or MODULE:NAME; by default the schedule's own, or tweedie",
    )
    to.add_argument(
        "--order",
        help="order in which a masked model reveals tokens, for samplers that follow counts: "
        f"{choices(ORDERS)}, or MODULE:NAME; in searches also learned, and auto, the best of them",
    )
    to.add_argument("--seed", type=int, default=0, help="seed of all random numbers")


def add_search(to: argparse.ArgumentParser, *, required: bool = True) -> None:
    to.add_argument(
        "--nfe",
        type=positive,
        nargs="+",
        required=required,
        default=None if required else [],
        help="numbers of model calls, a schedule for each",
    )
    to.add_argument(
        "--data",
        help="data for the searches: the name of a task, a .npy or .npz file of tokens [n, L], or "
        "files that the model's task reads (piano: a folder or zip of MIDI files, or a folder of "
        "arrays; antibodies: FASTA, or one sequence a line); by default the model's own task",
    )
    to.add_argument(
        "--text",
        metavar="FILE",
        help="in place of --data: a text in UTF-8, which is cut into sequences of L tokens; or "
        "documents: a data set that Hugging Face datasets saved to a folder, .parquet, .jsonl, or "
        "a folder of texts",
    )
    to.add_argument("--column", default="text", help="of --text, if it is a table of documents")
    to.add_argument(
        "--sequences",
        type=positive,
        default=64,
        help="sequences of data for each search, at most; half as many more are held out for "
        "certificates",
    )
    to.add_argument(
        "--measure",
        choices=[measure.value for measure in Measure],
        help="what shortest paths of masked models minimise: the few-step NLL of the data, or the "
        "model's own entropies; by default data",
    )


def add_sampling(to: argparse.ArgumentParser, *, n: int | None, text: str) -> None:
    to.add_argument("-n", type=positive, default=n, help=text)
    to.add_argument(
        "--batch",
        type=positive,
        help="samples drawn at a time; by default 16 on a CPU and 256 elsewhere",
    )
