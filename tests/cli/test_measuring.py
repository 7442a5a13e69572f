"""``compare`` on text and with a metric of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, run
from builders.text import save_words
from jumpsteps.cli.measuring import perplexity
from jumpsteps.models import load
from jumpsteps.models.causal_lm import is_causal_lm, load_causal_lm
from jumpsteps.models.evaluator import save_evaluator
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.networks.autoregressive import Autoregressive, AutoregressiveConfig
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

WORDS = ["[UNK]", *(f"w{chr(97 + i)}" for i in range(19))]
COMPARE = "--nfe 2 4 --schedules uniform -n 8"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text model and an evaluator of random weights, for 20 words."""
    torch.manual_seed(0)
    path, forward = tmp_path_factory.mktemp("text"), Absorbing(vocab_size=21, noise=LogLinear())
    network, _ = build(DiTConfig(21, 16, 1, 2, cond_dim=8), forward, "posterior")
    save_native(path, network, forward, output="posterior", task="text", length=12)
    save_words(path, WORDS)
    judge = tmp_path_factory.mktemp("evaluator")
    save_evaluator(judge, Autoregressive(AutoregressiveConfig(20, 16, 1, 2)), length=12)
    (path / "book.txt").write_text(" ".join(WORDS[1:] * 10))
    return path, judge


def test_perplexity_stands_beside_entropy_and_repetition(tmp_path, capsys, folders):
    model, judge = folders
    out = tmp_path / "r.json"
    asked = ["--text", model / "book.txt", "--evaluator", judge, COMPARE, "-o", out]
    code, printed, _ = run(capsys, "compare", model, *asked)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].startswith("nats per token under the evaluator (95% interval, 8 samples)")
    (head,) = [line for line in lines if "unigram entropy, nats" in line]
    for title in ("word entropy", "distinct-2", "distinct-3", "repeated-4", "mauve"):
        assert title in head
    assert any(line.startswith("data (8 sequences)") for line in lines)
    content = json.loads(out.read_text())
    assert content["metric"] == "nats per token under the evaluator"
    assert not content["percent"]
    for row in content["rows"]:
        assert 2.5 < row["metric"]["mean"] < 3.5  # Near log 20, of random weights.
        assert 0 < row["measures"]["unigram entropy, nats"][0] <= np.log(20)
        assert row["measures"]["mauve, %"] == []
    assert lines[-2].startswith("MAUVE (-) says nothing of fewer than 100: pass -n 100 or more")
    assert "<td>-</td>" in out.with_suffix(".html").read_text()


def test_mauve_of_enough_sequences_is_shown():
    x, reference = torch.arange(500).view(100, 5) % 17, torch.arange(500).view(100, 5) % 13
    read = lambda x: (x.double().mean(1), x.double())  # noqa: E731
    (value, half) = perplexity(read, None, reference).beside(x)["mauve, %"]
    assert 0 < value < 100
    assert half > 0
    assert perplexity(read, None, reference[1:]).beside(x) == {"mauve, %": ()}


def test_a_metric_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_test.py").write_text(
        "def zeros(x):\n    return (x == 0).double().mean(1)\n\ndef wrong(x):\n    return x\n"
    )
    out = tmp_path / "r.json"
    code, printed, _ = run(capsys, f"compare {EXACT} {COMPARE} --metric mine_of_test:zeros -o", out)
    assert code == 0
    assert printed.splitlines()[0] == "zeros (95% interval, 8 samples)"
    content = json.loads(out.read_text())
    assert content["metric"] == "zeros"
    assert all(0 < row["metric"]["mean"] < 0.3 for row in content["rows"])


def test_a_causal_model_of_transformers_judges_by_the_text(tmp_path, folders):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    vocab = ["<s>", *WORDS]
    sizes = {"n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    network = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=21, **sizes)).eval()
    network.save_pretrained(tmp_path)
    save_words(tmp_path, vocab, bos_token="<s>")
    assert is_causal_lm(tmp_path)
    assert not is_causal_lm(folders[1])
    judge = load_causal_lm(tmp_path, load(folders[0]).text.decode, torch.device("cpu"))
    nll, features = judge.read(torch.tensor([[1, 2, 3], [4, 4, 5]]))
    # The tokens of the judged model, one further in this vocabulary, after <s>.
    ids = torch.tensor([[0, 2, 3, 4], [0, 5, 5, 6]])
    with torch.no_grad():
        log_p = network(ids).logits[:, :-1].double().log_softmax(-1)
    expected = -log_p.gather(-1, ids[:, 1:, None])[..., 0].mean(1)
    torch.testing.assert_close(nll, expected, rtol=1e-5, atol=0)
    assert features.shape == (2, 16)
    assert judge.read(torch.arange(12)[None])[0].shape == (1,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--metric zeros", "--metric takes distance or MODULE:NAME such as mine:score, got 'z"),
        (
            "--metric nowhere_at_all:f",
            "there is no module 'nowhere_at_all', neither nowhere_at_all.py",
        ),
        ("--metric math:nothing", "module math has no 'nothing'; name one that it defines"),
        ("--evaluator nowhere", "no evaluator 'nowhere': not a folder, not a hub id (OWNER/NAME)"),
        ("--metric a:b --evaluator c", "--metric and --evaluator exclude each other"),
        ("--metric torch:ones_like", "gave values of shape [8, 256] for 8 samples; return one"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, options, message):
    out = tmp_path / "r.json"
    code, _, err = run(capsys, f"compare {EXACT} {COMPARE} {options} -o", out)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


FAULTY = """
def divides(samples):
    return samples.float().mean(1) / (1 // 0)

def interrupted(samples):
    raise RuntimeError("several\\nlines")
"""


def test_a_metric_that_raises_is_one_line_and_loses_no_sample(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty_of_test.py").write_text(FAULTY)
    (tmp_path / "broken_of_test.py").write_text("x = 1\nundefined\n")
    asked = f"compare {EXACT} --nfe 1 --schedules uniform -n 4 -o r.json"
    for metric, raised in (
        ("broken_of_test:f", "NameError: name 'undefined' is not defined at "),
        ("faulty_of_test:divides", "ZeroDivisionError: integer division or modulo by zero at "),
        ("faulty_of_test:interrupted", "RuntimeError: several at "),
        ("math:pi", "TypeError: 'float' object is not callable; correct it"),
    ):
        code, _, err = run(capsys, f"{asked} --metric {metric}")
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith(f"error: --metric {metric} raised {raised}")
        place = f"{tmp_path / metric.partition(':')[0]}.py:"
        assert metric == "math:pi" or place in err
        assert err.endswith("; correct it and run the same command again\n")
    assert len(list(tmp_path.glob("r.json.parts/*/samples-*"))) == 1
    assert run(capsys, asked)[0] == 0


def test_a_model_without_a_metric_says_how_to_get_one(tmp_path, capsys, folders):
    out = tmp_path / "r.json"
    for options, message in (
        ("", "pass --data or --text to measure the distance from these, one of your own with --m"),
        ("--metric distance", "no data is known"),
    ):
        code, _, err = run(capsys, "compare", folders[0], COMPARE, options, "-o", out)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err


def test_without_a_metric_the_distance_from_the_text_is_measured(tmp_path, capsys, folders):
    """Entropies stand beside it; the data have no distance from themselves."""
    out = tmp_path / "r.json"
    asked = ["--text", folders[0] / "book.txt", COMPARE, "-o", out]
    code, printed, _ = run(capsys, "compare", folders[0], *asked)
    assert code == 0
    name = "energy distance from data, of pairs of neighbours"
    assert printed.startswith(f"{name}, % (95% interval, 8 samples)")
    assert printed.count(name) == 1
    assert "unigram entropy, nats" in printed
    content = json.loads(out.read_text())
    assert (content["metric"], content["percent"]) == (name, True)
    assert set(content["data_measures"]["data (8 sequences)"]) >= {"unigram entropy, nats"}
    assert all(0.05 < row["metric"]["mean"] < 1 for row in content["rows"])  # Random weights.


def test_the_distance_from_the_data_of_a_task(tmp_path, capsys):
    """Uniform times with 2 calls break the rule more often than with 32, and are farther."""
    out = tmp_path / "r.json"
    asked = f"compare {EXACT} --metric distance --schedules uniform --nfe 2 32 -n 16 -o"
    assert run(capsys, asked, out)[0] == 0
    few, many = (row["metric"] for row in json.loads(out.read_text())["rows"])
    assert few["low"] > many["high"]
    assert many["low"] < 0.02


def test_samples_are_read_once_for_all_measures():
    asked = []

    def read(x):
        asked.append(x)
        return x.double().mean(1), x.double()

    x, reference = torch.arange(20).view(4, 5), torch.arange(15).view(3, 5)
    metric = perplexity(read, None, reference)
    assert torch.equal(metric.measure(x), x.double().mean(1))
    assert list(metric.beside(x)) == ["mauve, %"]
    metric.measure(reference)
    assert [len(each) for each in asked] == [3, 4]


def test_documents_of_a_table_are_compared(tmp_path, capsys, folders):
    model, judge = folders
    rows = [{"story": "wa wb wc wd we wf wg"} for _ in range(40)]
    (tmp_path / "stories.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ["--text", tmp_path / "stories.jsonl", "--evaluator", judge, COMPARE]
    code, _, error = run(capsys, "compare", model, *asked, "-o", tmp_path / "a.json")
    assert code == 1
    assert "has no column 'text'; name one of its columns with --column: story" in error
    code, out, error = run(
        capsys, "compare", model, *asked, "--column story -o", tmp_path / "a.json"
    )
    assert code == 0, error
    assert "data (8 sequences)" in out
