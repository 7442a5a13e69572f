"""``jumpsteps optimize --race``: the schedule of the best samples, and what it says."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.command_line import countdowns, run
from jumpsteps import Euler, load, uniform
from jumpsteps.cli import racing
from jumpsteps.cli.flags import parse
from jumpsteps.cli.racing import race_schedules, recommendation, similarity_of
from jumpsteps.core.distributed import ALONE
from jumpsteps.evaluation.two_sample import histogram_similarity

TOY = "optimize toy-uniform --nfe 2 4 --sequences 24 -o"


def chosen(path):
    return {one["nfe"]: one["provenance"] for one in json.loads(path.read_text())["schedules"]}


@pytest.mark.slow
def test_a_race_prints_its_table_and_writes_the_winners(tmp_path, capsys):
    file, other = tmp_path / "s.json", tmp_path / "other.json"
    assert run(capsys, TOY, other)[0] == 0
    with_others = ["--race 32 --seed 3 --race-with jys", other]
    code, out, err = run(capsys, TOY, file, *with_others)
    assert code == 0, err
    assert "two-sample distance from 48 sequences" in out
    for name in ("uniform", "cosine", "jys", str(other), "shortest-path, no correction"):
        assert name in out
    assert "model calls" in out.split("searches on 24 sequences: standard schedules")[1]
    assert "jys, " in out.split("searches on 24 sequences")[1]
    for nfe, known in chosen(file).items():
        assert known["method"].startswith("race, ")
        assert known["sampler"] == "tweedie"
        assert f"* {known['method'].removeprefix('race, ')} " in out.split(f"NFE {nfe}\n")[1]
    assert (
        run(capsys, TOY, tmp_path / "again.json", *with_others)[1].split("written")[0]
        == (out.split("written")[0])
    )
    code, _, _ = run(
        capsys, "sample toy-uniform --nfe 4 --schedule", file, "-n 2 -o", tmp_path / "x"
    )
    assert code == 0


@pytest.mark.slow
def test_masked_models_race_orders_with_prompts_and_budgets(tmp_path, capsys):
    tokens, given = tmp_path / "data.npz", tmp_path / "given.npz"
    np.savez(tokens, samples=np.stack([np.roll(row, i) for i, row in enumerate(countdowns(48))]))
    np.savez(given, tokens=countdowns(1)[0], mask=np.arange(256) < 16)
    file = tmp_path / "s.json"
    code, out, err = run(
        capsys,
        "optimize countdown-exact --nfe 2 --race 16 --race-calls 6 --sequences 16 --data",
        tokens,
        "--given",
        given,
        "-o",
        file,
    )
    assert code == 0, err
    assert "shortest-path-spread" in out
    assert chosen(file)[2]["kernel"] == "absorbing"
    assert int(out.split("race: ")[1].split()[0]) <= 6


def test_kernels_that_revise_are_told_of_the_race(tmp_path, capsys):
    code, out, _ = run(capsys, TOY, tmp_path / "s.json")
    assert code == 0
    assert "the uniform kernel revise tokens" in out
    assert "--race 128" in out
    masked = TOY.replace("toy-uniform", "toy-absorbing")
    assert "--race" not in run(capsys, masked, tmp_path / "s.json")[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--race-with jys", "pass --race N"),
        ("--race-calls 9", "pass --race N"),
        ("--race 32 --order spread", "--race and --order exclude each other"),
        ("--race 32 --curve c.png", "--race and --curve exclude each other"),
        ("--race 32 --measure data", "--race and --measure exclude each other"),
        ("--race 32 --method jys", "--race-with jys"),
        ("--race 8", "at least 16 samples"),
        ("--race 32 --race-with nothing", "there is no schedule 'nothing'"),
        ("--race 32 --sequences 4", "takes 24 sequences of data or more"),
        ("--race 32 --race-calls 3", "at least 2 model calls for each step"),
    ],
)
def test_mistakes_are_named(flags, words, tmp_path, capsys):
    code, _, err = run(capsys, TOY, tmp_path / "s.json", flags)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1


def test_samples_are_compared_as_their_task_says():
    model = load("toy-absorbing")
    task = replace(model.task, similarity=histogram_similarity)
    assert similarity_of(replace(model, task=task)) is histogram_similarity
    assert similarity_of(replace(model, task=None)) is None
    x, y = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 0]])
    of_text = similarity_of(replace(model, task=None, text=SimpleNamespace()))
    assert of_text(x, y) == histogram_similarity(x, y, neighbours=2) != histogram_similarity(x, y)


def test_a_race_is_recommended_where_later_steps_revise():
    assert recommendation(load("toy-absorbing")) is None
    assert "the uniform kernel revise tokens" in recommendation(load("toy-uniform"))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_race_divides_the_data(tmp_path, monkeypatch, capsys, rows):
    """A third for the searches, the others to choose; observed sites go with their sequences."""
    given = tmp_path / "g.npz"
    masks = np.arange(4) < np.arange(1, 4)[:, None]
    masks = masks[0] if rows == 1 else masks
    np.savez(given, tokens=np.zeros_like(masks, dtype=int), mask=masks)
    found = {}

    def standard(reverse, tokens, nfe, **options):
        reverse.model(tokens[:1], 0.5)
        found["searched"] = (tokens, nfe, options)
        return {"uniform": {2: uniform(2)}}

    def searched(reverse, tokens, nfe, **options):
        reverse.model(reverse.model(tokens[:1], 0.5).argmax(-1), 0.5)
        found["named"] = (tokens, nfe, options)
        return {2: uniform(2)}

    def raced(reverse, tokens, schedules, **options):
        found["raced"] = (tokens, schedules, options)
        return SimpleNamespace(schedules=schedules["jys"])

    monkeypatch.setattr(racing, "race_candidates", standard)
    monkeypatch.setattr(racing, "optimize_schedule", searched)
    monkeypatch.setattr(racing, "race", raced)
    flags = "--sequences 9 --race 32 --race-calls 99 --race-with jys cosine --seed 3"
    flags += f" --given {given}" if rows else ""
    options = parse(f"optimize toy-absorbing --nfe 2 {flags}".split())
    model = load("toy-absorbing")
    sampler = Euler()
    made = race_schedules(options, model, torch.device("cpu"), sampler, ALONE)
    assert made == {2: uniform(2)}
    tokens, nfe, asked = found["searched"]
    assert (tokens.shape, nfe) == ((9, 4), (2,))
    others, schedules, of_race = found["raced"]
    assert others.shape == (18, 4)
    assert list(schedules) == ["uniform", "jys", "cosine"]
    whole = None if rows == 0 else torch.from_numpy(masks)
    if rows == 3:
        assert torch.equal(asked["given_mask"], whole[torch.arange(9) % 3])
        assert torch.equal(of_race["given_mask"], whole[torch.arange(9, 27) % 3])
    else:
        for mask in (asked["given_mask"], of_race["given_mask"]):
            assert mask is None if whole is None else torch.equal(mask, whole)
    assert (of_race["samples"], of_race["max_calls"], of_race["workers"]) == (32, 99, ALONE)
    assert of_race["generator"] is asked["generator"]
    assert of_race["sampler"] is asked["sampler"] is sampler
    assert of_race["similarity"] is model.task.similarity
    assert asked["progress"] is of_race["progress"] is True
    same, _, named = found["named"]
    assert torch.equal(same, tokens)
    assert named.pop("method").name == "jys"
    assert named.pop("held_out") == 0
    assert named.pop("given_mask") is asked["given_mask"]
    assert named == {key: asked[key] for key in named}
    assert set(named) == {"sampler", "about", "generator", "progress", "workers"}
    effort = "searches on 9 sequences: standard schedules, 1 model calls; jys, 2 model calls\n"
    assert capsys.readouterr().out.endswith(effort)


def test_further_schedules_are_checked_before_any_work(monkeypatch, capsys):
    def no_work(*args, **options):
        raise AssertionError("a search was started")

    monkeypatch.setattr(racing, "race_candidates", no_work)
    code, _, err = run(capsys, "optimize toy-uniform --nfe 2 --race 16 --race-with nothing")
    assert (code, "there is no schedule 'nothing'" in err) == (1, True)


@pytest.mark.parametrize(("rows", "enough"), [(23, False), (24, True)])
def test_eight_sequences_are_the_fewest_of_a_search(tmp_path, capsys, rows, enough):
    np.save(tmp_path / "d.npy", np.arange(4 * rows).reshape(rows, 4) % 4)
    flags = ["--race 16 --nfe 1 --data", tmp_path / "d.npy", "-o", tmp_path / "s.json"]
    code, out, err = run(capsys, "optimize toy-uniform", *flags)
    assert code == (not enough)
    if enough:
        assert "searches on 8 sequences" in out
        assert out.endswith(f"\nwritten to {tmp_path / 's.json'}\n")
    else:
        assert f"{rows}; pass more" in err
