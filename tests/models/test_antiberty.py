"""AntiBERTy: random weights in the package's layout; the package itself if ANTIBERTY names it."""

import json
import os

import pytest
import torch

import jumpsteps
from builders.antiberty import CLS, FIRST, MASK, SEP, V, antiberty_folder, network
from builders.statistics import seeded
from jumpsteps import Absorbing, LogLinear, Tweedie, simulate, uniform
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.models.formats.antiberty import is_antiberty
from jumpsteps.models.loaded import file_hash
from jumpsteps.tasks.antibodies import LENGTH, RESIDUES, ResidueTokens

CHECKPOINT = "trained_models/AntiBERTy_md_smooth"
L = 12
X = torch.randint(FIRST, V, (3, L), generator=seeded(0))
X[:, ::3] = MASK


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return antiberty_folder(tmp_path_factory.mktemp("wheel") / "antiberty")


@torch.no_grad()
def test_it_is_a_bert_between_cls_and_sep_that_samples_residues_only(folder):
    model = jumpsteps.load(folder, length=L)
    assert model.reverse.forward == Absorbing(vocab_size=V, noise=LogLinear(), mask_id=MASK)
    assert (model.length, model.task.name, model.excluded) == (L, "antibodies", (0, 1, 2, 3))
    assert model.digest == file_hash(folder / CHECKPOINT / "pytorch_model.bin")
    wrapped = torch.tensor([[CLS, *row, SEP] for row in X.tolist()])
    weights = network()(wrapped).logits[:, 1 : 1 + L].double().exp()
    weights[..., :FIRST] = 0
    expected = (weights / weights.sum(-1, keepdim=True)).log()
    out, where = model.reverse.model(X, 0.4), X == MASK
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
    some = model.reverse.model(X, 0.4, where)
    torch.testing.assert_close(some.double(), expected[where], atol=1e-5, rtol=0)
    samples = simulate(model.reverse, Tweedie(), uniform(3), (40, L), generator=seeded(1)).samples
    assert samples.min() >= FIRST


@pytest.mark.parametrize("below", ["", "trained_models", CHECKPOINT])
def test_the_package_and_the_folders_in_it_load(folder, below):
    model = jumpsteps.load(folder / below)
    assert model.length == LENGTH == 118
    assert is_antiberty(folder / below)
    assert model.task.read_template("AC?").tokens[:2].tolist() == [FIRST, FIRST + 1]


def test_any_length_that_the_positions_allow(folder):
    model = jumpsteps.load(folder)
    longer = model.resized(128)
    assert (longer.length, longer.task.length, longer.reverse) == (128, 128, model.reverse)
    for length in (0, 129):
        with pytest.raises(
            ValueError, match=rf"takes sequences of 1\.\.128 residues, got {length}"
        ):
            model.resized(length)
        with pytest.raises(ValueError, match=r"1\.\.128 residues"):
            jumpsteps.load(folder, length=length)


def test_options_that_it_does_not_take(folder):
    for options in ({"mask_id": 4}, {"tokenizer": folder}):
        with pytest.raises(ValueError, match="brings its MASK and its vocabulary"):
            jumpsteps.load(folder, **options)


def test_damaged_folders_are_one_line(tmp_path):
    folder = antiberty_folder(tmp_path / "antiberty")
    vocabulary, checkpoint = folder / "trained_models" / "vocab.txt", folder / CHECKPOINT
    weights, config = checkpoint / "pytorch_model.bin", checkpoint / "config.json"
    tokens = vocabulary.read_text()
    for change, message in [
        (lambda: vocabulary.write_text(tokens.replace("[SEP]\n", "")), r"vocab.txt lacks \[SEP\]"),
        (lambda: vocabulary.write_text(tokens.replace("[PAD]", "x\n[PAD]")), "26 tokens, the netw"),
        (vocabulary.unlink, "there is no .*vocab.txt"),
    ]:
        change()
        with pytest.raises(ValueError, match=message):
            jumpsteps.load(folder)
    vocabulary.write_text(tokens)
    sizes = json.loads(config.read_text())
    for change, message in [
        ({"hidden_size": 32}, "has shape"),
        ({"num_hidden_layers": 3}, "missing keys bert.encoder.layer.2"),
        ({"num_attention_heads": 3}, "is no BERT's"),
    ]:
        config.write_text(json.dumps(sizes | change))
        with pytest.raises(ValueError, match=message):
            jumpsteps.load(folder)
    config.write_text(json.dumps({k: v for k, v in sizes.items() if k != "hidden_size"}))
    with pytest.raises(ValueError, match="is no BERT's \\('hidden_size'\\)"):
        jumpsteps.load(folder)
    config.write_text(json.dumps(sizes))
    weights.unlink()
    with pytest.raises(ValueError, match=r"there is no .*pytorch_model.bin"):
        jumpsteps.load(folder)


def test_pickles_that_run_code_are_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    folder = antiberty_folder(tmp_path / "antiberty")
    torch.save({"x": Evil()}, folder / CHECKPOINT / "pytorch_model.bin")
    with pytest.raises(ValueError, match="damaged, or holds more than tensors"):
        jumpsteps.load(folder)


TRASTUZUMAB = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRY"
    "ADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)


@pytest.mark.slow
@pytest.mark.skipif("ANTIBERTY" not in os.environ, reason="ANTIBERTY names no folder")
@torch.no_grad()
def test_the_published_weights_on_a_real_antibody():
    model = jumpsteps.load(os.environ["ANTIBERTY"], length=len(TRASTUZUMAB))
    ids = {letter: FIRST + i for i, letter in enumerate(RESIDUES)}
    x = torch.tensor([ResidueTokens(ids).encode(TRASTUZUMAB)])
    masked = x.repeat(model.length, 1).fill_diagonal_(MASK)
    w = model.reverse.leave_one_out(masked, 0.01, where=masked == MASK)
    nll = -w.gather(-1, x.T).log().mean()
    assert float(nll) == pytest.approx(0.6447, abs=1e-3)
    bound = any_order_nll(model.reverse, x, evaluations=40, generator=seeded(0))
    assert float(bound) == pytest.approx(106.4, abs=10)
