"""``jumpsteps compare`` and ``jumpsteps explain``: several schedules side by side."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, given_file, run
from jumpsteps import Euler, load
from jumpsteps.cli import comparing
from jumpsteps.cli.inputs import samples_by_default
from jumpsteps.evaluation.compare import compare
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.orders import Golden
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.tasks.countdown import violations


@pytest.mark.slow
def test_compare_prints_a_table_and_draws(tmp_path, capsys):
    results, picture = tmp_path / "r.json", tmp_path / "p.png"
    names = ["uniform", "cosine", "jys", "shortest-path"]
    options = f"--nfe 2 4 --schedules {' '.join(names)} -n 6 --sequences 4"
    code, out, _ = run(capsys, f"compare {EXACT}", options, "-o", results, "--picture", picture)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["NFE", "2", "4"]
    content = json.loads(results.read_text())
    assert [(row["nfe"], row["schedule"]) for row in content["rows"]] == [
        (n, name) for n in (2, 4) for name in names
    ]
    assert content["search_calls"]["shortest-path"] == 32
    assert picture.read_bytes()[:4] == b"\x89PNG"


SHIFTED = """
import jumpsteps

known = jumpsteps.load("countdown-exact").reverse


def right():
    return known


def shifted():
    '''At each site the logits of the site after it.'''
    def model(x, t):
        return known.model(x, t).clamp_min(-9).roll(-1, 1)

    return jumpsteps.PosteriorReverse(known.forward, model)
"""


@pytest.mark.parametrize(
    ("model", "schedules", "doubts"),
    [("right", "uniform", 0), ("shifted", "uniform", 1), ("shifted", "uniform shortest-path", 1)],
)
def test_a_comparison_doubts_a_model_that_does_not_fit_the_data_once(
    tmp_path, monkeypatch, capsys, model, schedules, doubts
):
    name = f"fits_{model}"
    (tmp_path / f"{name}.py").write_text(SHIFTED)
    tokens = load("countdown-exact").task.sample_data(16, torch.Generator().manual_seed(0))
    np.savez(tmp_path / "data.npz", tokens=tokens.numpy())
    monkeypatch.chdir(tmp_path)
    asked = f"compare {name}:{model} --length 256 --data data.npz --sequences 8 --metric distance"
    code, _, err = run(capsys, asked, f"--nfe 2 -n 4 --schedules {schedules} -o r.json")
    assert code == 0
    said = [line for line in err.splitlines() if "entropies are far from -log p" in line]
    assert len(said) == doubts
    assert all("its output at a site is for this site, not for the next" in one for one in said)


def test_a_comparison_samples_from_the_seed_after_that_of_the_search(tmp_path, capsys):
    results, samples = tmp_path / "r.json", tmp_path / "x.npz"
    asked = "--schedules uniform --nfe 2 -n 4 --seed 6 -o"
    assert run(capsys, f"compare {EXACT}", asked, results)[0] == 0
    assert (
        run(capsys, f"sample {EXACT} --nfe 2 -n 4 --seed 7 --schedule uniform -o", samples)[0] == 0
    )
    tokens = torch.from_numpy(np.load(samples)["samples"])
    (row,) = json.loads(results.read_text())["rows"]
    assert row["metric"]["mean"] == float(violations(tokens).mean())


def test_a_comparison_follows_the_corrections_of_a_plan(tmp_path, capsys):
    plan, results = tmp_path / "plan.json", tmp_path / "r.json"
    counts = CountSchedule([128, 128], order=Golden(), redraws=(Redraw(calls=2),))
    save_schedules(plan, {4: counts})
    code, out, _ = run(
        capsys, f"compare {EXACT} --nfe 4 -n 4 --schedules uniform {plan} -o {results}"
    )
    assert code == 0
    assert [row["nfe"] for row in json.loads(results.read_text())["rows"]] == [4, 4]
    assert str(plan) in out
    asked = f"compare {EXACT} --nfe 4 -n 4 --sampler k-gillespie --schedules {plan} -o {results}"
    code, _, err = run(capsys, asked)
    assert code == 1
    assert "the schedule has corrections, which k-gillespie does not make" in err


def test_explain_prints_a_table_for_each_schedule(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "explain toy-uniform --nfe 2 3 --sequences 50 --device cpu")
    assert code == 0
    for name in ("uniform", "shortest-path"):
        for steps in (2, 3):
            assert f"\n{name}, {steps} steps\n" in out
    assert out.count("KL(data || samples): Tweedie") == 4
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_counts_are_explained_beside_times(capsys):
    asked = "--schedules uniform shortest-path-spread"
    code, out, _ = run(capsys, f"explain {EXACT} --nfe 2 --sequences 8", asked)
    assert code == 0
    times, counts = out.split("shortest-path-spread, 2 steps\n")
    assert "KLUB, middle" in times
    assert "few-step NLL" in counts
    assert "k-gillespie: few-step NLL" in counts


def test_a_comparison_with_given_sites(tmp_path, capsys):
    given, results = tmp_path / "g.npz", tmp_path / "r.json"
    given_file(given, 1, 2)
    options = "--schedules uniform shortest-path --nfe 2 --sequences 4 -n 4"
    code, _, _ = run(capsys, f"compare {EXACT}", options, "--given", given, "-o", results)
    assert code == 0
    content = json.loads(results.read_text())
    assert content["given"] == str(given)
    pairs_with_a_free_site = 2
    assert all(row["metric"]["mean"] <= pairs_with_a_free_site / 255 for row in content["rows"])


def test_an_explanation_with_given_sites(tmp_path, capsys):
    np.savez(tmp_path / "t.npz", tokens=[3, 0, 0, 0], mask=[True, False, False, False])
    asked = "explain toy-absorbing --nfe 2 --sequences 50 --device cpu --schedules uniform"
    code, out, _ = run(capsys, asked, "--given", tmp_path / "t.npz")
    assert code == 0
    assert "1 of 4 sites given" in out
    assert "KL(data || samples)" not in out
    assert "KL(data || samples)" in run(capsys, asked)[1]


@pytest.mark.parametrize(
    ("sites", "device", "samples"), [(100, "cpu", 256), (900, "cpu", 64), (900, "meta", 256)]
)
def test_samples_by_default(sites, device, samples, capsys):
    network = torch.nn.Linear(10_000, 500, device="meta")
    model = replace(load("countdown-exact"), length=sites)
    assert samples_by_default(model, torch.device(device), said=True) == 256
    model = replace(model, reverse=replace(model.reverse, model=network))
    assert samples_by_default(model, torch.device(device), said=True) == samples
    note = capsys.readouterr().err
    assert ("note: 64 samples for each" in note) == (samples == 64)


@pytest.mark.parametrize(
    ("flags", "n", "batch", "sampler", "seed"),
    [("", 256, 16, None, 1), ("-n 4 --batch 3 --sampler euler --seed 6", 4, 3, Euler(), 7)],
)
def test_a_comparison_passes_on_all_that_it_was_asked(
    tmp_path, capsys, monkeypatch, flags, n, batch, sampler, seed
):
    asked, drawn = [], []

    def spy(*args, **options):
        asked.append((args, options))
        return compare(*args, **options)

    monkeypatch.setattr(comparing, "compare", spy)
    monkeypatch.setattr(
        comparing, "plot_comparison", lambda *args, **options: drawn.append(options)
    )
    picture = ["--picture", tmp_path / "p.png", "-o", tmp_path / "r.json"]
    command = "compare toy-absorbing --nfe 2 --schedules uniform --device cpu"
    assert run(capsys, command, flags, *picture)[0] == 0
    ((((_, used, schedules, shape), options)),) = asked
    task = load("toy-absorbing").task
    assert (used, list(schedules), shape) == (sampler, ["uniform"], (n, 4))
    assert options.pop("workers").count == 1
    assert options.pop("folder").path == tmp_path / "r.json.parts"
    assert options == {
        "metric": task.metric,
        "unit": task.unit,
        "beside": None,
        "seed": seed,
        "device": torch.device("cpu"),
        "batch": batch,
        "given": None,
        "examples": 9,
        "progress": True,
    }
    title = f"toy-absorbing, {n} samples"
    assert drawn == [{"metric_name": task.metric_name, "percent": True, "title": title}]
    about = json.loads((tmp_path / "r.json").read_text())
    assert (about["samples"], about["seed"], about["percent"]) == (n, seed - 1, True)
    assert (about["model"], about["sampler"]) == ("toy-absorbing", sampler and "euler")
