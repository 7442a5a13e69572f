"""Extractors of features by name or path, for the Frechet distance, precision and recall.

A folder holds ``config.json`` and ``model.safetensors``, an ``ImageClassifier`` whose last layer
averaged over the image is the features. ``cifar10-features`` comes with the repository; a Frechet
distance in its space is called FD-cifar, and compares with none of Inception's.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from jumpsteps.core.files import read_json, replacing, write_json
from jumpsteps.evaluation.features import Extractor
from jumpsteps.models.built_in import checkpoint_folder
from jumpsteps.models.formats.native import read_safetensors
from jumpsteps.models.loaded import load_weights
from jumpsteps.models.networks.image_classifier import ClassifierConfig, ImageClassifier

__all__ = ["load_classifier", "load_extractor", "save_classifier"]

FORMAT = "jumpsteps-classifier"


def load_extractor(name: Path | str, *, device: torch.device | str = "cpu") -> Extractor:
    """The features of a classifier, int64 [B, L] on the device -> float32 [B, D].

    Args:
        name: ``cifar10-features``, or the path of a folder.

    Raises:
        ValueError: no such extractor, or a damaged one.
    """
    return load_classifier(name, device=device).features


def load_classifier(name: Path | str, *, device: torch.device | str = "cpu") -> ImageClassifier:
    """The classifier in evaluation mode, in float32.

    Raises:
        ValueError: as ``load_extractor``.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = checkpoint_folder(str(name), "name the folder of an extractor")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{folder} holds no extractor; its config.json needs format {FORMAT!r}")
    try:
        sizes: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config["network"].items()
        }
        network = ImageClassifier(ClassifierConfig(**sizes))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error!r}") from None
    path = folder / "model.safetensors"
    load_weights(network, read_safetensors(path), path)
    return network.to(device).eval().requires_grad_(False)


def save_classifier(folder: Path, network: ImageClassifier, **about: Any) -> None:
    """Write a folder; parameters are stored in bfloat16, running statistics as they are.

    Args:
        about: of data and training, for ``config.json``.
    """
    parameters = dict(network.named_parameters())
    weights = {
        name: value.detach().to("cpu", torch.bfloat16 if name in parameters else value.dtype)
        for name, value in network.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)
    write_json(
        folder / "config.json", {"format": FORMAT, "network": asdict(network.config), **about}
    )
