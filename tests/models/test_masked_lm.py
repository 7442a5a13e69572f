import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import jumpsteps
from builders.masked_lm import (
    CLS,
    KNOWN,
    LENGTH,
    MASK,
    PAD,
    SEP,
    SPECIAL,
    UNK,
    V,
    X,
    bert,
    bert_folder,
    save_tokenizer,
)
from builders.statistics import seeded
from builders.text import save_words
from jumpsteps import Given, Tweedie, optimize_schedule, simulate
from jumpsteps.models.formats.masked_lm import MaskedLanguageModel, is_masked_lm, load_masked_lm
from jumpsteps.models.loaded import file_hash
from jumpsteps.models.tokenizer import never_sampled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.schedules.fixed import uniform

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")


def log_probabilities(logits, known=KNOWN, never=(PAD, UNK, CLS, SEP, MASK)):
    """One number at a time, in float64: no softmax of torch's, no mask but this one."""
    logits = logits.double()
    weights = logits.exp()
    weights[..., known:] = 0
    weights[..., list(never)] = 0
    return (weights / weights.sum(-1, keepdim=True)).log()


@torch.no_grad()
def test_bert_is_evaluated_between_cls_and_sep(tmp_path):
    network = bert_folder(tmp_path)
    loaded = load_masked_lm(tmp_path, "tiny", CPU)
    assert loaded.reverse.forward == Absorbing(vocab_size=V, noise=LogLinear(), mask_id=MASK)
    assert (loaded.name, loaded.length, loaded.task) == ("tiny", LENGTH, None)
    assert loaded.excluded == (PAD, UNK, CLS, SEP)
    assert loaded.digest == file_hash(tmp_path / "model.safetensors")
    wrapped = torch.tensor([[CLS, *row, SEP] for row in X.tolist()])
    expected = log_probabilities(network(wrapped).logits[:, 1 : 1 + LENGTH])
    out = loaded.reverse.model(X, 0.4)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
    where = X == MASK
    torch.testing.assert_close(
        loaded.reverse.model(X, 0.4, where).double(), expected[where], atol=1e-5, rtol=0
    )


TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": V,
}
BOTTLENECK = {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "selects"),
    [
        ("Bert", {}, True),
        ("Esm", {"mask_token_id": MASK, "pad_token_id": 0}, True),
        (
            "ModernBert",
            {
                "bos_token_id": CLS,
                "eos_token_id": SEP,
                "cls_token_id": CLS,
                "sep_token_id": SEP,
                "pad_token_id": 0,
            },
            True,
        ),
        ("MobileBert", BOTTLENECK, False),  # its table is a product of two, not a layer
    ],
)
@torch.no_grad()
def test_the_head_sees_the_sites_that_are_asked_for(name, options, selects, shift):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**TINY, **options, max_position_embeddings=40)
    network = transformers.AutoModelForMaskedLM.from_config(config).eval()
    model = MaskedLanguageModel(
        network, vocab_size=V, mask_id=MASK, wrap=([CLS], [SEP]), shift=shift
    )
    where = torch.rand(X.shape, generator=seeded(1)) < 0.4
    where[:, 0] = True
    seen = []
    expected = model(X, 0.5)[where]
    handle = network.get_output_embeddings().register_forward_hook(
        lambda layer, inputs, out: seen.append(inputs[0].shape[:2])
    )
    torch.testing.assert_close(model(X, 0.5, where), expected, atol=1e-5, rtol=0)
    assert seen == ([(1, int(where.sum()))] if selects else [])
    handle.remove()
    torch.testing.assert_close(model(X, 0.5)[where], expected)  # nothing is left behind


@pytest.mark.slow
@torch.no_grad()
def test_the_trunk_is_compiled_and_a_network_without_one_is_refused(monkeypatch):
    plain = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: plain(self, **options, backend="eager")
    )
    network = bert()
    model = MaskedLanguageModel(network, vocab_size=V, mask_id=MASK, wrap=([CLS], [SEP]))
    where = X == MASK
    expected = model(X, 0.5)
    model.compile_trunk()
    for rows in (slice(0, 3), slice(0, 2), slice(2, 3)):
        torch.testing.assert_close(model(X[rows], 0.5), expected[rows], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            model(X[rows], 0.5, where[rows]), expected[rows][where[rows]], atol=1e-5, rtol=0
        )
    with pytest.raises(
        ValueError, match="Linear does not say what its trunk is and cannot be compiled"
    ):
        MaskedLanguageModel(torch.nn.Linear(2, 2), vocab_size=V, mask_id=MASK).compile_trunk()


@torch.no_grad()
def test_a_prompt_is_continued_and_a_schedule_is_found(tmp_path):
    bert_folder(tmp_path)
    reverse = load_masked_lm(tmp_path, "tiny", CPU).reverse
    prompt, given = torch.full((LENGTH,), 7), torch.arange(LENGTH) < 4
    run = simulate(
        reverse,
        Tweedie(),
        uniform(4),
        (5, LENGTH),
        generator=seeded(1),
        given=Given(tokens=prompt, mask=given),
    )
    assert (run.samples[:, :4] == 7).all()
    assert (run.samples != MASK).all()
    assert run.samples.min() >= len(SPECIAL)
    assert run.samples.max() < KNOWN
    data = torch.randint(len(SPECIAL), KNOWN, (4, LENGTH), generator=seeded(2))
    assert optimize_schedule(reverse, data, [4], generator=seeded(3))[4].times[-1] == 0


ROLES = {
    "end of text is all": ({"eos_token": "w", "unk_token": "w", "pad_token": "w"}, [], set()),
    "a BERT": (
        {"unk_token": "u", "pad_token": "p", "cls_token": "c", "sep_token": "s"},
        [],
        {*"upcs"},
    ),
    "padding by end of text": ({"eos_token": "e", "pad_token": "e", "cls_token": "c"}, [], {"c"}),
    "end of text around a text": ({"eos_token": "e", "unk_token": "u"}, ["s", "e"], {*"use"}),
    "tokens of a chat": ({"eos_token": "e", "extra_special_tokens": ["s", "c"]}, [], set()),
}


@pytest.mark.parametrize("case", ROLES)
def test_special_tokens_are_never_sampled_but_an_end_of_text_that_data_hold(tmp_path, case):
    names, around, expected = ROLES[case]
    words = ["w", "u", "p", "c", "s", "e", "[UNK]"]
    save_words(tmp_path, words, **names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = never_sampled(tokenizer, tokenizer.convert_tokens_to_ids(around))
    expected = expected if "unk_token" in names else expected | {"[UNK]"}
    assert found == set(tokenizer.convert_tokens_to_ids(sorted(expected)))


@torch.no_grad()
def test_without_a_tokenizer_nothing_is_added_and_every_id_is_possible(tmp_path):
    network = bert_folder(tmp_path, tokenizer=False)
    with pytest.raises(ValueError, match="names a mask token; pass mask_id"):
        load_masked_lm(tmp_path, "tiny", CPU)
    loaded = load_masked_lm(tmp_path, "tiny", CPU, mask_id=9, length=6)
    assert (loaded.length, loaded.reverse.forward.mask_id) == (6, 9)
    expected = log_probabilities(network(X).logits, known=V, never=[9])
    torch.testing.assert_close(loaded.reverse.model(X, 0.4).double(), expected, atol=1e-5, rtol=0)
    assert load_masked_lm(tmp_path, "tiny", CPU, mask_id=9).length == 20


def test_a_tokenizer_without_a_mask_token_needs_mask_id(tmp_path):
    bert().save_pretrained(tmp_path)
    save_tokenizer(tmp_path, mask=False)
    with pytest.raises(ValueError, match="names a mask token; pass mask_id"):
        load_masked_lm(tmp_path, "tiny", CPU)
    assert load_masked_lm(tmp_path, "tiny", CPU, mask_id=MASK).reverse.forward.mask_id == MASK


@pytest.mark.parametrize("length", [0, LENGTH + 1])
def test_a_length_beyond_the_positions_is_refused(tmp_path, length):
    bert_folder(tmp_path)
    with pytest.raises(ValueError, match=rf"length must lie in 1\.\.{LENGTH} .* got {length}"):
        load_masked_lm(tmp_path, "tiny", CPU, length=length)


def test_every_shard_counts_in_the_digest(tmp_path):
    bert_folder(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    first = load_masked_lm(tmp_path, "tiny", CPU).digest
    weights = load_file(shards[-1])
    save_file(
        {key: 2 * value for key, value in weights.items()}, shards[-1], metadata={"format": "pt"}
    )
    assert load_masked_lm(tmp_path, "tiny", CPU).digest != first
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"lacks {shards[0].name}"):
        load_masked_lm(tmp_path, "tiny", CPU)


def test_pickles_that_run_code_are_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    bert_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot read"):
        load_masked_lm(tmp_path, "tiny", CPU)


def test_folders_that_hold_no_masked_language_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load_masked_lm(tmp_path, "tiny", CPU)
    (tmp_path / "config.json").write_text(
        '{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}'
    )
    with pytest.raises(ValueError, match="is not that of a masked language model"):
        load_masked_lm(tmp_path, "tiny", CPU)
    bert_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bare = {key: value for key, value in weights.items() if "transform" not in key}
    save_file(bare, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lack cls.predictions.transform.* it is not a masked language model"
    ):
        load_masked_lm(tmp_path, "tiny", CPU)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="there are no weights"):
        load_masked_lm(tmp_path, "tiny", CPU)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(ValueError, match="names no files of weights"):
        load_masked_lm(tmp_path, "tiny", CPU)
    (tmp_path / "tokenizer.json").write_text("nonsense")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the tokenizer in .* cannot be read"):
        load_masked_lm(tmp_path, "tiny", CPU)


def test_which_configs_are_masked_language_models():
    assert is_masked_lm({"architectures": ["RobertaForMaskedLM"]})
    assert is_masked_lm({"architectures": ["LLaDAModelLM"], "model_type": "llada"})
    assert is_masked_lm({"architectures": ["DreamModel"], "model_type": "Dream"})
    assert not is_masked_lm({"architectures": None})
    assert not is_masked_lm({"tokens": 50257, "graph": {}, "noise": {}, "model": {}})


@pytest.mark.parametrize("kind", ["Dream", "llada"])
@torch.no_grad()
def test_code_in_the_folder_runs_when_trusted_and_dream_logits_stand_one_site_early(
    remote_folder, kind
):
    folder, weights = remote_folder(kind, mask_token_id=MASK)
    save_tokenizer(folder, mask=False)
    loaded = load_masked_lm(folder, "tiny", CPU, trust_remote_code=True)
    assert (loaded.reverse.forward.mask_id, loaded.length) == (MASK, LENGTH + 2)
    hidden = weights["embed.weight"][X]
    logits = (hidden + hidden.mean(1, keepdim=True)) @ weights["head.weight"].T + weights[
        "head.bias"
    ]
    if kind == "Dream":
        logits = torch.stack([logits[:, max(site - 1, 0)] for site in range(LENGTH)], 1)
    expected, where = log_probabilities(logits, never=[PAD, UNK, MASK]), X == MASK
    torch.testing.assert_close(loaded.reverse.model(X, 0.4).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        loaded.reverse.model(X, 0.4, where).double(), expected[where], atol=1e-5, rtol=0
    )
    run = simulate(loaded.reverse, Tweedie(), uniform(4), (2, LENGTH), generator=seeded(0))
    assert run.samples.max() < KNOWN


def test_code_in_the_folder_does_not_run_unasked(remote_folder, tmp_path):
    folder, _ = remote_folder("Dream", mask_token_id=MASK)
    (folder / "modeling_tiny.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(ValueError, match=r"brings Python code of its own; .* --trust-remote-code"):
        load_masked_lm(folder, "tiny", CPU)
    assert not (tmp_path / "modules").exists()


def test_code_that_fails_is_one_line(remote_folder):
    folder, _ = remote_folder("llada")
    (folder / "modeling_tiny.py").write_text("raise RuntimeError('too old\\nlong story')")
    with pytest.raises(ValueError, match=r"cannot read .* \(too old\)$"):
        load_masked_lm(folder, "tiny", CPU, trust_remote_code=True)


def test_the_known_mask_of_a_model_type_must_fit_its_vocabulary(remote_folder):
    folder, _ = remote_folder("llada")
    with pytest.raises(ValueError, match=r"mask_id must lie in 0\.\.59, got 126336"):
        load_masked_lm(folder, "tiny", CPU, trust_remote_code=True)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(
        '{"architectures": ["BertForMaskedLM"], "model_type": "bert"}'
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"need transformers .*: pip install 'jumpsteps\[text\]'"):
        load_masked_lm(tmp_path, "tiny", CPU)


def test_a_wrapped_and_shifted_model_reads_the_token_before_the_first_site():
    class Successor(torch.nn.Module):
        def forward(self, ids):
            return type("Output", (), {"logits": 100.0 * torch.nn.functional.one_hot(ids + 1, 9)})

    model = MaskedLanguageModel(
        Successor(), vocab_size=9, mask_id=0, wrap=([3, 5], [7]), shift=True
    )
    assert model(torch.tensor([[1, 2]]), 0.5).argmax(-1).tolist() == [[6, 2]]


def test_options_for_language_models_are_refused_elsewhere():
    with pytest.raises(ValueError, match="countdown-exact knows its MASK and its length"):
        jumpsteps.load("countdown-exact", length=8)
