"""Networks whose parameters are still in their files."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from builders.checkpoints import sedd_folder
from jumpsteps.models import load
from jumpsteps.models.unread import parameters_on, unread_weights

META = torch.device("meta")


class Network(nn.Module):
    """A table that is read in two places, and positions, one of them kept in files."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6)
        self.head.weight = self.table.weight
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("positions", torch.arange(5.0), persistent=False)


def network_and_file(path, change=lambda weights: weights):
    with parameters_on(META):
        network = Network()
    weights = {name: torch.randn(p.shape) for name, p in Network().named_parameters()}
    save_file(change(weights | {"kept": torch.ones(3)}), path)
    return network, path


def test_parameters_have_no_memory_and_buffers_have(tmp_path):
    network, path = network_and_file(tmp_path / "x.safetensors")
    assert {name for name, p in network.named_parameters() if p.is_meta} == {
        "table.weight",
        "head.bias",
    }
    assert network.head.weight is network.table.weight
    unread = unread_weights(network, [path])
    assert unread.names == {"table.weight": "table.weight", "head.bias": "head.bias"}
    assert torch.equal(network.kept, torch.ones(3))
    assert torch.equal(network.positions, torch.arange(5.0))
    assert not nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize(
    ("change", "in_parts"),
    [
        (lambda w: w | {"other": torch.ones(1)}, True),
        (lambda w: {n.replace("table", "head"): v for n, v in w.items()}, True),
        (lambda w: {n.replace("bias", "beta"): v for n, v in w.items()}, False),
        (lambda w: w | {"head.weight": torch.ones(6, 4)}, False),
        (lambda w: w | {"head.bias": torch.ones(1, 6)}, False),
        (lambda w: {n: v for n, v in w.items() if n != "kept"}, False),
    ],
    ids=["more", "other-tied-name", "renamed", "tied-twice", "other-shape", "no-buffer"],
)
def test_files_that_do_not_hold_the_parameters_as_they_are(tmp_path, change, in_parts):
    network, path = network_and_file(tmp_path / "x.safetensors", change)
    assert (unread_weights(network, [path]) is not None) == in_parts


def test_what_cannot_be_read_in_parts_is_on_the_cpu(tmp_path):
    sedd_folder(tmp_path / "sedd", pickled=True)
    for name in (tmp_path / "sedd", "countdown-exact", "toy-absorbing"):
        assert load(name, device="meta").read_parts is None
    network = load(tmp_path / "sedd", device="meta").reverse.model
    assert {p.device.type for p in network.parameters()} == {"cpu"}


def test_damage_is_refused_before_anything_is_divided(tmp_path):
    sedd_folder(tmp_path / "sedd")
    path = tmp_path / "sedd" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged .*; download or train"):
        load(tmp_path / "sedd", device="meta")
