"""The schedules that built-in models ship with are whole, and those of these weights."""

from dataclasses import replace

import pytest

from jumpsteps import load
from jumpsteps.models import BUILT_IN, schedules_file
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.tasks.piano import GIVEN

UNIFORM_TIMES = {"piano-uniform", "cifar10-gaussian"}
OTHER_BUDGETS = {"text-small"}
"""Models whose schedules are for some numbers of calls."""
NETWORKS = {"countdown", "piano-absorbing"}
SHIPPED = [
    pytest.param(name, marks=pytest.mark.slow) if name in NETWORKS else name
    for name in BUILT_IN
    if name not in UNIFORM_TIMES | OTHER_BUDGETS
]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_ships_a_schedule_for_every_number_of_calls(name):
    model = load(name)
    masked = isinstance(model.reverse.forward, Absorbing)
    free = model.length - GIVEN * name.startswith("piano")
    most = min(64, free) if masked else 64
    assert list(model.schedules) == list(range(1, most + 1))
    for nfe, schedule in model.schedules.items():
        known = schedule.provenance
        assert schedule.steps == nfe
        schedule.check_kernel(model.reverse.forward, name)
        assert (known.model, known.model_hash) == (name, model.digest)
        assert known.sampler == ("k-gillespie" if masked else "tweedie")
        assert known.data
        assert known.sequences
        assert known.seed is not None
        if masked:
            assert schedule.total == free
        if masked and nfe <= 16:
            assert known.held_out == 32
            assert known.excess <= known.excess_limit


@pytest.mark.parametrize("name", sorted(UNIFORM_TIMES))
def test_models_that_uniform_times_serve_best_ship_none(name):
    assert not schedules_file(name).exists()


def test_schedules_are_read_when_they_are_asked_for(tmp_path):
    model = replace(load("toy-uniform"), schedules_file=tmp_path / "s.json")
    (tmp_path / "s.json").write_text("not JSON")
    with pytest.raises(ValueError, match="is not a JSON file"):
        _ = model.schedules
