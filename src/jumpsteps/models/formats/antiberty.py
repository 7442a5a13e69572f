"""AntiBERTy (Ruffolo, Gray, Sulam 2021, arXiv 2112.07782): a BERT for the sequences of antibodies.

The weights come inside the Python package ``antiberty``. Its folder holds

* ``trained_models/vocab.txt``: one token a line, [PAD] [UNK] [CLS] [SEP] [MASK] and 20 residues;
* ``trained_models/AntiBERTy_md_smooth/config.json`` and ``pytorch_model.bin``: a BERT with a head
  for masked tokens. Further heads, for the species and the chain, are not read.

The network is that of ``transformers.BertForMaskedLM``. It does not depend on time: the posterior
of the absorbing kernel does not either. [CLS] and [SEP], which stand around every sequence, are
added by the model; no special token is ever sampled.
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from jumpsteps.core.files import read_json
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.formats.masked_lm import MaskedLanguageModel
from jumpsteps.models.loaded import LoadedModel, file_hash, load_weights, read_pickle
from jumpsteps.models.tokenizer import transformers
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.tasks.antibodies import LENGTH, RESIDUES, antibody_task

__all__ = ["is_antiberty", "load_antiberty"]

CHECKPOINT = "AntiBERTy_md_smooth"
UNUSED = ("bert.pooler.", "cls.species.", "cls.chain.", "cls.graft.")
POSITIONS = "bert.embeddings.position_ids"
"""0, 1, 2, ...: stored in the file, computed by newer versions of transformers."""


def checkpoint_in(folder: Path) -> Path | None:
    """The folder of config and weights: ``folder`` itself, or where the package has it below."""
    for candidate in (folder, folder / CHECKPOINT, folder / "trained_models" / CHECKPOINT):
        if (candidate / "config.json").is_file():
            config = read_json(candidate / "config.json")
            named = config.get("architectures") if isinstance(config, dict) else None
            return candidate if named == ["AntiBERTy"] else None
    return None


def is_antiberty(folder: Path) -> bool:
    """Whether ``load_antiberty`` reads this folder."""
    return checkpoint_in(folder) is not None


def load_antiberty(
    folder: Path, name: str, device: torch.device, *, length: int | None = None
) -> LoadedModel:
    """Read the folder of the package, its ``trained_models``, or the checkpoint's own folder.

    Args:
        length: L, the number of residues; 118 by default, see ``jumpsteps.tasks.antibodies``.

    Raises:
        ValueError: transformers is not installed; a file is missing, damaged or holds another
            network; the vocabulary lacks a token; L is not between 1 and the number of positions
            less two.
    """
    checkpoint = checkpoint_in(folder)
    if checkpoint is None:
        raise ValueError(f"{folder} holds no AntiBERTy; pass the folder of the package antiberty")
    config = read_json(checkpoint / "config.json")
    ids = read_vocabulary(checkpoint)
    network = read_network(checkpoint, config, transformers())
    vocab_size = int(network.config.vocab_size)
    if max(ids.values()) >= vocab_size:
        raise ValueError(
            f"the vocabulary of {checkpoint} has {max(ids.values()) + 1} tokens, the network "
            f"{vocab_size}; check that they belong together"
        )
    forward = Absorbing(vocab_size=vocab_size, noise=LogLinear(), mask_id=ids["[MASK]"])
    residues = {letter: ids[letter] for letter in RESIDUES}
    model = MaskedLanguageModel(
        network,
        vocab_size=vocab_size,
        mask_id=forward.mask_id,
        known=residues.values(),
        wrap=([ids["[CLS]"]], [ids["[SEP]"]]),
    )
    reverse = PosteriorReverse(forward, model.to(device).eval())
    digest = file_hash(checkpoint / "pytorch_model.bin")
    longest = int(network.config.max_position_embeddings) - 2
    excluded = tuple(sorted(set(range(vocab_size)) - set(residues.values()) - {forward.mask_id}))

    def of_length(residue_count: int) -> LoadedModel:
        if not 1 <= residue_count <= longest:
            raise ValueError(
                f"{name} takes sequences of 1..{longest} residues, got {residue_count}"
            )
        task = antibody_task(residues, residue_count)
        return LoadedModel(
            name, reverse, residue_count, digest, task, excluded=excluded, resized=of_length
        )

    return of_length(LENGTH if length is None else length)


def read_vocabulary(checkpoint: Path) -> dict[str, int]:
    """The id of every token: the number of its line, from 0."""
    for path in (checkpoint.parent / "vocab.txt", checkpoint / "vocab.txt"):
        if path.is_file():
            ids = {token: i for i, token in enumerate(path.read_text("utf-8").split())}
            missing = [
                token for token in ("[CLS]", "[SEP]", "[MASK]", *RESIDUES) if token not in ids
            ]
            if missing:
                raise ValueError(f"{path} lacks {' '.join(missing)}; install the package again")
            return ids
    raise ValueError(f"there is no {checkpoint.parent / 'vocab.txt'}; install the package again")


def read_network(checkpoint: Path, config: Mapping[str, Any], library: ModuleType) -> Any:
    """The BERT with its head for masked tokens, in evaluation mode, float32."""
    path = checkpoint / "pytorch_model.bin"
    if not path.is_file():
        raise ValueError(f"there is no {path}; install the package again")
    try:
        network = library.BertForMaskedLM(library.BertConfig(**sizes_of(config)))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint / 'config.json'} is no BERT's ({error})") from error
    stored = read_pickle(path)
    kept = {
        key: value
        for key, value in stored.items()
        if not key.startswith(UNUSED) and key != POSITIONS
    }
    load_weights(network, kept, path)
    return network.eval()


def sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that define the network; raises KeyError for one that is missing."""
    wanted = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "hidden_act",
        "layer_norm_eps",
        "pad_token_id",
    )
    return {key: config[key] for key in wanted}
