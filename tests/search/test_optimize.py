"""Optimised schedules, on short sequences of the exact CountDown chain."""

import math
from itertools import pairwise

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.compare import compare
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.event_driven import FirstHitting
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.fixed import cosine, uniform, uniform_counts
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.optimize import optimize_schedule, split
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown

FORWARD = Absorbing(vocab_size=17, noise=LogLinear())
REVERSE = PosteriorReverse(FORWARD, MarkovChain(FORWARD, *countdown.chain(16)))


def data(n=16, length=64):
    return countdown.sample_data(n, generator=seeded(0), symbols=16, length=length)


@pytest.mark.parametrize("method", [ShortestPath(), JYS()], ids=lambda m: m.name)
def test_schedules_and_their_provenance(method):
    about = Provenance(model="m", model_hash="h", data="d")
    found = optimize_schedule(
        REVERSE, data(), [8, 2, 8], generator=seeded(5), method=method, about=about
    )
    assert list(found) == [2, 8]
    for nfe, schedule in found.items():
        known = schedule.provenance
        assert schedule.steps == nfe
        assert (schedule.times[0], schedule.times[-1]) == (1, 0)
        assert (known.method, known.kernel, known.noise) == (
            method.name,
            "absorbing",
            {"type": "LogLinear", "eps": 0.001},
        )
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
    assert shortest[8].provenance.model_calls == 32
    assert found[8].provenance.model_calls > 2 * 32


def test_a_third_of_the_data_vouches_for_what_the_rest_chose():
    """The same schedules as from the sequences searched; certificates from the others."""
    found = optimize_schedule(REVERSE, data(48), [4, 8], generator=seeded(0), held_out=16)
    alone = optimize_schedule(REVERSE, data(48)[:32], [4, 8], generator=seeded(0), held_out=0)
    for nfe, schedule in found.items():
        known = schedule.provenance
        assert (known.sequences, known.held_out, known.model_calls) == (32, 16, 32 + 16)
        unknown = alone[nfe].provenance
        assert (unknown.held_out, unknown.excess_limit, unknown.model_calls) == (None, None, 32)
        assert known.few_step_nll == pytest.approx(unknown.few_step_nll, rel=0.2)
    for sequences, expected in ((31, (31, None)), (32, (16, 16)), (60, (40, 20))):
        one = optimize_schedule(REVERSE, data(sequences), [2], generator=seeded(0))[2].provenance
        assert (one.sequences, one.held_out) == expected
    model = ShortestPath(measure=Measure.MODEL)
    one = optimize_schedule(REVERSE, data(48), [2], generator=seeded(0), method=model)[2]
    assert (one.provenance.sequences, one.provenance.held_out) == (48, None)
    with pytest.raises(ValueError, match="held_out=8 must be 0, or at least 16 and less than"):
        optimize_schedule(REVERSE, data(48), [2], generator=seeded(0), held_out=8)


def test_errors_fall_with_more_steps():
    """The excess where costs are measured by data, the error by the model else."""
    found = optimize_schedule(REVERSE, data(48), [1, 2, 4, 8, 16], generator=seeded(0))
    known = [schedule.provenance for schedule in found.values()]
    assert all(b.excess < a.excess for a, b in pairwise(known))
    assert all(b.few_step_nll < a.few_step_nll for a, b in pairwise(known))
    for one in known:
        assert one.excess_stderr > 0
        assert one.excess_limit > one.excess + 1.96 * one.excess_stderr
        assert one.bits_per_token == pytest.approx(one.few_step_nll / 64 / math.log(2))
        assert one.predicted_cost is None
    method = ShortestPath(measure=Measure.MODEL)
    found = optimize_schedule(REVERSE, data(), range(1, 20), generator=seeded(0), method=method)
    known = [schedule.provenance for schedule in found.values()]
    assert all(b.predicted_cost < a.predicted_cost for a, b in pairwise(known))
    assert all(one.predicted_cost_stderr > 0 and one.excess is None for one in known)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Tweedie(), Euler()], ids=lambda s: s.name)
def test_optimised_times_beat_uniform_ones(sampler):
    """300 samples: the 95% intervals lie below that of uniform times."""
    found = {"uniform": {8: uniform(8)}, "cosine": {8: cosine(8)}}
    found["jys"] = optimize_schedule(
        REVERSE, data(32), [8], generator=seeded(1), method=JYS(), sampler=sampler
    )
    if isinstance(sampler, Tweedie):
        found["shortest-path"] = optimize_schedule(REVERSE, data(32), [8], generator=seeded(1))
    rows = compare(
        REVERSE,
        sampler,
        found,
        (300, 64),
        metric=countdown.violations,
        seed=2,
        device=torch.device("cpu"),
    )
    metric = {row.schedule: row.metric for row in rows}
    assert [row.nfe for row in rows] == [8] * len(found)
    assert all(
        metric[name].high < metric["uniform"].low
        for name in found
        if name not in ("uniform", "cosine")
    )


def test_errors():
    with pytest.raises(ValueError, match="powers of two only"):
        optimize_schedule(REVERSE, data(), [4, 6], generator=seeded(0), method=JYS())
    with pytest.raises(
        ValueError,
        match="ancestral, euler, tau-leaping and k-gillespie, got theta-trapezoidal",
    ):
        optimize_schedule(REVERSE, data(), [6], generator=seeded(0), sampler=ThetaTrapezoidal())
    with pytest.raises(ValueError, match="for spread order use k-gillespie"):
        optimize_schedule(
            REVERSE,
            data(),
            [6],
            generator=seeded(0),
            method=ShortestPath(order=Spread()),
            sampler=Euler(),
        )
    with pytest.raises(ValueError, match="or a tolerance in place"):
        optimize_schedule(REVERSE, data(), [6], generator=seeded(0), tolerance=1.0)
    with pytest.raises(ValueError, match="jys does not predict errors"):
        optimize_schedule(REVERSE, data(), generator=seeded(0), tolerance=1.0, method=JYS())
    with pytest.raises(ValueError, match=r"data holds tokens 0\.\.99, the vocabulary is 0\.\.16"):
        optimize_schedule(REVERSE, data().masked_fill(data() == 3, 99), [6], generator=seeded(0))
    with pytest.raises(ValueError, match=r"must be tokens int64 \[B, L\], got shape \[64\]"):
        optimize_schedule(REVERSE, data()[0], [6], generator=seeded(0))
    with pytest.raises(ValueError, match="at least one NFE"):
        optimize_schedule(REVERSE, data(), [], generator=seeded(0))
    with pytest.raises(ValueError, match=r"each entry a whole number, got 4; pass \[4\]"):
        optimize_schedule(REVERSE, data(), 4, generator=seeded(0))


@pytest.mark.parametrize(
    "method", [ShortestPath(), ShortestPath(order=Spread())], ids=lambda method: method.name
)
def test_the_fewest_steps_for_a_tolerance(method):
    """One step fewer misses it; the schedule is that of the same NFE."""
    ((nfe, found),) = optimize_schedule(
        REVERSE, data(), generator=seeded(0), tolerance=2.0, method=method
    ).items()
    assert nfe == found.steps
    assert found.provenance.excess <= 2.0
    fewer = optimize_schedule(REVERSE, data(), [nfe - 1, nfe], generator=seeded(0), method=method)
    assert fewer[nfe - 1].provenance.excess > 2.0
    assert fewer[nfe] == found


class Halving:
    """A search of one's own: every step reaches half the time, and no error is predicted."""

    name, sampler, max_evaluations = "halving", Tweedie(), 0

    def find(self, reverse, paths, steps, sampler, *, generator):
        return {n: FoundSchedule(TimeSchedule([*(2.0**-k for k in range(n)), 0.0])) for n in steps}


def test_a_tolerance_is_met_in_model_calls():
    class Tolerant(Halving):
        def find_within(self, reverse, paths, tolerance, sampler, *, generator):
            return FoundSchedule(uniform(3))

    for sampler, nfe in ((Tweedie(), 3), (ThetaTrapezoidal(), ThetaTrapezoidal().calls(3))):
        (found,) = optimize_schedule(
            REVERSE, data(4), tolerance=1, generator=seeded(0), method=Tolerant(), sampler=sampler
        )
        assert found == nfe
    assert nfe > 3


def rates_of(samples):
    return countdown.violations(samples).mean()


def test_optimised_counts_beat_uniform_ones():
    sampler = KGillespie()
    found = optimize_schedule(
        REVERSE, data(32), [2, 4, 8], generator=seeded(0), method=JYS(), sampler=sampler
    )
    assert all(
        isinstance(schedule, CountSchedule) and schedule.total == 64 for schedule in found.values()
    )
    assert found[8].provenance.sampler == "k-gillespie"
    assert 4 * found[8].counts[0] < max(found[8].counts)  # few sites while little is known
    schedules = {
        "uniform": {n: uniform_counts(n, 64) for n in (4, 8)},
        "jys": {n: found[n] for n in (4, 8)},
    }
    rows = compare(
        REVERSE,
        sampler,
        schedules,
        (200, 64),
        metric=countdown.violations,
        seed=1,
        device=torch.device("cpu"),
        batch=200,
    )
    by = {(row.nfe, row.schedule): row.metric for row in rows}
    for nfe in (4, 8):
        assert by[nfe, "jys"].high < 0.75 * by[nfe, "uniform"].low


def test_jys_on_the_uniform_kernel_beats_equal_times():
    forward = Uniform(vocab_size=16, noise=Constant(3.87))
    reverse = PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(16)))
    found = optimize_schedule(reverse, data(16), [4], generator=seeded(0), method=JYS())
    runs = [
        simulate(reverse, Tweedie(), s, (64, 64), generator=seeded(1)).samples
        for s in (uniform(4), found[4])
    ]
    assert rates_of(runs[1]) < 0.5 * rates_of(runs[0])


@pytest.mark.parametrize(
    ("sampler", "method"),
    [(Tweedie(), ShortestPath()), (Tweedie(), JYS()), (KGillespie(), JYS())],
    ids=lambda thing: thing.name,
)
def test_schedules_for_observed_sites(sampler, method):
    """Every second symbol observed: the rest is nearly determined, so schedules differ.

    Observed sites are never masked.
    """
    known = torch.arange(64) % 2 == 0
    tokens = data(16)
    states = []

    def recorded(x, t, where=None):
        states.append(x)
        return REVERSE.model(x, t, where)

    reverse = PosteriorReverse(FORWARD, recorded)
    found = optimize_schedule(
        reverse, tokens, [4], generator=seeded(0), method=method, sampler=sampler, given_mask=known
    )[4]
    assert all(torch.equal(x[:, known], tokens[:, known]) for x in states)
    without = optimize_schedule(
        REVERSE, tokens, [4], generator=seeded(0), method=method, sampler=sampler
    )[4]
    if isinstance(found, CountSchedule):
        assert (found.total, without.total) == (32, 64)
    else:
        assert found.times != without.times
    given = Given(tokens[0], known)
    run = simulate(REVERSE, sampler, found, (4, 64), generator=seeded(2), given=given)
    assert torch.equal(run.samples[:, known], tokens[0][known].expand(4, -1))


def test_the_budget_is_in_model_calls():
    found = optimize_schedule(
        REVERSE, data(4), [4, 9], generator=seeded(0), method=JYS(), sampler=ThetaTrapezoidal()
    )
    assert {nfe: schedule.steps for nfe, schedule in found.items()} == {4: 2, 9: 4}
    corrected = PredictorCorrector(Euler(), corrections=2)
    assert [corrected.steps(n) for n in (1, 3, 4, 7)] == [1, 1, 2, 3]
    with pytest.raises(
        ValueError, match="one step of theta-trapezoidal takes 2 model calls, got NFE 1"
    ):
        optimize_schedule(
            REVERSE, data(4), [1], generator=seeded(0), method=JYS(), sampler=ThetaTrapezoidal()
        )
    with pytest.raises(ValueError, match="method jys-full searches times"):
        optimize_schedule(
            REVERSE, data(4), [4], generator=seeded(0), method=JYS(full=True), sampler=KGillespie()
        )
    with pytest.raises(ValueError, match="first-hitting chooses its own steps"):
        optimize_schedule(REVERSE, data(4), [4], generator=seeded(0), sampler=FirstHitting())


@pytest.mark.parametrize("method", [ShortestPath(8), JYS()], ids=lambda method: method.name)
def test_the_progress_bar_counts_model_calls_on_stderr(method, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    quiet = optimize_schedule(REVERSE, data(4), [2], generator=seeded(0), method=method)
    assert capsys.readouterr() == ("", "")
    shown = optimize_schedule(
        REVERSE, data(4), [2], generator=seeded(0), method=method, progress=True
    )
    printed = capsys.readouterr()
    calls = shown[2].provenance.model_calls
    most = method.max_evaluations or method.most_evaluations([2], Tweedie(), 1)
    assert f"{calls}/{most}" in printed.err
    assert calls <= most
    assert printed.out == ""
    assert shown == quiet


@pytest.mark.parametrize(
    ("sequences", "asked", "held_out"),
    [(31, None, 0), (32, None, 16), (60, None, 20), (40, 0, 0), (40, 16, 16), (17, 16, 16)],
)
def test_sequences_that_certify(sequences, asked, held_out):
    """Every sequence chooses or certifies, and none does both."""
    search, certify = split(sequences, asked, seeded(0))
    assert len(certify) == held_out
    assert sorted([*search.tolist(), *certify.tolist()]) == list(range(sequences))
    for wrong in (15, sequences):
        with pytest.raises(ValueError, match=f"held_out={wrong} must be 0, or at least 16 and"):
            split(sequences, wrong, seeded(0))


def test_a_search_of_ones_own():
    found = optimize_schedule(REVERSE, data(4), [3], generator=seeded(0), method=Halving())[3]
    assert found.times == (1.0, 0.5, 0.25, 0.0)
    known = found.provenance
    assert (known.method, known.model_calls, known.predicted_cost) == ("halving", 0, None)
    with pytest.raises(ValueError, match="halving does not predict errors"):
        optimize_schedule(REVERSE, data(4), generator=seeded(0), tolerance=1, method=Halving())
