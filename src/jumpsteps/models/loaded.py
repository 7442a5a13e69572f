"""A model that is ready to use."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.tokenizer import Text
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.tasks.task import Task

__all__ = ["LoadedModel", "file_hash", "load_weights", "read_pickle", "tune"]


@dataclass(frozen=True)
class LoadedModel:
    """What ``load`` returns.

    Attributes:
        name: as it was asked for.
        reverse: the reverse process, its network in evaluation mode on the device asked for.
        length: L, the sequence length the model was trained for.
        digest: SHA-256 of the weights, or of the definition of an exact model.
        task: data and metric, where the library knows them.
        text: turns text into tokens and back; None without a tokenizer.
    """

    name: str
    reverse: ReverseProcess
    length: int
    digest: str
    task: Task | None
    text: Text | None = None

    def provenance(self, data: str = "") -> Provenance:
        """What a schedule found for this model should say about it."""
        return Provenance(
            model=self.name,
            model_hash=self.digest,
            data=data or (self.task.name if self.task else ""),
        )


@runtime_checkable
class Compiles(Protocol):
    """A network whose trunk can be compiled: all but the head, whose number of sites differs from call to call."""

    def compile_trunk(self) -> None: ...


def tune(
    model: LoadedModel, *, dtype: torch.dtype | None = None, compile: bool = False
) -> LoadedModel:
    """The same model with its parameters in another number format, and its trunk compiled, in place.

    Buffers, such as rotary frequencies, keep their precision; so does everything that comes after the network.

    Raises:
        ValueError: an exact model, which has no parameters, or a network that cannot be compiled.
    """
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


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU; nothing in the file is run.

    Raises:
        ValueError: a damaged file, or one that holds other things than tensors, numbers, texts, lists and dicts.
    """
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # Of a damaged file torch raises anything at all.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is damaged, or holds more than tensors ({first}); download it again"
        ) from None


def load_weights(
    network: nn.Module, weights: dict[str, torch.Tensor], path: Path, config: str = "config.json"
) -> None:
    """Copy weights into a network of the same layout; ``config`` is the file that the layout was read from.

    Raises:
        ValueError: keys are missing or unexpected, or a shape differs; names the first few.
    """
    wanted = network.state_dict()
    missing, unexpected = (
        sorted(wanted.keys() - weights.keys()),
        sorted(weights.keys() - wanted.keys()),
    )
    if missing or unexpected:
        raise ValueError(
            f"{path} does not hold this network: missing keys {brief(missing)}, unexpected keys {brief(unexpected)}; "
            f"check that {config} and weights belong together"
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {list(value.shape)}, {config} asks for {list(wanted[name].shape)}; "
                f"check that {config} and weights belong together"
            )
    network.load_state_dict(weights)


def brief(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
