import json
import math
import os
import re
import resource
import signal
from dataclasses import replace

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.training.config import TrainConfig, learning_rate
from jumpsteps.training.loop import (
    average_weights,
    generator_of_step,
    train,
)
from jumpsteps.training.losses import MaskedCrossEntropy, ScoreEntropy

FORWARD = Absorbing(vocab_size=4, noise=LogLinear())
CONFIG = TrainConfig(
    steps=12, batch=16, learning_rate=1e-2, warmup=3, ema=0.9, bf16=False, log_every=4, save_every=5
)


def alternating(n, generator):
    """Sequences 0 1 2 0 1 2 ... from a random start: entropy log 3."""
    start = torch.randint(3, (n, 1), generator=generator)
    return (start + torch.arange(6)) % 3


def fresh(output="posterior", dropout=0.0):
    torch.manual_seed(0)
    return build(
        DiTConfig(vocab_size=4, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8, dropout=dropout),
        FORWARD,
        output,
    )


def run(out, config=CONFIG, output="posterior", loss=None):
    network, reverse = fresh(output)
    done, average, _ = train(
        reverse, network, loss or MaskedCrossEntropy(), alternating, config, out, progress=False
    )
    return done, network, average


@pytest.mark.parametrize(
    ("output", "loss"), [("posterior", MaskedCrossEntropy()), ("log-score", ScoreEntropy())]
)
def test_a_network_learns(tmp_path, output, loss):
    """60 steps take the bound from 6 log 3 = 6.6 to under 4.5; the data's entropy is log 3."""
    config = TrainConfig(
        steps=60, batch=64, learning_rate=2e-2, warmup=10, ema=0.9, bf16=False, log_every=50
    )
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
    assert [learning_rate(config, step) for step in (0, 4, 9, 10)] == pytest.approx(
        [0.2, 1.0, 2.0, 2.0]
    )
    assert [learning_rate(config, step) for step in (60, 110)] == pytest.approx([1.0, 0.0])
    late = replace(config, decay_from=0.5)
    rates = [learning_rate(late, step) for step in (0, 10, 55, 83, 110)]
    assert rates == pytest.approx([0.2, 2.0, 2.0, 1 + math.cos(28 / 55 * math.pi), 0.0])


def test_every_step_has_its_own_randomness():
    seeds = [
        generator_of_step(replace(CONFIG, seed=seed), step, torch.device("cpu"))
        for seed in (0, 1)
        for step in range(3)
    ]
    assert len({float(torch.rand(1, generator=g)) for g in seeds}) == 6
    again = generator_of_step(CONFIG, 2, torch.device("cpu"))
    assert again.initial_seed() == seeds[2].initial_seed()


def test_averaged_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    average = {"weight": torch.tensor([[2.0]])}
    network.weight.data.fill_(10.0)
    average_weights(average, network, 0.75)
    assert float(average["weight"]) == 4.0


def test_the_average_forgets_the_initial_weights_fast(tmp_path):
    """The first decay is 1/10 whatever ``ema``, so that the average is 0.9 of the new weights."""
    config = replace(CONFIG, steps=1, warmup=0, learning_rate=0.1, ema=0.9999)
    initial = {name: p.detach().clone() for name, p in fresh()[0].named_parameters()}
    _, network, average = run(tmp_path, config)
    for name, p in network.named_parameters():
        torch.testing.assert_close(average[name], 0.1 * initial[name] + 0.9 * p.detach())


class Stopped(Exception):
    pass


def counted():
    """A loss of held-out data: the number of times it was asked for."""
    calls = []
    return lambda: float(calls.append(torch.rand(3)) or len(calls))


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    """With dropout, and with evaluations that draw from torch's own generator."""
    config = replace(CONFIG, evaluate_every=4)

    def run_in(out, data, evaluate):
        network, reverse = fresh(dropout=0.5)
        return train(
            reverse,
            network,
            MaskedCrossEntropy(),
            data,
            config,
            out,
            evaluate=evaluate,
            progress=False,
        )

    _, whole, _ = run_in(tmp_path / "whole", alternating, counted())
    calls = 0

    def dying(n, generator):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise Stopped
        return alternating(n, generator)

    with pytest.raises(Stopped):
        run_in(tmp_path / "cut", dying, counted())
    torch.manual_seed(123)
    done, resumed, step = run_in(tmp_path / "cut", alternating, counted())
    assert done
    assert step == 12
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [
        [json.loads(line) for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()]
        for d in ("whole", "cut")
    ]
    assert [e["step"] for e in logs[0]] == [e["step"] for e in logs[1]] == [4, 4, 8, 8, 12, 12]
    losses = [[e["loss"] for e in log if "loss" in e] for log in logs]
    assert losses[0][2] == losses[1][2]


def test_training_leaves_the_random_state_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(2)
    network, reverse = fresh(dropout=0.5)
    torch.manual_seed(7)
    train(reverse, network, MaskedCrossEntropy(), alternating, CONFIG, tmp_path, progress=False)
    assert torch.equal(torch.rand(2), expected)


def test_dropout_differs_from_step_to_step_and_from_the_noise(tmp_path):
    seen = []

    def loss(reverse, x0, *, generator):
        seen.extend([torch.rand(4), torch.rand(4, generator=generator)])
        return MaskedCrossEntropy()(reverse, x0, generator=generator)

    network, reverse = fresh()
    data = lambda n, generator: torch.zeros(n, 6, dtype=torch.int64)  # noqa: E731
    train(reverse, network, loss, data, replace(CONFIG, steps=3), tmp_path, progress=False)
    assert len({tuple(draws.tolist()) for draws in seen}) == 6


def test_held_out_losses_are_of_the_averaged_weights(tmp_path):
    """Evaluations use evaluation mode without gradients, and do not change the training."""
    config = replace(CONFIG, evaluate_every=5)
    _, _, plain = run(tmp_path / "plain", config)
    network, reverse = fresh()
    seen = []

    def evaluate():
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append({name: p.detach().clone() for name, p in network.named_parameters()})
        return 1.0 + len(seen)

    arguments = reverse, network, MaskedCrossEntropy(), alternating, config, tmp_path / "evaluated"
    _, average, _ = train(*arguments, evaluate=evaluate, progress=False)
    assert all(torch.equal(plain[name], average[name]) for name in plain)
    assert all(torch.equal(seen[-1][name], average[name]) for name in average)
    assert any(not torch.equal(p, average[name]) for name, p in network.named_parameters())
    lines = [
        json.loads(line)
        for line in (tmp_path / "evaluated" / "metrics.jsonl").read_text().splitlines()
    ]
    held_out = [(e["step"], e["held_out_loss"]) for e in lines if "held_out_loss" in e]
    assert held_out == [(5, 2.0), (10, 3.0), (12, 4.0)]


def test_a_run_stops_when_its_time_is_up(tmp_path):
    done, _, _ = run(tmp_path, replace(CONFIG, max_seconds=0.0))
    assert not done
    assert torch.load(tmp_path / "training.pt", weights_only=True)["step"] == 1


def test_a_run_that_finishes_in_time_is_evaluated_at_its_end(tmp_path):
    network, reverse = fresh()
    config = replace(CONFIG, max_seconds=0.0, finish=True)
    done, _, step = train(
        reverse,
        network,
        MaskedCrossEntropy(),
        alternating,
        config,
        tmp_path,
        evaluate=lambda: 2.5,
        progress=False,
    )
    assert (done, step) == (True, 1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["held_out_loss"]) for line in lines] == [(1, 2.5)]


def test_other_settings_do_not_resume(tmp_path):
    run(tmp_path)
    with pytest.raises(
        ValueError, match=r"trained with batch=16, this run has 8; use the same settings"
    ):
        run(tmp_path, replace(CONFIG, batch=8))


def test_a_log_that_a_kill_cut_off_does_not_stop_the_run(tmp_path):
    """The cut line and the lines of steps that are run again are left out."""
    run(tmp_path, replace(CONFIG, max_seconds=0.0))
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 4, "loss": 1.0}\n{"step": 8, "lo')
    assert run(tmp_path)[0]
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [1, 4, 8, 12]


def test_a_run_that_was_killed_before_its_first_save_logs_every_step_once(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "loss": 1.0}\n')
    run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
def test_a_damaged_state_is_one_line(tmp_path, kept):
    run(tmp_path, replace(CONFIG, steps=1))
    file = tmp_path / "training.pt"
    content = file.read_bytes()[:kept]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"training\.pt is damaged.*remove it and start") as caught:
        run(tmp_path, replace(CONFIG, steps=1))
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_a_file_of_something_else_is_not_resumed(tmp_path):
    torch.save({"step": 3}, tmp_path / "training.pt")
    with pytest.raises(ValueError, match="not the state of a run"):
        run(tmp_path)


def test_the_run_of_another_network_is_not_resumed(tmp_path):
    run(tmp_path)
    network, reverse = build(
        DiTConfig(vocab_size=4, hidden_size=32, n_blocks=1, n_heads=2, cond_dim=8),
        FORWARD,
        "posterior",
    )
    with pytest.raises(ValueError, match="is the run of another network; name another") as caught:
        train(reverse, network, MaskedCrossEntropy(), alternating, CONFIG, tmp_path, progress=False)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_the_old_state(tmp_path):
    """The system's limit of the size of a file stands for the full disk."""
    run(tmp_path, replace(CONFIG, max_seconds=0.0))
    before = (tmp_path / "training.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"training\.pt|File too large") as caught:
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "training.pt").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"training.pt", "metrics.jsonl"}


@pytest.mark.parametrize("last", [False, True])
def test_ctrl_c_saves_after_the_step(tmp_path, last, capsys):
    """The resumed run is to the bit that of a run without it; after the last step it is late."""
    _, _, whole = run(tmp_path / "whole")
    calls = 0

    def interrupted(n, generator):
        nonlocal calls
        calls += 1
        if calls == (12 if last else 7):
            os.kill(os.getpid(), signal.SIGINT)
        return alternating(n, generator)

    network, reverse = fresh()
    before = signal.getsignal(signal.SIGINT)
    arguments = reverse, network, MaskedCrossEntropy(), interrupted, CONFIG, tmp_path / "cut"
    if last:
        assert train(*arguments, progress=False)[0]
    else:
        with pytest.raises(KeyboardInterrupt, match="saved at step 7 of 12; run the same command"):
            train(*arguments, progress=False)
        assert torch.load(tmp_path / "cut" / "training.pt", weights_only=True)["step"] == 7
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this step; Ctrl-C again stops at once" in capsys.readouterr().err
    done, _, resumed = run(tmp_path / "cut")
    assert done
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def interrupted(n, generator):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the step went on")

    network, reverse = fresh()
    with pytest.raises(KeyboardInterrupt):
        train(reverse, network, MaskedCrossEntropy(), interrupted, CONFIG, tmp_path, progress=False)
    assert not (tmp_path / "training.pt").exists()


def test_the_bar_shows_the_loss_and_the_evaluation(tmp_path, capsys):
    network, reverse = fresh()
    arguments = reverse, network, MaskedCrossEntropy(), alternating, CONFIG, tmp_path
    train(*arguments, evaluate=lambda: 1.0, progress=True)
    shown = capsys.readouterr().err
    loss = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-2])["loss"]
    assert f"loss={loss:.2f}" in shown
    assert re.search(r"held-out loss: +\d+%", shown)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def nan(reverse, x0, *, generator):
        return MaskedCrossEntropy()(reverse, x0, generator=generator) * float("nan")

    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(tmp_path, loss=nan)
