"""One name to one model: built in, a folder, or a hub id."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch

from jumpsteps.files import read_json
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.models.masked_lm import is_masked_lm, load_masked_lm
from jumpsteps.models.mdlm import is_mdlm, load_mdlm
from jumpsteps.models.native import FORMAT, load_native
from jumpsteps.models.sedd import is_sedd, load_sedd
from jumpsteps.models.tauldr import is_tauldr, load_tauldr
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


def load(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    mask_id: int | None = None,
    length: int | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        name: a built-in name (a key of ``BUILT_IN``, such as "countdown"); a folder with ``config.json`` and weights, of this
            project or in the published SEDD or MDLM layout; a folder with a yaml config and a .pt file in the published tauLDR
            layout; or a hub id such as "louaaron/sedd-small" or "kuleshov-group/mdlm-owt".
        device: where the network goes.
        trust_remote_code: whether Python code that comes with the model may run; LLaDA and Dream need it.
        mask_id: MASK of a masked language model whose tokenizer and config do not name it.
        length: L for a masked language model; by default as long as it allows.

    Raises:
        ValueError: no such model, a folder that is not a checkpoint, or a damaged one; ``mask_id`` or ``length`` for a model that
            is not a masked language model.
    """
    device = torch.device(device)
    options: TextOptions = {"trust_remote_code": trust_remote_code, "mask_id": mask_id, "length": length}
    if str(name) in BUILT_IN:
        refuse(options, str(name))
        return BUILT_IN[str(name)](device)
    folder = Path(name)
    if not folder.is_dir():
        if isinstance(name, Path) or not looks_like_hub_id(name):
            raise ValueError(f"there is no model {str(name)!r}: not built in ({', '.join(BUILT_IN)}), not a folder, not a hub id")
        folder = download(str(name), [*HUB_FILES, *TEXT_FILES, *(["*.py"] if trust_remote_code else [])])
    return load_folder(folder, str(name), device, options)


def looks_like_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~"))


def download(hub_id: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{hub_id!r} is not a folder here and could not be fetched from the hub ({first})") from None


class TextOptions(TypedDict):
    """What ``load_masked_lm`` is told by the caller."""

    trust_remote_code: bool
    mask_id: int | None
    length: int | None


def refuse(options: TextOptions, name: str) -> None:
    """Raises ValueError for options that say something of a masked language model."""
    if options["mask_id"] is not None or options["length"] is not None:
        raise ValueError(f"{name} knows its MASK and its length; mask_id and length are for masked language models, leave them out")


def load_folder(folder: Path, name: str, device: torch.device, options: TextOptions) -> LoadedModel:
    if is_tauldr(folder):
        refuse(options, name)
        return load_tauldr(folder, name, device)
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and is_masked_lm(config):
        return load_masked_lm(folder, name, device, **options)
    refuse(options, name)
    if isinstance(config, dict) and config.get("format") == FORMAT:
        return load_native(folder, config, name, device)
    if isinstance(config, dict) and is_sedd(config):
        return load_sedd(folder, config, name, device)
    if isinstance(config, dict) and is_mdlm(config):
        return load_mdlm(folder, config, name, device)
    raise ValueError(
        f"{folder / 'config.json'} is neither a jumpsteps checkpoint nor a SEDD one nor an MDLM one nor a masked language model's; "
        "no other kind is known"
    )


def load_countdown(device: torch.device) -> LoadedModel:
    """The trained CountDown network, from the package's ``checkpoints`` folder (in a source tree: at its root)."""
    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / "countdown", package.parents[1] / "checkpoints" / "countdown"):
        if folder.is_dir():
            return load_native(folder, read_json(folder / "config.json"), "countdown", device)
    raise ValueError("the checkpoint 'countdown' is not installed; reinstall jumpsteps, or 'jumpsteps train countdown --out DIR'")


def load_countdown_exact(kernel: str, device: torch.device) -> LoadedModel:
    """The exact CountDown denoiser of a kernel; its tables follow the tokens to their device."""
    reverse = countdown.exact_reverse(kernel)
    initial, transition = countdown.chain()
    definition = repr(reverse.forward).encode() + initial.numpy().tobytes() + transition.numpy().tobytes()
    digest = hashlib.sha256(definition).hexdigest()
    name = "countdown-exact" if kernel == "absorbing" else f"countdown-exact-{kernel}"
    return LoadedModel(name, reverse, countdown.LENGTH, digest, countdown.TASK)


def load_toy(kernel: str, device: torch.device) -> LoadedModel:
    """CountDown so small that its laws are enumerated, in the memory of the CPU."""
    if device.type != "cpu":
        raise ValueError(f"the model toy-{kernel} is enumerated on the CPU; pass --device cpu")
    definition = repr(toy.KERNELS[kernel]).encode() + toy.table().numpy().tobytes()
    return LoadedModel(f"toy-{kernel}", toy.reverse(kernel), toy.LENGTH, hashlib.sha256(definition).hexdigest(), toy.TASK)


BUILT_IN: dict[str, Callable[[torch.device], LoadedModel]] = {
    "countdown": load_countdown,
    "countdown-exact": partial(load_countdown_exact, "absorbing"),
    "countdown-exact-uniform": partial(load_countdown_exact, "uniform"),
    "countdown-exact-gaussian": partial(load_countdown_exact, "gaussian"),
    "toy-absorbing": partial(load_toy, "absorbing"),
    "toy-uniform": partial(load_toy, "uniform"),
    "toy-gaussian": partial(load_toy, "gaussian"),
}
