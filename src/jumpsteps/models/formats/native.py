"""Checkpoint folders of this project: ``config.json`` and ``model.safetensors``."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from jumpsteps.core.files import replacing, write_json
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.loaded import SCHEDULES_FILE, LoadedModel, file_hash
from jumpsteps.models.networks.dit import DiT, DiTConfig, LogScoreNetwork, PosteriorNetwork
from jumpsteps.models.networks.transformer import (
    Transformer,
    TransformerConfig,
    TransformerPosterior,
)
from jumpsteps.models.networks.unet import UNet, UNetConfig, UNetPosterior
from jumpsteps.models.unread import parameters_on, read_weights, settled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.rate_matrix import MatrixKernel
from jumpsteps.process.serialise import forward_from_json, forward_to_json
from jumpsteps.tasks import TASKS

__all__ = [
    "FORMAT",
    "Network",
    "NetworkConfig",
    "build",
    "is_native",
    "load_native",
    "network_config",
    "save_native",
    "save_weights",
]

FORMAT = "jumpsteps-model"
SCHEMA_VERSION = 1
Network = DiT | Transformer | UNet
NetworkConfig = DiTConfig | TransformerConfig | UNetConfig
NETWORKS: dict[str, tuple[type[Any], Callable[[Any], Network]]] = {
    "dit": (DiTConfig, DiT),
    "transformer": (TransformerConfig, Transformer),
    "unet": (UNetConfig, UNet),
}


def build(
    config: NetworkConfig, forward: ForwardProcess, output: str
) -> tuple[Network, ReverseProcess]:
    """A network with random weights, and its reverse process.

    Args:
        output: parameterisation of the network: "posterior", p(x_0^l | x_t); "leave-one-out",
            p(x_0^l | x_t^{-l}), for kernels without MASK; or "log-score", log p_t(y)/p_t(x), for a
            DiT and kernels that are not given by a matrix.

    Raises:
        ValueError: this network and kernel do not support the output.
    """
    network = next(make for kind, make in NETWORKS.values() if isinstance(config, kind))(config)
    if output == "posterior" and not (isinstance(network, UNet) and isinstance(forward, Absorbing)):
        return network, PosteriorReverse(forward, posterior_model(network, forward))
    if output == "leave-one-out" and not isinstance(forward, Absorbing):
        return network, LeaveOneOutReverse(forward, posterior_model(network, forward))
    if output == "log-score" and isinstance(network, DiT) and not isinstance(forward, MatrixKernel):
        scale = isinstance(forward, Absorbing)
        return network, LogScoreReverse(
            forward, LogScoreNetwork(network, forward.noise, scale_by_sigma=scale)
        )
    raise ValueError(
        f"no network with output {output!r} for the {forward.name} kernel is a "
        f"{type(network).__name__}; use a DiT and 'posterior'"
    )


def posterior_model(network: Network, forward: ForwardProcess) -> Model:
    """The network's output as log-probabilities of x_0.

    The network is conditioned on time, except for the absorbing kernel.
    """
    if isinstance(network, DiT):
        return PosteriorNetwork(network, forward)
    if isinstance(network, Transformer):
        return TransformerPosterior(network, time_conditioned=not isinstance(forward, Absorbing))
    return UNetPosterior(network)


def save_native(
    folder: Path | str,
    network: Network,
    forward: ForwardProcess,
    *,
    output: str,
    task: str,
    length: int,
    data: str | None = None,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a checkpoint folder.

    Args:
        data: name of the training data, stored in the config.
        training: how it was trained, stored in the config.
        dtype: dtype of the stored parameters; buffers keep theirs.
    """
    folder = Path(folder)
    kernel, noise = forward_to_json(forward)
    config = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "length": length,
        "output": output,
        "kernel": kernel,
        "noise": noise,
        "network": network_to_json(network.config),
    }
    config |= {
        key: value for key, value in (("data", data), ("training", training)) if value is not None
    }
    save_weights(folder, network, dtype)
    write_json(folder / "config.json", config)


def save_weights(folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
    """Write ``model.safetensors``: parameters in ``dtype``, buffers in theirs.

    Raises:
        OSError: there is no room.
    """
    parameters = dict(network.named_parameters())
    weights = {
        name: value.detach().to("cpu", dtype if name in parameters else value.dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as temporary:
        try:
            save_file(weights, temporary)
        except SafetensorError as error:
            raise OSError(
                f"{folder} cannot be written to ({error}); make room on the disk"
            ) from None


def network_to_json(config: NetworkConfig) -> dict[str, Any]:
    """A network's config as JSON; the inverse of ``network_config``."""
    return {
        "type": next(name for name, (kind, _) in NETWORKS.items() if isinstance(config, kind)),
        **asdict(config),
    }


def network_config(content: dict[str, Any]) -> NetworkConfig:
    """A network's config from JSON. Without ``type`` it is that of a DiT."""
    sizes = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    name = sizes.pop("type", "dit")
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; this jumpsteps knows {', '.join(NETWORKS)}")
    return NETWORKS[name][0](**sizes)


def is_native(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a checkpoint of this project."""
    return config.get("format") == FORMAT


def load_native(
    folder: Path, config: dict[str, Any], name: str, device: torch.device
) -> LoadedModel:
    """Read a checkpoint folder whose ``config.json`` is ``config``.

    For the device "meta" its parameters stay in the file.

    Raises:
        ValueError: another schema version, a damaged config, or weights that are missing, damaged
            or of another layout.
    """
    if config.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{folder} has schema version {config.get('schema_version')}, "
            f"this jumpsteps reads {SCHEMA_VERSION}"
        )
    try:
        forward = forward_from_json(config["kernel"], config["noise"])
        with parameters_on(device):
            network, reverse = build(network_config(config["network"]), forward, config["output"])
        length, task = int(config["length"]), TASKS.get(config["task"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error!r}") from None
    if length < 1:
        raise ValueError(f"{folder / 'config.json'}: length must be 1 or more, got {length}")
    path = folder / "model.safetensors"
    read_parts = read_weights(network, path, device)
    settled(network, device)
    digest, schedules = file_hash(path), folder / SCHEDULES_FILE
    model = LoadedModel(
        name, reverse, length, digest, task, schedules_file=schedules, read_parts=read_parts
    )
    return any_length(model) if task is None and is_relative(network) else model


def is_relative(network: Network) -> bool:
    """Whether the network knows relative positions only, so that it takes sequences of any
    length.
    """
    return isinstance(network, DiT) and network.config.length == 0


def any_length(model: LoadedModel) -> LoadedModel:
    """The model, which can be resized."""
    return replace(model, resized=lambda length: any_length(replace(model, length=length)))
