"""Names of outputs, and what is written of samples."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import jumpsteps as js
from jumpsteps import Provenance, load, save_schedules
from jumpsteps.cli import outputs
from jumpsteps.cli.outputs import (
    check_distinct,
    json_file,
    missing_extras,
    note_replaced,
    output_file,
    output_folder,
    sample_files,
    text_file,
    write_each,
    write_samples,
)
from jumpsteps.denoiser.conditioning import Given


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "there").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["new", "new.json", "new/deep/x.JSON", "file", "there/x"])
def test_names_of_files_that_can_be_written(folder, name):
    before = sorted(folder.rglob("*"))
    assert output_file(name) == json_file(name, "schedules") == Path(name)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["new", "new/deep", "there", "there/new/"])
def test_names_of_folders_that_can_be_made(folder, name):
    assert output_folder(name) == Path(name)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("check", "name", "message"),
    [
        (output_file, "", "the name of an output is empty; name a file to write to"),
        (output_folder, "", "the name of an output is empty; name a folder to write to"),
        (output_file, "there", "there is a folder; name a file to write to"),
        (output_file, "new/", "new/ is a folder; name a file to write to"),
        (output_file, "file/deep/x", "file/deep/x cannot be written, because file is a file"),
        (output_folder, "file/x", "file/x cannot be written, because file is a file"),
        (output_folder, "file", "file is a file; name a folder to write to"),
        (
            partial(json_file, what="results"),
            "x.npz",
            "results are JSON, and x.npz would not be; end it in .json",
        ),
        (lambda name: text_file(Path(name)), "x.txt", "x.txt is where the text would go; name a"),
        (lambda name: text_file(Path(name)), "file/x.npz", "because file is a file"),
    ],
)
def test_names_that_cannot_be_written(folder, check, name, message):
    with pytest.raises(ValueError, match=f"^{message}|{message}$"):
        check(name)


def test_a_folder_where_nothing_may_be_written_is_named(folder, monkeypatch):
    """That of a file that is there or not, or the nearest one above that is there."""
    (folder / "there" / "mine").write_text("mine")
    asked = []
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: asked.append(path))
    for check, name in (
        (output_file, "there/new"),
        (output_file, "there/a/b/new"),
        (output_folder, "there"),
        (output_folder, "there/a/b"),
    ):
        with pytest.raises(ValueError, match=f"^{folder / 'there'} is a folder where you may not"):
            check(name)
    assert asked == [folder / "there"] * 4


def test_two_outputs_are_two_files(folder):
    check_distinct(Path("a"), None, Path("b"), None)
    with pytest.raises(ValueError, match=f"two outputs would be written to {folder / 'a'}; name"):
        check_distinct(Path("a"), None, folder / "there" / ".." / "a")


def test_the_text_stands_beside_the_tokens(folder):
    assert text_file(Path("there/x.npz")) == Path("there/x.txt")


def test_all_libraries_that_are_missing_are_named(monkeypatch):
    task = replace(load("toy-absorbing").task, write_needs=("PIL", "matplotlib", "mido"))
    monkeypatch.setattr(outputs, "find_spec", lambda name: True if name == "matplotlib" else None)
    assert missing_extras(task).endswith("need: pip install 'jumpsteps[images,music]'")
    assert missing_extras(replace(task, write_needs=("matplotlib",))) == ""


def test_tokens_go_to_a_file_or_a_folder(folder):
    model = load("toy-absorbing")
    writes = replace(model, task=replace(model.task, write=print, file_suffixes=(".fasta",)))
    tokens, both = Path("samples.npz"), Path("out/samples.npz")
    assert sample_files(None, model) == (tokens, None)
    assert sample_files(None, replace(model, task=None)) == (tokens, None)
    assert sample_files(None, writes) == (both, print)
    assert sample_files("out", model) == (both, None)
    assert sample_files("a.NPZ", writes) == (Path("a.NPZ"), None)
    assert sample_files("a.fasta", writes) == (Path("a.fasta"), None)
    (folder / "v1.0").mkdir()
    assert sample_files("v1.0", writes) == (Path("v1.0/samples.npz"), print)
    for name, other in (("a.fasta", model), ("a.wav", writes)):
        with pytest.raises(ValueError, match=f"^{name} would not be a "):
            sample_files(name, other)


def test_a_task_writes_samples_of_given_sites_its_own_way_and_all_in_one_picture(folder, capsys):
    model, written = load("toy-absorbing"), []

    def write_as(given):
        written.append(given)
        return lambda path, sample, mask: written.append((path.name, mask.tolist()))

    task = replace(
        model.task,
        write_as=write_as,
        write_all=lambda path, samples: written.append((path, samples)),
        metric=lambda x: torch.tensor([0.25, 0.75]),
        metric_name="broken",
        show=lambda row: f"shown {row.tolist()}",
    )
    samples = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    given = Given(samples[0], torch.tensor([True, False, False, True]))
    model = replace(model, task=task)
    write_samples(Path("there/x.npz"), task.show, model, samples, 7, given)
    observed, *each, (path, every) = written
    assert observed is given
    assert each == [(f"sample-{i}", [True, False, False, True]) for i in (1, 2)]
    assert path == Path("there/samples")
    assert torch.equal(every, samples)
    assert capsys.readouterr().out == (
        "shown [0, 1, 2, 3]\nbroken: 50.00%\n2 samples, 7 model calls each; written to "
        "there/x.npz and there/sample-* and there/samples.*\n"
    )
    content = np.load("there/x.npz")
    assert np.array_equal(content["samples"], samples.numpy())
    assert content["nfe"] == 7


def test_without_a_task_tokens_alone_are_written(folder, capsys):
    model = replace(load("toy-absorbing"), task=None)
    write_samples(Path("x.npz"), None, model, torch.zeros(3, 4, dtype=torch.int64), 2, None)
    assert capsys.readouterr().out == "3 samples, 2 model calls each; written to x.npz\n"


def test_text_is_printed_and_written_beside_the_tokens(folder, capsys):
    text = SimpleNamespace(decode=lambda row: " ".join("abcd"[i] for i in row))
    model = replace(load("toy-absorbing"), task=None, text=text)
    write_samples(Path("x.npz"), None, model, torch.tensor([[0, 1], [2, 3]]), 2, None)
    assert capsys.readouterr().out == (
        "a b\n2 samples, 2 model calls each; written to x.npz and x.txt\n"
    )
    assert Path("x.txt").read_text().split("=====") == [
        "",
        " sample 1 of 2 ",
        "\na b\n\n",
        " sample 2 of 2 ",
        "\nc d\n",
    ]


@pytest.mark.parametrize("before", [4, 12])
def test_only_files_of_the_last_run_are_left(folder, before):
    def write(path, sample, mask):
        path.with_suffix(".txt").write_text(str(sample.tolist()))

    for n in (before, 3):
        write_each(write, Path("there"), torch.arange(n)[:, None], None)
    found = {path.name: path.read_text() for path in Path("there").iterdir()}
    assert found == {"sample-1.txt": "[0]", "sample-2.txt": "[1]", "sample-3.txt": "[2]"}


def test_schedules_that_a_search_replaces_are_named(folder, capsys):
    """Those of another model or for other numbers of model calls, not those made again."""
    file = folder / "s.json"
    mine, other = (Provenance(model=name) for name in ("mine", "other"))
    two, four, eight = (js.uniform(n) for n in (2, 4, 8))
    found = {2: replace(two, provenance=mine), 4: replace(four, provenance=mine)}
    save_schedules(file, found | {8: replace(eight, provenance=other)})
    note_replaced(file, "mine", [2, 4, 8])
    err = capsys.readouterr().err
    assert "s.json holds schedules of other for NFE [8], which this search replaces; to keep" in err
    assert err.count("\n") == 1
    save_schedules(file, found)
    note_replaced(file, "mine", [2])
    assert "schedules of mine for NFE [2, 4]" in capsys.readouterr().err
    for path, nfe in ((file, [4, 2, 8]), (file, []), (folder / "no", [2]), (folder / "file", [2])):
        note_replaced(path, "mine", nfe)
    assert capsys.readouterr().err == ""
