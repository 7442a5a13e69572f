"""Folders in the published MDLM layout, against an independent evaluation."""

import json

import pytest
import torch

import jumpsteps
from builders.checkpoints import MDLM
from builders.reference_dit import (
    D,
    L,
    V,
    backbone,
    check_that_damage_is_refused,
    logits_of,
    random_weights,
    without,
    write_folder,
)
from builders.statistics import seeded
from jumpsteps.models.formats.mdlm import is_mdlm, load_mdlm
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

MASK = V - 1
TOKENS = torch.randint(V, (3, L), generator=seeded(1)).index_fill(1, torch.tensor([0, 5, 6]), MASK)
HIDDEN = TOKENS == MASK


WEIGHTS = random_weights()
PUBLISHED = backbone(WEIGHTS)


def mdlm_folder(path, weights=PUBLISHED, pickled=False, **change):
    return write_folder(path, MDLM | change, weights, pickled)


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    return load_mdlm(folder, config, "some/mdlm", torch.device("cpu"))


def subs(logits, tokens):
    """p(x_0 | x_t) [L, V]: no MASK, the rest normalised; unmasked sites keep their token."""
    p = torch.cat(
        [logits[:, :MASK].softmax(-1), torch.zeros(len(tokens), 1, dtype=logits.dtype)], -1
    )
    return torch.where((tokens == MASK)[:, None], p, torch.eye(V, dtype=p.dtype)[tokens])


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_a_published_folder_equals_the_reference(tmp_path, pickled):
    model = load(mdlm_folder(tmp_path / "mdlm", pickled=pickled))
    assert model.reverse.forward == Absorbing(vocab_size=V, noise=LogLinear(1e-3), mask_id=MASK)
    assert (model.name, model.length, model.task, len(model.digest)) == ("some/mdlm", L, None, 64)
    assert not model.reverse.model.training
    logits = torch.stack([logits_of(WEIGHTS, row, 0.0) for row in TOKENS])
    expected = torch.stack([subs(*pair) for pair in zip(logits, TOKENS, strict=True)])
    assert expected[HIDDEN].std(0).max() > 0.05  # contexts and positions matter
    out = model.reverse.model(TOKENS, 0.4)
    assert out.dtype == torch.float32
    assert (out[..., MASK] == -torch.inf).all()
    assert torch.allclose(
        out[..., :MASK].double(), logits[..., :MASK].log_softmax(-1), rtol=0, atol=1e-5
    )
    assert torch.allclose(
        model.reverse.posterior(TOKENS, 0.4).double(), expected, rtol=0, atol=1e-5
    )
    rows = model.reverse.posterior(TOKENS, 0.4, HIDDEN)
    assert torch.allclose(rows.double(), expected[HIDDEN], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_network_is_conditioned_on_time_only_if_the_config_says_so(tmp_path):
    timeless, timed = (
        load(mdlm_folder(tmp_path / "a")),
        load(mdlm_folder(tmp_path / "b", time_conditioning=True)),
    )
    assert torch.equal(timeless.reverse.model(TOKENS, 0.2), timeless.reverse.model(TOKENS, 0.9))
    unsaid = {key: value for key, value in MDLM.items() if key != "time_conditioning"}
    silent = load(write_folder(tmp_path / "c", unsaid, PUBLISHED, False))
    assert torch.equal(silent.reverse.model(TOKENS, 0.9), timeless.reverse.model(TOKENS, 0.9))
    t = torch.tensor([0.2, 0.5, 0.9])
    each = zip(TOKENS, -torch.log(1 - 0.999 * t.double()), strict=True)
    logits = torch.stack([logits_of(WEIGHTS, row, float(sigma)) for row, sigma in each])
    expected = logits[..., :MASK].log_softmax(-1)
    assert (expected - timeless.reverse.model(TOKENS, 0.2)[..., :MASK]).abs().max() > 0.01
    assert torch.allclose(
        timed.reverse.model(TOKENS, t)[..., :MASK].double(), expected, rtol=0, atol=1e-5
    )
    rows = timed.reverse.model(TOKENS, t, HIDDEN)[:, :MASK]
    assert torch.allclose(rows.double(), expected[HIDDEN], rtol=0, atol=1e-5)
    kept = timed.reverse.model.evaluate(TOKENS[:1], 0.2, HIDDEN[:1])
    rows = kept(TOKENS[:1], 0.2, HIDDEN[:1])[:, :MASK]
    assert torch.allclose(rows.double(), expected[:1][HIDDEN[:1]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_was_loaded_is_sampled_and_written_back(tmp_path):
    first = load(mdlm_folder(tmp_path / "first"))
    state = first.reverse.model.network.state_dict()
    assert {f"backbone.{name}": value.shape for name, value in state.items()} == {
        n: v.shape for n, v in PUBLISHED.items()
    }
    again = load(
        mdlm_folder(
            tmp_path / "again", {f"backbone.{name}": value for name, value in state.items()}
        )
    )
    assert torch.equal(again.reverse.posterior(TOKENS, 0.4), first.reverse.posterior(TOKENS, 0.4))
    times = jumpsteps.TimeSchedule([1, 0.5, 0])
    samples = jumpsteps.simulate(
        again.reverse, jumpsteps.Tweedie(), times, (2, L), generator=seeded(0)
    ).samples
    assert samples.max() < MASK


def test_weights_in_half_precision_are_run_in_float32(tmp_path):
    weights = {name: value.bfloat16() for name, value in PUBLISHED.items()}
    model = load(mdlm_folder(tmp_path / "mdlm", weights))
    assert {p.dtype for p in model.reverse.model.parameters()} == {torch.float32}


def test_safetensors_come_before_a_pickled_file(tmp_path):
    folder = mdlm_folder(tmp_path / "mdlm")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert load(folder).digest == load(mdlm_folder(tmp_path / "alone")).digest


def test_other_configs_are_not_taken_for_mdlm():
    assert is_mdlm(MDLM)
    assert not is_mdlm({"model_type": "gpt2", "vocab_size": V})
    assert not is_mdlm({"format": "jumpsteps-model"})


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        (
            PUBLISHED,
            {"vocab_size": V + 1},
            rf"has shape \[{V}(, {D})?\], config.json asks for \[{V + 1}(, {D})?\]",
        ),
        (PUBLISHED, {"vocab_size": None}, "vocab_size must be a positive integer, got None"),
        (PUBLISHED, {"n_heads": 0}, "n_heads must be a positive integer, got 0"),
        (PUBLISHED, {"hidden_dim": "24"}, "hidden_dim must be a positive integer, got '24'"),
        (PUBLISHED, {"n_heads": 5}, "hidden_size must be a multiple of 2 x n_heads"),
        (PUBLISHED, {"n_blocks": 3}, "missing keys backbone.blocks.2"),
        (PUBLISHED, {"n_blocks": 1}, "unexpected keys backbone.blocks.1"),
        (
            without(PUBLISHED, "backbone.sigma_map.mlp.0.bias"),
            {},
            "missing keys backbone.sigma_map.mlp.0.bias, unexpected keys none",
        ),
        (PUBLISHED | {"lm_head.weight": torch.ones(2)}, {}, "unexpected keys lm_head.weight"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, weights, change, message):
    folder = mdlm_folder(tmp_path / "mdlm", weights, **change)
    with pytest.raises(ValueError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(tmp_path):
    check_that_damage_is_refused(mdlm_folder(tmp_path / "mdlm"))
