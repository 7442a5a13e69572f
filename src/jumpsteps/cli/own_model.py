"""A model of the user's own, which a command names as MODULE:NAME."""

import hashlib
from dataclasses import replace

import torch
from torch import nn

from jumpsteps.cli.options import ModelOptions
from jumpsteps.cli.your_own import module_file, own_instance
from jumpsteps.denoiser.checks import networks_of
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.hub import TOKENIZER_FILES, find_folder
from jumpsteps.models.loaded import LoadedModel, cast_and_compile
from jumpsteps.models.tokenizer import Text, read_tokenizer

__all__ = ["own_model"]

WHAT = "a reverse process such as jumpsteps.PosteriorReverse(forward, network), or a LoadedModel"


def own_model(
    options: ModelOptions, device: torch.device, dtype: torch.dtype | None
) -> LoadedModel:
    """The model, its networks on the device; a reverse process is for sequences of ``--length``.

    Raises:
        ValueError: see ``own_instance``; options that it does not serve, or no length.
    """
    name = options.name
    kinds = (LoadedModel, ReverseProcess)
    made: LoadedModel | ReverseProcess = own_instance(
        "MODEL", name, kinds, WHAT, "mine:model", device
    )
    reverse = made.reverse if isinstance(made, LoadedModel) else made
    if options.mask_id is not None:
        raise ValueError(f"the forward process of {name} names its MASK; leave out --mask-id")
    if (dtype is not None or options.compile) and not isinstance(reverse.model, nn.Module):
        raise ValueError(
            f"the model of {name} is no torch.nn.Module; leave out --dtype and --compile, and cast "
            "or compile its network in the module"
        )
    for network in networks_of(reverse.model):
        network.to(device)
    model = loaded(name, made, options.length)
    if options.tokenizer is not None:
        model = model.with_text(text_of_tokenizer(options, reverse))
    return cast_and_compile(model, dtype=dtype, compile=options.compile)


def loaded(name: str, made: LoadedModel | ReverseProcess, length: int | None) -> LoadedModel:
    """The model for sequences of this length, with a digest."""
    if isinstance(made, LoadedModel):
        model = made if made.digest else replace(made, digest=digest_of(name, made.reverse))
        return with_length(model, length)
    if length is None:
        raise ValueError(
            f"{name} is a reverse process, for sequences of any length; pass --length L"
        )
    return LoadedModel(name, made, length, digest_of(name, made), task=None)


def with_length(model: LoadedModel, length: int | None) -> LoadedModel:
    """The model for sequences of this length."""
    if length in (None, model.length):
        return model
    if model.resized is None:
        raise ValueError(
            f"{model.name!r} is for sequences of {model.length} tokens, and --length is {length}; "
            "leave it out"
        )
    assert length is not None
    return model.resized(length)


def text_of_tokenizer(options: ModelOptions, reverse: ReverseProcess) -> Text:
    """Text by the tokenizer that ``--tokenizer`` names."""
    name, trusted = str(options.tokenizer), options.trust_remote_code
    files = ["config.json", *TOKENIZER_FILES, *(["*.py"] if trusted else [])]
    folder = find_folder(name, files, f"tokenizer {name!r}: ")
    return Text(read_tokenizer(folder, trusted=trusted), reverse.forward)


def digest_of(name: str, reverse: ReverseProcess) -> str:
    """SHA-256 of the module's file, the forward process, and the networks' weights."""
    forward = reverse.forward
    digest = hashlib.sha256((repr(forward) + forward.rates_hash).encode())
    if (file := module_file(name)) is not None:
        digest.update(file.read_bytes())
    for network in networks_of(reverse.model):
        for key, value in network.state_dict().items():
            digest.update(key.encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
