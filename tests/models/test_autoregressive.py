"""The evaluator's network and its folder."""

from itertools import product
from pathlib import Path

import pytest
import torch

from jumpsteps.models.evaluator import load_evaluator, save_evaluator
from jumpsteps.models.networks.autoregressive import Autoregressive, AutoregressiveConfig

CONFIG = AutoregressiveConfig(vocab_size=5, hidden_size=16, n_blocks=2, n_heads=2)


def network() -> Autoregressive:
    torch.manual_seed(0)
    made = Autoregressive(CONFIG).eval()
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


@torch.no_grad()
def test_the_probabilities_of_all_sequences_sum_to_one() -> None:
    x = torch.tensor(list(product(range(5), repeat=4)))
    nll = network().double().nll(x).double()
    assert nll.shape == (625, 4)
    torch.testing.assert_close((-nll.sum(1)).exp().sum().item(), 1.0, rtol=1e-5, atol=0)


@torch.no_grad()
def test_a_token_changes_nothing_before_it() -> None:
    model, x = network(), torch.tensor([[0, 1, 2, 3, 4, 0]])
    other = x.clone()
    other[0, 3] = 0
    a, b = model(x), model(other)
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert (a[:, 4] - b[:, 4]).abs().max() > 1e-3


@torch.no_grad()
def test_blocks_add_to_their_input() -> None:
    """Blocks that give nothing leave the embeddings of the tokens before, normalised."""
    model, x = network(), torch.tensor([[0, 1, 2, 3, 4, 0]])
    for block in model.blocks:
        for layer in (block.attention_out, block.mlp[2]):
            for parameter in layer.parameters():
                parameter.zero_()
    before = torch.tensor([[5, 0, 1, 2, 3, 4]])
    torch.testing.assert_close(model.features(x), model.norm(model.embedding(before)))


def test_a_folder_keeps_the_network(tmp_path: Path) -> None:
    model, x = network(), torch.tensor([[0, 1, 2, 3, 4, 0]])
    save_evaluator(tmp_path, model, length=6, data="numbers", dtype=torch.float32)
    loaded = load_evaluator(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(loaded.nll(x), model.nll(x))


def test_tokens_that_are_no_symbols_are_named() -> None:
    with pytest.raises(ValueError, match=r"tokens 0\.\.4, got 0\.\.5; samples and evaluator"):
        network().nll(torch.tensor([[0, 5]]))


def test_a_folder_without_an_evaluator_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": "jumpsteps-model"}')
    with pytest.raises(ValueError, match="holds no autoregressive model; pass a causal one"):
        load_evaluator(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "jumpsteps-evaluator"}')
    with pytest.raises(ValueError, match="damaged: KeyError"):
        load_evaluator(tmp_path)
