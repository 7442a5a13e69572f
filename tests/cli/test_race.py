"""``jumpsteps optimize --race``: the schedule of the best samples, and what it says."""

import json

import numpy as np
import pytest

from builders.command_line import countdowns, run

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
