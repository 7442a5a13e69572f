"""Load a model by name: built in, from a folder, or from the Hugging Face hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import torch

from jumpsteps.core.files import read_json
from jumpsteps.models.built_in import BUILT_IN, TEXTS, with_own_tokenizer
from jumpsteps.models.formats.antiberty import is_antiberty, load_antiberty
from jumpsteps.models.formats.gidd import is_gidd, load_gidd
from jumpsteps.models.formats.masked_lm import is_masked_lm, load_masked_lm
from jumpsteps.models.formats.mdlm import is_mdlm, load_mdlm
from jumpsteps.models.formats.native import is_native, load_native
from jumpsteps.models.formats.sedd import is_sedd, load_sedd
from jumpsteps.models.formats.tauldr import is_tauldr, load_tauldr
from jumpsteps.models.formats.udlm import is_udlm, load_udlm
from jumpsteps.models.hub import MODEL_FILES, TOKENIZER_FILES, find_folder
from jumpsteps.models.loaded import LoadedModel, cast_and_compile
from jumpsteps.models.tokenizer import Text, read_tokenizer

__all__ = ["load"]


class MaskedLMOptions(TypedDict):
    """Options of ``load`` that ``load_masked_lm`` takes."""

    trust_remote_code: bool
    mask_id: int | None
    length: int | None


def load(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
    mask_id: int | None = None,
    length: int | None = None,
    tokenizer: str | Path | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        name: one of

            * a built-in name, a key of ``BUILT_IN`` such as "countdown";
            * a folder with ``config.json`` and weights, of this project or in the published SEDD,
              MDLM, UDLM, Duo or GIDD layout, or of a Hugging Face masked language model;
            * the folder of the Python package antiberty;
            * a folder with a yaml config and a .pt file in the published tauLDR layout;
            * a hub id such as "louaaron/sedd-small" or "kuleshov-group/mdlm-owt".
        device: device of the network.
        dtype: dtype of the network's parameters, such as torch.bfloat16. The default is float32,
            or the config's for a model of Hugging Face transformers.
        compile: compile the network's trunk with ``torch.compile``, once per batch size. The first
            calls take some seconds longer.
        trust_remote_code: whether Python code that comes with the model may run. LLaDA and Dream
            need it.
        mask_id: MASK of a masked language model whose tokenizer and config do not name it.
        length: sequence length L of a masked language model. The default is the longest it allows,
            and 118 residues for AntiBERTy.
        tokenizer: folder or hub id of the tokenizer, such as "openai-community/gpt2" for the SEDD
            and MDLM models. The default is the tokenizer in the model's folder, if there is one.

    Raises:
        ValueError: no such model; a folder that is no checkpoint, or a damaged one; ``mask_id`` or
            ``length`` for a model that is no masked language model; a tokenizer that cannot be
            read, has an id that is no symbol of the model, or is given for a built-in model;
            ``dtype`` or ``compile`` for an exact model, which has no network.
    """
    options: MaskedLMOptions = {
        "trust_remote_code": trust_remote_code,
        "mask_id": mask_id,
        "length": length,
    }
    model = load_as_stored(name, torch.device(device), options, tokenizer)
    return cast_and_compile(model, dtype=dtype, compile=compile)


def load_as_stored(
    name: str | Path,
    device: torch.device,
    options: MaskedLMOptions,
    tokenizer: str | Path | None,
) -> LoadedModel:
    """The model in the dtype that it is stored in, not compiled."""
    if str(name) in BUILT_IN:
        refuse_masked_lm_options(options, str(name))
        if tokenizer is not None:
            known = "brings its tokenizer" if name in TEXTS else "is not a model of text"
            raise ValueError(f"{name} {known}; leave out the tokenizer")
        return BUILT_IN[str(name)](device)
    code = ["*.py"] if options["trust_remote_code"] else []
    folder = find_folder(
        name,
        [*MODEL_FILES, *TOKENIZER_FILES, *code],
        f"model {str(name)!r}: not built in ({', '.join(BUILT_IN)}), ",
    )
    if tokenizer is not None:
        tokenizer = find_folder(
            tokenizer, ["config.json", *TOKENIZER_FILES, *code], f"tokenizer {str(tokenizer)!r}: "
        )
    return load_folder(folder, str(name), device, options, tokenizer)


def refuse_masked_lm_options(options: MaskedLMOptions, name: str) -> None:
    """Raise ValueError if ``mask_id`` or ``length`` is set; for models that define both."""
    if options["mask_id"] is not None or options["length"] is not None:
        raise ValueError(
            f"{name} knows its MASK and its length; mask_id and length are for masked language "
            "models, leave them out"
        )


def load_folder(
    folder: Path,
    name: str,
    device: torch.device,
    options: MaskedLMOptions,
    tokenizer_folder: Path | None,
) -> LoadedModel:
    """Read a checkpoint folder of any known format."""
    if is_tauldr(folder):
        refuse_masked_lm_options(options, name)
        if tokenizer_folder is not None:
            raise ValueError(f"{name} is not a model of text; leave out the tokenizer")
        return load_tauldr(folder, name, device)
    if is_antiberty(folder):
        if options["mask_id"] is not None or tokenizer_folder is not None:
            raise ValueError(f"{name} brings its MASK and its vocabulary; leave out yours")
        return load_antiberty(folder, name, device, length=options["length"])
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and is_masked_lm(config):
        return load_masked_lm(folder, name, device, **options, tokenizer_folder=tokenizer_folder)
    refuse_masked_lm_options(options, name)
    model = load_by_config(folder, config, name, device)
    if tokenizer_folder is None:
        return with_own_tokenizer(model, folder, trusted=options["trust_remote_code"])
    tokenizer = read_tokenizer(tokenizer_folder, trusted=options["trust_remote_code"])
    return model.with_text(Text(tokenizer, model.reverse.forward))


LOADERS: list[
    tuple[
        Callable[[dict[str, Any]], bool],
        Callable[[Path, dict[str, Any], str, torch.device], LoadedModel],
    ]
] = [
    (is_native, load_native),
    (is_sedd, load_sedd),
    (is_mdlm, load_mdlm),
    (is_udlm, load_udlm),
    (is_gidd, load_gidd),
]
"""(whether a ``config.json`` is of this format, loader of the format)."""


def load_by_config(folder: Path, config: object, name: str, device: torch.device) -> LoadedModel:
    """A model whose network is one of ``jumpsteps.models.networks``."""
    for recognises, load_format in LOADERS:
        if isinstance(config, dict) and recognises(config):
            return load_format(folder, config, name, device)
    raise ValueError(
        f"{folder / 'config.json'} is neither a jumpsteps checkpoint nor a SEDD one nor that of an "
        "MDLM, UDLM, Duo, GIDD or masked language model; no other kind is known"
    )
