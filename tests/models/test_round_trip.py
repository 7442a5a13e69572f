"""Published layouts that are read, written back and read again are equal to the bit."""

import json

import pytest
import torch

import jumpsteps
from builders.checkpoints import DUO, GIDD, MDLM, UDLM, gidd_tables
from builders.checkpoints import SEDD as PUBLISHED_SEDD
from builders.reference_dit import COND, HEADS, D, L, backbone, random_weights, write_folder
from builders.statistics import seeded
from builders.tauldr_checkpoints import PLAIN, TOKENS, load_tiny, tauldr_folder
from builders.tauldr_reference import random_weights as tauldr_weights

BACKBONE = backbone(random_weights())
FREQUENCIES = {"rotary_emb.inv_freq": 1 / 10000 ** (torch.arange(0, D // HEADS, 2) / (D // HEADS))}
SIZES = {"hidden_size": D, "cond_dim": COND, "n_heads": HEADS, "n_blocks": 2}
SEDD = PUBLISHED_SEDD | {"model": PUBLISHED_SEDD["model"] | SIZES}
FAMILIES = {
    "sedd": (SEDD, random_weights() | FREQUENCIES, ""),
    "mdlm": (MDLM, BACKBONE, "backbone."),
    "udlm": (UDLM, BACKBONE, "backbone."),
    "duo": (DUO, BACKBONE, "backbone."),
    "gidd": (GIDD, random_weights() | gidd_tables(L), ""),
}


def same_files(written, published):
    assert written.keys() == published.keys()
    for name, value in written.items():
        assert torch.equal(value, published[name]), name


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_diffusion_transformers(tmp_path, family):
    config, published, prefix = FAMILIES[family]
    first = jumpsteps.load(write_folder(tmp_path / "first", config, published))
    written = {
        prefix + name: value for name, value in first.reverse.model.network.state_dict().items()
    }
    same_files(written, published)
    second = jumpsteps.load(
        write_folder(tmp_path / "second", json.loads(json.dumps(config)), written, pickled=True)
    )
    x = torch.randint(first.reverse.forward.vocab_size, (3, 12), generator=seeded(0))
    assert torch.equal(first.reverse.model(x, 0.4), second.reverse.model(x, 0.4))
    assert (second.reverse.forward, second.length) == (first.reverse.forward, first.length)


@pytest.mark.parametrize("kind", ["image", "piano"])
@torch.no_grad()
def test_tauldr_networks(tmp_path, kind):
    first = load_tiny(tauldr_folder(tmp_path / "first", kind))
    written = first.reverse.model.network.state_dict()
    same_files(written, tauldr_weights(PLAIN[kind].layout()))
    second = load_tiny(tauldr_folder(tmp_path / "second", kind, weights=written))
    x = TOKENS[kind]
    assert torch.equal(first.reverse.model(x, 0.4), second.reverse.model(x, 0.4))


@torch.no_grad()
def test_masked_language_models(tmp_path):
    pytest.importorskip("transformers")
    from builders.masked_lm import X, bert_folder

    bert_folder(tmp_path / "first")
    first = jumpsteps.load(tmp_path / "first")
    first.reverse.model.network.save_pretrained(tmp_path / "second")
    first.text.tokenizer.save_pretrained(tmp_path / "second")
    second = jumpsteps.load(tmp_path / "second")
    assert torch.equal(first.reverse.model(X, 0.4), second.reverse.model(X, 0.4))
    assert first.digest == second.digest
