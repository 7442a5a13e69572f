"""Which search a command makes, on how many sequences."""

import numpy as np
import pytest
import torch

from builders.novels import LENGTH, save_text_model
from jumpsteps import (
    JYS,
    AutoOrder,
    Blocks,
    Euler,
    Golden,
    KGillespie,
    MatchedSpectrum,
    Random,
    ShortestPath,
    Tweedie,
    load,
)
from jumpsteps.cli import long_searches, searches
from jumpsteps.cli.flags import parse
from jumpsteps.cli.searches import (
    certificate_sequences,
    comparable,
    default_method,
    measured,
    method_asked,
    method_in_blocks,
    method_named,
    schedules_named,
    search,
)
from jumpsteps.core.distributed import ALONE
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.learned_order import LearnedOrder


def options_of(flags):
    return parse(f"optimize toy-absorbing --nfe 2 {flags}".split())


def test_methods_by_name_and_order():
    assert method_asked(None, None) is None
    assert method_asked(None, "golden") == ShortestPath(order=Golden())
    assert method_asked("jys", None) == JYS()
    assert method_named("shortest-path", "random") == ShortestPath(order=Random())
    assert method_named("shortest-path-golden", "golden") == ShortestPath(order=Golden())
    assert method_named("auto", "auto") == method_named("shortest-path", "auto") == AutoOrder()
    assert method_named("shortest-path", "learned") == LearnedOrder()


@pytest.mark.parametrize(
    ("size", "length", "blocks"), [(64, 256, 4), (64, 100, 2), (1, 256, 256), (300, 256, 1)]
)
def test_every_block_is_evaluated_a_few_times(size, length, blocks):
    found = method_in_blocks(None, "golden", size, length)
    evaluations = max(ShortestPath.evaluations, 4 * blocks)
    assert found == ShortestPath(evaluations, order=Blocks(size, Golden()), within_blocks=True)
    assert method_in_blocks("shortest-path", None, size, length).order == Blocks(size, Random())


@pytest.mark.parametrize(
    ("flags", "sampler", "tolerance", "method"),
    [
        ("", None, None, AutoOrder()),
        ("--measure data", KGillespie(), None, AutoOrder()),
        ("--measure model", None, None, ShortestPath()),
        ("", Tweedie(), None, ShortestPath()),
        ("", None, 2.0, ShortestPath()),
    ],
)
def test_orders_are_compared_where_data_can(flags, sampler, tolerance, method):
    asked = options_of(flags).search
    assert default_method(load("toy-absorbing"), asked, sampler, tolerance) == method
    assert default_method(load("toy-uniform"), asked, sampler, tolerance) == ShortestPath()


def test_costs_are_measured_as_asked_where_there_are_any():
    for method in (ShortestPath(), JYS(), AutoOrder()):
        assert measured(method, None) == method
    assert measured(ShortestPath(), "model").measure == Measure.MODEL
    assert measured(JYS(), "model") == JYS()
    assert measured(AutoOrder(), "data") == AutoOrder()
    with pytest.raises(ValueError, match="orders are compared by data; leave out --measure model"):
        measured(AutoOrder(), "model")


def test_orders_are_compared_on_as_many_free_sites(capsys):
    auto, tokens = AutoOrder(), torch.zeros(4, 3)
    equal = torch.tensor([[True, True, False], [False, True, True]])
    for mask in (None, equal[0], equal):
        assert comparable(auto, tokens, mask) is auto
    assert capsys.readouterr().err == ""
    other = torch.tensor([[True, True, False], [False, True, False]])
    assert comparable(auto, tokens, other) == ShortestPath()
    assert "note: the given sites leave different numbers of sites free; times in random order" in (
        capsys.readouterr().err
    )
    assert comparable(auto, tokens[:3], None) == ShortestPath()
    assert "it takes 4 sequences to compare orders, the data have 3;" in capsys.readouterr().err


def test_half_as_many_sequences_certify():
    assert [certificate_sequences(n) for n in (15, 16, 32, 40, 65)] == [0, 16, 16, 20, 32]


@pytest.fixture
def asked(monkeypatch):
    """What searches were asked of the library."""
    found = []

    def spy(reverse, tokens, nfe, **options):
        found.append({"tokens": tokens, "nfe": nfe, **options})
        return {}

    monkeypatch.setattr(searches, "optimize_schedule", spy)
    return found


def test_a_search_passes_on_all_that_it_was_asked(asked, tmp_path):
    model, generator = load("toy-absorbing"), torch.Generator().manual_seed(0)
    np.savez(tmp_path / "g.npz", tokens=np.zeros(4, int), mask=np.arange(4) < 2)
    options = options_of(f"--sequences 40 --given {tmp_path / 'g.npz'}")
    found = {"sampler": KGillespie(), "generator": generator, "tolerance": 2.0, "progress": True}
    search(model, ShortestPath(), options.search, options.observed, workers=ALONE, **found)
    (made,) = asked
    assert made.pop("tokens").shape == (60, 4)
    assert torch.equal(made.pop("given_mask"), torch.arange(4) < 2)
    about = model.provenance(f"{model.task.name}, 2 of 4 sites given")
    assert made.pop("about") == about
    expected = {"nfe": (2,), "method": ShortestPath(), "held_out": 20, "workers": ALONE}
    assert made == {**expected, **found}


@pytest.mark.parametrize(
    ("rows", "flags", "method", "sequences", "held_out"),
    [
        (60, "--sequences 40", ShortestPath(), 60, 20),
        (99, "--sequences 40", ShortestPath(), 60, 20),
        (59, "--sequences 40", ShortestPath(), 59, None),
        (60, "--sequences 40", JYS(), 40, 0),
        (60, "--sequences 15", ShortestPath(), 15, 0),
    ],
)
def test_sequences_are_held_out_where_there_are_enough(
    asked, tmp_path, rows, flags, method, sequences, held_out
):
    np.save(tmp_path / "d.npy", np.zeros((rows, 4), int))
    options = options_of(f"{flags} --data {tmp_path / 'd.npy'}")
    generator = torch.Generator().manual_seed(0)
    model = load("toy-absorbing")
    search(model, method, options.search, options.observed, sampler=None, generator=generator)
    assert (len(asked[0]["tokens"]), asked[0]["held_out"]) == (sequences, held_out)


def test_a_method_among_schedules_is_searched_with_all_that_was_asked(asked):
    model, generator = load("toy-absorbing"), torch.Generator().manual_seed(0)
    options = options_of("--sequences 8")
    found = {"sampler": KGillespie(), "generator": generator, "progress": True, "workers": object()}
    common = model, options.search, options.observed, None
    schedules_named("shortest-path", *common, order="golden", **found)
    assert asked[0]["method"] == ShortestPath(order=Golden())
    assert {name: asked[0][name] for name in found} == found
    (fixed,) = schedules_named("uniform", *common, order="golden", **found).values()
    assert fixed.order == Golden()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("method", "sampler", "said"),
    [
        (ShortestPath(), Tweedie(), "shortest-path takes up to 48 model calls of 40 sequences"),
        (ShortestPath(), Euler(), "euler's steps are those of tweedie, whose search is shorter"),
        (
            JYS(),
            Tweedie(),
            "of 40 sequences, at most 0 minutes, on a CPU; a line or a bar ",
        ),
        (JYS(), Tweedie(), "; shortest-path takes 32 for all its schedules\n"),
        (JYS(), KGillespie(), "jys takes up to 7 model calls of 40 sequences"),
        (MatchedSpectrum(), Tweedie(), ""),
    ],
)
def test_a_long_search_on_a_cpu_is_announced(
    asked, tmp_path, capsys, monkeypatch, method, sampler, said
):
    monkeypatch.chdir(tmp_path)
    save_text_model(tmp_path / "model")
    np.save("d.npy", np.zeros((60, LENGTH), int))
    options = parse(["optimize", "model", "--nfe", "2", "--sequences", "40", "--data", "d.npy"])
    model, generator = load("model"), torch.Generator().manual_seed(0)
    common = model, method, options.search, options.observed
    found = {"sampler": sampler, "generator": generator, "progress": True}
    search(*common, **found)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(long_searches, "LONG", 0.0)
    monkeypatch.setattr(long_searches, "TIMED", (0, 1e15))
    search(*common, **found)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == bool(said)
    assert len(asked) == 2
    search(*common, **found | {"progress": False})
    assert capsys.readouterr().err == ""
