"""Published SEDD checkpoints (Lou, Meng, Ermon 2024): a folder with ``config.json`` and weights.

The config is that of the training run: ``tokens``, ``graph.type``, ``noise.type`` and ``model``.
With ``graph.type`` "absorb" the vocabulary has one symbol more than ``tokens``; this last symbol is
MASK. Weights are in ``model.safetensors`` or ``pytorch_model.bin``, with the names of
``networks.dit``. Sequences are token ids; text needs the model's tokenizer.
"""

from pathlib import Path
from typing import Any

import torch

from jumpsteps.denoiser.parameterisations import LogScoreReverse
from jumpsteps.models.loaded import LoadedModel, file_hash
from jumpsteps.models.networks.dit import DiT, DiTConfig, LogScoreNetwork
from jumpsteps.models.unread import parameters_on, read_weights, settled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Geometric, LogLinear, NoiseSchedule
from jumpsteps.process.uniform import Uniform

__all__ = ["is_sedd", "load_sedd", "weights_file"]


def is_sedd(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a SEDD checkpoint."""
    return {"tokens", "graph", "noise", "model"} <= config.keys()


def load_sedd(folder: Path, config: dict[str, Any], name: str, device: torch.device) -> LoadedModel:
    """Read a SEDD checkpoint folder.

    Raises:
        ValueError: a graph or noise schedule that no published model has, a config that lacks a
            value, or weights that are missing, damaged or of another layout.
    """
    try:
        forward, sizes = forward_of(config), config["model"]
        dit = DiTConfig(
            vocab_size=forward.vocab_size,
            hidden_size=sizes["hidden_size"],
            n_blocks=sizes["n_blocks"],
            n_heads=sizes["n_heads"],
            cond_dim=sizes["cond_dim"],
        )
        length, scale = int(sizes["length"]), bool(sizes["scale_by_sigma"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} lacks {error}; it is not the config of a SEDD checkpoint"
        ) from None
    with parameters_on(device):
        network = DiT(dit)
    path = weights_file(folder)
    read_parts = read_weights(network, path, device)
    settled(network, device)
    reverse = LogScoreReverse(
        forward, LogScoreNetwork(network, forward.noise, scale_by_sigma=scale)
    )
    return LoadedModel(name, reverse, length, file_hash(path), None, read_parts=read_parts)


def forward_of(config: dict[str, Any]) -> ForwardProcess:
    """The forward process of ``graph`` and ``noise`` in a config."""
    graph, tokens, noise = config["graph"]["type"], int(config["tokens"]), noise_of(config["noise"])
    if graph == "absorb":
        return Absorbing(vocab_size=tokens + 1, noise=noise)
    if graph == "uniform":
        return Uniform(vocab_size=tokens, noise=noise)
    raise ValueError(f"graph {graph!r} is not supported; SEDD models are 'absorb' or 'uniform'")


def noise_of(config: dict[str, Any]) -> NoiseSchedule:
    if config["type"] == "loglinear":
        return LogLinear()
    if config["type"] == "geometric":
        return Geometric(lowest=float(config["sigma_min"]), highest=float(config["sigma_max"]))
    raise ValueError(
        f"noise schedule {config['type']!r} is not supported; "
        "SEDD models are 'loglinear' or 'geometric'"
    )


def weights_file(folder: Path) -> Path:
    """The weights file of a folder: safetensors, or a pickled file without it."""
    path, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    return path if path.exists() or not pickled.exists() else pickled
