"""Arguments of another kind: one line that says what is expected."""

import pytest
import torch

import jumpsteps as js

MODEL = js.load("toy-absorbing")
DATA = torch.zeros(4, 4, dtype=torch.int64)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reverse": MODEL}, "reverse must be a reverse process such as model.reverse, got Loaded"),
        ({"sampler": js.Tweedie}, r"such as jumpsteps.Tweedie\(\), got the class Tweedie; call it"),
        ({"sampler": "tweedie"}, r"sampler must be a sampler such as .*, got str"),
        ({"generator": 0}, "generator must be a torch.Generator or SampleGenerators, got int"),
    ],
)
def test_a_run(changes, message):
    asked = {
        "reverse": MODEL.reverse,
        "sampler": js.Tweedie(),
        "schedule": js.uniform(2),
        "shape": (2, 4),
        "generator": generator(),
    }
    with pytest.raises(ValueError, match=message):
        js.simulate(**asked | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reverse": MODEL}, "reverse must be a reverse process such as model.reverse, got Loaded"),
        ({"method": "jys"}, r"method must be a search such as jumpsteps.JYS\(\), got str"),
        ({"method": js.JYS}, "got the class JYS; call it"),
        ({"sampler": js.Euler}, "got the class Euler; call it"),
        ({"generator": 0}, "generator must be a torch.Generator, got int"),
    ],
)
def test_a_search(changes, message):
    asked = {"reverse": MODEL.reverse, "data": DATA, "nfe": [2], "generator": generator()}
    with pytest.raises(ValueError, match=message):
        js.optimize_schedule(**asked | changes)


def test_a_file_of_schedules(tmp_path):
    with pytest.raises(ValueError, match=r"a dict such as \{8: schedule\}, keyed by NFE, got Time"):
        js.save_schedules(tmp_path / "s.json", js.uniform(4))
    assert not (tmp_path / "s.json").exists()
