"""Files of schedules and configs of checkpoints whose values are changed or cut."""

import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file

from builders.checkpoints import DUO, GIDD, MDLM, SEDD, UDLM, random_network
from builders.fuzzing import fuzzed, json_files, refused_in_one_line
from jumpsteps.models.formats.native import network_to_json
from jumpsteps.models.load import load
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Exponential, LogLinear
from jumpsteps.process.serialise import forward_to_json
from jumpsteps.schedules.files import load_schedules, schedule_to_json
from jumpsteps.schedules.orders import Blocks, Fixed, Golden, Mixture, Sequential
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

KERNEL = Absorbing(vocab_size=5, noise=LogLinear())
ABOUT = Provenance(method="shortest-path", sequences=8, excess=0.5).with_forward(KERNEL)
SCHEDULES = [
    TimeSchedule([1.0, 0.4, 0.0], ABOUT, [Redraw(2, 0.5, 0.4)]),
    CountSchedule([1, 3], ABOUT, Golden(), [Redraw(1)]),
    CountSchedule([2, 1, 1], ABOUT, Blocks(2, Sequential())),
    CountSchedule([2, 2], Provenance(), Mixture((Golden(), Fixed((0, 2, 1, 3))), (1.0, 2.0))),
]
FILES = [
    {
        "format": "jumpsteps-schedules",
        "schema_version": 2,
        "schedules": [schedule_to_json(5, one) for one in SCHEDULES],
    },
    {
        "format": "jumpsteps-schedules",
        "schema_version": 1,
        "schedules": [
            {"nfe": 2, "times": [1, 0.5, 0], "provenance": {"noise": "LogLinear(eps=0.001)"}}
        ],
    },
]
DIT = DiTConfig(vocab_size=5, hidden_size=8, n_blocks=1, n_heads=2, cond_dim=4)
GAUSSIAN = Gaussian(vocab_size=5, rate_sigma=1.0, q_sigma=2.0, noise=Exponential(100.0, 0.05))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(content=json_files(FILES))
@fuzzed(26)
def test_schedules(folder, content):
    path = folder / "schedules.json"
    path.write_bytes(content)
    schedules = refused_in_one_line(lambda: load_schedules(path)) or {}
    free = torch.tensor([4, 1])
    for schedule in schedules.values():
        refused_in_one_line(lambda one=schedule: one.check_kernel(KERNEL))
        if isinstance(schedule, CountSchedule):
            assert sum(schedule.rescaled(4).counts) == 4
            refused_in_one_line(lambda one=schedule: one.plan_for(KERNEL, free))
            ranks = refused_in_one_line(
                lambda one=schedule: one.order.ranks(2, 4, generator=torch.Generator())
            )
            assert ranks is None or ranks.sort().values.tolist() == [[0, 1, 2, 3]] * 2


def native(kernel):
    """The config of a tiny network, as ``save_native`` writes it."""
    content, noise = forward_to_json(kernel)
    return {
        "format": "jumpsteps-model",
        "schema_version": 1,
        "task": "toy",
        "length": 4,
        "output": "posterior",
        "kernel": content,
        "noise": noise,
        "network": network_to_json(DIT),
    }


CONFIGS = [native(KERNEL), native(GAUSSIAN), native(KERNEL), SEDD, MDLM, UDLM, DUO, GIDD]


@given(content=json_files(CONFIGS))
@fuzzed(20)
def test_configs(folder, content):
    """The weights are those of the native configs."""
    weights = folder / "model.safetensors"
    if not weights.exists():
        save_file(random_network(DIT).state_dict(), weights)
    (folder / "config.json").write_bytes(content)
    model = refused_in_one_line(lambda: load(folder))
    if model is not None:
        assert model.length > 0
        tokens = torch.zeros(1, 4, dtype=torch.int64)
        assert model.reverse.model(tokens, 0.5).shape[:2] == (1, 4)
