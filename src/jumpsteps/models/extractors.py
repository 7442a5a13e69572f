"""Extractors of features by name or path, for the Frechet distance, precision and recall.

A folder holds ``config.json`` and ``model.safetensors``, an ``ImageClassifier`` whose last layer
averaged over the image is the features. ``cifar10-features`` comes with the repository; a Frechet
distance in its space is called FD-cifar, and compares with none of Inception's.

A file of weights, .pth or .pt, is that of the Inception network of torch-fidelity, which holds the
original one's weights (``pt_inception-2015-12-05-6726825d.pth``): features of its last pooling
layer, whose Frechet distance is the FID of the literature.
"""

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from jumpsteps.core.files import read_json, replacing, write_json
from jumpsteps.evaluation.features import Extractor
from jumpsteps.models.built_in import checkpoint_folder
from jumpsteps.models.loaded import load_weights
from jumpsteps.models.networks.image_classifier import ClassifierConfig, ImageClassifier
from jumpsteps.models.unread import read_safetensors

__all__ = ["load_classifier", "load_extractor", "load_inception", "save_classifier"]

FORMAT = "jumpsteps-classifier"
IMAGE = (3, 32, 32)


def load_extractor(name: Path | str, *, device: torch.device | str = "cpu") -> Extractor:
    """The features of a classifier, int64 [B, L] on the device -> float32 [B, D].

    Args:
        name: ``cifar10-features``, the path of a folder, or Inception's weights as a file.

    Raises:
        ValueError: no such extractor, a damaged one, or Inception without torch-fidelity.
    """
    if Path(name).is_file():
        return load_inception(Path(name), device=device)
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


def load_inception(path: Path, *, device: torch.device | str = "cpu") -> Extractor:
    """Inception's features of images [B, 3 * 32 * 32], float32 [B, 2048].

    torch-fidelity would unpickle the file without limits, so it gets a copy of the tensors in it.

    Raises:
        ValueError: torch-fidelity is missing, or the file is not that of its Inception network.
    """
    try:
        module = import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError as error:
        raise ValueError(
            f"{path} needs torch-fidelity ({error}); pip install torch-fidelity, or name the "
            "folder of another extractor"
        ) from None
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "weights.pth"
            torch.save(weights, copy)
            network = module.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(copy)
            )
    except (RuntimeError, UnpicklingError, AttributeError, TypeError, EOFError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} holds no weights of Inception: {reason}") from None
    network.to(device).eval().requires_grad_(False)

    def features(x: Tensor) -> Tensor:
        found: Tensor = network(x.to(torch.uint8).view(len(x), *IMAGE))[0]
        return found

    return features


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
