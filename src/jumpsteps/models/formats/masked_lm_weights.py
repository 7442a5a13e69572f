"""The network of a masked language model's folder, made and read by Hugging Face transformers."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from jumpsteps.core.files import read_json
from jumpsteps.models.loaded import file_hash, listed
from jumpsteps.models.tokenizer import first_line
from jumpsteps.models.unread import UnreadWeights, parameters_on, unread_weights

__all__ = ["digest_of", "has_masked_head", "read_or_unread", "weight_files"]

WEIGHTS = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
]


def has_masked_head(config: dict[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForMaskedLM") for name in names)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards of an index."""
    found = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if found is None:
        raise ValueError(
            f"there are no weights in {folder}; it should hold one of {', '.join(WEIGHTS)}"
        )
    if found.suffix != ".json":
        return [found]
    index = read_json(found)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{found} names no files of weights; download it again")
    files = [folder / name for name in sorted(set(shards.values()))]
    absent = [path.name for path in files if not path.exists()]
    if absent:
        raise ValueError(
            f"{folder} lacks {listed(absent)}, which {found.name} names; download them again"
        )
    return files


def digest_of(files: list[Path]) -> str:
    """SHA-256 of one file, or of the SHA-256s of several files in the order of their names."""
    hashes = [file_hash(path) for path in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_or_unread(
    folder: Path,
    config: dict[str, Any],
    library: ModuleType,
    trusted: bool,
    files: list[Path],
    device: torch.device,
) -> tuple[Any, Callable[[torch.device], None] | None]:
    """The network on the CPU, and None; or for the device "meta", if its weights can be read in
    parts, the network without them and what reads this process's part.

    Raises:
        ValueError: transformers cannot read the network.
    """
    unread = None
    if device.type == "meta" and files[0].suffix != ".bin":
        unread = unread_network(folder, config, library, trusted, files)
    if unread is not None:
        return unread.network, unread.read
    pickled = files[0].suffix == ".bin"
    return read_network(folder, config, library, trusted, pickled=pickled), None


def read_network(
    folder: Path, config: dict[str, Any], library: ModuleType, trusted: bool, *, pickled: bool
) -> Any:
    """The network with its weights, in the config's dtype."""
    masked_head = has_masked_head(config)
    kind = library.AutoModelForMaskedLM if masked_head else library.AutoModel
    options = {
        "trust_remote_code": trusted,
        "local_files_only": True,
        "use_safetensors": not pickled,
        "weights_only": True,
    }
    try:
        if not masked_head:  # Dream's loading code does not support ``output_loading_info``.
            return kind.from_pretrained(folder, dtype="auto", **options)
        network, about = kind.from_pretrained(
            folder, dtype="auto", output_loading_info=True, **options
        )
    except Exception as error:  # The model's own code may raise any exception.
        raise ValueError(
            f"transformers {library.__version__} cannot read {folder} ({first_line(error)})"
        ) from error
    if about["missing_keys"]:
        raise ValueError(
            f"the weights in {folder} lack {listed(sorted(about['missing_keys']))}; "
            "it is not a masked language model"
        )
    return network


def unread_network(
    folder: Path, config: dict[str, Any], library: ModuleType, trusted: bool, files: list[Path]
) -> UnreadWeights | None:
    """The network without its weights, which stay in their files.

    None where transformers has to read them: those that are quantised, that it renames, or whose
    dtype is not that of the config.
    """
    kind = library.AutoModelForMaskedLM if has_masked_head(config) else library.AutoModel
    try:
        settings = library.AutoConfig.from_pretrained(
            folder, trust_remote_code=trusted, local_files_only=True
        )
        if settings.dtype is None or getattr(settings, "quantization_config", None) is not None:
            return None
        with parameters_on(torch.device("meta")):
            network = kind.from_config(settings, trust_remote_code=trusted)
    except Exception:  # The model's own code may raise any; reading it whole says what is wrong.
        return None
    in_float32 = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    if any(getattr(network, name, None) for name in in_float32):
        return None
    return unread_weights(network, files)
