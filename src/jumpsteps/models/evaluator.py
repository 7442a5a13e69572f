"""Checkpoint folders of evaluators: autoregressive models by which samples are judged."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jumpsteps.core.files import read_json, write_json
from jumpsteps.models.formats.native import save_weights
from jumpsteps.models.loaded import load_weights
from jumpsteps.models.networks.autoregressive import Autoregressive, AutoregressiveConfig
from jumpsteps.models.unread import read_safetensors

__all__ = ["load_evaluator", "save_evaluator"]

FORMAT = "jumpsteps-evaluator"


def save_evaluator(
    folder: Path | str,
    network: Autoregressive,
    *,
    length: int,
    data: str | None = None,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write ``config.json`` and ``model.safetensors``.

    Args:
        length: sequence length L of training.
        data: name of the training data, stored in the config.
        training: how it was trained, stored in the config.
        dtype: dtype of the stored parameters.
    """
    folder = Path(folder)
    save_weights(folder, network, dtype)
    config = {"format": FORMAT, "length": length, "network": asdict(network.config)}
    config |= {
        key: value for key, value in (("data", data), ("training", training)) if value is not None
    }
    write_json(folder / "config.json", config)


def load_evaluator(folder: Path | str, device: torch.device | str = "cpu") -> Autoregressive:
    """The network of an evaluator's folder, in float32 and evaluation mode.

    Raises:
        ValueError: no folder of an evaluator, or a damaged one.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(
            f"{folder} holds no autoregressive model; pass a causal one of Hugging Face, such as "
            "GPT-2, or one that experiments/text_models.py wrote"
        )
    try:
        network = Autoregressive(AutoregressiveConfig(**config["network"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    weights = folder / "model.safetensors"
    load_weights(network, read_safetensors(weights), weights)
    return network.to(device).eval()
