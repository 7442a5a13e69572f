"""Models that come with the package: trained checkpoints and exact denoisers."""

import hashlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from jumpsteps.core.files import read_json
from jumpsteps.models.formats.native import load_native
from jumpsteps.models.loaded import SCHEDULES_FILE, LoadedModel
from jumpsteps.models.tokenizer import Text, has_tokenizer, read_tokenizer
from jumpsteps.tasks import countdown, toy

__all__ = [
    "BUILT_IN",
    "EXACT",
    "TEXTS",
    "load_countdown_exact",
    "load_shipped",
    "load_toy",
    "schedules_file",
]

SCHEDULES = Path(__file__).parent / "built_in_schedules"
"""Schedules of the exact models, a file for each."""


def load_shipped(name: str, device: torch.device) -> LoadedModel:
    """A trained checkpoint of the package.

    Raises:
        ValueError: the checkpoint is not installed.
    """
    folder = checkpoint_folder(name)
    return load_native(folder, read_json(folder / "config.json"), name, device)


def load_shipped_text(name: str, device: torch.device) -> LoadedModel:
    """A trained checkpoint of text, which is in the source tree only.

    Raises:
        ValueError: the checkpoint is not installed.
    """
    folder = checkpoint_folder(name, "pass the folder of a checkpoint of text")
    model = load_native(folder, read_json(folder / "config.json"), name, device)
    return with_own_tokenizer(model, folder)


def with_own_tokenizer(model: LoadedModel, folder: Path, *, trusted: bool = False) -> LoadedModel:
    """The model with the tokenizer in its folder, if there is one.

    Without transformers the tokenizer is ignored; the network does not need it.

    Args:
        trusted: whether Python code in the folder may run.
    """
    if not has_tokenizer(folder) or find_spec("transformers") is None:
        return model
    return model.with_text(Text(read_tokenizer(folder, trusted=trusted), model.reverse.forward))


def checkpoint_folder(name: str, advice: str = "") -> Path:
    """The folder of a trained checkpoint.

    Checkpoints lie in the folder ``checkpoints`` of the installed package, or at the root of a
    source tree. Large ones are in the source tree only.

    Args:
        advice: what else the user can do if there is none; by default, train it.

    Raises:
        ValueError: the checkpoint is not installed.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / name, package.parents[1] / "checkpoints" / name):
        if folder.is_dir():
            return folder
    train = f"jumpsteps train {name} --out DIR"
    raise ValueError(
        f"the checkpoint {name!r} is not installed; run jumpsteps from a clone of its repository, "
        f"or {advice or repr(train)}"
    )


def load_countdown_exact(kernel: str, device: torch.device) -> LoadedModel:
    """The exact CountDown denoiser of a kernel. It runs on the device of its input."""
    reverse = countdown.exact_reverse(kernel)
    initial, transition = countdown.chain()
    definition = (
        repr(reverse.forward).encode() + initial.numpy().tobytes() + transition.numpy().tobytes()
    )
    digest = hashlib.sha256(definition).hexdigest()
    name = "countdown-exact" if kernel == "absorbing" else f"countdown-exact-{kernel}"
    return LoadedModel(
        name,
        reverse,
        countdown.LENGTH,
        digest,
        countdown.TASK,
        schedules_file=schedules_file(name),
    )


def load_toy(kernel: str, device: torch.device) -> LoadedModel:
    """CountDown with 4 symbols at 4 sites, all of whose states are enumerated on the CPU.

    Raises:
        ValueError: another device than the CPU.
    """
    if device.type != "cpu":
        raise ValueError(f"the model toy-{kernel} is enumerated on the CPU; pass --device cpu")
    definition = repr(toy.KERNELS[kernel]).encode() + toy.table().numpy().tobytes()
    name = f"toy-{kernel}"
    return LoadedModel(
        name,
        toy.reverse(kernel),
        toy.LENGTH,
        hashlib.sha256(definition).hexdigest(),
        toy.TASK,
        schedules_file=schedules_file(name),
    )


BUILT_IN: dict[str, Callable[[torch.device], LoadedModel]] = {
    "countdown": partial(load_shipped, "countdown"),
    "countdown-exact": partial(load_countdown_exact, "absorbing"),
    "countdown-exact-uniform": partial(load_countdown_exact, "uniform"),
    "countdown-exact-gaussian": partial(load_countdown_exact, "gaussian"),
    "piano-uniform": partial(load_shipped, "piano-uniform"),
    "piano-absorbing": partial(load_shipped, "piano-absorbing"),
    "cifar10-gaussian": partial(load_shipped, "cifar10-gaussian"),
    "text-small": partial(load_shipped_text, "text-small"),
    "toy-absorbing": partial(load_toy, "absorbing"),
    "toy-uniform": partial(load_toy, "uniform"),
    "toy-gaussian": partial(load_toy, "gaussian"),
}
"""Name -> function that builds the model on a device."""

TEXTS = ("text-small",)
"""The models of text."""

EXACT = tuple(name for name in BUILT_IN if name.startswith(("countdown-exact", "toy-")))


def schedules_file(name: str) -> Path:
    """Where the schedules of a built-in model are, or would be: beside its checkpoint.

    Raises:
        ValueError: a checkpoint that is not installed.
    """
    if name in EXACT:
        return SCHEDULES / f"{name}.json"
    return checkpoint_folder(name) / SCHEDULES_FILE
