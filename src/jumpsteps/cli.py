"""The command line. Names become objects here; the work is done elsewhere."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from jumpsteps.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.compare import compare, default_sampler, sample_batches, save_results
from jumpsteps.data import given_prompt, load_given, load_text, load_tokens, save_samples, save_text
from jumpsteps.demo import run_demo
from jumpsteps.explain import explain, show
from jumpsteps.gillespie import Gillespie
from jumpsteps.masked_samplers import Ancestral, EntropyBounded, FirstHitting, KGillespie, MaskGIT, ReMDM
from jumpsteps.models import BUILT_IN, LoadedModel, load
from jumpsteps.optimize import JYS, LearnedOrder, Method, ShortestPath, optimize_schedule
from jumpsteps.orders import Blocks, Dilated, Golden, Random, RevealOrder, Sequential, Spread
from jumpsteps.paths import Paths
from jumpsteps.plots import plot_comparison, plot_error_curve
from jumpsteps.recipes import RECIPES, train_recipe
from jumpsteps.report import table
from jumpsteps.samplers import Euler, PredictorCorrector, Sampler, TauLeaping, ThetaRK2, ThetaTrapezoidal, Tweedie
from jumpsteps.schedule import (
    JumpSchedule,
    Schedule,
    TimeSchedule,
    at_nfe,
    cosine,
    cosine_jumps,
    load_schedules,
    save_schedules,
    uniform,
    uniform_jumps,
)
from jumpsteps.simulate import Given
from jumpsteps.tasks.task import WriteSample
from jumpsteps.text import Text
from jumpsteps.version import __version__

__all__ = ["main"]

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Tweedie(),
        Euler(),
        TauLeaping(),
        TauLeaping(ordinal=True),
        ThetaTrapezoidal(),
        ThetaRK2(),
        PredictorCorrector(Tweedie()),
        PredictorCorrector(Euler()),
        Ancestral(),
        ReMDM(),
        KGillespie(),
        MaskGIT(),
        FirstHitting(),
        EntropyBounded(),
        Gillespie(),
    )
}
ORDERS: dict[str, RevealOrder] = {order.name: order for order in (Random(), Spread(), Golden(), Dilated(), Sequential(), Blocks())}
SEARCHES: list[Method] = [
    ShortestPath(),
    *(ShortestPath(order=order) for order in ORDERS.values() if order != Random()),
    LearnedOrder(),
    JYS(),
    JYS(full=True),
    JYS(full=True, hold_time=False),
    ClosedForm("equal-error", equal_error),
    ClosedForm("equal-entropy", equal_entropy),
]
METHODS: dict[str, Method] = {method.name: method for method in SEARCHES}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIXED: dict[str, tuple[Callable[[int], TimeSchedule], Callable[[int, int, RevealOrder], JumpSchedule]]] = {
    "uniform": (uniform, uniform_jumps),
    "cosine": (cosine, cosine_jumps),
}

T = TypeVar("T")


def pick(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; choose {' or '.join(known)}")
    return known[name]


def device_of(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {name!r} here ({str(error).splitlines()[0]}); leave out --device, or pass cpu") from None
    return device


def batch_of(args: argparse.Namespace, device: torch.device) -> int:
    """Samples made at a time. On a CPU small batches are faster: their activations stay in the cache."""
    return args.batch or (16 if device.type == "cpu" else 256)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def load_model(args: argparse.Namespace, device: torch.device) -> LoadedModel:
    """The model asked for; refuses options that exclude each other before it is read."""
    for one, other in (("data", "text"), ("prompt", "given")):
        if vars(args).get(one) is not None and vars(args).get(other) is not None:
            raise ValueError(f"--{one} and --{other} exclude each other; pass one of them")
    options = {"trust_remote_code": args.trust_remote_code, "mask_id": args.mask_id, "length": args.length}
    dtype = None if args.dtype is None else pick("number format", args.dtype, DTYPES)
    return load(args.model, device=device, dtype=dtype, compile=args.compile, **options, tokenizer=args.tokenizer)


def text_of(model: LoadedModel, option: str, instead: str) -> Text:
    """The model's text; ``option`` is what needs it, and ``instead`` what takes token ids."""
    if model.text is None:
        tokenizer = "" if model.name in BUILT_IN else "--tokenizer, or "
        raise ValueError(f"{option} is text, and {model.name!r} has no tokenizer; pass {tokenizer}token ids with {instead}")
    return model.text


def data_for(model: LoadedModel, args: argparse.Namespace, generator: torch.Generator) -> tuple[Tensor, str]:
    """Sequences for a search, and their name."""
    if args.text is not None:
        return load_text(args.text, text_of(model, "--text", "--data"), model.length, args.sequences, generator)
    if args.data is not None and (model.task is None or args.data != model.task.name):
        return load_tokens(args.data, args.sequences, generator)
    if model.task is None:
        raise ValueError(
            f"no data is known for {model.name!r}; pass --data FILE with tokens [n, {model.length}] (.npy or .npz), or --text FILE"
        )
    return model.task.sample_data(args.sequences, generator), model.task.name


def given_for(model: LoadedModel, args: argparse.Namespace, device: torch.device) -> Given | None:
    """The sites that ``--prompt`` or ``--given`` gives, on the device."""
    if args.prompt is not None:
        given = given_prompt(args.prompt, text_of(model, "--prompt", "--given"), model.length)
    elif args.given is None:
        return None
    elif model.task is not None and model.task.read_given is not None and not args.given.lower().endswith(".npz"):
        given = model.task.read_given(Path(args.given), model.length)
    else:
        given = load_given(args.given, model.length, model.reverse.forward)
    return Given(given.tokens.to(device), given.mask.to(device))


def given_samples(model: LoadedModel, args: argparse.Namespace, device: torch.device) -> Given | None:
    """``given_for`` samples: of one sequence for all of them, or of each."""
    given = given_for(model, args, device)
    if given is not None and given.mask.ndim == 2 and len(given.mask) != args.n:
        rows = len(given.mask)
        raise ValueError(f"{args.given} gives sites of {rows} sequences, and {args.n} samples were asked for; pass -n {rows}")
    return given


def conditional_data(model: LoadedModel, args: argparse.Namespace, generator: torch.Generator) -> tuple[Tensor, Tensor | None, str]:
    """``data_for`` a search [B, L], which of its sites are given, bool [L] or [B, L] or None, and the name of both.

    Masks of several sequences are dealt to the data in turn. The tokens at given sites are the data's own: what is asked is where
    the prompt ends, and its own words would contradict the text that follows.
    """
    tokens, name = data_for(model, args, generator)
    given = given_for(model, args, tokens.device)
    if given is None:
        return tokens, None, name
    mask = given.mask if given.mask.ndim == 1 else given.mask[torch.arange(len(tokens)) % len(given.mask)]
    return tokens, mask, f"{name}, {float(mask.sum(-1).double().mean()):g} of {mask.shape[-1]} sites given"


def free_sites(model: LoadedModel, given: Given | None) -> int:
    """The number of sites that jump.

    Raises:
        ValueError: it differs from sequence to sequence.
    """
    if given is None:
        return model.length
    counts = (~given.mask).sum(-1).unique().tolist()
    if len(counts) > 1:
        raise ValueError(
            f"the given sites leave {counts[0]} to {counts[-1]} free; jumps are counted, so leave as many in every sequence"
        )
    return int(counts[0])


def sampler_of(args: argparse.Namespace) -> Sampler | None:
    """The sampler asked for; with a reveal order, one that counts jumps; None to choose by the schedule."""
    if args.sampler is not None:
        return pick("sampler", args.sampler, SAMPLERS)
    return None if args.order is None else KGillespie()


def method_of(args: argparse.Namespace, name: str) -> Method:
    method = pick("method", name, METHODS)
    if args.order is None:
        return method
    if not isinstance(method, ShortestPath):
        raise ValueError(f"method {name} does not know reveal orders; use --method shortest-path, or leave out --order")
    if args.order == "learned":
        return LearnedOrder()
    return replace(method, order=pick("order", args.order, ORDERS))


def find(
    args: argparse.Namespace, model: LoadedModel, method: Method, device: torch.device, *, tolerance: float | None = None
) -> dict[int, Schedule]:
    """Schedules by ``method``, for the options that ``optimize`` and ``compare`` share; within ``tolerance`` if given."""
    generator = torch.Generator(device).manual_seed(args.seed)
    tokens, given_mask, name = conditional_data(model, args, generator)
    return optimize_schedule(
        model.reverse,
        tokens,
        args.nfe or [],
        tolerance=tolerance,
        generator=generator,
        method=method,
        sampler=sampler_of(args),
        given_mask=given_mask,
        about=model.provenance(data=name),
    )


def read_schedule(name: str, nfe: int, model: LoadedModel, given: Given | None, args: argparse.Namespace) -> Schedule:
    """A fixed schedule by name, or one from a file; refuses another kernel, and says so when the weights were others."""
    if name in FIXED:
        times, jumps = FIXED[name]
        sampler = sampler_of(args) or Tweedie()
        if sampler.takes is not JumpSchedule:
            return times(sampler.leaps(nfe))
        return jumps(sampler.leaps(nfe), free_sites(model, given), pick("order", args.order or Random.name, ORDERS))
    if not Path(name).exists():
        raise ValueError(f"there is no schedule {name!r}: not {' or '.join(FIXED)}, not a file; make one with 'jumpsteps optimize'")
    schedule = at_nfe(load_schedules(name), nfe, name)
    schedule.check_kernel(model.reverse.forward, f"the model {model.name!r}")
    if args.order is not None:
        raise ValueError(f"{name} holds its own order; leave out --order")
    known = schedule.provenance
    if known.model_hash and known.model_hash != model.digest:
        print(f"note: {name} was optimised for {known.model!r}, not for these weights", file=sys.stderr)
    return schedule


def check_file(path: Path | None) -> None:
    """Refuse an output that cannot be a file before any work is done."""
    if path is not None and path.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write to")


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
    """Write samples one by one as sample-01, sample-02, ..."""
    digits = len(str(len(samples)))
    masks = [None] * len(samples) if given is None else given.mask.expand(samples.shape).cpu()
    for i, (sample, mask) in enumerate(zip(samples.cpu(), masks, strict=True), 1):
        write(folder / f"sample-{i:0{digits}d}", sample, mask)


def write_samples(
    file: Path, write: WriteSample | None, model: LoadedModel, samples: Tensor, nfe: int, given: Given | None
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
        leaps = [f"{t:.4f}" for t in schedule.times] if isinstance(schedule, TimeSchedule) else map(str, schedule.counts)
        print(f"NFE {nfe}: " + " ".join(leaps))
        if known.predicted_cost is not None:
            print(f"  predicted error {known.predicted_cost:.2f} ±{known.predicted_cost_stderr:.2f} nats per sequence")
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
        raise ValueError(f"sampler {sampler.name} chooses its own leaps; leave out --nfe and --schedule")
    generator = torch.Generator(device).manual_seed(args.seed)
    shape, batch, bar = (args.n, model.length), batch_of(args, device), sys.stderr.isatty()
    samples, nfe = sample_batches(
        model.reverse, sampler, schedule, shape, generator=generator, batch=batch, given=given, progress=bar
    )
    write_samples(file, write, model, samples, nfe, given)


def compare_command(args: argparse.Namespace) -> None:
    check_file(args.out)
    check_file(args.picture)
    device, sampler = device_of(args.device), sampler_of(args)
    model = load_model(args, device)
    if model.task is None:
        raise ValueError(f"no metric is known for {args.model!r}, so nothing can be compared; sample it and measure the samples")
    given = given_samples(model, args, device)
    schedules: dict[str, dict[int, Schedule]] = {}
    for name in dict.fromkeys(args.schedules):
        if name in METHODS:
            schedules[name] = find(args, model, METHODS[name] if args.order is None else method_of(args, name), device)
        else:
            schedules[name] = {nfe: read_schedule(name, nfe, model, given, args) for nfe in args.nfe}
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
    calls = {name: next(iter(found.values())).provenance.model_calls for name, found in schedules.items()}
    about = {"model": args.model, "model_hash": model.digest, "sampler": args.sampler, "order": args.order, "seed": args.seed}
    about |= {"prompt": args.prompt, "given": args.given}
    save_results(args.out, rows, about | {"sequences": args.sequences, "search_calls": calls})
    if args.picture is not None:
        title = f"{args.model}, {args.n} samples"
        plot_comparison(args.picture, rows, metric_name=model.task.metric_name, title=title)
    print(table(rows, model.task.metric_name))
    for name in schedules.keys() & METHODS.keys():
        known = next(iter(schedules[name].values())).provenance
        print(f"{name}: {known.model_calls} model calls on {known.sequences} sequences for all its schedules")
    print(f"written to {args.out}")


def explain_command(args: argparse.Namespace) -> None:
    device = device_of(args.device)
    model = load_model(args, device)
    schedules: dict[str, Schedule] = {}
    for name in dict.fromkeys(args.schedules):
        found = find(args, model, METHODS[name], device) if name in METHODS else {}
        for nfe in args.nfe:
            schedules[f"{name}, {nfe} steps"] = found.get(nfe) or read_schedule(name, nfe, model, None, args)
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
    for name, explanation in zip(schedules, explain(model.reverse, paths, times, generator=generator), strict=True):
        print(f"\n{name}\n{show(explanation)}")


def train_command(args: argparse.Namespace) -> None:
    recipe, device = pick("recipe", args.recipe, RECIPES), device_of(args.device)
    limits = {"steps": args.steps, "batch": args.batch, "max_minutes": args.max_minutes}
    done = train_recipe(recipe, args.out, device, data=args.data, **limits, progress=sys.stderr.isatty())
    print(f"{'finished' if done else 'stopped early; run the same command to go on'}; checkpoint in {args.out}")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="jumpsteps", description="Few-step sampling for discrete diffusion models.")
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    demo = command(commands, "demo", demo_command, "optimise schedules for the trained CountDown model and compare them")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for schedules, results and picture")

    optimize = command(commands, "optimize", optimize_command, "find good times for a model and write them to a file")
    add_model(optimize)
    add_search(optimize, required=False)
    optimize.add_argument("--tolerance", type=float, help="in place of --nfe: the fewest steps with this predicted error, in nats")
    optimize.add_argument("--curve", type=Path, help="also draw a PNG of the predicted error against NFE")
    optimize.add_argument("--method", default="shortest-path", help=choices(METHODS))
    optimize.add_argument("-o", "--out", type=Path, default=Path("schedules.json"), help="JSON file of schedules")

    sample = command(commands, "sample", sample_command, "sample from a model and write the tokens to a file")
    add_model(sample)
    sample.add_argument("--schedule", default="uniform", help="uniform, cosine, or a file from 'jumpsteps optimize'")
    sample.add_argument("--nfe", type=positive, help="number of model calls; not for samplers that choose their own leaps")
    add_sampling(sample, n=16)
    sample.add_argument(
        "-o",
        "--out",
        default="samples.npz",
        help=".npz file with arrays samples [n, L] and nfe; the text goes to a .txt file beside it; or, for a task that writes "
        "files of its own (piano: .png, .mid, .wav), a folder for all",
    )

    compare = command(commands, "compare", compare_command, "measure schedules side by side, with 95%% intervals")
    add_model(compare)
    add_search(compare)
    compare.add_argument("--schedules", nargs="+", required=True, help=f"{choices(FIXED)}, {choices(METHODS)}, or files")
    add_sampling(compare, n=256, shared=True)
    compare.add_argument("-o", "--out", type=Path, default=Path("results.json"), help="JSON file of results")
    compare.add_argument("--picture", type=Path, help="also draw a PNG")

    explained = command(
        commands, "explain", explain_command, "what each leap of a schedule costs, by every bound, and how tight they are"
    )
    add_model(explained)
    add_search(explained)
    explained.add_argument(
        "--schedules", nargs="+", default=["uniform", "shortest-path"], help=f"{choices(FIXED)}, {choices(METHODS)}, or files"
    )

    train = command(commands, "train", train_command, "train a model by its recipe; a second run with the same folder goes on")
    train.add_argument("recipe", metavar="RECIPE", help=choices(RECIPES))
    train.add_argument("--data", type=Path, help="for the piano recipes: a folder or zip of MIDI files, or a folder of arrays")
    train.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    train.add_argument("--steps", type=positive, help="optimiser steps; the recipe's unless given")
    train.add_argument("--batch", type=positive, help="sequences per step; the recipe's unless given")
    train.add_argument("--max-minutes", type=float, help="stop after this long")
    return root


Subparsers = argparse._SubParsersAction  # the type of add_subparsers() has no public name


def command(
    commands: "Subparsers[argparse.ArgumentParser]", name: str, action: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    style = argparse.ArgumentDefaultsHelpFormatter
    made = commands.add_parser(name, help=text, description=text.capitalize() + ".", formatter_class=style)
    made.set_defaults(action=action)
    made.add_argument("--device", help="torch device; cuda where there is one")
    return made


def choices(known: Mapping[str, object]) -> str:
    return ", ".join(known)


def add_model(to: argparse.ArgumentParser) -> None:
    to.add_argument("model", metavar="MODEL", help=f"{choices(BUILT_IN)}, a folder, or a hub id")
    trusted = "let Python code that comes with the model run (LLaDA, Dream)"
    to.add_argument("--trust-remote-code", action="store_true", help=trusted)
    to.add_argument("--mask-id", type=int, help="MASK of a masked language model that does not name it")
    to.add_argument("--length", type=positive, help="L for a masked language model; as long as it allows unless given")
    to.add_argument("--tokenizer", help="folder or hub id of the model's tokenizer; the one in the model's folder unless given")
    to.add_argument("--prompt", help="text that sequences start with; it stays as it is")
    given = "sites that stay as they are: a .npz file of arrays tokens, int [L] or [n, L], and mask, bool, true where they are "
    given += "given; or a file that the model's task reads (piano: .mid)"
    to.add_argument("--given", metavar="FILE", help=given)
    to.add_argument("--dtype", help=f"number format of the network's parameters: {choices(DTYPES)}; the model's own unless given")
    to.add_argument("--compile", action="store_true", help="compile the network's trunk; the first calls take seconds more")
    to.add_argument("--sampler", help=f"{choices(SAMPLERS)}; unless given, the schedule's own, or tweedie")
    to.add_argument("--order", help=f"reveal order of jumps: {choices(ORDERS)}; in searches also learned")
    to.add_argument("--seed", type=int, default=0, help="seed of all randomness")


def add_search(to: argparse.ArgumentParser, *, required: bool = True) -> None:
    to.add_argument("--nfe", type=positive, nargs="+", required=required, help="numbers of model calls")
    to.add_argument("--data", help="a task's name, or a .npy or .npz file of tokens [n, L]; the model's own task unless given")
    to.add_argument("--text", metavar="FILE", help="in place of --data: a text in UTF-8, cut into sequences of L tokens")
    to.add_argument("--sequences", type=positive, default=64, help="sequences of data that a search sees")


def add_sampling(to: argparse.ArgumentParser, *, n: int, shared: bool = False) -> None:
    to.add_argument("-n", type=positive, default=n, help="samples" + (" per schedule" if shared else ""))
    to.add_argument("--batch", type=positive, help="samples made at a time; 16 on a CPU, 256 elsewhere, unless given")


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
