"""Checkpoint folders of published diffusion transformers: configs, and weights of tiny sizes."""

import json

import torch
from safetensors.torch import save_file

from builders.reference_dit import BLOCKS, COND, HEADS, SIZES, D, L, V
from builders.statistics import seeded
from jumpsteps.models.networks.dit import DiT, DiTConfig

SEDD = {
    "tokens": 20,
    "graph": {"type": "absorb", "file": "data", "report_all": False},
    "noise": {"type": "loglinear", "sigma_min": 1e-4, "sigma_max": 20},
    "model": {
        "name": "tiny",
        "type": "ddit",
        "hidden_size": 16,
        "cond_dim": 8,
        "length": 12,
        "n_blocks": 2,
        "n_heads": 2,
        "scale_by_sigma": True,
        "dropout": 0.1,
    },
    "training": {"batch_size": 4},
}


def random_network(config: DiTConfig) -> DiT:
    network, generator = DiT(config), seeded(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return network.eval()


def sedd_folder(path, config=SEDD, pickled=False):
    vocab = config["tokens"] + (config["graph"]["type"] == "absorb")
    network = random_network(
        DiTConfig(vocab_size=vocab, hidden_size=16, n_blocks=2, n_heads=2, cond_dim=8)
    )
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(network.state_dict(), path / "pytorch_model.bin")
    else:
        save_file(network.state_dict(), path / "model.safetensors")
    return network


MDLM = SIZES | {
    "architectures": ["MDLM"],
    "model_type": "mdlm",
    "time_conditioning": False,
    "torch_dtype": "float32",
}
HUB = {"return_dict": False, "torch_dtype": "float32", "transformers_version": "4.38.2"}
UDLM = (
    SIZES
    | HUB
    | {
        "architectures": ["UDLM"],
        "model_type": "udlm",
        "cfg": False,
        "cfg_num_classes": -1,
        "time_conditioning": True,
    }
)
DUO = (
    SIZES | HUB | {"architectures": ["DUO"], "model_type": "DUO", "causal": False, "var_min": True}
)
GIDD = {
    "architectures": ["DIT"],
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_dit.DITConfig",
        "AutoModelForMaskedLM": "modeling_dit.DIT",
    },
    "hidden_size": D,
    "max_seq_len": L,
    "model_type": "dit",
    "num_attention_heads": HEADS,
    "num_hidden_layers": BLOCKS,
    "p_uniform": 0.0,
    "t_eps": 0.0001,
    "timestep_cond_dim": COND,
    "torch_dtype": "float32",
    "transformers_version": "4.49.0",
    "vocab_size": V,
}


def gidd_tables(length):
    """cos and sin of every position and frequency, alike in both halves; v is not rotated."""
    half = D // HEADS // 2
    cos, sin = torch.ones(1, length, 3, 1, 2 * half), torch.zeros(1, length, 3, 1, 2 * half)
    for position in range(length):
        for i in range(half):
            angle = torch.tensor(position / 10000 ** (i / half))
            for j in (i, i + half):
                cos[0, position, :2, 0, j], sin[0, position, :2, 0, j] = angle.cos(), angle.sin()
    return {"rotary_emb.cos_cached": cos, "rotary_emb.sin_cached": sin}
