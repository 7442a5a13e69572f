"""What a recipe is: the definition of a trained model, with its data and its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from jumpsteps.models.formats.native import NetworkConfig
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.loop import Data
from jumpsteps.training.losses import Loss

__all__ = ["Corpus", "FromFiles", "Recipe"]


class Corpus(Protocol):
    """A data set read from files."""

    @property
    def name(self) -> str:
        """Name of the data with its SHA-256, stored in the checkpoint."""

    @property
    def test(self) -> Tensor:
        """Held-out sequences, int64 [N, L]."""

    def sample_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Training sequences, int64 [n, L] on the generator's device."""


@dataclass(frozen=True)
class FromFiles:
    """Data at the path that ``jumpsteps train --data`` names.

    Attributes:
        read: (path, device) -> the data, from which batches are drawn on the device.
        what: description of a valid path, for error messages.
    """

    read: Callable[[Path, torch.device], Corpus]
    what: str


@dataclass(frozen=True)
class Recipe:
    """Definition of a trained model.

    Attributes:
        task: name of the task.
        length: sequence length L.
        output: parameterisation of the network, see ``formats.native.build``.
        data: a function that generates batches, or files.
    """

    task: str
    length: int
    forward: ForwardProcess
    network: NetworkConfig
    output: str
    loss: Loss
    data: Data | FromFiles
    config: TrainConfig
