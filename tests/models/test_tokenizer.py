"""Text to tokens and back: tokenizers beside models, texts and prompts."""

import json
import sys

import numpy as np
import pytest
import torch

import jumpsteps
from builders.checkpoints import SEDD, sedd_folder
from builders.masked_lm import (
    CLS,
    KNOWN,
    LENGTH,
    MASK,
    SEP,
    SPECIAL,
    WORDS,
    X,
    bert,
    bert_folder,
    save_tokenizer,
)
from builders.statistics import seeded
from builders.text import save_words
from jumpsteps import Given, Tweedie
from jumpsteps.cli.main import main
from jumpsteps.cli.sequence_files import given_prompt, load_given, load_text, save_text
from jumpsteps.models.formats.masked_lm import MaskedLanguageModel, load_masked_lm
from jumpsteps.models.tokenizer import Text, read_tokenizer
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.schedules.fixed import uniform

VOCAB = SPECIAL + [f"w{i}" for i in range(WORDS)]
FEW = ["[UNK]", *(f"v{i}" for i in range(19))]
"""Words for the tiny SEDD network, which knows 20 tokens; MASK is none of them."""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The text of a BERT-like model: 55 words, MASK among them, 60 symbols."""
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(folder)
    return Text(
        read_tokenizer(folder, trusted=False),
        Absorbing(vocab_size=60, noise=LogLinear(), mask_id=MASK),
    )


def spelled(tokens, vocab=VOCAB):
    return " ".join(vocab[token] for token in tokens)


def test_text_becomes_tokens_and_tokens_text(words):
    tokens = torch.randint(
        MASK + 1, KNOWN, (300,), generator=seeded(0)
    ).tolist()  # far more than model_max_length
    assert words.encode(spelled(tokens)) == tokens
    assert words.decode([*tokens, CLS, SEP, 0, MASK]) == spelled([*tokens, CLS, SEP, 0, MASK])
    assert words.encode("w3 unheard-of") == [VOCAB.index("w3"), VOCAB.index("[UNK]")]
    assert words.encode("") == []


def test_mask_is_no_text(words):
    with pytest.raises(
        ValueError, match=r"the text holds '\[MASK\]', the model's MASK \(token 4\); take it out"
    ):
        words.encode("w1 [MASK] w2")
    other = Text(words.tokenizer, Uniform(vocab_size=60, noise=LogLinear()))
    assert other.encode("[MASK]") == [MASK]


def test_every_id_of_the_tokenizer_is_a_symbol_of_the_model(words):
    Text(words.tokenizer, Uniform(vocab_size=KNOWN, noise=LogLinear()))
    with pytest.raises(
        ValueError,
        match=r"the tokenizer has token ids up to 54, the model's symbols are 0\.\.53; pass",
    ):
        Text(words.tokenizer, Uniform(vocab_size=KNOWN - 1, noise=LogLinear()))


def test_a_masked_language_model_brings_its_text(tmp_path, words):
    bert_folder(tmp_path)
    text = jumpsteps.load(tmp_path).text
    assert text.encode("w1 w2") == words.encode("w1 w2")
    assert text.forward.mask_id == MASK


@pytest.mark.parametrize("kind", ["Dream", "llada"])
def test_diffusion_language_models_bring_their_text(remote_folder, kind):
    folder, _ = remote_folder(kind, mask_token_id=MASK)
    save_tokenizer(folder)
    text = jumpsteps.load(folder, trust_remote_code=True).text
    assert text.decode(text.encode("w8 w1 w9")) == "w8 w1 w9"


@torch.no_grad()
def test_a_tokenizer_from_elsewhere_does_all_that_one_in_the_folder_does(tmp_path):
    network = bert()
    network.save_pretrained(tmp_path / "model")
    save_tokenizer(tmp_path / "words")
    with pytest.raises(ValueError, match="names a mask token"):
        jumpsteps.load(tmp_path / "model")
    apart = jumpsteps.load(tmp_path / "model", tokenizer=tmp_path / "words")
    save_tokenizer(tmp_path / "model")
    together = load_masked_lm(tmp_path / "model", "tiny", torch.device("cpu"))
    assert apart.length == together.length == LENGTH
    assert apart.reverse.forward == together.reverse.forward
    assert torch.equal(apart.reverse.model(X, 0.4), together.reverse.model(X, 0.4))
    assert apart.text.encode("w7") == [VOCAB.index("w7")]
    save_words(tmp_path / "few", ["[UNK]", "w7", "[MASK]"], mask_token="[MASK]")
    other = jumpsteps.load(tmp_path / "model", tokenizer=tmp_path / "few")
    assert other.text.encode("w7") == [1]
    assert other.reverse.forward.mask_id == 2


def test_a_sedd_model_takes_a_tokenizer_from_elsewhere_or_its_folder(tmp_path, monkeypatch):
    model, few = tmp_path / "sedd", tmp_path / "few"
    sedd_folder(model)
    save_words(few, FEW)
    assert jumpsteps.load(model).text is None
    text = jumpsteps.load(model, tokenizer=str(few)).text
    assert text.encode("v3 v18") == [4, 19]
    assert text.decode([4, 19]) == "v3 v18"
    save_tokenizer(tmp_path / "many")
    with pytest.raises(ValueError, match=r"token ids up to 54, the model's symbols are 0\.\.20"):
        jumpsteps.load(model, tokenizer=tmp_path / "many")
    save_words(model, FEW)
    assert jumpsteps.load(model).text.encode("v3") == [4]
    save_words(few, FEW[::-1])
    assert jumpsteps.load(model, tokenizer=few).text.encode("v3") == [15]
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert jumpsteps.load(model).text is None
    with pytest.raises(ValueError, match=r"need transformers .*: pip install 'jumpsteps\[text\]'"):
        jumpsteps.load(model, tokenizer=few)


def test_a_tokenizer_from_the_hub(tmp_path, monkeypatch):
    sedd_folder(tmp_path / "sedd")
    save_words(tmp_path / "few", FEW)
    asked = []

    def fetch(hub_id, allow_patterns, revision=None):
        asked.append((hub_id, allow_patterns))
        return str(tmp_path / "few")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert jumpsteps.load(tmp_path / "sedd", tokenizer="someone/words").text.encode("v3") == [4]
    ((hub_id, files),) = asked
    assert hub_id == "someone/words"
    assert not [
        name for name in files if "bin" in name or "safetensors" in name or name.endswith(".py")
    ]


def test_tokenizers_that_are_not_there(tmp_path):
    sedd_folder(tmp_path / "sedd")
    for tokenizer, message in [
        ("gpt2", r"there is no tokenizer 'gpt2': not a folder, not a hub id \(OWNER/NAME\)"),
        (tmp_path / "none", "there is no tokenizer '.*none': not a folder"),
        (tmp_path / "sedd", "there is no tokenizer in .*sedd; it should hold one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            jumpsteps.load(tmp_path / "sedd", tokenizer=tokenizer)
    with pytest.raises(
        ValueError, match="countdown-exact is not a model of text; leave out the tokenizer"
    ):
        jumpsteps.load("countdown-exact", tokenizer=tmp_path)


def test_a_text_is_cut_into_sequences(tmp_path, words):
    tokens = torch.randint(MASK + 1, KNOWN, (3 * 7 + 5,), generator=seeded(1)).tolist()
    file = tmp_path / "story.txt"
    file.write_text(spelled(tokens).replace(" w1 ", "\nw1 "), encoding="utf-8")
    found, name = load_text(file, words, 7, 10, seeded(0))
    assert found.dtype == torch.int64
    assert sorted(found.tolist()) == sorted([tokens[0:7], tokens[7:14], tokens[14:21]])
    assert name.startswith("story.txt sha256:")
    fewer, _ = load_text(file, words, 7, 2, seeded(0))
    assert torch.equal(fewer, found[:2])
    assert len(load_text(file, words, len(tokens), 10, seeded(0))[0]) == 1


def test_documents_are_joined_and_long_ones_cut(tmp_path, words):
    rows = [{"story": " ".join(f"w{i}" for _ in range(n))} for i, n in ((1, 3), (2, 0), (3, 398))]
    file = tmp_path / "stories.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    short, long = (VOCAB.index(word) for word in ("w1", "w3"))
    found, _ = load_text(file, words, 7, 4, seeded(0), "story")
    # 28 tokens of the long document at most, and all three of the short one: 31 = 4 * 7 + 3.
    assert found.shape == (4, 7)
    assert (found == short).sum() in (0, 3)
    # All runs together are too few for 60 sequences: the long document is taken as a whole.
    found, _ = load_text(file, words, 7, 60, seeded(0), "story")
    assert found.shape == (57, 7)
    assert set(found.unique().tolist()) == {short, long}


def test_sequences_come_from_many_long_documents(tmp_path, words):
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text(" ".join([f"w{i}"] * 300))
    found, _ = load_text(tmp_path, words, 7, 12, seeded(0))  # 84 tokens, 28 of a document
    assert len(found.unique()) == 3


def test_the_end_of_a_document(tmp_path, words):
    assert words.separator == []  # This tokenizer knows no new line, and no end of text.
    save_words(tmp_path, FEW, eos_token="v3")
    text = Text(read_tokenizer(tmp_path, trusted=False), Uniform(vocab_size=20, noise=LogLinear()))
    assert text.separator == text.encode("v3")


def test_texts_that_give_no_sequences(tmp_path, words):
    file = tmp_path / "story.txt"
    with pytest.raises(ValueError, match=r"there is no file .*story.txt; pass a text file"):
        load_text(file, words, 7, 10, seeded(0))
    for content, message in [
        (b"", "holds 0 tokens, and one sequence needs 7"),
        (
            b"w1 w2 w3 w4 w5 w6",
            "story.txt holds 6 tokens, and one sequence needs 7; pass a longer text",
        ),
        (b"w1 \xff", r"is not a text file in UTF-8 \(invalid start byte at byte 3\)"),
        (b"w1 [MASK]", "the model's MASK"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_text(file, words, 7, 10, seeded(0))


def test_a_prompt_is_given_at_the_start(words):
    given = given_prompt("w2 w4", words, 5)
    assert given.mask.tolist() == [True, True, False, False, False]
    assert given.tokens[:2].tolist() == [VOCAB.index("w2"), VOCAB.index("w4")]
    assert given_prompt("w2 w4", words, 3).mask.tolist() == [True, True, False]
    for prompt, count in [("", 0), (" \n", 0), ("w1 w2 w3", 3), ("w1 w2 w3 w4", 4)]:
        with pytest.raises(
            ValueError, match=rf"the prompt has {count} tokens; with 3 sites there must be 1\.\.2"
        ):
            given_prompt(prompt, words, 3)


FORWARD = Absorbing(vocab_size=6, noise=LogLinear())


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_given_sites_from_a_file(tmp_path, shape):
    tokens = torch.randint(5, shape, generator=seeded(0)).to(torch.int16).numpy()
    mask = tokens % 2 == 0
    mask[..., 0] = False
    tokens[..., 0] = 99  # not read: it is not given
    np.savez(tmp_path / "g.npz", tokens=tokens, mask=mask)
    given = load_given(tmp_path / "g.npz", 4, FORWARD)
    assert (given.tokens.dtype, given.mask.dtype) == (torch.int64, torch.bool)
    assert np.array_equal(given.tokens.numpy(), tokens)
    assert np.array_equal(given.mask.numpy(), mask)


def test_a_mask_in_a_file_may_be_one_for_all_sequences(tmp_path):
    tokens = torch.randint(5, (3, 4), generator=seeded(0)).numpy()
    mask = np.array([True, False, True, False])
    np.savez(tmp_path / "g.npz", tokens=tokens, mask=mask)
    given = load_given(tmp_path / "g.npz", 4, FORWARD)
    assert np.array_equal(given.tokens.numpy(), tokens)
    assert np.array_equal(given.mask.numpy(), np.tile(mask, (3, 1)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"tokens": [0, 1, 2], "mask": [True, True, False]},
            r"tokens int64 \[3\] and mask bool \[3\]; expected .*, each \[4\] or \[n, 4\]",
        ),
        (
            {"tokens": [[0, 1, 2, 3]] * 2, "mask": [[True, True, False, False]]},
            r"mask bool \[1, 4\]; expected",
        ),
        (
            {"tokens": [0, 1, 2, 3], "mask": [1, 1, 0, 0]},
            r"mask int64 \[4\]; expected .* 'mask' bool",
        ),
        ({"tokens": [0.0, 1, 2, 3], "mask": [True, True, False, False]}, "tokens float64"),
        (
            {"tokens": np.zeros((0, 4), int), "mask": np.zeros((0, 4), bool)},
            r"tokens int64 \[0, 4\]",
        ),
        (
            {"tokens": [0, 1, 2, 3], "mask": np.zeros((0, 4), bool)},
            r"mask bool \[0, 4\]",
        ),
        (
            {"tokens": [0, 6, 2, 3], "mask": [True, True, False, False]},
            r"g.npz holds tokens 0\.\.6, the vocabulary is 0\.\.5",
        ),
        (
            {"tokens": [0, 5, 2, 3], "mask": [True, True, False, False]},
            r"g.npz holds MASK \(token 5\)",
        ),
        (
            {"tokens": [[0, 1, 2, 3]] * 2, "mask": [[True] * 3 + [False], [True] * 4]},
            "gives every site of a sequence",
        ),
        ({"tokens": [0, 1, 2, 3]}, "holds no given sites; expected .npz with arrays 'tokens'"),
    ],
)
def test_files_that_give_no_sites(tmp_path, arrays, message):
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_given(tmp_path / "g.npz", 4, FORWARD)


def test_files_that_are_no_npz(tmp_path):
    file = tmp_path / "g.npz"
    with pytest.raises(ValueError, match=r"there is no file .*; pass --given"):
        load_given(file, 4, FORWARD)
    np.save(tmp_path / "g.npy", np.zeros(4))
    file.write_bytes(b"nonsense")
    for path in (file, tmp_path / "g.npy", tmp_path):
        with pytest.raises(ValueError, match="holds no given sites"):
            load_given(path, 4, FORWARD)


def test_every_sample_keeps_its_own_given_sites_through_all_batches():
    model = jumpsteps.load("toy-absorbing")
    tokens = torch.randint(4, (7, 4), generator=seeded(0))
    mask = torch.rand(7, 4, generator=seeded(1)) < 0.5
    options = {"generator": seeded(2), "batch": 3}
    samples, _ = sample_batches(
        model.reverse, Tweedie(), uniform(4), (7, 4), given=Given(tokens, mask), **options
    )
    assert torch.equal(samples[mask], tokens[mask])
    assert not torch.equal(samples, tokens)
    with pytest.raises(ValueError, match=r"given tokens \[3, 4\] .* \[B, L\] = \[7, 4\]"):
        sample_batches(
            model.reverse,
            Tweedie(),
            uniform(4),
            (7, 4),
            given=Given(tokens[:3], mask[:3]),
            **options,
        )


def test_texts_are_written_one_below_the_other(tmp_path):
    save_text(tmp_path / "x.txt", ["one\r\n", "zwei ü"])
    assert (
        (tmp_path / "x.txt").read_bytes().decode()
        == "===== sample 1 of 2 =====\none\r\n\n\n===== sample 2 of 2 =====\nzwei ü\n"
    )


PROMPT = [VOCAB.index(word) for word in ("w3", "w1", "w4")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A BERT-like folder with a text of 40.5 sequences that contains no word of the prompt."""
    folder = tmp_path_factory.mktemp("bert")
    bert_folder(folder)
    tokens = torch.randint(
        VOCAB.index("w10"), KNOWN, (40 * LENGTH + 5,), generator=seeded(2)
    ).tolist()
    (folder / "story.txt").write_text(spelled(tokens))
    return folder


def command(capsys, *arguments):
    """What a command prints that ends well; the network is random, which a search doubts."""
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert all(line.startswith("warning: doubtful input") for line in err)
    return out


def refused(capsys, *arguments):
    """The one line of a command that fails."""
    code, _, err = run(capsys, *arguments)
    assert (code, len(err)) == (1, 1)
    assert err[0].startswith("error: ")
    return err[0]


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    # transformers shows the progress of its reading
    return (
        code,
        captured.out,
        [
            line
            for line in captured.err.splitlines()
            if line and not line.startswith("Loading weights")
        ],
    )


@pytest.mark.parametrize(
    "steps",
    [
        ["--nfe", 4],
        ["--nfe", 4, "--sampler", "k-gillespie"],
        ["--nfe", LENGTH - 3, "--order", "blocks"],
        ["--nfe", 4, "--schedule", "cosine", "--order", "spread"],
        ["--nfe", 4, "--sampler", "maskgit"],
        ["--sampler", "entropy-bounded"],
    ],
)
def test_a_prompt_is_in_every_sample_and_its_text(model, tmp_path, capsys, steps):
    file = tmp_path / "x.npz"
    out = command(
        capsys, "sample", model, "--prompt", "w3 w1 w4", *steps, "-n", 5, "--batch", 2, "-o", file
    )
    samples = np.load(file)["samples"]
    assert (samples[:, :3] == PROMPT).all()
    assert samples.shape == (5, LENGTH)
    assert (samples != MASK).all()
    assert len(np.unique(samples, axis=0)) >= 4
    text = file.with_suffix(".txt").read_text()
    assert text == "\n".join(
        f"===== sample {i} of 5 =====\n{spelled(x)}\n" for i, x in enumerate(samples, 1)
    )
    lines = out.splitlines()
    assert lines[0] == spelled(samples[0])
    assert lines[-1].endswith(f"written to {file} and {file.with_suffix('.txt')}")


def test_llada_continues_a_prompt_block_by_block(remote_folder, tmp_path, capsys):
    folder, _ = remote_folder("llada", mask_token_id=MASK)
    save_tokenizer(folder)
    options = ["--trust-remote-code", "--length", 8, "--order", "blocks", "--nfe", 5, "-n", 3]
    command(capsys, "sample", folder, *options, "--prompt", "w3 w1 w4", "-o", tmp_path / "x.npz")
    samples = np.load(tmp_path / "x.npz")["samples"]
    assert samples.shape == (3, 8)
    assert (samples[:, :3] == PROMPT).all()
    assert spelled(samples[2]) in (tmp_path / "x.txt").read_text().splitlines()


@pytest.mark.parametrize("graph", ["absorb", "uniform"])
def test_sedd_continues_a_prompt(tmp_path, capsys, graph):
    sedd_folder(tmp_path / "sedd", SEDD | {"graph": {"type": graph}})
    save_words(tmp_path / "few", FEW)
    asked = [
        "sample",
        tmp_path / "sedd",
        "--prompt",
        "v3 v18",
        "--nfe",
        3,
        "-n",
        2,
        "-o",
        tmp_path / "x.npz",
    ]
    assert "has no tokenizer; pass --tokenizer, or token ids with --given" in refused(
        capsys, *asked
    )
    assert not (tmp_path / "x.npz").exists()
    command(capsys, *asked, "--tokenizer", tmp_path / "few")
    samples = np.load(tmp_path / "x.npz")["samples"]
    assert (samples[:, :2] == [4, 19]).all()
    assert spelled(samples[0], FEW).startswith("v3 v18 ")
    assert spelled(samples[0], FEW) in (tmp_path / "x.txt").read_text().splitlines()


def test_schedules_are_found_for_a_prompt_and_sampled_with_it(model, tmp_path, capsys):
    file, samples = tmp_path / "s.json", tmp_path / "x.npz"
    searched = ["--text", model / "story.txt", "--prompt", "w3 w1 w4", "--sequences", 6]
    command(capsys, "optimize", model, *searched, "--order", "blocks", "--nfe", 4, "-o", file)
    (entry,) = json.loads(file.read_text())["schedules"]
    assert sum(entry["counts"]) == LENGTH - 3
    assert entry["provenance"]["data"].startswith("story.txt sha256:")
    assert entry["provenance"]["data"].endswith(f", 3 of {LENGTH} sites given")
    chosen = ["--schedule", file, "--nfe", 4, "-n", 2, "-o", samples]
    command(capsys, "sample", model, "--prompt", "w3 w1 w4", *chosen)
    assert (np.load(samples)["samples"][:, :3] == PROMPT).all()
    for prompt, free in [([], LENGTH), (["--prompt", "w3 w1"], LENGTH - 2)]:
        assert main(list(map(str, ["sample", model, *prompt, *chosen]))) == 0
        note = f"holds counts of {LENGTH - 3} tokens; they are rescaled to the {free} that are free"
        assert note in capsys.readouterr().err
    command(capsys, "optimize", model, *searched, "--nfe", 4, "-o", file)
    samples.unlink()
    command(capsys, "sample", model, "--prompt", "w3 w1 w4", *chosen)
    assert (np.load(samples)["samples"][:, :3] == PROMPT).all()


@pytest.mark.parametrize("method", ["shortest-path", "jys"])
def test_a_search_for_a_prompt_never_sees_its_sites_noised(
    model, tmp_path, capsys, monkeypatch, method
):
    seen = []
    forward = MaskedLanguageModel.forward

    def watched(self, x, t, where=None):
        seen.append((x, where))
        return forward(self, x, t, where)

    monkeypatch.setattr(MaskedLanguageModel, "forward", watched)
    options = [
        "--text",
        model / "story.txt",
        "--method",
        method,
        "--nfe",
        4,
        "--sequences",
        40,
        "-o",
        tmp_path / "s.json",
    ]
    command(capsys, "optimize", model, *options)
    assert any((x[:, :3] == MASK).any() for x, _ in seen)
    seen.clear()
    command(capsys, "optimize", model, *options, "--prompt", "w3 w1 w4")
    story = [VOCAB.index(word) for word in (model / "story.txt").read_text().split()]
    starts = {tuple(story[i : i + 3]) for i in range(0, 40 * LENGTH, LENGTH)}
    assert {tuple(row) for x, _ in seen for row in x[:, :3].tolist()} == starts
    assert any((x[:, 3:] == MASK).any() for x, _ in seen)
    assert not any(where[:, :3].any() for _, where in seen)


def test_explain_reads_text(model, capsys):
    options = [
        "--text",
        model / "story.txt",
        "--prompt",
        "w3",
        "--nfe",
        2,
        "--sequences",
        4,
        "--schedules",
        "uniform",
    ]
    out = command(capsys, "explain", model, *options)
    assert f", 1 of {LENGTH} sites given" in out
    assert "uniform, 2 steps" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sample", "--prompt", ""],
            f"the prompt has 0 tokens; with {LENGTH} sites there must be 1..{LENGTH - 1}",
        ),
        (["sample", "--prompt", "w1 " * 13], "the prompt has 13 tokens"),
        (
            ["sample", "--prompt", "w1 [MASK]"],
            "the text holds '[MASK]', the model's MASK (token 4)",
        ),
        (
            ["sample", "--prompt", "w1", "--given", "g.npz"],
            "--prompt and --given exclude each other; pass one of them",
        ),
        (["sample", "--tokenizer", "none"], "there is no tokenizer 'none'"),
        (
            ["sample", "-o", "x.txt"],
            "x.txt would not be a .txt file; end it in .npz",
        ),
        (["sample", "-o", "taken.npz"], "taken.txt is a folder; name a file"),
        (
            ["sample", "--prompt", "w1", "--order", "blocks", "--nfe", 12],
            "11 sites cannot be revealed in 12 steps",
        ),
        (["optimize", "--text", "none.txt"], "there is no file none.txt"),
        (
            ["optimize", "--text", "empty.txt"],
            f"empty.txt holds 0 tokens, and one sequence needs {LENGTH}",
        ),
        (["optimize", "--text", "latin.txt"], "latin.txt is not a text file in UTF-8"),
        (
            ["optimize", "--text", "empty.txt", "--data", "d.npy"],
            "--data and --text exclude each other; pass one of them",
        ),
        (["optimize"], "pass --data FILE with tokens [n, 12] (.npy or .npz), or --text FILE"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("für".encode("latin-1"))
    before = set(tmp_path.iterdir())
    name, *options = arguments
    assert message in refused(capsys, name, model, "--nfe", 2, *options)
    assert set(tmp_path.iterdir()) == before
