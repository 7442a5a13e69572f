"""What the options of a command ask for: a model, its data, given sites, a sampler, schedules."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.cli.names import DTYPES, FIXED, METHODS, ORDERS, SAMPLERS, pick
from jumpsteps.cli.token_files import given_prompt, load_given, load_text, load_tokens
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import BUILT_IN, LoadedModel, load
from jumpsteps.models.tokenizer import Text
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.files import at_nfe, load_schedules
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

__all__ = [
    "batch_of",
    "check_file",
    "conditional_data",
    "device_of",
    "find",
    "given_samples",
    "load_model",
    "method_of",
    "read_schedule",
    "sampler_of",
]


def device_of(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"no device {name!r} here ({str(error).splitlines()[0]}); leave out --device, or pass cpu"
        ) from None
    return device


def batch_of(args: argparse.Namespace, device: torch.device) -> int:
    """Samples made at a time. On a CPU small batches are faster: their activations stay in the cache."""
    return args.batch or (16 if device.type == "cpu" else 256)


def load_model(args: argparse.Namespace, device: torch.device) -> LoadedModel:
    """The model asked for; refuses options that exclude each other before it is read."""
    for one, other in (("data", "text"), ("prompt", "given")):
        if vars(args).get(one) is not None and vars(args).get(other) is not None:
            raise ValueError(f"--{one} and --{other} exclude each other; pass one of them")
    options = {
        "trust_remote_code": args.trust_remote_code,
        "mask_id": args.mask_id,
        "length": args.length,
    }
    dtype = None if args.dtype is None else pick("number format", args.dtype, DTYPES)
    if args.model in BUILT_IN and Path(args.model).is_dir():
        print(
            f"note: {args.model!r} is the built-in model; for the folder of this name pass ./{args.model}",
            file=sys.stderr,
        )
    return load(
        args.model,
        device=device,
        dtype=dtype,
        compile=args.compile,
        **options,
        tokenizer=args.tokenizer,
    )


def text_of(model: LoadedModel, option: str, instead: str) -> Text:
    """The model's text; ``option`` is what needs it, and ``instead`` what takes token ids."""
    if model.text is None:
        tokenizer = "" if model.name in BUILT_IN else "--tokenizer, or "
        raise ValueError(
            f"{option} is text, and {model.name!r} has no tokenizer; pass {tokenizer}token ids with {instead}"
        )
    return model.text


def data_for(
    model: LoadedModel, args: argparse.Namespace, generator: torch.Generator
) -> tuple[Tensor, str]:
    """Sequences for a search, and their name."""
    if args.text is not None:
        return load_text(
            args.text, text_of(model, "--text", "--data"), model.length, args.sequences, generator
        )
    if args.data is not None and (model.task is None or args.data != model.task.name):
        if (
            model.task is not None
            and model.task.read_data is not None
            and not args.data.lower().endswith((".npy", ".npz"))
        ):
            return model.task.read_data(Path(args.data), args.sequences, generator)
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
    elif (
        model.task is not None
        and model.task.read_given is not None
        and not args.given.lower().endswith(".npz")
    ):
        given = model.task.read_given(Path(args.given), model.length)
    else:
        given = load_given(args.given, model.length, model.reverse.forward)
    return Given(given.tokens.to(device), given.mask.to(device))


def given_samples(
    model: LoadedModel, args: argparse.Namespace, device: torch.device
) -> Given | None:
    """``given_for`` samples: of one sequence for all of them, or of each."""
    given = given_for(model, args, device)
    if given is not None and given.mask.ndim == 2 and len(given.mask) != args.n:
        rows = len(given.mask)
        raise ValueError(
            f"{args.given} gives sites of {rows} sequences, and {args.n} samples were asked for; pass -n {rows}"
        )
    return given


def conditional_data(
    model: LoadedModel, args: argparse.Namespace, generator: torch.Generator
) -> tuple[Tensor, Tensor | None, str]:
    """``data_for`` a search [B, L], which of its sites are given, bool [L] or [B, L] or None, and the name of both.

    Masks of several sequences are dealt to the data in turn. The tokens at given sites are the data's own: what is asked is where
    the prompt ends, and its own words would contradict the text that follows.
    """
    tokens, name = data_for(model, args, generator)
    given = given_for(model, args, tokens.device)
    if given is None:
        return tokens, None, name
    mask = (
        given.mask
        if given.mask.ndim == 1
        else given.mask[torch.arange(len(tokens)) % len(given.mask)]
    )
    return (
        tokens,
        mask,
        f"{name}, {float(mask.sum(-1).double().mean()):g} of {mask.shape[-1]} sites given",
    )


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
        raise ValueError(
            f"method {name} does not know reveal orders; use --method shortest-path, or leave out --order"
        )
    if args.order == "learned":
        return LearnedOrder()
    return replace(method, order=pick("order", args.order, ORDERS))


def find(
    args: argparse.Namespace,
    model: LoadedModel,
    method: Method,
    device: torch.device,
    *,
    tolerance: float | None = None,
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


def read_schedule(
    name: str, nfe: int, model: LoadedModel, given: Given | None, args: argparse.Namespace
) -> Schedule:
    """A fixed schedule by name, or one from a file; refuses another kernel, and says so when the weights were others."""
    if name in FIXED:
        times, jumps = FIXED[name]
        sampler = sampler_of(args) or Tweedie()
        if sampler.takes is not CountSchedule:
            return times(sampler.steps(nfe))
        return jumps(
            sampler.steps(nfe),
            free_sites(model, given),
            pick("order", args.order or Random.name, ORDERS),
        )
    if not Path(name).exists():
        raise ValueError(
            f"there is no schedule {name!r}: not {' or '.join(FIXED)}, not a file; make one with 'jumpsteps optimize'"
        )
    schedule = at_nfe(load_schedules(name), nfe, name)
    schedule.check_kernel(model.reverse.forward, f"the model {model.name!r}")
    if args.order is not None:
        raise ValueError(f"{name} holds its own order; leave out --order")
    known = schedule.provenance
    if known.model_hash and known.model_hash != model.digest:
        print(
            f"note: {name} was optimised for {known.model!r}, not for these weights",
            file=sys.stderr,
        )
    return schedule


def check_file(path: Path | None) -> None:
    """Refuse an output that cannot be a file before any work is done."""
    if path is not None and path.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write to")
