"""One name to one model: built in, a folder, or a hub id."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import torch

from jumpsteps.core.files import read_json
from jumpsteps.models.formats.gidd import is_gidd, load_gidd
from jumpsteps.models.formats.masked_lm import is_masked_lm, load_masked_lm
from jumpsteps.models.formats.mdlm import is_mdlm, load_mdlm
from jumpsteps.models.formats.native import is_native, load_native
from jumpsteps.models.formats.sedd import is_sedd, load_sedd
from jumpsteps.models.formats.tauldr import is_tauldr, load_tauldr
from jumpsteps.models.formats.udlm import is_udlm, load_udlm
from jumpsteps.models.loaded import LoadedModel, tune
from jumpsteps.models.tokenizer import Text, has_tokenizer, read_tokenizer
from jumpsteps.tasks import countdown, toy

__all__ = ["BUILT_IN", "load"]

HUB_FILES = [
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "pytorch_model.bin.index.json",
]
TEXT_FILES = ["generation_config.json", "*token*.json", "vocab.*", "merges.txt", "*.model"]


class TextOptions(TypedDict):
    """What ``load_masked_lm`` is told by the caller."""

    trust_remote_code: bool
    mask_id: int | None
    length: int | None


def load(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
    mask_id: int | None = None,
    length: int | None = None,
    tokenizer: str | Path | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        name: a built-in name (a key of ``BUILT_IN``, such as "countdown"); a folder with ``config.json`` and weights, of this
            project or in the published SEDD, MDLM, UDLM, Duo or GIDD layout; a folder with a yaml config and a .pt file in the
            published tauLDR layout; or a hub id such as "louaaron/sedd-small" or "kuleshov-group/mdlm-owt".
        device: where the network goes.
        dtype: number format of the network's parameters, such as torch.bfloat16; unless given float32 or, from Hugging Face,
            the config's.
        compile: compile the network's trunk (``torch.compile``) for each batch size it meets; the first calls take seconds more.
        trust_remote_code: whether Python code that comes with the model may run; LLaDA and Dream need it.
        mask_id: MASK of a masked language model whose tokenizer and config do not name it.
        length: L for a masked language model; by default as long as it allows.
        tokenizer: folder or hub id of the model's tokenizer, such as "openai-community/gpt2" for the SEDD and MDLM models; by
            default the one in the model's folder, if there is one.

    Raises:
        ValueError: no such model, a folder that is not a checkpoint, or a damaged one; ``mask_id`` or ``length`` for a model that
            is not a masked language model; a tokenizer that cannot be read, has an id that is no symbol of the model, or is for a
            built-in model; ``dtype`` or ``compile`` for an exact model, which has no network.
    """
    options: TextOptions = {
        "trust_remote_code": trust_remote_code,
        "mask_id": mask_id,
        "length": length,
    }
    return tune(find(name, torch.device(device), options, tokenizer), dtype=dtype, compile=compile)


def find(
    name: str | Path, device: torch.device, options: TextOptions, tokenizer: str | Path | None
) -> LoadedModel:
    """The model as it is stored: built in, from a folder, or from the hub."""
    if str(name) in BUILT_IN:
        refuse(options, str(name))
        if tokenizer is not None:
            raise ValueError(f"{name} is not a model of text; leave out the tokenizer")
        return BUILT_IN[str(name)](device)
    code = ["*.py"] if options["trust_remote_code"] else []
    folder = find_folder(
        name,
        [*HUB_FILES, *TEXT_FILES, *code],
        f"model {str(name)!r}: not built in ({', '.join(BUILT_IN)}), ",
    )
    if tokenizer is not None:
        tokenizer = find_folder(
            tokenizer, ["config.json", *TEXT_FILES, *code], f"tokenizer {str(tokenizer)!r}: "
        )
    return load_folder(folder, str(name), device, options, tokenizer)


def find_folder(name: str | Path, files: list[str], what: str) -> Path:
    """The folder of this name, or one with these files of the hub's; ``what`` opens the error when it is neither."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or not looks_like_hub_id(name):
        raise ValueError(f"there is no {what}not a folder, not a hub id (OWNER/NAME)")
    return download(name, files)


def looks_like_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~"))


def download(hub_id: str, files: list[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{hub_id!r} is not a folder here and could not be fetched from the hub ({first})"
        ) from None


def refuse(options: TextOptions, name: str) -> None:
    """Raises ValueError for options that say something of a masked language model."""
    if options["mask_id"] is not None or options["length"] is not None:
        raise ValueError(
            f"{name} knows its MASK and its length; mask_id and length are for masked language models, leave them out"
        )


def load_folder(
    folder: Path,
    name: str,
    device: torch.device,
    options: TextOptions,
    tokenizer_folder: Path | None,
) -> LoadedModel:
    if is_tauldr(folder):
        refuse(options, name)
        if tokenizer_folder is not None:
            raise ValueError(f"{name} is not a model of text; leave out the tokenizer")
        return load_tauldr(folder, name, device)
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and is_masked_lm(config):
        return load_masked_lm(folder, name, device, **options, tokenizer_folder=tokenizer_folder)
    refuse(options, name)
    model = load_other(folder, config, name, device)
    # A network that needs no transformers loads without it, whatever lies in its folder.
    if tokenizer_folder is None and has_tokenizer(folder) and find_spec("transformers") is not None:
        tokenizer_folder = folder
    if tokenizer_folder is None:
        return model
    tokenizer = read_tokenizer(tokenizer_folder, trusted=options["trust_remote_code"])
    return replace(model, text=Text(tokenizer, model.reverse.forward))


LOADERS: list[
    tuple[
        Callable[[dict[str, Any]], bool],
        Callable[[Path, dict[str, Any], str, torch.device], LoadedModel],
    ]
] = [
    (is_native, load_native),
    (is_sedd, load_sedd),
    (is_mdlm, load_mdlm),
    (is_udlm, load_udlm),
    (is_gidd, load_gidd),
]
"""Which ``config.json`` is whose."""


def load_other(folder: Path, config: object, name: str, device: torch.device) -> LoadedModel:
    """A model whose network is this library's own."""
    for belongs, load_it in LOADERS:
        if isinstance(config, dict) and belongs(config):
            return load_it(folder, config, name, device)
    raise ValueError(
        f"{folder / 'config.json'} is neither a jumpsteps checkpoint nor a SEDD one nor that of an MDLM, UDLM, Duo, GIDD or masked "
        "language model; no other kind is known"
    )


def load_shipped(name: str, device: torch.device) -> LoadedModel:
    """A trained network that comes with the package, from its ``checkpoints`` folder (in a source tree: at its root)."""
    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / name, package.parents[1] / "checkpoints" / name):
        if folder.is_dir():
            return load_native(folder, read_json(folder / "config.json"), name, device)
    raise ValueError(
        f"the checkpoint {name!r} is not installed; reinstall jumpsteps, or 'jumpsteps train {name} --out DIR'"
    )


def load_countdown_exact(kernel: str, device: torch.device) -> LoadedModel:
    """The exact CountDown denoiser of a kernel; its tables follow the tokens to their device."""
    reverse = countdown.exact_reverse(kernel)
    initial, transition = countdown.chain()
    definition = (
        repr(reverse.forward).encode() + initial.numpy().tobytes() + transition.numpy().tobytes()
    )
    digest = hashlib.sha256(definition).hexdigest()
    name = "countdown-exact" if kernel == "absorbing" else f"countdown-exact-{kernel}"
    return LoadedModel(name, reverse, countdown.LENGTH, digest, countdown.TASK)


def load_toy(kernel: str, device: torch.device) -> LoadedModel:
    """CountDown so small that its distributions are enumerated, in the memory of the CPU."""
    if device.type != "cpu":
        raise ValueError(f"the model toy-{kernel} is enumerated on the CPU; pass --device cpu")
    definition = repr(toy.KERNELS[kernel]).encode() + toy.table().numpy().tobytes()
    return LoadedModel(
        f"toy-{kernel}",
        toy.reverse(kernel),
        toy.LENGTH,
        hashlib.sha256(definition).hexdigest(),
        toy.TASK,
    )


BUILT_IN: dict[str, Callable[[torch.device], LoadedModel]] = {
    "countdown": partial(load_shipped, "countdown"),
    "countdown-exact": partial(load_countdown_exact, "absorbing"),
    "countdown-exact-uniform": partial(load_countdown_exact, "uniform"),
    "countdown-exact-gaussian": partial(load_countdown_exact, "gaussian"),
    "piano-uniform": partial(load_shipped, "piano-uniform"),
    "piano-absorbing": partial(load_shipped, "piano-absorbing"),
    "toy-absorbing": partial(load_toy, "absorbing"),
    "toy-uniform": partial(load_toy, "uniform"),
    "toy-gaussian": partial(load_toy, "gaussian"),
}
