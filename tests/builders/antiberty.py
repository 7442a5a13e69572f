"""The folder of the package antiberty with random weights of tiny sizes."""

import json
from pathlib import Path

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.tasks.antibodies import RESIDUES

transformers = pytest.importorskip("transformers")

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *RESIDUES]
V, CLS, SEP, MASK, FIRST = 25, 2, 3, 4, 5
POSITIONS, WIDTH = 130, 16
CONFIG = {
    "_name_or_path": "checkpoint-1160000/",
    "architectures": ["AntiBERTy"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "model_type": "bert",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.5.1",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": V,
}
OTHER_HEADS = {"species": 6, "chain": 2, "graft": 2}


def network() -> torch.nn.Module:
    """The BERT whose weights ``antiberty_folder`` writes."""
    torch.manual_seed(0)
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    sizes = {name: CONFIG[name] for name in (*names, "max_position_embeddings", "vocab_size")}
    config = transformers.BertConfig(initializer_range=0.5, **sizes)
    return transformers.BertForMaskedLM(config).eval()


def antiberty_folder(folder: Path) -> Path:
    """Write ``folder``/trained_models as the package has it, and return ``folder``."""
    checkpoint = folder / "trained_models" / "AntiBERTy_md_smooth"
    checkpoint.mkdir(parents=True)
    (checkpoint.parent / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    (checkpoint / "config.json").write_text(json.dumps(CONFIG))
    weights = {key: value.clone() for key, value in network().state_dict().items()}
    weights["bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    weights["bert.pooler.dense.weight"] = torch.randn(WIDTH, WIDTH, generator=seeded(0))
    weights["bert.pooler.dense.bias"] = torch.zeros(WIDTH)
    for head, size in OTHER_HEADS.items():
        weights[f"cls.{head}.weight"] = torch.randn(size, WIDTH, generator=seeded(1))
        weights[f"cls.{head}.bias"] = torch.zeros(size)
    torch.save(weights, checkpoint / "pytorch_model.bin")
    return folder
