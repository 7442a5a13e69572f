"""The experiment on text: what it reads from its rows, and that it continues and joins them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import text as experiment
import text_figures
import text_rows
import text_samples
from builders.novels import LENGTH, WORDS, save_novels, save_text_evaluator, save_text_model
from builders.statistics import seeded
from jumpsteps import load
from jumpsteps.core.files import read_json, write_json
from novels import Novels
from tables import render


def row(
    name: str, nfe: float, mean: float, half: float, entropy: float = 6.0, mauve: float = 3.0
) -> text_rows.Row:
    score = {"evaluator, nats": [mean, half], "entropy": entropy, "mauve, %": [mauve, 0.3]}
    return {"method": name, "budget": nfe, "NFE": nfe, "sampler": "", "seconds": 0.0} | score


def row_of(rows: list[text_rows.Row], method: str, budget: int) -> text_rows.Row:
    return next(row for row in rows if (row["method"], row["budget"]) == (method, budget))


def test_the_fewest_calls_that_reach_the_baseline() -> None:
    rows = [
        row("real text", 0, 3.7, 0.1),
        row("tweedie:uniform", 128, 4.9, 0.03),
        row("tweedie:uniform", 256, 4.7, 0.03),
        row("golden", 8, 4.8, 0.04),
        row("golden", 16, 4.74, 0.04, mauve=2.5),
        row("golden", 32, 4.6, 0.04, mauve=2.6),
        row("maskgit", 16, 3.0, 0.04, entropy=4.0),
    ]
    found = {name: cells for name, *cells in text_rows.reach(rows)["rows"]}
    assert found == {
        "tweedie:uniform": [256, 256, 1.0, 256, 1.0],
        "golden": [32, 16, 16.0, 32, 8.0],
        "maskgit": [None] * 5,
    }
    assert text_rows.reach(rows[:2])["rows"] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("text")
    save_novels(made / "novels.npz")
    save_text_model(made / "model")
    save_text_evaluator(made / "evaluator")
    return made


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, out: str, *flags: str) -> Path:
    """Run the script with 6 samples; the file that it wrote."""
    command = ["text.py", "novels.npz", out, "--model", "model", "--evaluator", "evaluator"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [*command, "-n", "6", "--sequences", "8", *flags])
    experiment.run()
    return folder / out


def methods_and_budgets(out: Path) -> list[tuple[str, int]]:
    rows = text_rows.records(read_json(out)["tables"]["rows"])
    return [(row["method"], row["budget"]) for row in rows]


def test_a_run_continues_and_files_are_joined(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ["--nfe", "2", "4", "--methods", "k-gillespie:golden"]
    out = run(monkeypatch, folder, "a.json", *first)
    assert methods_and_budgets(out) == [
        ("real text", 0),
        ("k-gillespie:golden", 2),
        ("k-gillespie:golden", 4),
    ]
    before = read_json(out)["tables"]
    # Without the last row, it is measured again; the others and the search are not.
    content = read_json(out)
    content["tables"]["rows"]["rows"].pop()
    write_json(out, content)
    capsys.readouterr()
    run(monkeypatch, folder, "a.json", *first)
    printed = capsys.readouterr().out
    assert "model calls" not in printed
    assert printed.count("judged in") == 1
    after = read_json(out)["tables"]
    seconds = before["rows"]["head"].index("seconds")
    for old, new in zip(before["rows"]["rows"], after["rows"]["rows"], strict=True):
        del old[seconds], new[seconds]
        assert old == new
    assert before["searches"] == after["searches"]

    run(monkeypatch, folder, "a.json", *first, "--minutes", "0")
    second = ["tweedie:uniform", "tweedie:uniform@0.01", "k-gillespie-multistep:auto", "eb"]
    run(monkeypatch, folder, "b.json", "--nfe", "4", "--methods", *second)
    tables, samples = text_rows.read_rows([out, folder / "b.json"])
    names = [(name, budget) for name, budget, *_ in tables["rows"]["rows"]]
    added = [(name, 4) for name in second]
    assert names == [("real text", 0), *(("k-gillespie:golden", n) for n in (2, 4)), *added]
    for name, budget in names:
        tokens = samples[f"{name}/{budget}/tokens"]
        assert tokens.shape == (6, LENGTH)
        assert tokens.max() < len(WORDS)
        if budget:
            steps = samples[f"{name}/{budget}/steps"]
            assert steps.shape == (text_rows.MAPPED, LENGTH)
            assert set(np.unique(steps)) <= set(range(1, 17))


def test_a_row_of_a_temperature(monkeypatch, folder) -> None:
    """The coldest samples differ from those of the method alone, and are the same in each run."""
    names = ["tweedie:uniform", "tweedie:uniform@0.01", "tweedie:uniform@1"]
    out = run(monkeypatch, folder, "cold.json", "--nfe", "2", "--methods", *names)
    _, samples = text_rows.read_rows([out])
    warm, cold, same = (samples[f"{name}/2/tokens"] for name in names)
    assert (warm == same).all()
    assert (warm != cold).any()
    for wrong in ("tweedie:uniform@cold", "tweedie:uniform@", "tweedie@0.5"):
        with pytest.raises(SystemExit, match="no method"):
            run(monkeypatch, folder, "cold.json", "--nfe", "2", "--methods", wrong)


def test_no_row_is_started_after_the_minutes(monkeypatch, folder) -> None:
    flags = ["--nfe", "2", "--methods", "k-gillespie:auto", "maskgit", "--minutes", "0"]
    out = run(monkeypatch, folder, "none.json", *flags)
    assert methods_and_budgets(out) == [("real text", 0)]
    assert read_json(out)["tables"]["searches"]["rows"] == []


def test_a_file_of_other_settings_is_refused(monkeypatch, folder) -> None:
    flags = ["--nfe", "2", "--methods", "maskgit"]
    run(monkeypatch, folder, "c.json", *flags)
    with pytest.raises(SystemExit, match="precision float32, not bfloat16 blocks; name another"):
        run(monkeypatch, folder, "c.json", *flags, "--bf16")


def test_blocks_in_bfloat16_and_the_head_in_float32(folder) -> None:
    model = load(str(folder / "model"))
    x = torch.randint(len(WORDS) + 1, (4, LENGTH), generator=seeded(2))
    full = model.reverse.model(x, 0.5)
    hidden = model.reverse.model.network.trunk(x, torch.zeros(1))
    experiment.in_bfloat16(model)
    half = model.reverse.model(x, 0.5)
    rounded = model.reverse.model.network.trunk(x, torch.zeros(1))
    assert half.dtype == rounded.dtype == torch.float32
    assert 0 < (rounded - hidden).abs().mean() < 0.05 * hidden.abs().mean()
    assert 0 < (half - full).abs().nan_to_num().max() < 1
    # Sums and a head in bfloat16 would give numbers of 8 bits.
    logits = model.reverse.model.network(x, torch.zeros(1))
    for numbers in (rounded, logits):
        assert not torch.equal(numbers, numbers.bfloat16().float())


def test_tables_pictures_and_pages(monkeypatch, folder) -> None:
    flags = ["--nfe", "2", "4", "--methods", "tweedie:uniform", "euler:uniform", "maskgit", "eb"]
    run(monkeypatch, folder, "d.json", *flags)
    write_json(folder / "tokenizer.json", Novels(folder / "novels.npz").tokenizer)
    command = ["text_figures.py", "d.json", "--results", "results.json", "--figures", "figures"]
    monkeypatch.setattr("sys.argv", [*command, "--tokenizer", "tokenizer.json", "--nfe", "4", "64"])
    text_figures.run()
    made = sorted(path.name for path in (folder / "figures").iterdir())
    assert made == ["text-samples-4.png", "text.png"]
    page = (folder / "text-samples-4.html").read_text()
    assert page.count("<td>") == 2
    assert page.count('title="step ') == 2 * LENGTH
    tables = read_json(folder / "results.json")["tables"]
    rows = text_rows.records(tables["nll"])
    assert [row["NFE"] for row in rows] == [
        "uniform times",
        "Euler, uniform times",
        "MaskGIT, equal counts",
        "entropy-bounded",
    ]
    measured = text_rows.records(read_json(folder / "d.json")["tables"]["rows"])
    assert rows[2]["4"] == text_rows.score(row_of(measured, "maskgit", 4))
    assert [row["method"] for row in text_rows.records(tables["measures-4"])] == [
        "real text",
        *(row["NFE"] for row in rows),
    ]
    compared = text_rows.records(tables["measures"])
    assert [(row["method"], row["NFE"]) for row in compared] == [
        ("real text", ""),
        ("uniform times", 2),
        ("uniform times", 4),
    ]
    assert compared[2]["word entropy"] == row_of(measured, "tweedie:uniform", 4)["word entropy"]
    assert all(render(table) for table in tables.values())


def test_of_a_row_that_two_files_have_the_first_counts(monkeypatch, folder) -> None:
    flags = ["--nfe", "2", "--methods", "tweedie:uniform", "maskgit"]
    first = run(monkeypatch, folder, "e.json", *flags)
    content = read_json(first)
    head = content["tables"]["rows"]["head"]
    for row in content["tables"]["rows"]["rows"]:
        row[head.index("entropy")] += 1
    second = folder / "f.json"
    write_json(second, content)
    samples = text_rows.samples_file(first).read_bytes()
    text_rows.samples_file(second).write_bytes(samples)
    for files, added in (([first, second], 0), ([second, first], 1)):
        rows = text_rows.records(text_rows.read_rows(files)[0]["rows"])
        assert len(rows) == 3
        before = text_rows.records(read_json(first)["tables"]["rows"])
        for row, old in zip(rows, before, strict=True):
            assert row["entropy"] == old["entropy"] + added
    some, _ = text_rows.read_rows([first, second], methods=["maskgit"])
    assert [name for name, *_ in some["rows"]["rows"]] == ["real text", "maskgit"]


def test_lines_keep_words_together_and_lose_blanks_only() -> None:
    pieces = ["It was a", " fine", "-", "looking house.\n", "Averyveryverylong", "word"]
    lines = text_samples.wrapped(pieces, range(1, len(pieces) + 1), 12)
    texts = ["".join(letter for letter, _ in line) for line in lines]
    assert texts == ["It was a", "fine-looking", "house.", "Averyveryver", "ylongword"]
    assert [step for _, step in lines[1]] == [2] * 4 + [3] + [4] * 7
