"""Training that is cut into pieces, each of which starts from the weights of the one before.

A piece has a new optimiser, whose averages its warm-up fills. Steps and learning rate are those of
one plan over all pieces. What is passed on is a checkpoint folder, 2 bytes per parameter.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jumpsteps.core.files import read_json
from jumpsteps.models.formats.native import Network, NetworkConfig, is_native, network_config
from jumpsteps.models.loaded import file_hash, load_weights
from jumpsteps.models.unread import read_safetensors
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.serialise import forward_to_json

__all__ = ["Piece", "Start", "read_start", "training_record"]


@dataclass(frozen=True)
class Piece:
    """A piece of a training.

    Attributes:
        first_step: steps of the plan before it.
        steps: optimiser steps that it took.
        sequences: training sequences that it saw, repetitions included.
        weights: SHA-256 of the weights that it started from; None for random ones.
    """

    first_step: int
    steps: int
    sequences: int
    weights: str | None = None


@dataclass(frozen=True)
class Start:
    """The checkpoint from which a piece starts.

    Attributes:
        folder: the checkpoint folder.
        first_step: steps of the plan that are behind it.
        pieces: how the checkpoint was trained; empty if its config does not say.
        weights: SHA-256 of its weights.
    """

    folder: Path
    first_step: int
    pieces: tuple[Piece, ...]
    weights: str

    def load_into(self, network: Network) -> None:
        """Copy the checkpoint's averaged weights into the network."""
        path = self.folder / "model.safetensors"
        load_weights(network, read_safetensors(path), path)


def read_start(
    folder: Path,
    network: NetworkConfig,
    forward: ForwardProcess,
    output: str,
    *,
    from_step: int | None = None,
) -> Start:
    """A checkpoint folder of this project as the start of a piece.

    Args:
        network, forward, output: what is trained; dropout may differ.
        from_step: steps behind the checkpoint, in place of those that its config names.

    Raises:
        ValueError: no checkpoint of this project, or one of another network, output or forward
            process.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not is_native(config):
        raise ValueError(
            f"{folder} is no checkpoint of this project; --start-from takes a folder of "
            "'jumpsteps train'"
        )
    try:
        differences = differing(config, network, forward, output)
        pieces = tuple(Piece(**piece) for piece in config.get("training", {}).get("pieces", []))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    if differences:
        raise ValueError(
            f"{folder} holds another model: {'; '.join(differences)}; start from a checkpoint of "
            "the same recipe"
        )
    behind = pieces[-1].first_step + pieces[-1].steps if pieces else 0
    weights = file_hash(folder / "model.safetensors")
    return Start(folder, behind if from_step is None else from_step, pieces, weights)


def differing(
    config: dict[str, Any], network: NetworkConfig, forward: ForwardProcess, output: str
) -> list[str]:
    """In words, what a checkpoint's config has and the network to be trained has not."""
    theirs = network_config(config["network"])
    if type(theirs) is not type(network):
        names = [type(one).__name__.removesuffix("Config") for one in (theirs, network)]
        return ["its network is a {}, the recipe's a {}".format(*names)]
    kernel, noise = forward_to_json(forward)
    pairs = {
        field.name: (getattr(theirs, field.name), getattr(network, field.name))
        for field in fields(network)
        if field.name != "dropout"
    } | {
        "output": (config["output"], output),
        "kernel": (config["kernel"], kernel),
        "noise": (config["noise"], noise),
    }
    return [f"its {name} is {a}, the recipe's {b}" for name, (a, b) in pairs.items() if a != b]


def training_record(
    start: Start | None, first_step: int, step: int, batch: int
) -> dict[str, int | list[dict[str, Any]]]:
    """How a checkpoint was trained, as JSON: step of the plan, sequences of all pieces, pieces."""
    weights = None if start is None else start.weights
    piece = Piece(first_step, step - first_step, (step - first_step) * batch, weights)
    pieces = [*(() if start is None else start.pieces), piece]
    return {
        "step": step,
        "sequences": sum(piece.sequences for piece in pieces),
        "pieces": [asdict(piece) for piece in pieces],
    }
