"""From the values of flags to objects: a device, a model, data, observed sites."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from jumpsteps.cli.designs import sized_for_template, template_sites
from jumpsteps.cli.names import DTYPES, pick
from jumpsteps.cli.options import ModelOptions, ObservedOptions, SearchOptions
from jumpsteps.cli.own_model import own_model
from jumpsteps.cli.sequence_files import (
    given_prompt,
    load_given,
    load_text,
    load_tokens,
    may_hold_tokens,
)
from jumpsteps.cli.your_own import is_own, module_hint
from jumpsteps.core.devices import usable_device
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import BUILT_IN, LoadedModel, load
from jumpsteps.models.built_in import TEXTS
from jumpsteps.models.formats.antiberty import is_antiberty
from jumpsteps.models.tokenizer import Text, transformers

__all__ = [
    "batch_size",
    "device_named",
    "load_model",
    "observed_in_samples",
    "samples_by_default",
    "search_data",
    "seeded",
]

MANY, FEW, LARGE = 256, 64, 4e9


def device_named(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = usable_device(name, instead := "leave out --device, or pass cpu")
    if device.type == "meta":
        raise ValueError(f"no device 'meta' here (it holds no numbers); {instead}")
    return device


def seeded(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def batch_size(batch: int | None, device: torch.device) -> int:
    """Samples drawn at a time; few on a CPU, so that their activations stay in its cache."""
    return batch or (16 if device.type == "cpu" else 256)


def samples_by_default(model: LoadedModel, device: torch.device, *, said: bool) -> int:
    """How many samples of each schedule are compared where nobody says it: fewer of a network on a
    CPU whose parameters times sites, which its time is proportional to, are more than ``LARGE``.

    Args:
        said: whether a line on standard error says so.
    """
    network = model.reverse.model
    if device.type != "cpu" or not isinstance(network, nn.Module):
        return MANY
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters * model.length <= LARGE:
        return MANY
    if said:
        print(
            f"note: {FEW} samples for each schedule and NFE, because the network of "
            f"{parameters / 1e6:.0f} million parameters runs on a CPU; -n {MANY} takes "
            f"{MANY // FEW} times as long, and its intervals are half as wide",
            file=sys.stderr,
        )
    return FEW


def load_model(
    options: ModelOptions, device: torch.device, template: str | None = None
) -> LoadedModel:
    """The model; with a template, for sequences of its length."""
    dtype = None if options.dtype is None else pick("number format", options.dtype, DTYPES)
    name = options.name
    if name in BUILT_IN and Path(name).is_dir():
        print(
            f"note: {name!r} is the built-in model; for the folder of this name pass ./{name}",
            file=sys.stderr,
        )
    if is_own(name):
        whole = torch.device("cpu") if device.type == "meta" else device
        model = own_model(options, whole, dtype)
    else:
        model = known_model(options, device, dtype)
    return model if template is None else sized_for_template(model, template, options.length)


def known_model(
    options: ModelOptions, device: torch.device, dtype: torch.dtype | None
) -> LoadedModel:
    """The built-in model, or that of a folder or a hub repository.

    Raises:
        ValueError: as ``load``; for the name of a module it says how to name what is in it.
    """
    name = options.name
    may_be_module = name not in BUILT_IN and not is_checkpoint(Path(name))
    if may_be_module and (hint := module_hint(name)):
        raise ValueError(f"there is no built-in model {name!r}{hint}")
    if name not in BUILT_IN and Path(name).is_file():
        raise ValueError(f"{name} is a file; pass the folder of a checkpoint, such as its own")
    return load(
        name,
        device=device,
        dtype=dtype,
        compile=options.compile,
        trust_remote_code=options.trust_remote_code,
        mask_id=options.mask_id,
        length=options.length,
        tokenizer=options.tokenizer,
    )


def is_checkpoint(folder: Path) -> bool:
    """Whether it is a folder, and no Python package other than that of a model."""
    is_package = (folder / "__init__.py").is_file() and not (folder / "config.json").exists()
    return folder.is_dir() and (not is_package or is_antiberty(folder))


def text_of(model: LoadedModel, option: str, instead: str) -> Text:
    """The model's text; ``option`` is the flag that needs it, ``instead`` the one for token ids."""
    if model.text is None and model.name in TEXTS:
        transformers()
    if model.text is None:
        tokenizer = "" if model.name in BUILT_IN else "--tokenizer, or "
        raise ValueError(
            f"{option} is text, and {model.name!r} has no tokenizer; pass {tokenizer}token ids "
            f"with {instead}"
        )
    return model.text


def data_named(
    model: LoadedModel, options: SearchOptions, n: int, generator: torch.Generator
) -> tuple[Tensor, str]:
    """At most n sequences, int64 [B, L], and the name of the data."""
    task = model.task
    if options.text is not None:
        text = text_of(model, "--text", "--data")
        return load_text(options.text, text, model.length, n, generator, options.column)
    if options.data is not None and (task is None or options.data != task.name):
        if task is not None and task.read_data is not None and not may_hold_tokens(options.data):
            return task.read_data(Path(options.data), n, generator)
        return load_tokens(options.data, n, generator)
    if task is None:
        raise ValueError(
            f"no data is known for {model.name!r}; pass --data FILE with tokens "
            f"[n, {model.length}] (.npy or .npz), or --text FILE"
        )
    return task.sample_data(n, generator), task.name


def observed_sites(
    model: LoadedModel, options: ObservedOptions, device: torch.device
) -> Given | None:
    """The sites that ``--prompt``, ``--given`` or ``--template`` names, on the device."""
    task = model.task
    if options.prompt is not None or options.suffix is not None:
        flag = "--suffix" if options.prompt is None else "--prompt"
        prompt, suffix = options.prompt or "", options.suffix or ""
        text = text_of(model, flag, "--given")
        given = given_prompt(prompt, text, model.length, suffix=suffix)
    elif options.template is not None:
        given = template_sites(model, options.template)
    elif options.given is None:
        return None
    elif (
        task is not None
        and task.read_given is not None
        and not options.given.lower().endswith(".npz")
    ):
        given = task.read_given(Path(options.given), model.length)
    else:
        given = load_given(options.given, model.length, model.reverse.forward)
    for remark in given.remarks:
        print(f"note: {remark}", file=sys.stderr)
    return given.to(device)


def observed_in_samples(
    model: LoadedModel, options: ObservedOptions, device: torch.device, n: int
) -> Given | None:
    """The observed sites of n samples, the same in all, [L], or a row for each, [n, L]."""
    given = observed_sites(model, options, device)
    if given is not None and given.mask.ndim == 2 and len(given.mask) != n:
        rows = len(given.mask)
        raise ValueError(
            f"{options.given} gives sites of {rows} sequences, and -n asks for {n} samples; "
            f"pass -n {rows}"
        )
    return given


def search_data(
    model: LoadedModel,
    search: SearchOptions,
    observed: ObservedOptions,
    generator: torch.Generator,
    held_out: int = 0,
) -> tuple[Tensor, Tensor | None, str]:
    """Sequences int64 [B, L], their observed sites, bool [L], [B, L] or None, and the data's name.

    There are as many as a search asks for, and ``held_out`` more, where the data have so many.

    Masks of several sequences are assigned to the data in turn. Observed tokens are those of the
    data, not those of the prompt: a search only needs to know where the prompt ends, and the
    prompt's own tokens would contradict the data that follow.

    Raises:
        ValueError: sequences of another length than the model's, or none without tokens that the
            model excludes.
    """
    tokens, name = data_named(model, search, search.sequences + held_out, generator)
    if tokens.shape[1] != model.length:
        raise ValueError(
            f"the data are sequences of {tokens.shape[1]} tokens, and {model.name!r} has "
            f"{model.length}; pass tokens [n, {model.length}]"
        )
    tokens = without_excluded(tokens, model)
    given = observed_sites(model, observed, tokens.device)
    if given is None:
        return tokens, None, name
    mask = given.mask
    if mask.ndim == 2:
        mask = mask[torch.arange(len(tokens)) % len(mask)]
    count = float(mask.sum(-1).double().mean())
    return tokens, mask, f"{name}, {count:g} of {mask.shape[-1]} sites given"


def without_excluded(tokens: Tensor, model: LoadedModel) -> Tensor:
    """The sequences whose tokens can all be sampled; a note on standard error counts the others."""
    never = torch.tensor(model.excluded, dtype=torch.int64, device=tokens.device)
    kept = tokens[~torch.isin(tokens, never).any(-1)]
    if len(kept) == len(tokens):
        return tokens
    about = f"hold a special token ({', '.join(map(str, model.excluded))})"
    if not len(kept):
        raise ValueError(
            f"all sequences {about}, which {model.name!r} never samples; take them out"
        )
    print(
        f"note: {len(tokens) - len(kept)} of {len(tokens)} sequences {about}, which is never "
        "sampled; they are left out",
        file=sys.stderr,
    )
    return kept
