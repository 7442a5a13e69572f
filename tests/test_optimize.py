"""Finding schedules, on the exact CountDown chain at a length that makes it quick."""

from itertools import pairwise

import pytest
import torch

from helpers import seeded
from jumpsteps.compare import compare
from jumpsteps.exact import MarkovChain
from jumpsteps.forward import Absorbing
from jumpsteps.noise import LogLinear
from jumpsteps.optimize import JYS, ShortestPath, optimize_schedule
from jumpsteps.reverse import PosteriorReverse
from jumpsteps.samplers import Euler, Tweedie
from jumpsteps.schedule import Provenance, cosine, uniform
from jumpsteps.tasks import countdown

FORWARD = Absorbing(vocab_size=17, noise=LogLinear())
REVERSE = PosteriorReverse(FORWARD, MarkovChain(FORWARD, *countdown.chain(16)))


def data(n=16, length=64):
    return countdown.sample_data(n, generator=seeded(0), symbols=16, length=length)


@pytest.mark.parametrize("method", [ShortestPath(), JYS()], ids=lambda m: m.name)
def test_schedules_and_their_provenance(method):
    about = Provenance(model="m", model_hash="h", data="d")
    found = optimize_schedule(REVERSE, data(), [8, 2, 8], generator=seeded(5), method=method, about=about)
    assert list(found) == [2, 8]
    for nfe, schedule in found.items():
        known = schedule.provenance
        assert schedule.leaps == nfe
        assert (schedule.times[0], schedule.times[-1]) == (1, 0)
        assert (known.method, known.kernel, known.noise) == (method.name, "absorbing", "LogLinear(eps=0.001)")
        assert (known.sampler, known.sequences, known.seed) == ("tweedie", 16, 5)
        assert (known.model, known.model_hash, known.data) == ("m", "h", "d")
        assert known.model_calls > 0
    again = optimize_schedule(REVERSE, data(), [8], generator=seeded(5), method=method, about=about)
    assert again[8] == found[8] or method.name == "jys"
    assert again[8].times == found[8].times


def test_jys_levels_nest_and_cost_many_calls():
    found = optimize_schedule(REVERSE, data(), [2, 4, 8], generator=seeded(0), method=JYS())
    assert all(set(a.times) < set(b.times) for a, b in pairwise(found.values()))
    shortest = optimize_schedule(REVERSE, data(), [2, 4, 8], generator=seeded(0))
    assert shortest[8].provenance.model_calls == 48
    assert found[8].provenance.model_calls > 2 * 48


def test_predicted_costs_fall_with_every_step():
    found = optimize_schedule(REVERSE, data(), range(1, 20), generator=seeded(0))
    costs = [schedule.provenance.predicted_cost for schedule in found.values()]
    assert all(b < a for a, b in pairwise(costs))
    assert all(schedule.provenance.predicted_cost_stderr > 0 for schedule in found.values())


@pytest.mark.parametrize("sampler", [Tweedie(), Euler()], ids=lambda s: s.name)
def test_optimised_times_beat_uniform_ones(sampler):
    """300 samples: intervals of the optimised schedules lie below that of uniform times."""
    found = {"uniform": {8: uniform(8)}, "cosine": {8: cosine(8)}}
    found["jys"] = optimize_schedule(REVERSE, data(32), [8], generator=seeded(1), method=JYS(), sampler=sampler)
    if isinstance(sampler, Tweedie):
        found["shortest-path"] = optimize_schedule(REVERSE, data(32), [8], generator=seeded(1))
    rows = compare(REVERSE, sampler, found, (300, 64), metric=countdown.violations, seed=2, device=torch.device("cpu"))
    metric = {row.schedule: row.metric for row in rows}
    assert [row.nfe for row in rows] == [8] * len(found)
    assert all(metric[name].high < metric["uniform"].low for name in found if name not in ("uniform", "cosine"))


def test_wishes_that_cannot_be_met_are_refused():
    with pytest.raises(ValueError, match="powers of two only"):
        optimize_schedule(REVERSE, data(), [6], generator=seeded(0), method=JYS())
    with pytest.raises(ValueError, match="not those of euler"):
        optimize_schedule(REVERSE, data(), [6], generator=seeded(0), sampler=Euler())
    with pytest.raises(ValueError, match=r"data holds tokens 0\.\.99, the vocabulary is 0\.\.16"):
        optimize_schedule(REVERSE, data().masked_fill(data() == 3, 99), [6], generator=seeded(0))
    with pytest.raises(ValueError, match=r"must be tokens int64 \[B, L\], got shape \[64\]"):
        optimize_schedule(REVERSE, data()[0], [6], generator=seeded(0))
    with pytest.raises(ValueError, match="at least one NFE"):
        optimize_schedule(REVERSE, data(), [], generator=seeded(0))
