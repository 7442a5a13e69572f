"""Commands that are killed and started again: the outcome is that of an unbroken run."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import builders.killed_runs
from builders.command_line import run
from builders.novels import LENGTH, save_text_model
from jumpsteps import Euler, TimeSchedule, Tweedie, load, save_schedules, uniform
from jumpsteps.cli.flags import parse
from jumpsteps.cli.long_runs import compare_request, kept_run, kept_schedules, sample_request
from jumpsteps.core.distributed import ALONE
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling import run_folder

SAMPLE = ["sample", "toy-absorbing", "--nfe", "4", "--schedule", "uniform", "-n", "600"]
COMPARE = ["compare", "toy-absorbing", "--nfe", "2", "4", "--schedules", "uniform", "jys"]
COMPARE += ["-n", "300", "--sequences", "8"]


def hash_of(file: Path) -> str:
    content = np.load(file)
    return hashlib.sha256(content["samples"].tobytes() + content["nfe"].tobytes()).hexdigest()


def killed(words: list[str], parts: Path, kills: int, seed: int) -> None:
    """Run a command, kill it so many times, and let the last run end."""
    script = Path(builders.killed_runs.__file__)
    arguments = [str(parts), str(kills), str(seed), *words]
    subprocess.run([sys.executable, "-P", script, *arguments], check=True, timeout=120)


@pytest.mark.parametrize(
    ("batch", "n", "kills"),
    [("16", "600", 3), ("7", "400", 2), pytest.param("16", "4000", 10, marks=pytest.mark.slow)],
)
def test_samples_of_a_killed_run_are_those_of_an_unbroken_one(tmp_path, capsys, batch, n, kills):
    whole, file = tmp_path / "whole.npz", tmp_path / "x.npz"
    assert run(capsys, *SAMPLE[:-1], n, "--batch", "100", "-o", whole)[0] == 0
    words = [*SAMPLE[:-1], n, "--batch", batch, "-o", str(file)]
    killed(words, tmp_path / "x.npz.parts", kills, seed=int(batch))
    assert hash_of(file) == hash_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.npz", "x.npz"]


def test_a_killed_comparison_has_the_rows_of_an_unbroken_one(tmp_path, capsys):
    whole, file = tmp_path / "whole.json", tmp_path / "x.json"
    assert run(capsys, *COMPARE, "-o", whole)[0] == 0
    killed([*COMPARE, "-o", str(file)], tmp_path / "x.json.parts", 3, seed=3)
    contents = [json.loads(path.read_text()) for path in (whole, file)]
    assert contents[0]["rows"] == contents[1]["rows"]
    assert contents[0]["schedules"] == contents[1]["schedules"]
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("words", "name"), [(SAMPLE, "x.npz"), (COMPARE, "x.json")], ids=["sample", "compare"]
)
def test_an_output_that_is_replaced_is_announced_before_the_run(
    tmp_path, capsys, monkeypatch, words, name
):
    """Not the first time; and what was there is kept until the new one is written."""
    file = tmp_path / name
    code, _, err = run(capsys, *words, "-o", file)
    assert (code, "replaces it" in err) == (0, False)
    before = file.read_bytes()
    monkeypatch.setattr("jumpsteps.sampling.batches.simulate", interrupted(after=0))
    _, _, err = run(capsys, *words, "--seed", "9", "-o", file)
    assert f"note: {file} is there, and this run replaces it; to keep it name another" in err
    assert file.read_bytes() == before


def interrupted(after: int, error: type[BaseException] = KeyboardInterrupt):
    """``simulate`` that fails when it is called for the n-th time."""
    from jumpsteps.sampling import batches

    original, calls = batches.simulate, []

    def simulate(*args, **options):
        calls.append(1)
        if len(calls) > after:
            raise error
        return original(*args, **options)

    return simulate


def test_ctrl_c_says_how_to_continue(tmp_path, capsys, monkeypatch):
    file = tmp_path / "x.npz"
    with monkeypatch.context() as patched:
        patched.setattr("jumpsteps.sampling.batches.simulate", interrupted(3))
        code, _, err = run(capsys, *SAMPLE, "-o", file)
    assert code == 130
    assert err == (
        f"interrupted: 48 samples are kept in {file}.parts; run the same command to continue\n"
    )
    code, _, err = run(capsys, *SAMPLE, "--seed 1 -o", file)
    assert code == 1
    assert f"{file}.parts holds an unfinished run with another seed (0, not 1)" in err
    calls = interrupted(10**9)
    monkeypatch.setattr("jumpsteps.sampling.batches.simulate", calls)
    assert run(capsys, *SAMPLE, "-o", file)[0] == 0
    assert len(calls.__closure__[1].cell_contents) == 35  # of 38 batches
    monkeypatch.undo()
    assert run(capsys, *SAMPLE, "-o", tmp_path / "whole.npz")[0] == 0
    assert hash_of(file) == hash_of(tmp_path / "whole.npz")


def test_a_multistep_sampler_is_continued_and_does_not_depend_on_the_batch(
    tmp_path, capsys, monkeypatch
):
    """What it keeps of its last step is that of one run."""
    words = [*SAMPLE, "--sampler k-gillespie-multistep -o"]
    with monkeypatch.context() as patched:
        patched.setattr("jumpsteps.sampling.batches.simulate", interrupted(3))
        assert run(capsys, *words, tmp_path / "x.npz")[0] == 130
    assert run(capsys, *words, tmp_path / "x.npz")[0] == 0
    assert run(capsys, *words, tmp_path / "whole.npz", "--batch 100")[0] == 0
    assert hash_of(tmp_path / "x.npz") == hash_of(tmp_path / "whole.npz")


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path, capsys, monkeypatch):
    for error, code in ((KeyboardInterrupt, 130), (ValueError, 1)):
        monkeypatch.setattr("jumpsteps.sampling.batches.simulate", interrupted(0, error))
        assert run(capsys, *SAMPLE, "-o", tmp_path / "x.npz")[0] == code
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, capsys, monkeypatch):
    file, save, kept = tmp_path / "x.npz", run_folder.Parts.save, []

    def full(parts, first, runs):
        if len(kept) == 2:
            raise OSError(28, "No space left on device")
        kept.append(first)
        save(parts, first, runs)

    monkeypatch.setattr(run_folder, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(run_folder.Parts, "save", full)
        code, _, err = run(capsys, *SAMPLE, "-o", file)
    assert (code, kept) == (1, [0, 16])
    assert "No space left on device" in err
    assert len(list(tmp_path.glob("x.npz.parts/samples-*"))) == 2
    assert run(capsys, *SAMPLE, "-o", file)[0] == 0
    monkeypatch.undo()
    assert run(capsys, *SAMPLE, "-o", tmp_path / "whole.npz")[0] == 0
    assert hash_of(file) == hash_of(tmp_path / "whole.npz")


def test_the_destination_is_tried_before_the_first_model_call(tmp_path, capsys, monkeypatch):
    def no_work(*args, **options):
        raise AssertionError("a run was started")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jumpsteps.sampling.batches.simulate", no_work)
    monkeypatch.setattr("jumpsteps.cli.searches.optimize_schedule", no_work)
    monkeypatch.setattr(run_folder, "write_json", full)
    for command, name in ((SAMPLE, "x.npz"), (COMPARE, "x.json")):
        code, _, err = run(capsys, *command, "-o", tmp_path / name)
        assert code == 1
        assert "No space left on device" in err


CPU = torch.device("cpu")


def test_schedules_that_took_a_search_are_kept(tmp_path):
    found = {2: uniform(2)}
    calls = []

    def find():
        calls.append(1)
        return found

    with kept_run(tmp_path / "r.json", {"a": 1}) as folder:
        for name in ("jys", "jys", "mine:Search", "uniform", "uniform", "built-in", "a/file.json"):
            assert kept_schedules(folder, name, find, ALONE)[2].times == found[2].times
        assert len(calls) == 6
        assert len(list(folder.path.glob("schedules-*.json"))) == 2
    assert not folder.path.exists()


def requested(words, **changes):
    options = parse(f"{words} --device cpu".split())
    given = changes.pop("given", None)
    model = load("toy-absorbing")
    if words.startswith("compare"):
        return compare_request(options, model, CPU, given)
    chosen = {"sampler": Tweedie(), "schedule": uniform(2)} | changes
    return sample_request(options, model, CPU, chosen["sampler"], chosen["schedule"], given)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("--batch 3", set()),
        ("-n 9", {"number of samples"}),
        ("--seed 9", {"seed"}),
        ("--dtype bfloat16", {"dtype"}),
        ("--compile", {"--compile"}),
    ],
)
def test_flags_that_decide_the_samples_are_part_of_what_was_asked(flags, changed):
    for command in ("sample toy-absorbing", "compare toy-absorbing --nfe 2"):
        before, after = requested(command), requested(f"{command} {flags}")
        assert before.keys() == after.keys()
        assert {key for key in before if before[key] != after[key]} == changed


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("--sampler euler", {"sampler"}),
        ("--order golden", {"order"}),
        ("--schedules jys", {"list of schedules"}),
        ("--nfe 3", {"list of NFEs"}),
        ("--sequences 9", {"number of sequences"}),
        ("--measure data", {"measure"}),
        ("--data d.npy", {"data", "set of files"}),
        ("--text d.npy", {"text", "set of files"}),
        ("--column c", {"column"}),
        ("--metric a:b --picture p.png", set()),
    ],
)
def test_flags_that_decide_a_comparison(tmp_path, monkeypatch, flags, changed):
    monkeypatch.chdir(tmp_path)
    Path("d.npy").write_text("one")
    command = "compare toy-absorbing --nfe 2"
    before, after = requested(command), requested(f"{command} {flags}")
    assert {key for key in before if before[key] != after[key]} == changed
    Path("d.npy").write_text("two")
    again = requested(f"{command} {flags}")
    files = {key for key in after if after[key] != again[key]}
    assert files == changed & {"set of files"}


@pytest.mark.parametrize(
    ("command", "place", "changed"),
    [
        ("sample --nfe 4", "model", "schedules.json of model"),
        ("sample --nfe 4 --schedule s.json", "s.json", "s.json"),
        ("sample --nfe 4 --schedule folder", "folder", "folder"),
        ("compare --nfe 4 --schedules uniform built-in", "model", "schedules.json of model"),
        ("compare --nfe 4 --schedules uniform s.json", "s.json", "s.json"),
        ("compare --nfe 4 --schedules uniform folder", "folder", "folder"),
    ],
)
def test_a_run_whose_schedules_changed_is_not_continued(
    tmp_path, capsys, monkeypatch, command, place, changed
):
    """Rows of the old schedules and of the new ones would be mixed."""
    monkeypatch.chdir(tmp_path)
    save_text_model(Path("model"))
    Path("folder").mkdir()
    file = Path(place) if place.endswith(".json") else Path(place) / "schedules.json"
    times = [TimeSchedule((1.0, at, 0.2, 0.1, 0.0)) for at in (0.5, 0.6)]
    verb, *flags = command.split()
    words = [verb, "model", *flags, "-n", "48", "-o", "x.npz" if verb == "sample" else "x.json"]
    words += [] if verb == "sample" else ["--metric", "distance", "--data", "tokens.npy"]
    np.save("tokens.npy", np.zeros((64, LENGTH), dtype=np.int64))
    save_schedules(file, {4: times[0]})
    with monkeypatch.context() as patched:
        patched.setattr("jumpsteps.sampling.batches.simulate", interrupted(2))
        assert run(capsys, *words)[0] == 130
    save_schedules(file, {4: times[1]})
    code, _, err = run(capsys, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert f".parts holds an unfinished run, and {changed} changed since it began; put the" in err
    save_schedules(file, {4: times[0], 8: uniform(8)})  # Others than those of the run may change.
    assert run(capsys, *words)[0] == 0


def test_observed_sites_sampler_and_schedule_decide_the_samples():
    tokens, mask = torch.zeros(4, dtype=torch.int64), torch.arange(4) < 2
    given = Given(tokens, mask)
    command = "sample toy-absorbing"
    before = requested(command, given=given)
    for changes, changed in (
        ({"given": Given(tokens.clone(), mask.clone())}, set()),
        ({"given": Given(tokens + 1, mask)}, {"set of observed sites"}),
        ({"given": Given(tokens, ~mask)}, {"set of observed sites"}),
        ({}, {"set of observed sites"}),
        ({"given": given, "schedule": uniform(3)}, {"set of schedules"}),
        ({"given": given, "schedule": None}, {"set of schedules"}),
        ({"given": given, "sampler": Euler()}, {"sampler with its parameters"}),
    ):
        after = requested(command, **changes)
        assert {key for key in before if before[key] != after[key]} == changed
