"""Published tauLDR checkpoints (Campbell et al. 2022): a yaml config and a pickled training state.

A folder holds ``config_001.yaml`` (or another .yaml) and ``ckpt_0001999999.pt`` (or another .pt),
directly or in its subfolders ``config`` and ``checkpoints``. The last by name is read. Two values
of the config's ``model.name`` are supported:

* ``GaussianTargetRateImageX0PredEMA``, the CIFAR-10 model: ``networks.unet`` with the Gaussian
  kernel and exponential noise;
* ``UniformRateSequenceTransformerEMA``, the piano model: ``networks.transformer`` with the uniform
  kernel. Each state jumps to each other state at rate ``rate_const``. ``Uniform`` jumps to all V
  states, its own included, so its noise has the rate V ``rate_const``. The published code rounds t
  down to an integer before the network reads it, which gives 0 for all t < 1; here the network's
  time input is 0 at every t.

Weights are under ``model`` in the .pt file. Their names are those of the networks here with the
prefix ``net.``, or ``net.module.`` after training on several GPUs. If the file holds exponential
moving averages (a list in the order of the network's parameters), these are used, as in the
published evaluation. Both networks give log p(x_0 | x_t). Image sequences are intensities channel
by channel; melodies have the symbols of the published piano data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.loaded import LoadedModel, file_hash, listed, load_weights, read_pickle
from jumpsteps.models.networks.transformer import (
    Transformer,
    TransformerConfig,
    TransformerPosterior,
)
from jumpsteps.models.networks.unet import UNet, UNetConfig, UNetPosterior
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Exponential
from jumpsteps.process.uniform import Uniform

__all__ = ["is_tauldr", "load_tauldr"]


def is_tauldr(folder: Path) -> bool:
    """Whether a folder has a yaml config, a .pt file, and no ``config.json``."""
    return (
        not (folder / "config.json").exists() and bool(yaml_files(folder)) and bool(pickles(folder))
    )


def yaml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml")) or sorted(folder.glob("config/*.yaml"))


def pickles(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt")) or sorted(folder.glob("checkpoints/*.pt"))


def load_tauldr(folder: Path, name: str, device: torch.device) -> LoadedModel:
    """Read a tauLDR checkpoint folder.

    Raises:
        ValueError: no config or no weights, another model than the two published ones, a config
            that lacks a value, or weights that are damaged or of another layout.
    """
    if not is_tauldr(folder):
        raise ValueError(
            f"{folder} is no tauLDR checkpoint; it needs a .yaml config and a .pt file of weights, "
            "and no config.json"
        )
    path, config = pickles(folder)[-1], read_config(yaml_files(folder)[-1])
    kind = config.text("model.name")
    if kind not in MODELS:
        raise ValueError(
            f"{config.path}: model.name {kind!r} is not supported; "
            f"known tauLDR models: {', '.join(MODELS)}"
        )
    forward, model, length = MODELS[kind](config)
    read_weights(nn.ModuleDict({"net": model.network}), path, config.path.name)
    reverse = PosteriorReverse(forward, model.to(device).eval())
    return LoadedModel(name, reverse, length, file_hash(path), None)


@dataclass(frozen=True)
class Config:
    """A yaml config whose values are checked when read. Keys are "section.name", as "model.ch"."""

    path: Path
    content: dict[str, Any]

    def get(self, key: str, kind: str, fits: Callable[[Any], bool]) -> Any:
        """The value, if ``fits(value)``; ``kind`` describes valid values in the error message."""
        section, name = key.split(".")
        part = self.content.get(section)
        value = part.get(name) if isinstance(part, dict) else None
        if not fits(value):
            raise ValueError(
                f"{self.path}: {key} must be {kind}, got {value!r}; "
                "it is not the config of a published tauLDR model"
            )
        return value

    def text(self, key: str) -> str:
        return self.get(key, "a text", lambda value: isinstance(value, str))

    def flag(self, key: str) -> bool:
        return self.get(key, "true or false", lambda value: isinstance(value, bool))

    def whole(self, key: str, least: int = 1) -> int:
        return self.get(key, f"a whole number >= {least}", lambda value: is_whole(value, least))

    def wholes(self, key: str, count: int | None = None) -> tuple[int, ...]:
        kind = f"a list of {'' if count is None else f'{count} '}whole numbers >= 1"
        return tuple(
            self.get(
                key,
                kind,
                lambda value: is_list(value, count) and all(is_whole(each, 1) for each in value),
            )
        )

    def number(self, key: str) -> float:
        return float(self.get(key, "a finite number", is_number))

    def check(self, key: str, wanted: Any, why: str) -> None:
        self.get(key, f"{wanted} ({why})", lambda value: value == wanted)


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_list(value: Any, count: int | None) -> bool:
    return isinstance(value, list) and len(value) > 0 and count in (None, len(value))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_config(path: Path) -> Config:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise ValueError(
            f"{path} is not a yaml file that can be read ({what}); download it again"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds no sections; it is not the config of a published tauLDR model"
        )
    return Config(path, content)


def image_model(config: Config) -> tuple[ForwardProcess, UNetPosterior, int]:
    """Forward process, model and sequence length of the CIFAR-10 model."""
    size, multipliers = config.whole("data.S"), config.wholes("model.ch_mult")
    channels, height, width = config.wholes("data.shape", 3)
    config.check("model.input_channels", channels, "the first number of data.shape")
    config.check("model.num_scales", len(multipliers), "as many as in model.ch_mult")
    config.check("model.data_min_max", [0, size - 1], "the symbols that data.S says")
    unet = UNetConfig(
        vocab_size=size,
        shape=(channels, height, width),
        channels=config.whole("model.ch"),
        multipliers=multipliers,
        n_blocks=config.whole("model.num_res_blocks"),
        attention_at=config.whole("model.scale_count_to_put_attn", least=0),
        time_dim=config.whole("model.time_embed_dim"),
        time_scale=config.number("model.time_scale_factor"),
        dropout=config.number("model.dropout"),
        rescale=config.flag("model.skip_rescale"),
        symmetric=config.flag("model.fix_logistic"),
    )
    forward = Gaussian(
        vocab_size=size,
        rate_sigma=config.number("model.rate_sigma"),
        q_sigma=config.number("model.Q_sigma"),
        noise=Exponential(
            base=config.number("model.time_exponential"), scale=config.number("model.time_base")
        ),
    )
    return forward, UNetPosterior(UNet(unet)), channels * height * width


def sequence_model(config: Config) -> tuple[ForwardProcess, TransformerPosterior, int]:
    """Forward process, model and sequence length of the piano model."""
    size, (length,) = config.whole("data.S"), config.wholes("data.shape", 1)
    transformer = TransformerConfig(
        vocab_size=size,
        length=length,
        hidden_size=config.whole("model.d_model"),
        feedforward_size=config.whole("model.dim_feedforward"),
        n_layers=config.whole("model.num_layers"),
        n_heads=config.whole("model.num_heads"),
        n_output_layers=config.whole("model.num_output_FFresiduals", least=0),
        time_dim=config.whole("model.temb_dim"),
        time_scale=config.number("model.time_scale_factor"),
        ordinal=not config.flag("model.use_one_hot_input"),
        dropout=config.number("model.dropout"),
    )
    forward = Uniform(vocab_size=size, noise=Constant(config.number("model.rate_const") * size))
    return forward, TransformerPosterior(Transformer(transformer), time_conditioned=False), length


MODELS: dict[str, Callable[[Config], tuple[ForwardProcess, Any, int]]] = {
    "GaussianTargetRateImageX0PredEMA": image_model,
    "UniformRateSequenceTransformerEMA": sequence_model,
}


class Skipped:
    """An empty placeholder for a numpy scalar in the file, so that no code of the file is run."""

    def __init__(self, *parts: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


NUMPY = ["numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
"""Types that a numpy scalar is pickled with (numpy 1, 2); the learning rate in the file is one."""


def skipping(name: str) -> type[Skipped]:
    """A placeholder type with the given qualified name."""
    module, _, short = name.rpartition(".")
    return type(short, (Skipped,), {"__module__": module})


def read_weights(network: nn.Module, path: Path, config: str) -> None:
    """Load the network's weights from a .pt file; moving averages if the file holds them."""
    with torch.serialization.safe_globals([skipping(name) for name in NUMPY]):
        content = read_pickle(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no weights under 'model'; it is not a tauLDR checkpoint")
    weights = {
        str(key).replace(".module.", "."): value
        for key, value in state.items()
        if not str(key).startswith("ema_")
    }
    load_weights(network, only_tensors(weights, path), path, config)
    if "ema_shadow_params" in state:
        load_weights(
            network,
            only_tensors(named_averages(state["ema_shadow_params"], network, path), path),
            path,
            config,
        )


def named_averages(averages: Any, network: nn.Module, path: Path) -> dict[str, Any]:
    """Parameter name -> moving average, from a list in the order of the network's parameters."""
    names = [name for name, _ in network.named_parameters()]
    if not isinstance(averages, list) or len(averages) != len(names):
        count = len(averages) if isinstance(averages, list) else "no list of"
        raise ValueError(
            f"{path} holds {count} averaged weights (ema_shadow_params), "
            f"the network has {len(names)}; check that config and weights belong together"
        )
    return dict(zip(names, averages, strict=True))


def only_tensors(weights: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The same weights, after a check that all are tensors."""
    others = [str(key) for key, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{path}: {listed(others)} should be tensors; it is not a tauLDR checkpoint"
        )
    return weights
