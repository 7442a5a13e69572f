"""The commands of the command line, each a function of its options."""

import argparse
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.cli.demo import run_demo
from jumpsteps.cli.inputs import (
    batch_of,
    check_file,
    conditional_data,
    device_of,
    find,
    given_samples,
    load_model,
    method_of,
    read_schedule,
    sampler_of,
)
from jumpsteps.cli.names import METHODS, SAMPLERS, pick
from jumpsteps.cli.token_files import save_samples, save_text
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.plots import plot_comparison, plot_error_curve
from jumpsteps.evaluation.report import table
from jumpsteps.evaluation.results import save_results
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.explain import explain
from jumpsteps.search.paths import Paths
from jumpsteps.tasks.task import WriteSample
from jumpsteps.training.recipes import RECIPES, train_recipe

__all__ = [
    "compare_command",
    "demo_command",
    "explain_command",
    "optimize_command",
    "sample_command",
    "train_command",
]


def output_of(out: str, model: LoadedModel) -> tuple[Path, WriteSample | None]:
    """The file that the tokens go to; if ``out`` is a folder, also what writes each sample into it, which only some tasks can.

    A folder is one that is there, or a name that ends in / or, for these tasks, has no suffix.
    """
    path, folder = Path(out), out.endswith(("/", os.sep))
    write = None if model.task is None else model.task.write
    if write is not None and (folder or path.is_dir() or not path.suffix):
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"{path} is a file, and the samples need a folder; name another folder, or a .npz file for tokens only"
            )
        return path / "samples.npz", write
    if folder:
        raise ValueError(f"{out} is a folder; name a file to write to")
    check_file(path)
    return path, None


def text_file(tokens: Path) -> Path:
    """Where the text of a file of samples goes."""
    path = tokens.with_suffix(".txt")
    if path == tokens:
        raise ValueError(f"{tokens} is where the text would go; name a .npz file for the tokens")
    check_file(path)
    return path


def write_each(write: WriteSample, folder: Path, samples: Tensor, given: Given | None) -> None:
    """Write samples one by one as sample-1, sample-2, ..., all numbers with as many digits as the last."""
    digits = len(str(len(samples)))
    masks = [None] * len(samples) if given is None else given.mask.expand(samples.shape).cpu()
    for i, (sample, mask) in enumerate(zip(samples.cpu(), masks, strict=True), 1):
        write(folder / f"sample-{i:0{digits}d}", sample, mask)


def write_samples(
    file: Path,
    write: WriteSample | None,
    model: LoadedModel,
    samples: Tensor,
    nfe: int,
    given: Given | None,
) -> None:
    """Write samples, their text if there is a tokenizer, and each by itself if the task can ``write`` it; show the first."""
    save_samples(file, samples, nfe)
    files = str(file)
    if model.text is not None:
        texts = [model.text.decode(sample) for sample in samples.tolist()]
        save_text(text_file(file), texts)
        files += f" and {text_file(file)}"
        print(texts[0])
    if write is not None:
        write_each(write, file.parent, samples, given)
        files += f" and {file.with_name('sample-*')}"
    if model.task is not None:
        print(model.task.show(samples[0].cpu()))
        print(f"{model.task.metric_name}: {100 * float(model.task.metric(samples).mean()):.2f}%")
    print(f"{len(samples)} samples, {nfe} model calls each; written to {files}")


def demo_command(args: argparse.Namespace) -> None:
    command = sys.argv[0] if Path(sys.argv[0]).name == "jumpsteps" else "jumpsteps"
    run_demo(args.out, device_of(args.device), command=command, progress=sys.stderr.isatty())


def optimize_command(args: argparse.Namespace) -> None:
    check_file(args.out)
    check_file(args.curve)
    device, method = device_of(args.device), method_of(args, args.method)
    found = find(args, load_model(args, device), method, device, tolerance=args.tolerance)
    save_schedules(args.out, found)
    if args.curve is not None:
        plot_error_curve(args.curve, found, title=args.model)
    for nfe, schedule in found.items():
        known = schedule.provenance
        steps = (
            [f"{t:.4f}" for t in schedule.times]
            if isinstance(schedule, TimeSchedule)
            else map(str, schedule.counts)
        )
        print(f"NFE {nfe}: " + " ".join(steps))
        if known.predicted_cost is not None:
            print(
                f"  predicted error {known.predicted_cost:.2f} ±{known.predicted_cost_stderr:.2f} nats per sequence"
            )
    print(f"{known.model_calls} model calls on {known.sequences} sequences; written to {args.out}")


def sample_command(args: argparse.Namespace) -> None:
    device, sampler = device_of(args.device), sampler_of(args)
    model = load_model(args, device)
    file, write = output_of(args.out, model)
    if model.text is not None:
        text_file(file)
    given, schedule = given_samples(model, args, device), None
    if sampler is None or sampler.takes is not None:
        if args.nfe is None:
            raise ValueError("this sampler follows a schedule; say how many model calls with --nfe")
        schedule = read_schedule(args.schedule, args.nfe, model, given, args)
        sampler = sampler or SAMPLERS.get(schedule.provenance.sampler) or default_sampler(schedule)
    elif args.nfe is not None or args.schedule != "uniform":
        raise ValueError(
            f"sampler {sampler.name} chooses its own steps; leave out --nfe and --schedule"
        )
    generator = torch.Generator(device).manual_seed(args.seed)
    shape, batch, bar = (args.n, model.length), batch_of(args, device), sys.stderr.isatty()
    samples, nfe = sample_batches(
        model.reverse,
        sampler,
        schedule,
        shape,
        generator=generator,
        batch=batch,
        given=given,
        progress=bar,
    )
    write_samples(file, write, model, samples, nfe, given)


def compare_command(args: argparse.Namespace) -> None:
    check_file(args.out)
    check_file(args.picture)
    device, sampler = device_of(args.device), sampler_of(args)
    model = load_model(args, device)
    if model.task is None:
        raise ValueError(
            f"no metric is known for {args.model!r}, so nothing can be compared; sample it and measure the samples"
        )
    given = given_samples(model, args, device)
    schedules: dict[str, dict[int, Schedule]] = {}
    for name in dict.fromkeys(args.schedules):
        if name in METHODS:
            schedules[name] = find(
                args, model, METHODS[name] if args.order is None else method_of(args, name), device
            )
        else:
            schedules[name] = {
                nfe: read_schedule(name, nfe, model, given, args) for nfe in args.nfe
            }
    rows = compare(
        model.reverse,
        sampler,
        schedules,
        (args.n, model.length),
        metric=model.task.metric,
        seed=args.seed + 1,
        device=device,
        batch=batch_of(args, device),
        given=given,
        progress=sys.stderr.isatty(),
    )
    calls = {
        name: next(iter(found.values())).provenance.model_calls for name, found in schedules.items()
    }
    about = {
        "model": args.model,
        "model_hash": model.digest,
        "sampler": args.sampler,
        "order": args.order,
        "seed": args.seed,
    }
    about |= {"prompt": args.prompt, "given": args.given}
    save_results(args.out, rows, about | {"sequences": args.sequences, "search_calls": calls})
    if args.picture is not None:
        title = f"{args.model}, {args.n} samples"
        plot_comparison(args.picture, rows, metric_name=model.task.metric_name, title=title)
    print(table(rows, model.task.metric_name))
    for name in schedules.keys() & METHODS.keys():
        known = next(iter(schedules[name].values())).provenance
        print(
            f"{name}: {known.model_calls} model calls on {known.sequences} sequences for all its schedules"
        )
    print(f"written to {args.out}")


def explain_command(args: argparse.Namespace) -> None:
    device = device_of(args.device)
    model = load_model(args, device)
    schedules: dict[str, Schedule] = {}
    for name in dict.fromkeys(args.schedules):
        found = find(args, model, METHODS[name], device) if name in METHODS else {}
        for nfe in args.nfe:
            schedules[f"{name}, {nfe} steps"] = found.get(nfe) or read_schedule(
                name, nfe, model, None, args
            )
    times = [schedule for schedule in schedules.values() if isinstance(schedule, TimeSchedule)]
    if len(times) < len(schedules):
        raise ValueError("only schedules of times can be explained; leave out those of jumps")
    generator = torch.Generator(device).manual_seed(args.seed)
    tokens, given_mask, data = conditional_data(model, args, generator)
    paths = Paths.draw(model.reverse.forward, tokens, generator=generator, given_mask=given_mask)
    print(
        f"{args.model}: {model.reverse.forward.name} kernel, {model.reverse.forward.noise!r}, {args.sequences} sequences of {data}"
    )
    print("nats per sequence ± standard error")
    for name, explanation in zip(
        schedules, explain(model.reverse, paths, times, generator=generator), strict=True
    ):
        print(f"\n{name}\n{explanation}")


def train_command(args: argparse.Namespace) -> None:
    recipe, device = pick("recipe", args.recipe, RECIPES), device_of(args.device)
    limits = {"steps": args.steps, "batch": args.batch, "max_minutes": args.max_minutes}
    done = train_recipe(
        recipe, args.out, device, data=args.data, **limits, progress=sys.stderr.isatty()
    )
    print(
        f"{'finished' if done else 'stopped early; run the same command to go on'}; checkpoint in {args.out}"
    )
