"""``jumpsteps report``, and the page that ``jumpsteps compare`` writes, in a browser."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.browser import CHROMIUM, Browser
from builders.command_line import EXACT, run
from builders.results import small_results
from jumpsteps import load
from jumpsteps.cli import reporting
from jumpsteps.cli.flags import parse
from jumpsteps.cli.inputs import seeded
from jumpsteps.cli.reporting import calibration_on_data, calibration_on_task, save_comparison
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.page.document import write_report
from jumpsteps.evaluation.results import load_results, save_results
from jumpsteps.schedules.files import save_schedules
from jumpsteps.tasks import TASKS
from jumpsteps.tasks.galleries import gallery_facts, gallery_of

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def test_compare_writes_a_page_and_the_command_that_repeats_it(tmp_path, capsys):
    results = tmp_path / "r.json"
    asked = f"compare {EXACT} --nfe 2 4 --schedules uniform cosine -n 4 --sequences 4 -o"
    code, out, _ = run(capsys, asked, results)
    assert code == 0
    assert f"written to {results}, and as a page to {tmp_path / 'r.html'}" in out
    read = load_results(results)
    assert read.about["command"] == f"jumpsteps {asked} {results}"
    assert {len(row.examples.tokens) for row in read.rows} == {4}
    assert set(read.schedules) == {"uniform", "cosine"}
    assert len(read.calibration.levels) == 5
    again = tmp_path / "again.html"
    code, out, _ = run(capsys, "report", results, "-o", again)
    assert (code, out) == (0, f"written to {again}; open it in a browser\n")
    assert again.read_bytes() == (tmp_path / "r.html").read_bytes()


def test_a_folder_stands_for_its_results(tmp_path, capsys):
    made = small_results()
    save_results(tmp_path / "demo" / "results.json", list(made.rows), made.about)
    named = [tmp_path / "demo", tmp_path / "demo" / "results.json"]
    assert run(capsys, "report", *named, "-o", tmp_path / "r.html")[0] == 0
    assert (tmp_path / "r.html").read_text().count("<article") == 1
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, "report", tmp_path / "empty", "-o", tmp_path / "r.html")
    assert code == 1
    assert f"there is no file {tmp_path / 'empty' / 'results.json'}" in err


def test_schedules_may_be_reported_alone_and_beside_results(tmp_path, capsys):
    made = small_results()
    save_schedules(tmp_path / "s.json", made.schedules["golden"])
    save_results(tmp_path / "r.json", list(made.rows), made.about)
    code, _, _ = run(capsys, "report", tmp_path / "s.json", "-o", tmp_path / "s.html")
    assert code == 0
    assert "shortest-path-golden (s.json)" in (tmp_path / "s.html").read_text()
    both = [tmp_path / "r.json", tmp_path / "s.json"]
    assert run(capsys, "report", *both, "-o", tmp_path / "b.html")[0] == 0


@pytest.mark.parametrize(
    ("names", "out", "message"),
    [
        (["none.json"], "x.html", "there is no file"),
        (["other.json"], "x.html", "not a file of results; write one with"),
        (["empty.json"], "x.html", "holds no schedules"),
        (["other.json"], "x.pdf", "is not the name of a page; end it in .html"),
        (["x.html"], "x.html", "two outputs would be written"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, names, out, message):
    (tmp_path / "other.json").write_text("[]")
    empty = {"format": "jumpsteps-schedules", "schema_version": 2, "schedules": []}
    (tmp_path / "empty.json").write_text(json.dumps(empty))
    code, _, err = run(capsys, "report", *(tmp_path / name for name in names), "-o", tmp_path / out)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_results_may_not_be_named_like_the_page(tmp_path, capsys):
    asked = f"compare {EXACT} --nfe 2 --schedules uniform -n 4 -o"
    code, _, err = run(capsys, asked, tmp_path / "r.html")
    assert code == 1
    assert "is where the report would go; end the results in .json" in err


@pytest.mark.slow
@needs_chromium
def test_the_page_works_in_a_browser_without_errors_or_requests(tmp_path):
    page = tmp_path / "page.html"
    write_report(page, results_of_every_task(), gallery_of)
    hidden = "document.querySelectorAll('#part1-samples').length && document.querySelectorAll("
    hidden += "'.film:has(#part1-samples) .later').length"
    with Browser() as browser:
        for width in (1280, 400):
            for dark in (False, True):
                browser.open(page.as_uri(), width=width, dark=dark)
                assert browser.value("document.documentElement.scrollWidth") <= width
                colour = browser.value("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, colour[4:-1].split(","))) < 384) == dark
        assert browser.value(hidden) == 0
        browser.value("document.querySelector('#part1-samples').focus()")
        browser.press("Home", 36)
        assert browser.value(hidden) == 8
        browser.press("ArrowRight", 39)
        assert browser.value(hidden) == 6
        assert browser.value("document.activeElement.getAttribute('aria-valuetext')") == (
            "step 1 of 2"
        )
        browser.value("document.querySelector('.film:has(#part1-samples) button').click()")
        browser.wait(f"{hidden} === 0")
        assert browser.said == []
        asked = {address for address in browser.requests if not address.startswith("data:")}
        assert asked == {page.as_uri()}


CPU = torch.device("cpu")


def test_what_a_file_of_results_says_of_the_model(tmp_path):
    """What the command knows replaces what the model says of itself; text is kept in pieces."""
    made, model = small_results(), load("toy-absorbing")
    text = SimpleNamespace(decode=lambda row: "".join("abcd"[i] for i in row))
    rows = [*made.rows[:3], replace(made.rows[3], examples=None)]
    for one in (model, replace(model, task=None, text=text)):
        page = save_comparison(
            tmp_path / "r.json", rows, {"metric": "mine"}, one, made.schedules, None, CPU
        )
        assert page == tmp_path / "r.html"
        read = load_results(tmp_path / "r.json")
        expected = {
            "model_hash": model.digest,
            "kernel": "absorbing",
            "noise": repr(model.reverse.forward.noise),
            "length": 4,
            "symbols": model.reverse.forward.vocab_size,
            "task": None if one.task is None else one.task.name,
            "metric": "mine",
            "device": "cpu",
            "torch": torch.__version__,
        }
        assert {name: read.about[name] for name in expected} == expected
        assert set(read.schedules) == set(made.schedules)
    assert read.rows[0].examples.pieces == (("d", "c", "a", "d"),)
    assert read.rows[3].examples is None


def test_calibration_is_measured_on_other_sequences_than_a_search(tmp_path, monkeypatch, capsys):
    model, asked = load("toy-absorbing"), []

    def measure(reverse, data, **options):
        asked.append((data, options.get("given_mask")))
        if not len(asked) % 2:
            raise ValueError("too few")
        return "curve"

    monkeypatch.setattr(reporting, "measure_calibration", measure)
    np.savez(tmp_path / "g.npz", tokens=np.zeros(4, int), mask=np.arange(4) < 2)
    words = f"compare toy-absorbing --nfe 2 --given {tmp_path / 'g.npz'}"
    options = parse(words.split())
    common = model, options.search, options.observed, 5, CPU
    assert calibration_on_data(*common) == "curve"
    ((data, mask),) = asked
    assert torch.equal(data, model.task.sample_data(16, seeded(7, CPU)))
    assert torch.equal(mask, torch.arange(4) < 2)
    assert calibration_on_data(*common) is None
    assert capsys.readouterr().err == "note: the report has no calibration (too few)\n"
    assert calibration_on_data(replace(model, task=None), *common[1:]) is None
    assert capsys.readouterr().err == ""
    missing = replace(options.search, data=str(tmp_path / "no.npz"))
    assert calibration_on_data(model, missing, *common[2:]) is None
    assert "the report has no calibration (there is no file" in capsys.readouterr().err
    assert len(asked) == 2
    assert calibration_on_task(model, 5, CPU) == "curve"
    assert torch.equal(asked[2][0], data)
    assert calibration_on_task(replace(model, task=None), 5, CPU) is None


def renamed(made, old, new):
    """The results with another name of a schedule."""
    rows = [replace(row, schedule=row.schedule.replace(old, new)) for row in made.rows]
    found = {name.replace(old, new): each for name, each in made.schedules.items()}
    return replace(made, rows=rows, schedules=found)


def results_of_every_task():
    """CountDown, piano, images and text."""
    made = renamed(small_results(), "golden", "/a/long/path/" + "of_a_file" * 6 + ".json")
    melody = Examples(((60, 62, 64, 65) * 4,), ((1, 2) * 8,))
    image = Examples(((0, 128, 255) * 1024,), ((1, 2, 2) * 1024,))
    text = Examples(((0, 1, 2),), ((-1, 1, 2),), (("It", " was", " " + "long" * 200),))
    kinds = {"piano": melody, "images": image, "text": text}
    others = [
        replace(
            made,
            about={**gallery_facts(TASKS.get(task)), "model": task},
            rows=tuple(replace(row, examples=examples) for row in made.rows),
        )
        for task, examples in kinds.items()
    ]
    return [made, *others]


@pytest.mark.slow
@needs_chromium
def test_the_sound_of_a_melody_plays(tmp_path):
    page = tmp_path / "page.html"
    write_report(page, results_of_every_task()[1:2], gallery_of)
    with Browser() as browser:
        browser.open(page.as_uri())
        browser.value("(async () => { await document.querySelector('audio').play() })()")
        browser.wait("document.querySelector('audio').currentTime > 0.1")
        assert browser.value("document.querySelector('audio').duration") == 2
        assert browser.said == []


@pytest.mark.slow
@needs_chromium
def test_the_browser_notices_errors_and_requests(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<script>undefined_name()</script><img src='http://127.0.0.1:9/x.png'>")
    with Browser() as browser:
        browser.open(page.as_uri())
        browser.wait("document.images[0].complete")
    assert browser.said
    assert "http://127.0.0.1:9/x.png" in browser.requests
