"""Load a model by name: built in, from a folder, or from the Hugging Face hub."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict

import torch

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.devices import usable_device
from jumpsteps.core.files import read_json
from jumpsteps.core.memory import out_of_memory
from jumpsteps.models.built_in import BUILT_IN, EXACT, TEXTS, with_own_tokenizer
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
from jumpsteps.models.tokenizer import Text, first_line, read_tokenizer

__all__ = ["load"]


class MaskedLMOptions(TypedDict):
    """Options of ``load`` that ``load_masked_lm`` takes."""

    trust_remote_code: bool
    mask_id: int | None
    length: int | None


@kinds_checked(
    name="a built-in name such as 'countdown', a folder, or a hub id",
    device="a device such as 'cuda'",
)
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
        device: device of the network. For "meta" it has no weights; where the format can be read
            in parts, ``shard_model`` reads those of its process, else they are on the CPU.
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
            ``dtype`` or ``compile`` for an exact model, which has no network; a ``dtype`` of
            integers; a device that is not here.
    """
    options: MaskedLMOptions = {
        "trust_remote_code": trust_remote_code,
        "mask_id": mask_id,
        "length": length,
    }
    model = load_as_stored(name, usable_device(device), options, tokenizer)
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
        whole = device.type == "meta" and str(name) in EXACT
        return BUILT_IN[str(name)](torch.device("cpu") if whole else device)
    code = ["*.py"] if options["trust_remote_code"] else []
    folder = find_folder(
        name,
        [*MODEL_FILES, *TOKENIZER_FILES, *code],
        f"model {str(name)!r}: {meant(str(name))}not built in ({', '.join(BUILT_IN)}), ",
    )
    if tokenizer is not None:
        tokenizer = find_folder(
            tokenizer, ["config.json", *TOKENIZER_FILES, *code], f"tokenizer {str(tokenizer)!r}: "
        )
    return load_folder(folder, str(name), device, options, tokenizer)


def meant(name: str) -> str:
    """The built-in name that is nearest to another name, as a question; empty if none is near."""
    near = get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.75)
    return f"did you mean {near[0]}? It is " if near else ""


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
    whole = torch.device("cpu") if device.type == "meta" else device
    if is_tauldr(folder):
        refuse_masked_lm_options(options, name)
        if tokenizer_folder is not None:
            raise ValueError(f"{name} is not a model of text; leave out the tokenizer")
        return load_tauldr(folder, name, whole)
    if is_antiberty(folder):
        if options["mask_id"] is not None or tokenizer_folder is not None:
            raise ValueError(f"{name} brings its MASK and its vocabulary; leave out yours")
        return load_antiberty(folder, name, whole, length=options["length"])
    if not (folder / "config.json").exists():
        advice = "pass the folder that has it"
        if (folder / "training.pt").exists():
            advice = "its training was stopped: continue it with 'jumpsteps train'"
        raise ValueError(f"{folder} is no checkpoint, because it has no config.json; {advice}")
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and is_masked_lm(config):
        return load_masked_lm(folder, name, device, **options, tokenizer_folder=tokenizer_folder)
    refuse_masked_lm_options(options, name)
    place = device if (folder / "model.safetensors").exists() else whole  # A pickle is read whole.
    model = load_by_config(folder, config, name, place)
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


WIDTHS = ("hidden_size", "hidden_dim")
SIZES = (
    *WIDTHS,
    *("n_blocks", "n_layers", "num_hidden_layers", "vocab_size", "tokens", "feedforward_size"),
    *("cond_dim", "timestep_cond_dim", "time_dim", "max_seq_len"),
)
"""Names of sizes in the configs of all formats. The weights hold at least the product of each with
the width."""

ALWAYS_TRIED = 1 << 24
"""Weights of a network that is small enough to build and compare with the file."""


def check_sizes(folder: Path, config: dict[str, Any]) -> None:
    """Raises ValueError for sizes that need more weights than the folder's files hold, before
    memory is taken for such a network.
    """
    files = (path for kind in ("safetensors", "bin") for path in folder.glob(f"*.{kind}"))
    most = max(ALWAYS_TRIED, sum(path.stat().st_size for path in files))
    parts = [part for part in (config, *config.values()) if isinstance(part, dict)]
    found = [
        (name, part[name]) for part in parts for name in SIZES if isinstance(part.get(name), int)
    ]
    width = max((size for name, size in found if name in WIDTHS), default=1)
    for name, size in found:
        if size * width > most:
            raise ValueError(
                f"{folder / 'config.json'}: {name} is {size}, more than the weights are for; "
                "check that config.json and weights belong together"
            )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns the errors that values of a wrong type or size lead to into a ValueError."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {first_line(error)}); download or train "
            "the model again"
        ) from None


def load_by_config(folder: Path, config: object, name: str, device: torch.device) -> LoadedModel:
    """A model whose network is one of ``jumpsteps.models.networks``."""
    for recognises, load_format in LOADERS:
        if isinstance(config, dict) and recognises(config):
            with damage_named(folder / "config.json"):
                check_sizes(folder, config)
                return load_format(folder, config, name, device)
    raise ValueError(
        f"{folder / 'config.json'} is neither a jumpsteps checkpoint nor a SEDD one nor that of an "
        "MDLM, UDLM, Duo, GIDD or masked language model; no other kind is known"
    )
