"""Training in pieces, on a network so small that a step takes milliseconds."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from builders.command_line import run
from jumpsteps.models.formats.native import build
from jumpsteps.process.noise import Cosine
from jumpsteps.training.config import TrainConfig, learning_rate
from jumpsteps.training.pieces import read_start
from jumpsteps.training.recipes import RECIPES, train_recipe

CPU = torch.device("cpu")
TINY = replace(
    RECIPES["countdown"],
    network=replace(
        RECIPES["countdown"].network, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8
    ),
    config=TrainConfig(steps=12, batch=2, learning_rate=1e-2, warmup=2, ema=0.9, log_every=1),
)


def trained(out, recipe=TINY, **arguments):
    return train_recipe(recipe, out, CPU, progress=False, **arguments)


def first_piece(folder):
    """A checkpoint after 4 of 12 steps of 2 sequences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jumpsteps.training.loop.time.monotonic", iter(range(1000)).__next__)
        assert not trained(folder, max_minutes=4 * 2 / 60)
    return folder


def written(folder, key):
    return [json.loads(line)[key] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def record(folder):
    return json.loads((folder / "config.json").read_text())["training"]


def test_a_piece_starts_from_the_averaged_weights_and_adds_up(tmp_path):
    """With learning rate 0 a piece returns the weights that it was given, to the bit."""
    first = first_piece(tmp_path / "first")
    steps = record(first)["step"]
    assert 0 < steps < 12
    assert record(first)["sequences"] == 2 * steps
    still = replace(TINY, config=replace(TINY.config, learning_rate=0.0))
    lines = []
    second = tmp_path / "second"
    assert trained(second, still, start_from=first, batch=4, say=lines.append)
    assert lines == [f"starting from the weights in {first}, step {steps}"]
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    average = torch.load(first / "training.pt", weights_only=True)["average"]
    assert all(torch.equal(average[name].bfloat16(), after[name]) for name in average)
    assert written(second, "step") == list(range(steps + 1, 13))
    assert record(second)["step"] == 12
    assert record(second)["sequences"] == 2 * steps + 4 * (12 - steps)
    one, two = record(second)["pieces"]
    assert one["weights"] is None
    assert (two["first_step"], two["steps"]) == (steps, 12 - steps)
    assert two["weights"] == read_start(first, TINY.network, TINY.forward, TINY.output).weights


def test_a_piece_has_the_learning_rates_of_the_plan_after_its_warm_up(tmp_path):
    first = first_piece(tmp_path / "first")
    trained(tmp_path / "whole")
    trained(tmp_path / "second", start_from=first, from_step=6)
    whole, second = (written(tmp_path / name, "learning_rate") for name in ("whole", "second"))
    assert second == pytest.approx([0.5 * whole[6], *whole[7:]])


def test_the_plan_of_learning_rates():
    """Steps 50, 51 and 52 warm up; the decay from step 60 to step 100 is that of one run."""
    config = TrainConfig(
        steps=100, batch=1, learning_rate=4.0, warmup=3, decay_from=0.6, first_step=50
    )
    rates = [learning_rate(config, step) for step in (50, 51, 52, 60, 70, 80, 90)]
    late = [2 * (1 + math.cos(math.pi * share)) for share in (0.25, 0.5, 0.75)]
    assert rates == pytest.approx([4 / 3, 8 / 3, 4.0, 4.0, *late])
    # The share of the time counts with ``finish`` alone, and where it is the larger one.
    assert learning_rate(config, 55, 0.5) == 4.0
    timed = replace(config, finish=True, max_seconds=1.0)
    shares = [learning_rate(timed, 55, share) for share in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([4.0, 2.0, 0.0])
    assert learning_rate(timed, 90, 0.5) == pytest.approx(late[2])
    assert learning_rate(timed, 50, 0.5) == pytest.approx(2 / 3)


def test_a_run_that_finishes_in_time(tmp_path, monkeypatch):
    """A clock that ticks once per look: the learning rate falls to zero after ten seconds."""
    monkeypatch.setattr("jumpsteps.training.loop.time.monotonic", iter(range(1000)).__next__)
    assert trained(tmp_path, steps=1000, warmup=0, max_minutes=10 / 60, finish=True)
    rates = written(tmp_path, "learning_rate")
    assert 3 < len(rates) < 12
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] < 1e-3
    assert all(late < early for early, late in pairwise(rates))
    assert trained(tmp_path, steps=1000, warmup=0, resume=True)
    assert written(tmp_path, "learning_rate") == rates


def test_what_cannot_be_a_start_is_refused(tmp_path):
    first = first_piece(tmp_path / "first")
    out = tmp_path / "second"
    larger = replace(TINY, network=replace(TINY.network, hidden_size=32))
    with pytest.raises(ValueError, match=r"another model: its hidden_size is 16, the recipe's 32"):
        trained(out, larger, start_from=first)
    other = replace(TINY, forward=replace(TINY.forward, noise=Cosine()))
    with pytest.raises(ValueError, match=r"its noise is .*LogLinear.*, the recipe's .*Cosine"):
        trained(out, other, start_from=first)
    images = RECIPES["cifar10-gaussian"]
    with pytest.raises(ValueError, match=r"its network is a DiT, the recipe's a UNet"):
        trained(out, images, start_from=first)
    with pytest.raises(ValueError, match=r"--start-from and --out are both"):
        trained(first, start_from=first)
    with pytest.raises(ValueError, match=r"12 steps are behind the start, and the plan has 12"):
        trained(out, start_from=first, from_step=12)
    with pytest.raises(ValueError, match=r"--from-step needs the weights of that step"):
        trained(out, from_step=3)
    with pytest.raises(ValueError, match=r"there is no file"):
        trained(out, start_from=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"--finish needs the time .* --max-minutes"):
        trained(out, finish=True)
    assert not out.exists()


def test_another_dropout_is_no_other_model(tmp_path):
    first = first_piece(tmp_path / "first")
    recipe = replace(TINY, network=replace(TINY.network, dropout=0.5))
    start = read_start(first, recipe.network, recipe.forward, recipe.output)
    network, _ = build(recipe.network, recipe.forward, recipe.output)
    start.load_into(network)
    stored = load_file(first / "model.safetensors")
    assert all(torch.equal(p.bfloat16(), stored[n]) for n, p in network.named_parameters())


def test_a_run_that_is_to_be_resumed_must_be_there(tmp_path, capsys):
    out = tmp_path / "model"
    command = "train countdown --steps 2 --batch 2"
    code, _, errors = run(capsys, command, "--resume --out", out)
    assert code == 1
    assert f"no training to resume in {out}" in errors
    assert not out.exists()
    code, said, _ = run(capsys, command, "--max-minutes 0 --out", out)
    assert code == 0
    assert "starting from random weights" in said
    code, said, _ = run(capsys, command, "--resume --out", out)
    assert code == 0
    assert f"continuing the training in {out}" in said
    assert "finished" in said
