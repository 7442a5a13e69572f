"""Folders in the published GIDD layout, against an independent evaluation."""

import pytest
import torch

import jumpsteps
from builders.checkpoints import GIDD, gidd_tables
from builders.reference_dit import (
    D,
    L,
    V,
    check_that_damage_is_refused,
    logits_of,
    random_weights,
    without,
    write_folder,
)
from builders.statistics import seeded
from jumpsteps.models.formats.gidd import is_gidd
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

MASK = V - 1
WEIGHTS = random_weights()
TOKENS = torch.randint(MASK, (3, L), generator=seeded(1)).index_fill(
    1, torch.tensor([0, 5, 6]), MASK
)
HIDDEN = TOKENS == MASK


PUBLISHED = WEIGHTS | gidd_tables(L)


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_a_published_folder_equals_the_reference(tmp_path, pickled):
    model = jumpsteps.load(write_folder(tmp_path / "gidd", GIDD, PUBLISHED, pickled))
    assert model.reverse.forward == Absorbing(vocab_size=V, noise=LogLinear(1e-4), mask_id=MASK)
    assert (model.length, model.task, len(model.digest)) == (L, None, 64)
    assert not model.reverse.model.training
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    masked_share = (1 - 1e-4) * t
    logits = torch.stack(
        [
            logits_of(WEIGHTS, row, float(share))
            for row, share in zip(TOKENS, masked_share, strict=True)
        ]
    )
    expected = logits[..., :MASK].softmax(-1)
    assert expected.std(0).max() > 0.05  # contexts and positions matter
    out = model.reverse.model(TOKENS, t)
    assert out.dtype == torch.float32
    assert (out[..., MASK] == -torch.inf).all()
    torch.testing.assert_close(out[..., :MASK].exp().double(), expected, rtol=0, atol=1e-5)
    rows = model.reverse.leave_one_out(TOKENS, t, HIDDEN)[:, :MASK]
    torch.testing.assert_close(rows.double(), expected[HIDDEN], rtol=0, atol=1e-5)
    kept = model.reverse.model.evaluate(TOKENS[:1], 0.2, HIDDEN[:1])(TOKENS[:1], 0.2, HIDDEN[:1])[
        :, :MASK
    ]
    torch.testing.assert_close(kept.exp().double(), expected[:1][HIDDEN[:1]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_positions_come_from_the_tables(tmp_path):
    still = WEIGHTS | {
        name: torch.ones_like(value) * ("cos" in name) for name, value in gidd_tables(L).items()
    }
    reverse = jumpsteps.load(write_folder(tmp_path / "gidd", GIDD, still)).reverse
    out = reverse.model(TOKENS, 0.5)
    torch.testing.assert_close(reverse.model(TOKENS.flip(1), 0.5), out.flip(1), rtol=0, atol=1e-5)
    assert reverse.model(TOKENS[:, :5], 0.5).shape == (3, 5, V)
    with pytest.raises(ValueError, match=rf"takes sequences of at most {L} sites, got {2 * L}"):
        reverse.model(TOKENS.repeat(1, 2), 0.5)


@torch.no_grad()
def test_what_was_loaded_is_sampled(tmp_path):
    reverse = jumpsteps.load(write_folder(tmp_path / "gidd", GIDD, PUBLISHED)).reverse
    times = jumpsteps.TimeSchedule([1, 0.5, 0])
    samples = jumpsteps.simulate(
        reverse, jumpsteps.Tweedie(), times, (2, L), generator=seeded(0)
    ).samples
    assert samples.max() < MASK


def test_other_configs_are_not_taken_for_gidd():
    assert is_gidd(GIDD)
    assert not is_gidd({"model_type": "dit", "image_size": 32})
    assert not is_gidd({"format": "jumpsteps-model"})


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        (
            PUBLISHED,
            {"p_uniform": 0.1},
            "p_uniform is 0.1; GIDD's mixture of masking and uniform noise is not one of",
        ),
        (PUBLISHED, {"p_uniform": None}, "p_uniform is None"),
        (PUBLISHED, {"t_eps": None}, "t_eps must lie between 0 and 1, got None"),
        (PUBLISHED, {"t_eps": 1.5}, "t_eps must lie between 0 and 1, got 1.5"),
        (PUBLISHED, {"hidden_size": 0}, "hidden_size must be a positive integer, got 0"),
        (
            PUBLISHED,
            {"vocab_size": V + 1},
            rf"has shape \[{V}(, {D})?\], config.json asks for \[{V + 1}(, {D})?\]",
        ),
        (
            PUBLISHED,
            {"max_seq_len": L + 1},
            rf"has shape \[1, {L}, 3, 1, 8\], config.json asks for \[1, {L + 1}, 3, 1, 8\]",
        ),
        (PUBLISHED, {"num_hidden_layers": 1}, "unexpected keys blocks.1"),
        (
            without(PUBLISHED, "rotary_emb.sin_cached"),
            {},
            "missing keys rotary_emb.sin_cached, unexpected keys none",
        ),
        (
            PUBLISHED | {"logit_bias": torch.ones(1)},
            {},
            "missing keys none, unexpected keys logit_bias",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, weights, change, message):
    folder = write_folder(tmp_path / "gidd", GIDD | change, weights)
    with pytest.raises(ValueError, match=message) as error:
        jumpsteps.load(folder)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(tmp_path):
    check_that_damage_is_refused(write_folder(tmp_path / "gidd", GIDD, PUBLISHED))
