"""A loaded model, and reading its weights from files."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.tokenizer import Text
from jumpsteps.schedules.files import load_schedules
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.task import Task

__all__ = [
    "SCHEDULES_FILE",
    "LoadedModel",
    "cast_and_compile",
    "check_layout",
    "file_hash",
    "hashed_by_first",
    "listed",
    "load_weights",
    "read_pickle",
]

SCHEDULES_FILE = "schedules.json"
"""Schedules in the checkpoint folder of the model that they were found for."""


@dataclass(frozen=True)
class LoadedModel:
    """What ``load`` returns.

    Attributes:
        name: the name that was passed to ``load``.
        reverse: the reverse process. Its network is in evaluation mode.
        length: sequence length L that the model was trained for.
        digest: SHA-256 of the weights, or of the definition of an exact model.
        task: data and metric; None for data that the library does not know.
        text: converts text to tokens and back; None without a tokenizer.
        excluded: token ids that data may hold but that are never sampled, such as [UNK].
        resized: L -> the same model for sequences of L tokens; None for a model of one length. It
            raises ValueError for an L that the model does not allow.
        schedules_file: the file of schedules that came with the model; it need not exist.
        read_parts: reads this process's part of a network of the device "meta" to a device, after
            ``shard_network``; None for a network that has its weights.
    """

    name: str
    reverse: ReverseProcess
    length: int
    digest: str
    task: Task | None
    text: Text | None = None
    excluded: tuple[int, ...] = ()
    resized: "Callable[[int], LoadedModel] | None" = None
    schedules_file: Path | None = None
    read_parts: Callable[[torch.device], None] | None = None

    @cached_property
    def schedules(self) -> dict[int, Schedule]:
        """The optimised schedules that came with the model, by their NFE; empty if none did.

        They are read when they are first asked for.

        Raises:
            ValueError: a damaged file.
        """
        if self.schedules_file is None or not self.schedules_file.is_file():
            return {}
        return load_schedules(self.schedules_file)

    def with_text(self, text: Text) -> "LoadedModel":
        """The same model with a tokenizer, at every length."""
        resized = self.resized
        if resized is None:
            return replace(self, text=text)
        return replace(self, text=text, resized=lambda length: resized(length).with_text(text))

    def provenance(self, data: str = "") -> Provenance:
        """The model's part of a schedule's provenance; ``data`` defaults to the task's name."""
        return Provenance(
            model=self.name,
            model_hash=self.digest,
            data=data or (self.task.name if self.task else ""),
        )


@runtime_checkable
class Compiles(Protocol):
    """A network whose trunk can be compiled.

    The head is left out, because its number of sites differs from call to call.
    """

    def compile_trunk(self) -> None: ...


def cast_and_compile(
    model: LoadedModel, *, dtype: torch.dtype | None = None, compile: bool = False
) -> LoadedModel:
    """Cast the network's parameters to ``dtype`` and compile its trunk, in place.

    Buffers, such as rotary frequencies, keep their dtype. So does all arithmetic on the output.

    Raises:
        ValueError: an exact model, which has no parameters, a network that cannot be compiled, or
            a dtype of integers.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"the dtype of a network is a floating one, got {dtype}; pass bfloat16")
    network = model.reverse.model
    if (dtype is not None or compile) and not isinstance(network, nn.Module):
        raise ValueError(
            f"{model.name} is an exact distribution, not a network; leave out dtype and compile"
        )
    if dtype is not None and isinstance(network, nn.Module):
        for parameter in network.parameters():
            parameter.data = parameter.data.to(dtype)
    if compile:
        if not isinstance(network, Compiles):
            raise ValueError(f"{type(network).__name__} cannot be compiled; leave out compile")
        network.compile_trunk()
    return model


HASHING: ContextVar[Workers] = ContextVar("hashing", default=ALONE)


@contextmanager
def hashed_by_first(workers: Workers) -> Iterator[None]:
    """Within it the first process alone reads files to hash them, and tells the others, which ask
    for the same files in the same order.
    """
    token = HASHING.set(workers)
    try:
        yield
    finally:
        HASHING.reset(token)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""

    def digest() -> bytes:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    return HASHING.get().bytes_of_first(32, digest).hex()


def read_pickle(path: Path) -> Any:
    """The content of a file written by ``torch.save``, on the CPU. No code in the file is run.

    Raises:
        ValueError: a damaged file, or one that holds other objects than tensors, numbers, strings,
            lists and dicts.
    """
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # A damaged file makes torch raise exceptions of many types.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is damaged, or holds more than tensors ({first}); download it again"
        ) from None


def load_weights(
    network: nn.Module, weights: dict[str, torch.Tensor], path: Path, config: str = "config.json"
) -> None:
    """Copy weights into a network of the same layout.

    Args:
        path: file of the weights, for error messages.
        config: file that defines the layout, for error messages.

    Raises:
        ValueError: keys are missing or unexpected, or a shape differs; names the first few.
    """
    check_layout(network, {name: value.shape for name, value in weights.items()}, path, config)
    network.load_state_dict(weights)


def check_layout(
    network: nn.Module, shapes: Mapping[str, Sequence[int]], path: Path, config: str = "config.json"
) -> None:
    """Raises ValueError unless tensors of these names and shapes are those of the network.

    Args:
        path: file of the tensors, for error messages.
        config: file that defines the layout, for error messages.
    """
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - wanted.keys())
    if missing or unexpected:
        raise ValueError(
            f"{path} does not hold this network: missing keys {listed(missing)}, "
            f"unexpected keys {listed(unexpected)}; "
            f"check that {config} and weights belong together"
        )
    for name, shape in shapes.items():
        if list(shape) != list(wanted[name].shape):
            raise ValueError(
                f"{path}: {name} has shape {list(shape)}, "
                f"{config} asks for {list(wanted[name].shape)}; "
                f"check that {config} and weights belong together"
            )


def listed(names: list[str], most: int = 4) -> str:
    """The first names, separated by commas, and the number of the others."""
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
