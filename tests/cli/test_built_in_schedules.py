"""``jumpsteps sample`` without ``--schedule``, and schedules from a folder or the hub."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, given_file, run
from jumpsteps import (
    CountSchedule,
    Golden,
    KGillespie,
    MultistepKGillespie,
    Provenance,
    ScheduleSet,
    Tweedie,
    load,
    uniform,
)
from jumpsteps.cli.built_in_schedules import (
    compared_by_default,
    described,
    schedule_of_model,
    unsuitable,
)
from jumpsteps.cli.free_sites import free_sites, note_rescaled
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import schedules_file


def sampled(tmp_path, capsys, *arguments):
    """The samples, and what the command said."""
    file = tmp_path / "x.npz"
    code, out, err = run(capsys, "sample --device cpu", *arguments, "-o", file)
    assert code == 0, err
    return np.load(file), out, err


@pytest.mark.parametrize("name", [EXACT, f"{EXACT}-uniform", f"{EXACT}-gaussian", "toy-absorbing"])
def test_a_model_is_sampled_with_its_own_schedule(tmp_path, capsys, name):
    asked = f"{name} --nfe 4 -n 3"
    own, out, err = sampled(tmp_path, capsys, asked)
    assert out.startswith(f"schedule: optimised for {name}, 4 model calls, ")
    assert err == ""
    assert own["nfe"] == 4
    named, out, _ = sampled(tmp_path, capsys, asked, "--schedule", schedules_file(name))
    assert np.array_equal(own["samples"], named["samples"])
    assert "schedule:" not in out


def test_it_breaks_fewer_rules_than_uniform_times(tmp_path, capsys):
    metric = load(EXACT).task.metric
    rates = {}
    for schedule in ("", "--schedule uniform"):
        content, _, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 8 -n 8 {schedule}")
        rates[schedule] = float(metric(torch.from_numpy(content["samples"])).mean())
    assert rates[""] < 0.01 < 0.05 < rates["--schedule uniform"]


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ("toy-uniform --nfe 70", "are for 1 to 64 model calls; for 70 run 'jumpsteps optimize'"),
        ("toy-absorbing --nfe 5", "are for 1 to 4 model calls; for 5 run 'jumpsteps optimize'"),
        (f"{EXACT} --nfe 5 --sampler tweedie", "for the sampler k-gillespie; for tweedie run"),
        (f"{EXACT} --nfe 6 --sampler maskgit", "for the sampler k-gillespie; for maskgit run"),
        (f"{EXACT}-uniform --nfe 4 --sampler euler", "for the sampler tweedie; for euler run"),
        (f"{EXACT}-uniform --nfe 4 --sampler theta-rk2", "for the sampler tweedie; for theta-rk2"),
        (f"{EXACT} --nfe 4 --order golden", "order; for golden order run 'jumpsteps optimize'"),
        (f"{EXACT} --nfe 4 --order random", "order; for random order run 'jumpsteps optimize'"),
    ],
)
def test_what_it_does_not_fit_is_sampled_as_with_uniform(tmp_path, capsys, arguments, because):
    content, out, err = sampled(tmp_path, capsys, arguments, "-n 1")
    assert out.startswith("schedule: uniform, because those of ")
    assert because in out.splitlines()[0]
    assert err == ""
    expected, out, _ = sampled(tmp_path, capsys, arguments, "-n 1 --schedule uniform")
    assert "schedule:" not in out
    assert np.array_equal(content["samples"], expected["samples"])


def test_its_own_sampler_and_order_may_be_named(tmp_path, capsys):
    plain, out, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 4 -n 2")
    order = load(EXACT).schedules[4].order.name
    assert f"counts in {order} order, sampler k-gillespie" in out
    named = f"--sampler k-gillespie --order {order}"
    content, _, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 4 -n 2 {named}")
    assert np.array_equal(plain["samples"], content["samples"])


def test_a_multistep_sampler_takes_those_of_its_counterpart(tmp_path, capsys):
    asked = f"{EXACT} --nfe 4 -n 1 --sampler k-gillespie-multistep"
    _, out, _ = sampled(tmp_path, capsys, asked)
    assert out.startswith(f"schedule: optimised for {EXACT}, 4 model calls, ")
    assert ", sampler k-gillespie-multistep; for another pass --schedule" in out
    command = "optimize --device cpu toy-absorbing --nfe 2 --order spread --sampler"
    code, _, err = run(capsys, command, "k-gillespie-multistep -o", tmp_path / "found.json")
    assert code == 0
    assert "note: searched for k-gillespie, whose costs and certificates these are" in err
    assert "names k-gillespie; pass --sampler k-gillespie-multistep to sample" in err
    code, _, err = run(
        capsys, command.replace("absorbing", "uniform"), "k-gillespie-multistep -o x"
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "sampler k-gillespie-multistep serves the absorbing kernel" in err
    model = load(EXACT)
    own = Provenance(sampler="k-gillespie-multistep")
    shipped = {4: replace(model.schedules[4], provenance=own)}
    assert unsuitable(shipped, 4, MultistepKGillespie(), None) is None
    assert "for k-gillespie run" in unsuitable(shipped, 4, KGillespie(), None)


def test_a_sampler_of_another_kernel_is_refused_before_a_schedule_is_named(tmp_path, capsys):
    asked = f"sample {EXACT}-gaussian --nfe 4 --order spread -o"
    code, out, err = run(capsys, asked, tmp_path / "x.npz")
    assert (code, out) == (1, "")
    assert "serves the absorbing kernel" in err


def test_corrections_take_calls_from_it(tmp_path, capsys):
    content, out, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 8 --corrections 3 -n 2")
    assert f"optimised for {EXACT}, 5 model calls" in out
    assert content["nfe"] == 8


def test_given_sites_rescale_its_counts(tmp_path, capsys):
    tokens = given_file(tmp_path / "g.npz", 1, 96)
    given = ["--given", tmp_path / "g.npz"]
    content, out, err = sampled(tmp_path, capsys, f"{EXACT} --nfe 8 -n 2", *given)
    assert "8 model calls, counts in " in out
    assert " order, rescaled from 256 to 96 free sites, sampler k-gillespie" in out
    assert err == ""
    assert content["nfe"] == 8
    assert (content["samples"][:, :-96] == tokens[:, :-96]).all()


@pytest.mark.parametrize("free", [1, 3])
def test_few_free_sites_take_no_more_calls_than_sites(tmp_path, capsys, free):
    tokens = np.arange(256)[::-1] % 32
    np.savez(tmp_path / "g.npz", tokens=tokens, mask=np.arange(256) < 256 - free)
    given = ["--given", tmp_path / "g.npz"]
    content, out, err = sampled(tmp_path, capsys, f"{EXACT} --nfe 8 -n 2", *given)
    plural = "" if free == 1 else "s"
    assert f"{free} model call{plural}, counts in " in out
    assert f"rescaled from 256 to {free} free sites" in out
    assert (content["nfe"], err) == (free, "")


def test_other_weights_are_noted_and_another_kernel_is_refused(capsys):
    model = replace(load("toy-uniform"), digest="0" * 64)
    schedule_of_model(4, model, None, sampler=None, order=None)
    assert "was optimised for 'toy-uniform', not for these weights" in capsys.readouterr().err
    other = replace(load("toy-gaussian"), schedules_file=model.schedules_file)
    with pytest.raises(ValueError, match="optimised for the kernel uniform"):
        schedule_of_model(4, other, None, sampler=None, order=None)


def test_a_comparison_without_names_takes_uniform_and_own_schedules(tmp_path, capsys):
    """The same samples as by the file, whose counts given sites rescale; no search, no data."""
    given_file(tmp_path / "g.npz", 1, 96)
    asked = [f"compare {EXACT} --nfe 4 8 -n 4 --given", tmp_path / "g.npz"]
    out = tmp_path / "r.json"
    code, printed, err = run(capsys, *asked, "-o", out)
    assert code == 0
    assert err.count("built-in holds counts of 256 tokens; they are rescaled to the 96") == 2
    assert printed.splitlines()[1].split() == ["NFE", "uniform", "built-in"]
    rows = json.loads(out.read_text())["rows"]
    named = ["--schedules", schedules_file(EXACT), "-o", out]
    assert run(capsys, *asked, *named)[0] == 0
    filed = json.loads(out.read_text())["rows"]
    own = [row["metric"] for row in rows if row["schedule"] == "built-in"]
    assert own == [row["metric"] for row in filed]


@pytest.mark.parametrize(
    ("arguments", "other"),
    [
        ("toy-absorbing --nfe 4 5", "shortest-path"),  # There are schedules of 1 to 4 calls.
        ("toy-uniform --nfe 4 --sampler euler", "shortest-path"),
        ("toy-absorbing --nfe 4 --order golden", "shortest-path"),
        ("toy-absorbing --nfe 4", "built-in"),
    ],
)
def test_a_comparison_searches_where_own_schedules_do_not_fit(tmp_path, capsys, arguments, other):
    out = tmp_path / "r.json"
    assert run(capsys, f"compare {arguments} -n 4 --sequences 16 -o", out)[0] == 0
    assert [row["schedule"] for row in json.loads(out.read_text())["rows"]][:2] == [
        "uniform",
        other,
    ]


def test_own_schedules_that_are_not_there_are_named(tmp_path, capsys):
    """And the mistake leaves no folder behind that would stop the next command."""
    out = tmp_path / "r.json"
    for arguments, message in (
        ("toy-absorbing --nfe 70", "'toy-absorbing': for NFE [1, 2, 3, 4] only; find one for NFE "),
        ("piano-uniform --nfe 4", "that came with 'piano-uniform': none; find one for NFE 4 with "),
    ):
        asked = f"compare {arguments} --schedules uniform built-in -n 4 -o"
        code, _, err = run(capsys, asked, out)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", [None, Path("missing.json")])
def test_a_model_without_schedules_is_sampled_with_uniform_ones(capsys, file):
    model = replace(load("toy-absorbing"), schedules_file=file)
    assert model.schedules == {}
    assert schedule_of_model(3, model, None, sampler=None, order=None) == uniform(3)
    counts = schedule_of_model(3, model, None, sampler=KGillespie(), order="spread")
    assert counts.order.name == "spread"
    assert capsys.readouterr().out == ""


def test_schedules_from_a_folder_or_the_hub(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ScheduleSet(load(EXACT).schedules).save_pretrained("mine")
    own, _, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 4 -n 2")
    content, _, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 4 -n 2 --schedule mine")
    assert np.array_equal(own["samples"], content["samples"])
    asked = []

    def fetched(hub_id, files, revision=None):
        asked.append(hub_id)
        return tmp_path / "mine"

    monkeypatch.setattr("jumpsteps.integrations.hub.download", fetched)
    content, _, _ = sampled(tmp_path, capsys, f"{EXACT} --nfe 4 -n 2 --schedule some/one")
    assert np.array_equal(own["samples"], content["samples"])
    assert asked == ["some/one"]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("empty", "there is no schedule 'empty'"),
        ("empty/s", "there is no schedule 'empty/s'"),
        ("some/one.json", "there is no schedule 'some/one.json'"),
        ("one", "not uniform or cosine or fitted or built-in, not a file, a folder with"),
    ],
)
def test_a_place_without_schedules_is_an_error(tmp_path, capsys, monkeypatch, schedule, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    code, _, err = run(capsys, f"sample {EXACT} --nfe 4 --schedule {schedule} -o x.npz")
    assert code == 1
    assert message in err


def test_why_own_schedules_are_not_used():
    times, counts = uniform(4), CountSchedule([2, 2], order=Golden())
    assert unsuitable({4: times}, 4, None, None) is None
    assert unsuitable({4: times}, 4, None, "golden") == "times, without an order"
    assert unsuitable({2: counts}, 2, None, "golden") is None
    assert unsuitable({2: counts}, 2, None, "spread").startswith(
        "in golden order; for spread order"
    )
    for known, words in (
        ((2, 3, 4), "for 2 to 4 model"),
        ((2, 4), "for 2, 4 model"),
        ((2,), "2 to"),
    ):
        assert words in unsuitable(dict.fromkeys(known, times), 5, None, None)


@pytest.mark.parametrize(
    ("free", "note"),
    [
        ((8, 8), ""),
        ((0, 0), ""),
        ((1, 1), "8 tokens; they are rescaled to the 1 that are free, in 1 step in place of 3"),
        ((4, 4), "8 tokens; they are rescaled to the 4 that are free\n"),
        ((2, 8), "8 tokens; they are rescaled to the 2 to 8 that are free\n"),
    ],
)
def test_counts_of_another_number_of_sites_are_noted(capsys, free, note):
    note_rescaled("s.json", CountSchedule([1, 1, 6], order=Golden()), free)
    said = capsys.readouterr().err
    assert note in said
    assert said.startswith("note: s.json holds counts of ") == bool(note)


def test_free_sites_are_those_that_are_not_observed():
    model = load("toy-absorbing")
    masks = torch.arange(4) < torch.tensor([[1], [3]])
    for mask, free in ((masks[0], (3, 3)), (masks, (1, 3))):
        assert free_sites(model, Given(torch.zeros_like(mask, dtype=torch.int64), mask)) == free
    assert free_sites(model, None) == (4, 4)


def test_what_is_compared_by_default():
    model = load("toy-absorbing")
    order = model.schedules[4].order.name
    for one, nfes, sampler, named, other in (
        (model, [2, 4], None, None, "built-in"),
        (model, [2, 4], KGillespie(), None, "built-in"),
        (model, [2, 5], None, None, "shortest-path"),
        (model, [2, 4], Tweedie(), None, "shortest-path"),
        (model, [2, 4], None, order, "shortest-path"),
        (replace(model, schedules_file=None), [4], None, None, "shortest-path"),
    ):
        assert compared_by_default(one, nfes, sampler, named) == ("uniform", other)


def test_schedules_in_words():
    counts = CountSchedule([1, 1, 6], order=Golden())
    assert described(uniform(1), (8, 8)) == "1 model call, times"
    assert described(counts, (8, 8)) == "3 model calls, counts in golden order"
    of = "counts in golden order, rescaled from 8 to"
    assert described(counts, (4, 4)) == f"3 model calls, {of} 4 free sites"
    assert described(counts, (2, 8)) == f"3 model calls, {of} 2 to 8 free sites"
    assert described(counts, (2, 2)) == f"2 model calls, {of} 2 free sites"
