"""Networks of which every process holds a part."""

import pytest
import torch
from torch import nn

from builders.together import run_program
from jumpsteps.core.distributed import ALONE
from jumpsteps.models import load
from jumpsteps.models.sharding import layers_of, shard_model

PROGRAM = """
import json, sys, torch
from pathlib import Path
from torch import nn
from jumpsteps.core.distributed import workers_of_launcher
from jumpsteps.models.sharding import InStep, shard_network

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x, t, where=None):
        h = self.embedding(x)
        for layer in self.layers:
            h = h + layer(h).relu()
        return self.head(h)

with workers_of_launcher() as workers, torch.no_grad():
    torch.manual_seed(0)
    network, x = Network().eval(), torch.arange(10).reshape(2, 5)
    x = x[workers.rank :]
    whole, size = network(x, 0.5), sum(p.numel() for p in network.parameters())
    shard_network(network, torch.device("cpu"), workers.count)
    model = InStep(network, 5, torch.device("cpu"))
    where = torch.zeros_like(x, dtype=torch.bool)
    where[0, 1:3] = True
    same = [torch.equal(model(x, 0.5, where), whole[where])]
    for _ in range(2 * workers.rank):  # One process calls it more often.
        same.append(torch.equal(model(x, 0.5), whole))
    model.help()
    held = sum(p.to_local().numel() for p in network.parameters())
    result = [same, held, size]
    (Path(sys.argv[1]) / f"rank{workers.rank}.json").write_text(json.dumps(result))
"""


@pytest.mark.slow
def test_each_process_holds_a_part_and_computes_the_whole(tmp_path):
    first, second = run_program(tmp_path, 2, PROGRAM)
    assert (first[0], second[0]) == ([True], [True, True, True])
    assert first[1] + second[1] == first[2]
    assert abs(first[1] - second[1]) <= 0.1 * first[2]


def test_layers_are_those_of_the_outermost_lists():
    block = nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))
    network = nn.ModuleDict({"a": nn.ModuleList([block, nn.GELU()]), "b": nn.Linear(2, 2)})
    assert list(layers_of(network)) == [block]


def test_what_cannot_be_divided():
    with pytest.raises(ValueError, match="divided among several processes; start them with torch"):
        shard_model(load("toy-absorbing"), torch.device("cpu"), ALONE)
