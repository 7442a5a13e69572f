"""Folders in the layout of the published MDLM checkpoints, against an evaluation written from the architecture's description."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

import jumpsteps
from helpers import seeded
from jumpsteps.forward import Absorbing
from jumpsteps.models.mdlm import is_mdlm, load_mdlm
from jumpsteps.noise import LogLinear

V, L, D, HEADS, BLOCKS, COND = 21, 12, 24, 3, 2, 10
MASK = V - 1
CONFIG = {
    "architectures": ["MDLM"],
    "cond_dim": COND,
    "dropout": 0.1,
    "hidden_dim": D,
    "model_length": L,
    "model_type": "mdlm",
    "n_blocks": BLOCKS,
    "n_heads": HEADS,
    "time_conditioning": False,
    "torch_dtype": "float32",
    "vocab_size": V,
}
TOKENS = torch.randint(V, (3, L), generator=seeded(1)).index_fill(1, torch.tensor([0, 5, 6]), MASK)
HIDDEN = TOKENS == MASK


def layout():
    """Every name in the published files, with its shape."""
    shapes = {"vocab_embed.embedding": [V, D]}
    shapes |= {"sigma_map.mlp.0.weight": [COND, 256], "sigma_map.mlp.0.bias": [COND]}
    shapes |= {"sigma_map.mlp.2.weight": [COND, COND], "sigma_map.mlp.2.bias": [COND]}
    for b in range(BLOCKS):
        p = f"blocks.{b}."
        shapes |= {p + "norm1.weight": [D], p + "attn_qkv.weight": [3 * D, D], p + "attn_out.weight": [D, D]}
        shapes |= {p + "norm2.weight": [D], p + "mlp.0.weight": [4 * D, D], p + "mlp.0.bias": [4 * D]}
        shapes |= {p + "mlp.2.weight": [D, 4 * D], p + "mlp.2.bias": [D]}
        shapes |= {p + "adaLN_modulation.weight": [6 * D, COND], p + "adaLN_modulation.bias": [6 * D]}
    p = "output_layer."
    shapes |= {p + "norm_final.weight": [D], p + "linear.weight": [V, D], p + "linear.bias": [V]}
    return shapes | {p + "adaLN_modulation.weight": [2 * D, COND], p + "adaLN_modulation.bias": [2 * D]}


def random_weights():
    generator = seeded(0)
    shapes = layout().items()
    weights = {f"backbone.{name}": ("norm" in name) + 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes}
    dim = D // HEADS
    return weights | {"backbone.rotary_emb.inv_freq": 1 / 10000 ** (torch.arange(0, dim, 2) / dim)}


def mdlm_folder(path, weights=None, pickled=False, **change):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | change))
    weights = random_weights() if weights is None else weights
    if pickled:
        torch.save(weights, path / "pytorch_model.bin")
    else:
        save_file(weights, path / "model.safetensors")
    return path


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    return load_mdlm(folder, config, "some/mdlm", torch.device("cpu"))


def silu(x):
    return x / (1 + torch.exp(-x))


def norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight


def turned(x):
    """Rotary positions: a head's first half is the real part, its second half the imaginary part. x [L, dim]."""
    half = x.shape[1] // 2
    speed = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(len(x), dtype=torch.float64)[:, None] * speed
    z = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


def attention(x, w):
    """Bidirectional, head by head; the rows of ``attn_qkv`` are q, k and v, each with its heads in order. x [L, D]."""
    q, k, v = (x @ part.T for part in w["attn_qkv.weight"].split(D))
    dim = D // HEADS
    heads = []
    for h in range(HEADS):
        own = slice(h * dim, (h + 1) * dim)
        heads.append((turned(q[:, own]) @ turned(k[:, own]).T / math.sqrt(dim)).softmax(-1) @ v[:, own])
    return torch.cat(heads, -1) @ w["attn_out.weight"].T


def feed_forward(x, w):
    y = x @ w["mlp.0.weight"].T + w["mlp.0.bias"]
    y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    return y @ w["mlp.2.weight"].T + w["mlp.2.bias"]


def part_of(weights, prefix):
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def logits_of(weights, tokens, sigma):
    """The network on one sequence, in float64. tokens [L] -> [L, V]."""
    w = part_of({name: value.double() for name, value in weights.items()}, "backbone.")
    angle = sigma * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    c = w["sigma_map.mlp.0.weight"] @ torch.cat([angle.cos(), angle.sin()]) + w["sigma_map.mlp.0.bias"]
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
    return (norm(x, head["norm_final.weight"]) * (1 + scale) + shift) @ head["linear.weight"].T + head["linear.bias"]


def subs(logits, tokens):
    """p(x0 | x_t): no MASK, the rest normalised; a site that is not masked keeps its token. [L, V]."""
    p = torch.cat([logits[:, :MASK].softmax(-1), torch.zeros(len(tokens), 1, dtype=logits.dtype)], -1)
    return torch.where((tokens == MASK)[:, None], p, torch.eye(V, dtype=p.dtype)[tokens])


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_a_published_folder_equals_the_reference(tmp_path, pickled):
    model = load(mdlm_folder(tmp_path / "mdlm", pickled=pickled))
    assert model.reverse.forward == Absorbing(vocab_size=V, noise=LogLinear(1e-3), mask_id=MASK)
    assert (model.name, model.length, model.task, len(model.digest)) == ("some/mdlm", L, None, 64)
    assert not model.reverse.model.training
    logits = torch.stack([logits_of(random_weights(), row, 0.0) for row in TOKENS])
    expected = torch.stack([subs(*pair) for pair in zip(logits, TOKENS, strict=True)])
    assert expected[HIDDEN].std(0).max() > 0.05  # contexts and positions matter
    out = model.reverse.model(TOKENS, 0.4)
    assert out.dtype == torch.float32
    assert (out[..., MASK] == -torch.inf).all()
    assert torch.allclose(out[..., :MASK].double(), logits[..., :MASK].log_softmax(-1), rtol=0, atol=1e-5)
    assert torch.allclose(model.reverse.posterior(TOKENS, 0.4).double(), expected, rtol=0, atol=1e-5)
    rows = model.reverse.posterior(TOKENS, 0.4, HIDDEN)
    assert torch.allclose(rows.double(), expected[HIDDEN], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_time_is_told_only_where_the_config_says_so(tmp_path):
    untold, told = load(mdlm_folder(tmp_path / "a")), load(mdlm_folder(tmp_path / "b", time_conditioning=True))
    assert torch.equal(untold.reverse.model(TOKENS, 0.2), untold.reverse.model(TOKENS, 0.9))
    t = torch.tensor([0.2, 0.5, 0.9])
    each = zip(TOKENS, -torch.log(1 - 0.999 * t.double()), strict=True)
    logits = torch.stack([logits_of(random_weights(), row, float(sigma)) for row, sigma in each])
    expected = logits[..., :MASK].log_softmax(-1)
    assert (expected - untold.reverse.model(TOKENS, 0.2)[..., :MASK]).abs().max() > 0.01
    assert torch.allclose(told.reverse.model(TOKENS, t)[..., :MASK].double(), expected, rtol=0, atol=1e-5)
    rows = told.reverse.model(TOKENS, t, HIDDEN)[:, :MASK]
    assert torch.allclose(rows.double(), expected[HIDDEN], rtol=0, atol=1e-5)
    kept = told.reverse.model.remember(TOKENS[:1], 0.2, HIDDEN[:1])
    rows = kept(TOKENS[:1], 0.2, HIDDEN[:1])[:, :MASK]
    assert torch.allclose(rows.double(), expected[:1][HIDDEN[:1]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_was_loaded_is_sampled_and_written_back(tmp_path):
    first = load(mdlm_folder(tmp_path / "first"))
    state = first.reverse.model.network.state_dict()
    assert {f"backbone.{name}": value.shape for name, value in state.items()} == {n: v.shape for n, v in random_weights().items()}
    again = load(mdlm_folder(tmp_path / "again", {f"backbone.{name}": value for name, value in state.items()}))
    assert torch.equal(again.reverse.posterior(TOKENS, 0.4), first.reverse.posterior(TOKENS, 0.4))
    times = jumpsteps.TimeSchedule([1, 0.5, 0])
    samples = jumpsteps.simulate(again.reverse, jumpsteps.Tweedie(), times, (2, L), generator=seeded(0)).samples
    assert samples.max() < MASK


def test_weights_in_half_precision_are_run_in_float32(tmp_path):
    weights = {name: value.bfloat16() for name, value in random_weights().items()}
    model = load(mdlm_folder(tmp_path / "mdlm", weights))
    assert {p.dtype for p in model.reverse.model.parameters()} == {torch.float32}


def test_other_configs_are_not_taken_for_mdlm():
    assert is_mdlm(CONFIG)
    assert not is_mdlm({"model_type": "gpt2", "vocab_size": V})
    assert not is_mdlm({"format": "jumpsteps-model"})


def without(name):
    return {key: value for key, value in random_weights().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        (None, {"vocab_size": V + 1}, rf"has shape \[{V}(, {D})?\], config.json asks for \[{V + 1}(, {D})?\]"),
        (None, {"vocab_size": None}, "vocab_size must be a positive integer, got None"),
        (None, {"n_heads": 0}, "n_heads must be a positive integer, got 0"),
        (None, {"hidden_dim": "24"}, "hidden_dim must be a positive integer, got '24'"),
        (None, {"n_heads": 5}, "hidden_size must be a multiple of 2 x n_heads"),
        (None, {"n_blocks": 3}, "missing keys backbone.blocks.2"),
        (None, {"n_blocks": 1}, "unexpected keys backbone.blocks.1"),
        (without("backbone.sigma_map.mlp.0.bias"), {}, "missing keys backbone.sigma_map.mlp.0.bias, unexpected keys none"),
        (random_weights() | {"lm_head.weight": torch.ones(2)}, {}, "unexpected keys lm_head.weight"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, weights, change, message):
    folder = mdlm_folder(tmp_path / "mdlm", weights, **change)
    with pytest.raises(ValueError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(tmp_path):
    folder = mdlm_folder(tmp_path / "mdlm")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        load(folder)
    file.unlink()
    with pytest.raises(ValueError, match="there is no file"):
        load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is damaged, or holds more than tensors"):
        load(folder)
