"""The DiT of SEDD, MDLM, UDLM, Duo and GIDD: its layout, and an independent evaluation."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

import jumpsteps
from builders.statistics import seeded

V, L, D, HEADS, BLOCKS, COND = 21, 12, 24, 3, 2, 10
SIZES = {
    "cond_dim": COND,
    "dropout": 0.1,
    "hidden_dim": D,
    "model_length": L,
    "n_blocks": BLOCKS,
    "n_heads": HEADS,
    "vocab_size": V,
}
"""As MDLM's, UDLM's and Duo's configs have them."""


def layout():
    """Every name in the published files, with its shape."""
    shapes = {"vocab_embed.embedding": [V, D]}
    shapes |= {"sigma_map.mlp.0.weight": [COND, 256], "sigma_map.mlp.0.bias": [COND]}
    shapes |= {"sigma_map.mlp.2.weight": [COND, COND], "sigma_map.mlp.2.bias": [COND]}
    for b in range(BLOCKS):
        p = f"blocks.{b}."
        shapes |= {
            p + "norm1.weight": [D],
            p + "attn_qkv.weight": [3 * D, D],
            p + "attn_out.weight": [D, D],
        }
        shapes |= {
            p + "norm2.weight": [D],
            p + "mlp.0.weight": [4 * D, D],
            p + "mlp.0.bias": [4 * D],
        }
        shapes |= {p + "mlp.2.weight": [D, 4 * D], p + "mlp.2.bias": [D]}
        shapes |= {
            p + "adaLN_modulation.weight": [6 * D, COND],
            p + "adaLN_modulation.bias": [6 * D],
        }
    p = "output_layer."
    shapes |= {p + "norm_final.weight": [D], p + "linear.weight": [V, D], p + "linear.bias": [V]}
    return shapes | {
        p + "adaLN_modulation.weight": [2 * D, COND],
        p + "adaLN_modulation.bias": [2 * D],
    }


def random_weights():
    """Without the positions, which are constants that the published layouts store differently."""
    generator = seeded(0)
    return {
        name: ("norm" in name) + 0.2 * torch.randn(shape, generator=generator)
        for name, shape in layout().items()
    }


def backbone(weights):
    """A published state, as MDLM, UDLM and Duo have it."""
    dim = D // HEADS
    frequencies = 1 / 10000 ** (torch.arange(0, dim, 2) / dim)
    return {
        f"backbone.{name}": value
        for name, value in (weights | {"rotary_emb.inv_freq": frequencies}).items()
    }


def write_folder(path, config, weights, pickled=False):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(weights, path / "pytorch_model.bin")
    else:
        save_file(weights, path / "model.safetensors")
    return path


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


def check_that_damage_is_refused(folder):
    """Cut weights, no weights, and a pickled file that is none; the folder is a whole one."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        jumpsteps.load(folder)
    file.unlink()
    with pytest.raises(ValueError, match="there is no file"):
        jumpsteps.load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is damaged, or holds more than tensors"):
        jumpsteps.load(folder)


def silu(x):
    return x / (1 + torch.exp(-x))


def norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight


def turned(x):
    """Rotary positions of x [L, dim]; the halves of a head are real and imaginary part."""
    half = x.shape[1] // 2
    speed = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(len(x), dtype=torch.float64)[:, None] * speed
    z = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


def attention(x, w):
    """Bidirectional attention of x [L, D], head by head; rows of ``attn_qkv`` are q, k and v."""
    q, k, v = (x @ part.T for part in w["attn_qkv.weight"].split(D))
    dim = D // HEADS
    heads = []
    for h in range(HEADS):
        own = slice(h * dim, (h + 1) * dim)
        heads.append(
            (turned(q[:, own]) @ turned(k[:, own]).T / math.sqrt(dim)).softmax(-1) @ v[:, own]
        )
    return torch.cat(heads, -1) @ w["attn_out.weight"].T


def feed_forward(x, w):
    y = x @ w["mlp.0.weight"].T + w["mlp.0.bias"]
    y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    return y @ w["mlp.2.weight"].T + w["mlp.2.bias"]


def part_of(weights, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def logits_of(weights, tokens, sigma):
    """The network on one sequence, in float64. tokens [L] -> [L, V]."""
    w = {name: value.double() for name, value in weights.items()}
    angle = sigma * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    c = (
        w["sigma_map.mlp.0.weight"] @ torch.cat([angle.cos(), angle.sin()])
        + w["sigma_map.mlp.0.bias"]
    )
    c = silu(w["sigma_map.mlp.2.weight"] @ silu(c) + w["sigma_map.mlp.2.bias"])
    x = w["vocab_embed.embedding"][tokens]
    for b in range(BLOCKS):
        block = part_of(w, f"blocks.{b}.")
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            block["adaLN_modulation.weight"] @ c + block["adaLN_modulation.bias"]
        ).split(D)
        x = x + gate1 * attention(norm(x, block["norm1.weight"]) * (1 + scale1) + shift1, block)
        x = x + gate2 * feed_forward(norm(x, block["norm2.weight"]) * (1 + scale2) + shift2, block)
    head = part_of(w, "output_layer.")
    shift, scale = (head["adaLN_modulation.weight"] @ c + head["adaLN_modulation.bias"]).split(D)
    return (norm(x, head["norm_final.weight"]) * (1 + scale) + shift) @ head[
        "linear.weight"
    ].T + head["linear.bias"]
