import json
import math
from dataclasses import replace

import pytest
import torch

from helpers import seeded
from jumpsteps.forward import Absorbing
from jumpsteps.losses import MaskedCrossEntropy, ScoreEntropy
from jumpsteps.models.dit import DiTConfig
from jumpsteps.models.native import build
from jumpsteps.noise import LogLinear
from jumpsteps.train import TrainConfig, average_weights, generator_of_step, learning_rate, train

FORWARD = Absorbing(vocab_size=4, noise=LogLinear())
CONFIG = TrainConfig(steps=12, batch=16, learning_rate=1e-2, warmup=3, ema=0.9, bf16=False, log_every=4, save_every=5)


def alternating(n, generator):
    """Sequences 0 1 2 0 1 2 ... from a random start: entropy log 3."""
    start = torch.randint(3, (n, 1), generator=generator)
    return (start + torch.arange(6)) % 3


def fresh(output="posterior"):
    torch.manual_seed(0)
    return build(DiTConfig(vocab_size=4, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8), FORWARD, output)


def run(out, config=CONFIG, output="posterior", loss=None):
    network, reverse = fresh(output)
    done, average = train(reverse, network, loss or MaskedCrossEntropy(), alternating, config, out, progress=False)
    return done, network, average


@pytest.mark.parametrize(("output", "loss"), [("posterior", MaskedCrossEntropy()), ("log-score", ScoreEntropy())])
def test_a_network_learns(tmp_path, output, loss):
    """60 steps take the bound from 6 log 3 = 6.6 to under 4.5; the data's entropy is log 3."""
    config = TrainConfig(steps=60, batch=64, learning_rate=2e-2, warmup=10, ema=0.9, bf16=False, log_every=50)
    done, network, average = run(tmp_path, config, output, loss)
    network.load_state_dict(network.state_dict() | average)
    _, reverse = fresh(output)
    reverse.model.network.load_state_dict(network.state_dict())
    with torch.no_grad():
        bound = float(loss(reverse, alternating(1000, seeded(9)), generator=seeded(10)).mean())
    assert done
    assert math.log(3) - 0.1 < bound < 4.5


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(steps=110, batch=1, learning_rate=2.0, warmup=10)
    assert [learning_rate(config, step) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert [learning_rate(config, step) for step in (60, 110)] == pytest.approx([1.0, 0.0])


def test_every_step_has_its_own_randomness():
    seeds = [generator_of_step(replace(CONFIG, seed=seed), step, torch.device("cpu")) for seed in (0, 1) for step in range(3)]
    assert len({float(torch.rand(1, generator=g)) for g in seeds}) == 6
    again = generator_of_step(CONFIG, 2, torch.device("cpu"))
    assert again.initial_seed() == seeds[2].initial_seed()


def test_averaged_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    average = {"weight": torch.tensor([[2.0]])}
    network.weight.data.fill_(10.0)
    average_weights(average, network, 0.75)
    assert float(average["weight"]) == 4.0


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    _, _, whole = run(tmp_path / "whole")
    calls = 0

    def dying(n, generator):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise Stopped
        return alternating(n, generator)

    network, reverse = fresh()
    with pytest.raises(Stopped):
        train(reverse, network, MaskedCrossEntropy(), dying, CONFIG, tmp_path / "cut", progress=False)
    done, _, resumed = run(tmp_path / "cut")
    assert done
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [[json.loads(line) for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()] for d in ("whole", "cut")]
    assert [e["step"] for e in logs[0]] == [e["step"] for e in logs[1]] == [4, 8, 12]
    assert logs[0][2]["loss"] == logs[1][2]["loss"]


def test_a_run_stops_when_its_time_is_up(tmp_path):
    done, _, _ = run(tmp_path, replace(CONFIG, max_seconds=0.0))
    assert not done
    assert torch.load(tmp_path / "training.pt", weights_only=True)["step"] == 1


def test_other_settings_do_not_resume(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"trained with batch=16, this run has 8; use the same settings"):
        run(tmp_path, replace(CONFIG, batch=8))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def nan(reverse, x0, *, generator):
        return MaskedCrossEntropy()(reverse, x0, generator=generator) * float("nan")

    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(tmp_path, loss=nan)
