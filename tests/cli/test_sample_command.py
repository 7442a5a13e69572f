"""``jumpsteps sample``: samplers and schedules by name, given sites, and the files it writes."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, given_file, run
from jumpsteps import load
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.registry import SAMPLERS
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.tasks.countdown import violations


def optimized(capsys, file, options):
    """A file of schedules for the exact model."""
    assert run(capsys, f"optimize {EXACT} --sequences 4", options, "-o", file)[0] == 0
    return file


def test_samples_follow_a_schedule_from_a_file(tmp_path, capsys):
    schedules = optimized(capsys, tmp_path / "s.json", "--nfe 4 6")
    samples = tmp_path / "x.npz"
    options = ["--schedule", schedules, "--nfe 6 -n 5 --batch 2 -o", samples]
    code, out, err = run(capsys, f"sample {EXACT}", *options)
    assert (code, err) == (0, "")
    assert "violation rate" in out
    content = np.load(samples)
    assert content["samples"].shape == (5, 256)
    assert content["samples"].dtype == np.int64
    assert content["nfe"] == 6


def test_the_same_seed_writes_the_same_samples(tmp_path, capsys):
    files = [tmp_path / f"{i}.npz" for i in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        run(capsys, f"sample {EXACT} --nfe 2 -n 2 --seed {seed} -o", file)
    a, b, c = (np.load(file)["samples"] for file in files)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_temperature_is_that_of_the_samples(tmp_path, capsys):
    """Colder samples break fewer pairs; temperature 1 is the model itself."""
    broken = []
    for i, flags in enumerate(("", "--temperature 1", "--temperature 0.5")):
        file = tmp_path / f"{i}.npz"
        run(capsys, f"sample {EXACT} --nfe 4 --schedule uniform -n 16 {flags} -o", file)
        broken.append(violations(torch.from_numpy(np.load(file)["samples"])).mean())
    assert broken[0] == broken[1] > 1.1 * broken[2]


@pytest.mark.slow
def test_every_sampler_samples_by_name(tmp_path, capsys):
    many_calls_or_another_kernel = {"first-hitting", "gillespie", "tau-leaping-ordinal"}
    for name in SAMPLERS.keys() - many_calls_or_another_kernel:
        steps = "" if SAMPLERS[name].takes is None else f"--nfe {SAMPLERS[name].calls(3)}"
        file = tmp_path / f"{name}.npz"
        code, out, err = run(capsys, f"sample {EXACT} --sampler {name} {steps} -n 2 -o", file)
        assert (code, err) == (0, ""), name
        assert "violation rate" in out
        if steps:
            assert np.load(file)["nfe"] <= SAMPLERS[name].calls(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{EXACT}-uniform --sampler k-gillespie --nfe 4", "serves the absorbing kernel"),
        (f"{EXACT} --sampler tau-leaping-ordinal --nfe 4", "MASK is no number"),
        (f"{EXACT} --sampler tweedie", "pass the model calls with --nfe"),
        (f"{EXACT} --sampler theta-rk2 --nfe 1", "takes 2 model calls, got NFE 1"),
        (f"{EXACT} --sampler first-hitting --nfe 4", "leave out --nfe and --schedule"),
        (f"{EXACT} --sampler first-hitting --schedule cosine", "leave out --nfe and --schedule"),
        (f"{EXACT} --sampler tweedie --order spread --nfe 4", "not reveal tokens in spread order"),
        (f"{EXACT} --sampler first-hitting --order spread", "not reveal tokens in spread order"),
        (f"{EXACT} --nfe 4 --temperature 0", "a temperature must be positive and finite"),
        (f"{EXACT} --order learned --nfe 4", "there is no order 'learned'; choose random"),
    ],
)
def test_samplers_that_do_not_fit_are_refused(tmp_path, capsys, arguments, message):
    code, _, err = run(capsys, "sample", arguments, "-o", tmp_path / "x.npz")
    assert code == 1
    assert message in err


def test_a_schedule_is_sampled_with_its_own_sampler(tmp_path, capsys):
    options = "--sampler theta-trapezoidal --method jys --nfe 4"
    file = optimized(capsys, tmp_path / "s.json", options)
    chosen = ["--schedule", file, "--nfe 4 -n 2 -o", tmp_path / "x.npz"]
    assert run(capsys, f"sample {EXACT}", *chosen)[0] == 0
    assert np.load(tmp_path / "x.npz")["nfe"] == 4


def test_an_order_of_a_fixed_schedule(tmp_path, capsys):
    files = [tmp_path / f"{order}.npz" for order in ("golden", "random")]
    for file in files:
        assert run(capsys, f"sample {EXACT} --order {file.stem} --nfe 4 -n 2 -o", file)[0] == 0
    golden, random = (np.load(file)["samples"] for file in files)
    assert not np.array_equal(golden, random)


def test_a_file_of_schedules_has_its_own_order(tmp_path, capsys):
    file = optimized(capsys, tmp_path / "s.json", "--order spread --nfe 4")
    code, _, err = run(capsys, f"sample {EXACT} --order spread --nfe 4 --schedule", file)
    assert code == 1
    assert "holds its own order" in err


@pytest.mark.slow
def test_a_network_is_loaded_in_another_format_and_compiled(tmp_path, capsys, monkeypatch):
    asked = []

    def spy(name, **options):
        asked.append((options["dtype"], options["compile"]))
        return load(name, **(options | {"compile": False}))

    monkeypatch.setattr("jumpsteps.cli.inputs.load", spy)
    for options in ("--dtype bfloat16 --compile", ""):
        file = tmp_path / "x.npz"
        assert run(capsys, f"sample countdown --nfe 1 -n 1 {options} -o", file)[0] == 0
    assert asked == [(torch.bfloat16, True), (None, False)]


def test_a_built_in_name_that_is_also_a_folder_is_noted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-uniform").mkdir()
    sample = "--nfe 1 -n 1 --device cpu -o x.npz"
    code, _, err = run(capsys, "sample toy-uniform", sample)
    assert code == 0
    assert err == (
        "note: 'toy-uniform' is the built-in model; for the folder of this name pass "
        "./toy-uniform\n"
    )
    code, _, err = run(capsys, "sample ./toy-uniform", sample)
    assert code == 1
    assert "toy-uniform is no checkpoint, because it has no config.json; pass" in err


def test_a_schedule_of_another_model_is_used_with_a_note(tmp_path, capsys):
    path = optimized(capsys, tmp_path / "s.json", "--nfe 2")
    content = json.loads(path.read_text())
    chosen = ["--nfe 2 --schedule", path, "-n 1 -o", tmp_path / "x.npz"]
    content["schedules"][0]["provenance"]["model_hash"] = "0" * 64
    path.write_text(json.dumps(content))
    code, _, err = run(capsys, f"sample {EXACT}", *chosen)
    assert code == 0
    assert "not for these weights" in err
    content["schedules"][0]["provenance"]["kernel"] = "uniform"
    path.write_text(json.dumps(content))
    code, _, err = run(capsys, f"sample {EXACT}", *chosen)
    assert code == 1
    assert "optimised for the kernel uniform, the model 'countdown-exact' has absorbing" in err


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("sampler", ["tweedie", "k-gillespie", "first-hitting"])
def test_given_sites_stay_in_every_sample(tmp_path, capsys, rows, sampler):
    tokens = given_file(tmp_path / "g.npz", rows, 8)
    steps = "" if sampler == "first-hitting" else "--nfe 2"
    asked = ["--given", tmp_path / "g.npz", "--batch 2 -o", tmp_path / "x.npz"]
    code, _, err = run(capsys, f"sample {EXACT} --sampler {sampler} {steps}", *asked, "-n 5")
    assert (code, err) == (0, "")
    content = np.load(tmp_path / "x.npz")
    assert (content["samples"][:, :-8] == tokens[:, :-8]).all()
    assert len(np.unique(content["samples"][:, -8:], axis=0)) > 1
    assert content["nfe"] == (8 if sampler == "first-hitting" else 2)
    assert not (tmp_path / "x.txt").exists()
    if rows > 1:
        code, _, err = run(capsys, f"sample {EXACT} --sampler {sampler} {steps}", *asked, "-n 4")
        assert (code, err.count("\n")) == (1, 1)
        assert "gives sites of 5 sequences, and -n asks for 4 samples; pass -n 5" in err


def test_a_file_of_counts_serves_any_number_of_free_sites(tmp_path, capsys):
    """One line says so: for a prompt, for sequences of different prompts, for few free sites."""
    file, given, out = tmp_path / "s.json", tmp_path / "g.npz", tmp_path / "x.npz"
    save_schedules(file, {4: CountSchedule([8, 56, 64, 128], order=Spread())})
    tokens = np.arange(256)[::-1] % 32
    asked = ["--schedule", file, "--nfe 4 -o", out]
    assert run(capsys, f"sample {EXACT} -n 2", *asked)[0] == 0
    for last, note, nfe in ((16, "16 that are free", 4), (2, "2 that are free, in 2 steps", 2)):
        np.savez(given, tokens=tokens, mask=np.arange(256) < 256 - last)
        out.unlink()
        code, _, err = run(capsys, f"sample {EXACT} -n 2", *asked, "--given", given)
        assert (code, err.count("\n")) == (0, 1)
        assert f"holds counts of 256 tokens; they are rescaled to the {note}" in err
        assert np.load(out)["nfe"] == nfe
    masks = np.arange(256) < np.array([[64], [128], [254]])
    np.savez(given, tokens=np.where(masks, tokens, -1), mask=masks)
    for options in (asked, ["--sampler k-gillespie --nfe 4 -o", out]):
        out.unlink()
        code, _, err = run(capsys, f"sample {EXACT} -n 3", *options, "--given", given)
        assert code == 0
        samples = np.load(out)["samples"]
        assert (samples == tokens)[masks].all()
        assert np.load(out)["nfe"] == 4
        rescaled = "rescaled to the 2 to 192 that are free\n"
        assert err.endswith(rescaled) if options == asked else err == ""


def test_some_of_the_calls_correct(tmp_path, capsys):
    file, out = tmp_path / "s.json", tmp_path / "x.npz"
    save_schedules(file, {4: CountSchedule([8, 56, 64, 128], order=Spread())})
    found = []
    for options in ("", "--redraw-share 0.5"):
        out.unlink(missing_ok=True)
        asked = [f"--nfe 6 --corrections 2 {options} -n 3 --schedule", file, "-o", out]
        code, said, err = run(capsys, f"sample {EXACT}", *asked)
        assert (code, err) == (0, "")
        assert "6 model calls" in said
        found.append(np.load(out)["samples"])
        assert np.load(out)["nfe"] == 6
    assert (found[0] != found[1]).any()
    for options, message in (
        (
            "--nfe 2 --corrections 2",
            "--corrections 2 leaves no model call of --nfe 2 for the steps",
        ),
        ("--nfe 4 --redraw-share 0.5", "--redraw-share is of a corrector; pass its calls with"),
        ("--nfe 4 --corrections 1 --redraw-share 2", "share of sites must lie in (0, 1], got 2.0"),
        ("--sampler first-hitting --corrections 1", "--schedule, and --corrections"),
    ):
        code, _, err = run(capsys, f"sample {EXACT} {options} -o", out)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err


def test_a_plan_of_steps_and_corrections_is_followed(tmp_path, capsys):
    """By the schedule's own sampler; by another one that makes no corrections it is refused."""
    file, out = tmp_path / "plan.json", tmp_path / "x.npz"
    save_schedules(file, {4: CountSchedule([2, 2], redraws=(Redraw(calls=2, share=1.0),))})
    asked = ["sample toy-absorbing --nfe 4 -n 3 --schedule", file, "-o", out]
    assert run(capsys, *asked)[0] == 0
    assert np.load(out)["nfe"] == 4
    out.unlink()
    code, _, err = run(capsys, *asked, "--sampler k-gillespie")
    assert (code, err.count("\n")) == (1, 1)
    assert "the schedule has corrections, which k-gillespie does not make" in err


def test_a_text_that_cannot_be_written_is_named_before_any_work(tmp_path, capsys, monkeypatch):
    text = SimpleNamespace(decode=str)
    model = replace(load("toy-absorbing"), text=text)
    monkeypatch.setattr("jumpsteps.cli.inputs.load", lambda name, **options: model)
    (tmp_path / "x.txt").mkdir()
    code, _, err = run(capsys, "sample m --nfe 2 -n 2 -o", tmp_path / "x.npz")
    assert (code, err) == (1, f"error: {tmp_path / 'x.txt'} is a folder; name a file to write to\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


@pytest.fixture
def sung(monkeypatch):
    """The exact model as ``m``, whose task writes .txt files and reads given sites from text.

    The value is what it wrote: name -> (sample, mask).
    """

    def read_given(path, length):
        words = [int(word) for word in path.read_text().split()]
        tokens = torch.tensor(words + [0] * (length - len(words)))
        return Given(tokens, torch.arange(length) < len(words))

    def write(path, sample, mask):
        written[path.name] = (sample, mask)
        path.with_name(path.name + ".txt").write_text("song")

    written, model = {}, load(EXACT)
    model = replace(model, task=replace(model.task, write=write, read_given=read_given))
    monkeypatch.setattr("jumpsteps.cli.inputs.load", lambda name, **options: model)
    return written


@pytest.mark.parametrize("out", ["out/", "out", "v1.0/", "there.is"])
def test_a_task_writes_each_sample_into_a_folder(tmp_path, capsys, monkeypatch, sung, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.is").mkdir()
    (tmp_path / "s.song").write_text("7 6 5")
    code, said, err = run(capsys, f"sample m --nfe 1 -n 10 --given s.song -o {out}")
    assert (code, err) == (0, "")
    names = [f"sample-{i:02d}" for i in range(1, 11)]
    assert {path.name for path in (tmp_path / out).iterdir()} == {
        "samples.npz",
        *(f"{name}.txt" for name in names),
    }
    assert "written to {0}/samples.npz and {0}/sample-*\n".format(out.rstrip("/")) in said
    samples = torch.from_numpy(np.load(tmp_path / out / "samples.npz")["samples"])
    assert list(sung) == names
    assert torch.equal(torch.stack([sample for sample, _ in sung.values()]), samples)
    assert (samples[:, :3] == torch.tensor([7, 6, 5])).all()
    assert all(torch.equal(mask, torch.arange(256) < 3) for _, mask in sung.values())


def test_by_default_files_of_single_samples_go_to_out(tmp_path, capsys, monkeypatch, sung):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "sample m --nfe 1 -n 2")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_libraries_that_files_need_are_named_before_any_work(tmp_path, capsys, monkeypatch, sung):
    model = load(EXACT)
    task = replace(model.task, write=lambda *args: None, write_needs=("matplotlib", "mido"))
    model = replace(model, task=task)
    monkeypatch.setattr("jumpsteps.cli.inputs.load", lambda name, **options: model)
    monkeypatch.setitem(sys.modules, "mido", None)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "sample m --nfe 1 -n 2 -o out/")
    assert code == 1
    assert "error: files of single samples need: pip install 'jumpsteps[music]'; or name" in err
    code, _, err = run(capsys, "sample m --nfe 1 -n 2")
    assert (code, err.count("note: tokens only, because files of single samples need")) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


def test_a_run_with_fewer_samples_leaves_no_files_of_an_earlier_one(tmp_path, capsys, sung):
    """Files of other names, or of another kind, stay."""
    out = tmp_path / "out"
    out.mkdir()
    mine = {"sample-notes.txt", "sample-11.flac", "other.txt"}
    for name in mine:
        (out / name).write_text("mine")
    for n in (10, 3):
        assert run(capsys, f"sample m --nfe 1 -n {n} -o", out)[0] == 0
    written = {"samples.npz", "sample-1.txt", "sample-2.txt", "sample-3.txt"}
    assert {path.name for path in out.iterdir()} == mine | written


@pytest.mark.parametrize("name", ["tune.wav", "x.npy", "x.json"])
def test_tokens_are_not_written_under_the_name_of_another_kind_of_file(
    tmp_path, capsys, monkeypatch, sung, name
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, f"sample m --nfe 1 -n 1 -o {name}")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{name} would not be a {Path(name).suffix} file; end it in .npz, or in / for" in err
    assert not any(tmp_path.iterdir())


def test_a_name_without_a_suffix_is_a_folder_for_every_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("out", "out/"):  # The second command is not in the way of the first one's files.
        assert run(capsys, f"sample {EXACT} --nfe 1 -n 2 -o {out}")[0] == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["samples.npz"]
    (tmp_path / "old").write_text("mine")
    code, _, err = run(capsys, f"sample {EXACT} --nfe 1 -n 2 -o old")
    assert (code, err.count("\n")) == (1, 1)
    assert "error: old is a file, and a name without .npz is that of a folder; name another" in err


def test_a_schedule_must_end_at_0(tmp_path, capsys):
    save_schedules(tmp_path / "s.json", {2: TimeSchedule((1.0, 0.5, 0.1))})
    asked = f"sample {EXACT} --nfe 2 -n 1 --schedule", tmp_path / "s.json"
    code, _, err = run(capsys, *asked, "-o", tmp_path / "x.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert "ends at t = 0.1, which leaves noise in the samples; end it at 0" in err
    assert not (tmp_path / "x.npz").exists()


def test_an_order_that_the_sampler_does_not_follow_is_refused(tmp_path, capsys):
    save_schedules(tmp_path / "s.json", {2: CountSchedule((100, 156), order=Spread())})
    asked = f"sample {EXACT} --nfe 2 -n 1 --schedule", tmp_path / "s.json"
    code, _, err = run(capsys, *asked, "--sampler maskgit -o", tmp_path / "x.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert "reveals tokens in spread order, and sampler maskgit chooses its own" in err
    assert not (tmp_path / "x.npz").exists()


def test_a_task_gets_the_given_sites_of_each_sample(tmp_path, capsys, sung):
    mask = np.arange(256) < np.array([[4], [9]])
    np.savez(tmp_path / "g.npz", tokens=np.full((2, 256), 3), mask=mask)
    asked = "sample m --nfe 1 -n 2"
    assert run(capsys, asked, "--given", tmp_path / "g.npz", "-o", tmp_path / "out")[0] == 0
    assert np.array_equal([mask for _, mask in sung.values()], mask)
    assert all((sample[mask] == 3).all() for sample, mask in sung.values())
    assert run(capsys, asked, "-o", tmp_path / "free")[0] == 0
    assert [mask for _, mask in sung.values()] == [None, None]
    sung.clear()
    assert run(capsys, asked, "-o", tmp_path / "x.npz")[0] == 0
    assert not sung
    assert (tmp_path / "x.npz").is_file()


def test_a_search_reads_given_sites_by_the_task(tmp_path, capsys, sung):
    (tmp_path / "s.song").write_text("7 6 5")
    files = ["--given", tmp_path / "s.song", "-o", tmp_path / "s.json"]
    assert run(capsys, "optimize m --nfe 2 --sequences 2", *files)[0] == 0
    (entry,) = json.loads((tmp_path / "s.json").read_text())["schedules"]
    assert entry["provenance"]["data"] == "countdown, 3 of 256 sites given"


def test_folders_that_cannot_be_written_to(tmp_path, capsys, monkeypatch, sung):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    code, _, err = run(capsys, "sample m --nfe 1 -o taken")
    assert (code, err.count("\n")) == (1, 1)
    assert "taken is a file, and a name without .npz is that of a folder" in err
    code, _, err = run(capsys, "sample m --nfe 1 -o taken/out")
    assert (code, err) == (1, "error: taken/out cannot be written, because taken is a file\n")
    assert (tmp_path / "taken").read_text() == "mine"
