"""Arguments of another kind: one line that says what is expected."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from inspect import signature

import numpy as np
import pytest
import torch

import jumpsteps as js
from jumpsteps.core.arguments import check_kind, fits

MODEL = js.load("toy-absorbing")
DATA = torch.zeros(4, 4, dtype=torch.int64)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reverse": MODEL}, "reverse must be a reverse process such as model.reverse, got Loaded"),
        ({"sampler": js.Tweedie}, r"such as jumpsteps.Tweedie\(\), got the class Tweedie; call it"),
        ({"sampler": "tweedie"}, r"sampler must be a sampler such as .*, got 'tweedie'"),
        ({"generator": 0}, "generator must be a torch.Generator or SampleGenerators, got 0"),
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
        (
            {"method": "jys"},
            r"must be a search such as jumpsteps.JYS\(\) or None, got 'jys'",
        ),
        ({"method": js.JYS}, "got the class JYS; call it"),
        ({"sampler": js.Euler}, "got the class Euler; call it"),
        ({"generator": 0}, "generator must be a torch.Generator, got 0"),
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


FORWARD, UNIFORM = MODEL.reverse.forward, js.load("toy-uniform").reverse
PATHS = js.Paths.draw(FORWARD, DATA, generator=generator())
PROFILE = js.information_profile(MODEL.reverse, PATHS, evaluations=2)
COSTS = js.count_costs(MODEL.reverse, PATHS, js.Spread(), evaluations=2, generator=generator())
NOISE, RANDOM = js.LogLinear(), {"generator": generator()}
HALVES = torch.full((2, 2), 0.5, dtype=torch.float64)
RATES = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
BIT = js.Uniform(vocab_size=2, noise=NOISE)

CALLS = {
    js.load: {"name": "toy-absorbing", "device": "cpu"},
    js.uniform: {"steps": 4},
    js.cosine: {"steps": 4},
    js.power: {"steps": 4, "exponent": 2.0},
    js.uniform_counts: {"steps": 4, "total": 16, "order": js.Random()},
    js.cosine_counts: {"steps": 4, "total": 16},
    js.get_schedule: {"steps": 4, "total": 16, "order": js.Random(), "shape": (1.5, 1.5)},
    js.simulate: RANDOM
    | {"reverse": MODEL.reverse, "sampler": js.Tweedie(), "schedule": js.uniform(2)}
    | {"shape": (2, 4), "given": None, "initial": None, "callback": None},
    js.optimize_schedule: RANDOM
    | {"reverse": MODEL.reverse, "data": DATA, "nfe": [2], "method": None, "sampler": None}
    | {"held_out": None},
    js.few_step_nll: RANDOM
    | {"reverse": MODEL.reverse, "data": DATA, "schedule": js.uniform(2), "sampler": js.Tweedie()}
    | {"reference_calls": 4},
    js.explain: RANDOM | {"reverse": MODEL.reverse, "paths": PATHS, "schedules": [js.uniform(2)]},
    js.explain_counts: RANDOM
    | {"reverse": MODEL.reverse, "paths": PATHS, "schedule": js.uniform_counts(2, 4)},
    js.default_sampler: {"schedule": js.uniform(4)},
    js.tempered: {"reverse": MODEL.reverse, "temperature": 0.5},
    js.mean_interval: {"values": torch.rand(9), "level": 0.9},
    js.time_grid: {"forward": FORWARD, "grid_intervals": 4},
    js.information_profile: {"reverse": MODEL.reverse, "paths": PATHS, "evaluations": 2},
    js.count_costs: RANDOM
    | {"reverse": MODEL.reverse, "paths": PATHS, "order": js.Spread(), "evaluations": 2},
    js.learn_order: RANDOM | {"reverse": MODEL.reverse, "paths": PATHS, "evaluations": 3},
    js.path_costs: RANDOM
    | {"reverse": UNIFORM, "paths": js.Paths.draw(UNIFORM.forward, DATA, generator=generator())}
    | {"evaluations": 3, "grid_intervals": 8, "max_steps": 2},
    js.redraw_cost: RANDOM | {"reverse": MODEL.reverse, "data": DATA, "redraw": js.Redraw()},
    js.race_candidates: RANDOM | {"reverse": MODEL.reverse, "data": DATA, "nfe": [2]},
    js.corrector_candidates: RANDOM | {"reverse": MODEL.reverse, "data": DATA, "nfe": [3]},
    js.race: RANDOM
    | {"reverse": MODEL.reverse, "data": DATA, "schedules": {"uniform": {2: js.uniform(2)}}},
    js.measure_calibration: RANDOM | {"reverse": MODEL.reverse, "data": DATA, "levels": [0.5]},
    js.equal_entropy: {"profile": PROFILE, "steps": 2},
    js.equal_error: {"profile": PROFILE, "steps": 2},
    js.error_curve: {"costs": COSTS, "max_steps": 2},
    js.shortest_path: {"costs": COSTS, "steps": 2},
    js.shortest_paths: {"costs": COSTS, "steps": [2]},
    js.fewest_steps: {"costs": COSTS, "tolerance": 1.0},
    js.token_similarity: {"x": DATA, "y": DATA},
    js.histogram_similarity: {"x": DATA, "y": DATA, "neighbours": 1},
    js.Paths.draw: RANDOM | {"forward": FORWARD, "data": DATA, "given_mask": None},
    js.TimeSchedule: {"times": [1.0, 0.0]},
    js.CountSchedule: {"counts": [1, 3], "order": js.Random()},
    js.Absorbing: {"vocab_size": 5, "noise": NOISE, "mask_id": 4},
    js.Uniform: {"vocab_size": 5, "noise": NOISE},
    js.Gaussian: {"vocab_size": 5, "noise": NOISE, "rate_sigma": 6.0, "q_sigma": 9.0},
    js.RateMatrix: {"noise": NOISE, "matrix": RATES},
    js.LogLinear: {"eps": 0.1},
    js.Cosine: {"eps": 0.1},
    js.Constant: {"value": 1.0},
    js.Exponential: {"base": 2.0, "scale": 1.0},
    js.Geometric: {"lowest": 0.1, "highest": 2.0},
    js.PosteriorReverse: {"forward": FORWARD, "model": MODEL.reverse.model},
    js.LogScoreReverse: {"forward": FORWARD, "model": MODEL.reverse.model},
    js.LeaveOneOutReverse: {"forward": BIT, "model": MODEL.reverse.model},
    js.Given: {"tokens": DATA, "mask": torch.zeros(4, 4, dtype=torch.bool)},
    js.SampleGenerators: {"seed": 0, "samples": [0, 1], "device": "cpu"},
    js.JYS: {"t_min": 0.1, "tolerance": 0.1, "full": False},
    js.ShortestPath: {"evaluations": 3, "bandwidth": 1.0, "sites": None, "measure": None},
    js.AutoOrder: {"orders": None, "learned": True, "evaluations": 3},
    js.LearnedOrder: {"order_evaluations": 3, "stationary": False, "t_min": 0.0},
    js.ClosedForm: {"name": "mine", "rule": js.equal_error, "evaluations": 3},
    js.MatchedSpectrum: {"shape": (3, 4), "detail": 0.5},
    js.ErrorCorrection: {"false_acceptance": None, "power": 0.0},
    js.Redraw: {"calls": 8, "share": 0.5, "time": 0.0, "sets": js.Golden()},
    js.Spread: {"layout": (2, 2)},
    js.Blocks: {"size": 2, "inner": js.Random()},
    js.Fixed: {"permutation": (1, 0), "shift": False},
    js.Mixture: {"orders": (js.Random(),), "weights": None},
    js.OrdinalSimilarity: {"bandwidth": 1.0},
    js.Enumerable: {"forward": BIT, "table": HALVES / 2},
    js.MarkovChain: {"forward": BIT, "initial": HALVES[0], "transition": HALVES},
} | {
    type(one): {name: getattr(one, name) for name in signature(type(one)).parameters}
    for one in js.SAMPLERS.values()
}
"""A call of each function and class, by name of argument."""

WRONG = [None, 3, -1, 2.5, math.nan, "4", "x", b"x", [1, 2], [], {"a": 1}, (1, "a"), object()]
WRONG += [np.array([1, 2]), np.ones((2, 2)), torch.tensor([1.5]), js.Tweedie, js.Spread]

RESULTS = {
    *("Choice", "Citation", "CountCosts", "CountExplanation", "CountKlub", "CountStep", "cite"),
    *("Discrepancy", "DoubtfulInput", "ErrorCurve", "Explanation", "FewStepNLL", "FoundSchedule"),
    *("InformationProfile", "Interval", "Klub", "LoadedModel", "PathCosts", "Paths", "Provenance"),
    *("ProfileCosts", "Race", "ScheduleSet", "Simulation", "StepCosts", "StepErrors", "Workers"),
    *("ForwardProcess", "MatrixKernel", "Measure", "Method", "Model", "NoiseSchedule", "Sampler"),
    *("RevealOrder", "ReverseProcess", "load_schedules", "save_schedules", "workers_of_launcher"),
}
"""Public names that others make, or that no arguments of these kinds are for."""


def test_every_public_function_is_called():
    named = {name for name in js.__all__ if callable(getattr(js, name))} - RESULTS
    missing = named - {one.__name__ for one in CALLS}
    assert not any(signature(getattr(js, name)).parameters for name in missing)


@pytest.mark.parametrize(
    ("function", "argument"),
    [(one, name) for one, arguments in CALLS.items() for name in arguments],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.filterwarnings("ignore")
def test_another_kind_is_refused_in_one_line(function, argument):
    """Or taken, such as a whole number for a number; no other exception leaves the library."""
    for value in WRONG:
        try:
            function(**CALLS[function] | {argument: value})
        except ValueError as error:
            said = str(error)
            assert "\n" not in said
            assert not re.search("could not convert|invalid literal|unpack|broadcast|NaN to", said)


def test_samples_of_numpy_are_measured_and_single_ones_refused():
    task = js.load("countdown").task
    assert task.metric(np.zeros((2, 9), dtype=int)).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"samples must be tokens \[B, L\], got shape \[9\]"):
        task.metric(torch.zeros(9, dtype=torch.int64))
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        task.sample_data(0, generator())
    with pytest.raises(ValueError, match=r"a torch\.Generator, got 0"):
        task.sample_data(3, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: js.JYS(tolerance=0.0), "a tolerance between 0 and 1, got 0.001 and 0.0"),
        (lambda: js.JYS(t_min=1.0), r"a t_min in \[0, 1\)"),
        (lambda: js.ShortestPath(evaluations=0), "evaluations must be at least 1, got 0"),
        (lambda: js.ShortestPath(bandwidth=math.nan), "bandwidth must be at least 0, got nan"),
        (lambda: js.AutoOrder(screening=0), "screening must be at least 1, got 0"),
        (lambda: js.mean_interval(torch.rand(3), 1.0), "lies between 0 and 1, got 1.0"),
        (lambda: js.histogram_similarity(DATA, DATA, neighbours=3), "must be 1 or 2, got 3"),
        (lambda: js.load("countdown", dtype=torch.int64), "floating one, got torch.int64"),
        (lambda: js.load("countdown", device="abacus"), "no device 'abacus' here .*; pass cpu"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sequences_of_another_length_than_the_exact_model_are_refused():
    with pytest.raises(ValueError, match="has 4 sites, the sequences have 3"):
        js.simulate(MODEL.reverse, js.Tweedie(), js.uniform(2), (2, 3), generator=generator())


def test_a_reverse_process_without_a_model_is_refused_when_it_is_called():
    reverse = js.PosteriorReverse(FORWARD, None)
    with pytest.raises(ValueError, match="has no model to call; pass a network or a function"):
        js.simulate(reverse, js.Tweedie(), js.uniform(2), (2, 4), generator=generator())


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name a file"):
        js.load_schedules(tmp_path)
    with pytest.raises(ValueError, match="is a folder; name a file to write to"):
        js.save_schedules(tmp_path, {4: js.uniform(4)})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.int64(3), int),
        (np.float32(3), float),
        (3, float),
        ([1, 2], tuple[int, ...]),
        ((1, 2), tuple[int, int]),
        (range(3), Iterable[int]),
        ({"a": {2: 1.0}}, Mapping[str, Mapping[int, float]]),
        (None, int | None),
        (js.JYS(), js.Method),
        (print, Callable[[int], int]),
    ],
)
def test_kinds_that_fit(value, kind):
    assert fits(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (3.0, int),
        ("3", float),
        ([1, "a"], tuple[int, ...]),
        ((1, 2, 3), tuple[int, int]),
        ("abc", Iterable[str]),
        (torch.ones(2), Iterable[int]),
        ({2: 1.0}, Mapping[str, float]),
        ("a", int | None),
        (js.Tweedie(), js.Method),
        (js.Tweedie, Callable[[int], int]),
    ],
)
def test_kinds_that_do_not_fit(value, kind):
    assert not fits(value, kind)


def test_words_for_kinds():
    with pytest.raises(ValueError, match=r"x must be a tensor, got ndarray; pass torch.as_tensor"):
        check_kind("x", np.zeros(2), torch.Tensor)
    with pytest.raises(ValueError, match=r"x must be a string or a whole number, got 2\.5$"):
        check_kind("x", 2.5, str | int)
    with pytest.raises(ValueError, match=r"a dict from a string to a number, got \[\]"):
        check_kind("x", [], Mapping[str, float])
