"""``compare`` on text and with a metric of one's own."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, run
from builders.text import save_words
from jumpsteps.cli import measuring
from jumpsteps.cli.flags import parse
from jumpsteps.cli.measuring import (
    Metric,
    measures_of_data,
    metric_named,
    perplexity,
    print_measures,
    reader,
    reference_data,
    text_measures,
)
from jumpsteps.evaluation.mauve import mauve
from jumpsteps.evaluation.metrics import Interval, energy_distance
from jumpsteps.evaluation.results import Row
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
    generator = torch.Generator().manual_seed(0)
    near = mauve(x.double(), reference.double(), generator=generator)
    assert value == pytest.approx(100 * near.mean)
    assert half == pytest.approx(100 * (near.high - near.low) / 2)
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


CPU = torch.device("cpu")


def test_which_metric_is_measured(monkeypatch):
    model, data = load("toy-absorbing"), torch.arange(12).view(3, 4)
    own = metric_named(model, None, None, None, CPU)
    assert own == Metric(model.task.metric, model.task.metric_name, True, None, model.task.unit)
    alone = replace(model, task=None)
    for one, name in ((alone, None), (alone, "distance"), (model, "distance")):
        found = metric_named(one, name, None, data, CPU)
        assert (found.percent, found.of_all, found.beside) == (True, True, None)
        assert found.name == "energy distance from data, of pairs of neighbours"
    assert metric_named(model, "torch:numel", None, data, CPU).name == "numel"
    with pytest.raises(ValueError, match="the distance from 2 sequences is not known; pass 3 at"):
        metric_named(alone, None, None, data[:2], CPU)
    with pytest.raises(ValueError, match="no metric is known for 'toy-absorbing'; pass --data or"):
        metric_named(alone, None, None, None, CPU)
    asked = []

    def folder(name, instead):
        asked.append(name)
        raise ValueError(instead)

    monkeypatch.setattr(measuring, "checkpoint_folder", folder)
    with pytest.raises(ValueError, match="pass --evaluator FOLDER"):
        metric_named(replace(model, name="text-small"), None, None, None, CPU)
    assert asked == ["text-evaluator"]


def test_the_distance_is_the_energy_distance_of_histograms_of_pairs():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(3, (8, 9), generator=generator), torch.arange(45).view(5, 9) % 4
    found = metric_named(load("toy-absorbing"), "distance", None, y, CPU).measure(x)
    pairs = [z[:, :-1] * 4 + z[:, 1:] for z in (x, y)]
    expected = float(energy_distance(pairs[0][None], pairs[1][None], 16))
    assert found.mean == pytest.approx(expected)
    assert found.low < found.mean < found.high
    apart = metric_named(load("toy-absorbing"), "distance", None, x[:3] * 0, CPU)
    assert apart.measure(x[:3] * 0 + 1).mean == 2  # The largest there is.


def test_values_of_ones_own_metric_become_float64(monkeypatch):
    monkeypatch.setattr("operator.itemgetter", lambda x: x[:, 0].float())
    metric = metric_named(load("toy-absorbing"), "operator:itemgetter", None, None, CPU)
    assert metric.measure(torch.tensor([[1, 2], [3, 4]])).tolist() == [1, 3]
    assert metric.measure(torch.tensor([[1, 2]])).dtype == torch.float64


def test_other_sequences_than_those_of_the_search_are_compared_with(tmp_path):
    np.save(tmp_path / "d.npy", np.arange(400).reshape(100, 4) % 4)
    model, text = load("toy-absorbing"), SimpleNamespace()
    data = f"--data {tmp_path / 'd.npy'}"
    for flags, changes, rows in (
        ("", {}, None),
        ("", {"task": None}, None),
        (data, {}, None),
        (data, {"task": None}, 7),
        (data, {"text": text}, 7),
        ("--metric distance", {}, 7),
        (f"{data} --metric distance", {}, 7),
    ):
        options = parse(f"compare toy-absorbing --nfe 2 --sequences 99 {flags}".split())
        found = reference_data(replace(model, **changes), options, 7, CPU)
        assert (None if found is None else len(found)) == rows


def test_what_is_measured_of_the_data():
    reference = torch.tensor([[0, 1], [2, 3], [4, 5]])
    beside = lambda x: {"words": (len(x),), "mauve, %": (1.0, 2.0)}  # noqa: E731
    metric = Metric(lambda x: x.double().mean(1), "mean", beside=beside)
    (found,) = measures_of_data(metric, reference).items()
    assert found[0] == "data (3 sequences)"
    assert list(found[1]) == ["mean", "words"]
    mean, half = found[1]["mean"]
    assert (mean, found[1]["words"]) == (2.5, (3,))
    assert half == pytest.approx(1.959964 * 2 / 3**0.5)
    whole = replace(metric, of_all=True)
    assert measures_of_data(whole, reference) == {"data (3 sequences)": {"words": (3,)}}
    assert measures_of_data(replace(metric, beside=None), reference) == {}
    assert measures_of_data(metric, None) == measures_of_data(metric, reference[:1]) == {}


def test_what_stands_beside_a_metric_is_printed(capsys):
    metric = Metric(torch.numel, "mean", beside=lambda x: {})
    row = Row(4, "uniform", (1.0, 0.0), Interval(2.5, 2.0, 3.0, 0.95, 4), None, {"mauve, %": ()})
    print_measures([row], replace(metric, beside=None), {})
    assert capsys.readouterr().out == ""
    print_measures([row], metric, {"data (3 sequences)": {"mean": (1.0, 0.25)}})
    out = capsys.readouterr().out
    head, data, uniform, *notes = out.strip().splitlines()
    assert "mean" in head
    assert data.startswith("data (3 sequences)")
    assert uniform.startswith("uniform, NFE 4")
    assert "2.50 ±0.50" in uniform
    assert notes[0] == "entropy, distinct-n and MAUVE depend on the number of samples"
    assert notes[1].startswith("MAUVE (-) says nothing of fewer than 100: pass -n 100 or more")
    measured = replace(row, measures={"mauve, %": (50.0, 1.0)})
    print_measures([measured, row], metric, {})
    assert "MAUVE (-)" in capsys.readouterr().out
    print_measures([measured], replace(metric, of_all=True), {})
    out = capsys.readouterr().out
    assert "2.5" not in out
    assert "MAUVE (-)" not in out


def test_texts_without_a_whole_word_have_no_entropy_of_words():
    model = load("toy-absorbing")
    assert text_measures(model) is None
    words = ["", "it", "was", "the", "age"]
    text = SimpleNamespace(decode=lambda row: (row[0] and " ".join(words[i] for i in row)) or "")
    measure = text_measures(replace(model, text=text))
    x = torch.tensor([[0, 1, 2, 3, 1, 2, 3], [0, 2, 3, 2, 3, 2, 3]])
    assert measure(x)["word entropy, nats"] == ()
    found = measure(x + 1)
    assert len(found["word entropy, nats"]) == 1
    half = 1.959964 * 12.5  # Of the values 0 and 25.
    assert found["repeated-4, %"] == pytest.approx((12.5, half))
    assert found["distinct-2, %"][0] == pytest.approx(100 * 6 / 12)
    assert found["distinct-3, %"][0] == pytest.approx(100 * 7 / 10)


def test_a_causal_model_reads_text_alone(tmp_path, monkeypatch):
    asked = []

    def loaded(folder, decode, device):
        asked.append((folder, decode, device))
        return SimpleNamespace(read="read")

    monkeypatch.setattr(measuring, "is_causal_lm", lambda folder: True)
    monkeypatch.setattr(measuring, "load_causal_lm", loaded)
    model = load("toy-absorbing")
    with pytest.raises(ValueError, match="reads text, and 'toy-absorbing' has no tokenizer; pass"):
        reader(tmp_path, model, CPU)
    assert reader(tmp_path, replace(model, text=SimpleNamespace(decode="d")), CPU) == "read"
    assert asked == [(tmp_path, "d", CPU)]


def test_without_data_perplexity_stands_beside_other_measures_alone():
    read = lambda x: (x.double().mean(1), x.double())  # noqa: E731
    x = torch.arange(500).view(100, 5)
    assert perplexity(read, None, None).beside(x) == {}
    found = perplexity(read, lambda x: {"words": (1.0,)}, x).beside(x)
    assert list(found) == ["words", "mauve, %"]
