"""Networks of which every process holds a part."""

import hashlib
import json

import pytest
import torch
from torch import nn

from builders.checkpoints import GIDD, MDLM, UDLM, gidd_tables, sedd_folder
from builders.reference_dit import L, backbone, random_weights, write_folder
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

READ = """
import json, sys, torch
from pathlib import Path
from jumpsteps.core.distributed import workers_of_launcher
from jumpsteps.models import load, unread
from jumpsteps.models.sharding import shard_model

read, part_of = [], unread.part_of

class Rows:
    def __init__(self, stored):
        self.stored = stored

    def __getitem__(self, rows):
        read.append(self.stored[rows].numel())
        return self.stored[rows]

unread.part_of = lambda parameter, stored, device: part_of(parameter, Rows(stored), device)
folder = Path(sys.argv[1])
with workers_of_launcher() as workers, torch.no_grad():
    results = {}
    for name, options in json.loads((folder / "asked.json").read_text()).items():
        if "dtype" in options:
            options["dtype"] = getattr(torch, options["dtype"])
        whole, parts = load(name, **options), load(name, device="meta", **options)
        network, in_parts = parts.reverse.model, parts.read_parts is not None
        sizes = [p.numel() for p in network.parameters()]
        checks = [whole.digest == parts.digest]
        checks.append(all(p.is_meta == in_parts for p in network.parameters()))
        parts, _ = shard_model(parts, torch.device("cpu"), workers)
        x = torch.arange(6).reshape(1, 6) + workers.rank
        for t in (0.3, 0.9):
            checks.append(torch.equal(parts.reverse.model(x, t), whole.reverse.model(x, t)))
        parts.reverse.model.help()
        held = sum(p.to_local().numel() for p in network.parameters())
        found = [in_parts, checks, sum(read), held, sum(sizes), max(read + [0]), max(sizes)]
        results[Path(name).name] = found
        read.clear()
    (folder / f"rank{workers.rank}.json").write_text(json.dumps(results))
"""


HASH = """
import json, sys
from pathlib import Path
from jumpsteps.core.distributed import workers_of_launcher
from jumpsteps.models.loaded import file_hash, hashed_by_first

folder = Path(sys.argv[1])
with workers_of_launcher() as workers:
    absent = [folder / f"absent{i}" for i in range(2)]
    files = [folder / "a", folder / "b"] if workers.is_first else absent
    with hashed_by_first(workers):
        hashes = [file_hash(file) for file in files]
    hashes.append(file_hash(folder / f"own{workers.rank}"))
    (folder / f"rank{workers.rank}.json").write_text(json.dumps(hashes))
"""


def folders(path, remote_folder, masked_lm):
    """Folders of several formats, options of ``load``, and whether they are read in parts."""
    weights = random_weights()
    yield sedd_folder(path / "sedd") and path / "sedd", {}, True
    yield sedd_folder(path / "pickled", pickled=True) and path / "pickled", {}, False
    mdlm = MDLM | {"time_conditioning": True}
    yield write_folder(path / "mdlm", mdlm, backbone(weights)), {"dtype": "bfloat16"}, True
    yield write_folder(path / "udlm", UDLM, backbone(weights)), {}, True
    yield write_folder(path / "gidd", GIDD, weights | gidd_tables(L)), {}, True
    masked_lm.bert_folder(path / "bert", max_shard_size="10KB")  # An index of eight files.
    yield path / "bert", {}, True
    masked_lm.modern_bert().save_pretrained(path / "rotary")
    yield path / "rotary", {}, True
    llada, _ = remote_folder("llada", dtype="float32")
    yield llada, {"trust_remote_code": True, "mask_id": 3}, True


@pytest.mark.slow
def test_each_process_reads_its_part_of_the_files(tmp_path, monkeypatch, remote_folder):
    """Outputs are those of the whole network, to the bit. A process reads as many numbers as it
    holds, of no tensor more than its half, and has no parameter before.
    """
    masked_lm = pytest.importorskip("builders.masked_lm")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    asked, in_parts = {"countdown": {}}, {"countdown": True}
    for folder, options, parts in folders(tmp_path, remote_folder, masked_lm):
        asked[str(folder)], in_parts[folder.name] = options, parts
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    for found in run_program(tmp_path, 2, READ):
        assert found.keys() == in_parts.keys()
        for name, (parts, checks, read, held, size, most, largest) in found.items():
            assert (parts, checks) == (in_parts[name], [True] * 4), name
            assert read == (held if parts else 0), name
            assert abs(held - size / 2) <= 0.1 * size, name
            assert most <= largest / 2 + 64, name  # A row more where they are odd.


@pytest.mark.slow
def test_the_first_process_reads_files_for_their_hashes(tmp_path):
    """The other one, which has no such files, gets theirs; later it reads its own again."""
    for name in ("a", "b", "own0", "own1"):
        (tmp_path / name).write_text(name)
    a, b, *own = (hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "own0", "own1"))
    assert run_program(tmp_path, 2, HASH) == [[a, b, own[0]], [a, b, own[1]]]


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
