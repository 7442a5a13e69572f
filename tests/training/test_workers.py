"""Several processes that train together."""

import json

import pytest
import torch

from builders.together import run_program
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.loop import generator_of_step

PROGRAM = """
import json, sys, torch
from pathlib import Path
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.loop import train
from jumpsteps.core.distributed import workers_of_launcher

CONFIG = TrainConfig(steps=3, batch=8, learning_rate=0.1, warmup=0, bf16=False, log_every=1, ema=0)
out = Path(sys.argv[1])
with workers_of_launcher() as workers:
    device = workers.device(torch.device("cpu"))
    import joined
    for name, bf16 in (("joined", False), ("joined-bf16", True)):
        joined.run(out / name, workers, bf16_reduce=bf16)
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    seen = []

    def data(n, generator):
        seen.append([n, float(torch.rand(1, generator=generator))])
        return torch.full((n, 1), workers.rank)

    def loss(reverse, x0, *, generator):
        return (network(x0.float()) ** 2).squeeze(1)

    reverse = PosteriorReverse(Absorbing(vocab_size=3, noise=LogLinear()), lambda x, t: x)
    done, average, step = train(
        reverse, network, loss, data, CONFIG, out, progress=False, workers=workers
    )
    stop = workers.of_first(0.5 + workers.rank, device) == 0.5
    result = [workers.count, done, stop, seen, float(network.weight.detach())]
    (out / f"rank{workers.rank}.json").write_text(json.dumps(result))
"""


JOINED = """
import torch
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.loop import train

def run(out, workers, **settings):
    # Every process takes its rows of batches that do not depend on the number of processes.
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))
    calls = []

    def data(n, generator):
        batch = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(len(calls)))
        calls.append(n)
        return batch[workers.rank * n : (workers.rank + 1) * n]

    def loss(reverse, x0, *, generator):
        return (network(x0.float()).squeeze(1) - x0[:, 0]) ** 2

    config = TrainConfig(
        steps=4, batch=8, learning_rate=0.1, warmup=0, bf16=False, clip=0.5, log_every=1, **settings
    )
    reverse = PosteriorReverse(Absorbing(vocab_size=9, noise=LogLinear()), lambda x, t: x)
    train(reverse, network, loss, data, config, out, progress=False, workers=workers)
    if workers.is_first:
        torch.save([p.detach() for p in network.parameters()], out / "weights.pt")
"""


@pytest.mark.slow
def test_two_processes_take_the_same_steps(tmp_path):
    """Data are 0 in one process and 1 in the other, so only averaged gradients move the first."""
    (tmp_path / "joined.py").write_text(JOINED)
    first, second = run_program(tmp_path, 2, PROGRAM)
    assert first[:3] == second[:3] == [2, True, True]
    assert first[4] == second[4] < 0.9
    for one, other in zip(first[3], second[3], strict=True):
        assert one[0] == other[0] == 4
        assert one[1] != other[1]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0]["loss"] == pytest.approx(0.5)

    # Two processes take the steps of one process with the joined batch.
    weights, log = joined_run(tmp_path / "alone")
    both, both_log = weights_and_log(tmp_path / "joined")
    for one, two in zip(weights, both, strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-6)
    for one, two in zip(log, both_log, strict=True):
        assert one["gradient_norm"] > 0.5  # Clipped.
        for key in ("loss", "gradient_norm"):
            assert two[key] == pytest.approx(one[key], rel=1e-6)
    rounded, rounded_log = weights_and_log(tmp_path / "joined-bf16")
    difference = abs(rounded_log[0]["gradient_norm"] / log[0]["gradient_norm"] - 1)
    assert 1e-7 < difference < 2**-8
    assert all((two - one).abs().max() < 0.05 for one, two in zip(weights, rounded, strict=True))


def joined_run(out, **settings):
    """Weights after the run of ``JOINED`` in this process, and its log."""
    names = {}
    exec(JOINED, names)
    names["run"](out, ALONE, **settings)
    return weights_and_log(out)


def weights_and_log(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return torch.load(out / "weights.pt"), lines


def test_no_two_processes_or_steps_share_a_seed():
    config = TrainConfig(steps=9, batch=1)
    device = torch.device("cpu")
    seeds = {
        generator_of_step(config, step, device, Workers(rank, 3)).initial_seed()
        for step in range(5)
        for rank in range(3)
    }
    assert len(seeds) == 15
    alone = generator_of_step(config, 4, device)
    assert alone.initial_seed() == generator_of_step(config, 4, device, ALONE).initial_seed() == 4
