import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpsteps.forward import Absorbing, Uniform
from jumpsteps.noise import Constant, LogLinear
from jumpsteps.schedule import (
    JumpSchedule,
    Leap,
    Provenance,
    TimeSchedule,
    at_nfe,
    cosine,
    cosine_jumps,
    load_schedules,
    save_schedules,
    uniform,
    uniform_jumps,
)


def test_uniform_and_cosine_times():
    assert uniform(4).times == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert cosine(2).times == pytest.approx((1.0, math.cos(math.pi / 4), 0.0))
    for make in (uniform, cosine):
        for n in (1, 2, 7, 64):
            schedule = make(n)
            assert schedule.leaps == n
            assert schedule.times[0] == 1
            assert schedule.times[-1] == 0
            assert schedule.provenance.method == make.__name__


@pytest.mark.parametrize("make", [uniform, cosine])
def test_no_steps_are_refused(make):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(0)


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5], [0.2, 0.4], [1.2, 0.0], [1.0, float("nan"), 0.0], [1.0, -0.1]])
def test_bad_times_are_refused(times):
    with pytest.raises(ValueError, match=r"times"):
        TimeSchedule(times)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.sets(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=20), st.integers(0, 2**31))
def test_files_keep_every_bit(tmp_path_factory, inner, seed):
    path = tmp_path_factory.mktemp("schedules") / "s.json"
    schedule = TimeSchedule([1.0, *sorted(inner, reverse=True), 0.0], Provenance(method="m", seed=seed, predicted_cost=0.1))
    save_schedules(path, {schedule.leaps: schedule})
    assert load_schedules(path) == {schedule.leaps: schedule}


def test_a_file_holds_several_and_says_which(tmp_path):
    path = tmp_path / "s.json"
    save_schedules(path, {8: uniform(8), 4: cosine(4)})
    found = load_schedules(path)
    assert at_nfe(found, 4, path) == cosine(4)
    with pytest.raises(ValueError, match=r"holds schedules for NFE \[4, 8\], not 16"):
        at_nfe(found, 16, path)


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "not a file of schedules"),
        (lambda c: c.update(schema_version=99), "schema version 99"),
        (lambda c: c["schedules"][0]["times"].reverse(), "decrease strictly"),
        (lambda c: c["schedules"][0].pop("times"), "damaged"),
        (lambda c: c["schedules"][0].update(times=3), "damaged"),
        (lambda c: c["schedules"][0].update(nfe=3), "less than the 4 leaps"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = tmp_path / "s.json"
    save_schedules(path, {4: uniform(4)})
    edited(path, change)
    with pytest.raises(ValueError, match=message):
        load_schedules(path)


def test_missing_and_garbled_files(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load_schedules(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        load_schedules(tmp_path / "bad.json")


def test_a_schedule_for_another_kernel_or_noise_is_refused():
    schedule = TimeSchedule([1.0, 0.0], Provenance(kernel="absorbing", noise=repr(LogLinear())))
    schedule.check_kernel(Absorbing(vocab_size=3, noise=LogLinear()))
    with pytest.raises(ValueError, match="optimised for the kernel absorbing, this model has uniform"):
        schedule.check_kernel(Uniform(vocab_size=3, noise=LogLinear()))
    with pytest.raises(ValueError, match=r"noise schedule LogLinear\(eps=0.001\)"):
        schedule.check_kernel(Absorbing(vocab_size=3, noise=Constant(3.0)))


@pytest.mark.parametrize("make", [uniform_jumps, cosine_jumps])
def test_fixed_jump_schedules(make):
    for leaps, total in ((1, 1), (1, 7), (7, 7), (4, 64), (64, 256), (5, 6), (63, 64)):
        schedule = make(leaps, total)
        assert schedule.leaps == leaps
        assert schedule.total == total
        assert min(schedule.counts) >= 1
        assert schedule.provenance.method == make.__name__.removesuffix("_jumps")
    assert uniform_jumps(4, 64).counts == (16, 16, 16, 16)
    assert list(cosine_jumps(8, 256).counts) == sorted(cosine_jumps(8, 256).counts)
    with pytest.raises(ValueError, match="3 sites cannot jump in 4 leaps"):
        make(4, 3)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(0, 3)


@pytest.mark.parametrize("counts", [[], [0], [3, 0, 1], [-1, 2], [1.5, 2]])
def test_bad_counts_are_refused(counts):
    with pytest.raises(ValueError, match="positive whole numbers"):
        JumpSchedule(counts)


def test_the_leaps_of_a_plan():
    forward = Absorbing(vocab_size=4, noise=LogLinear(eps=0.01))
    times = TimeSchedule([1.0, 0.3, 0.0]).plan(forward)
    assert times == [Leap(1.0, 0.3), Leap(0.3, 0.0)]
    jumps = JumpSchedule([1, 2, 1]).plan(forward)
    assert [leap.jumps for leap in jumps] == [1, 2, 1]
    assert [leap.t for leap in jumps] == pytest.approx([1.0, 0.75 / 0.99, 0.25 / 0.99])
    assert [leap.s for leap in jumps] == pytest.approx([0.75 / 0.99, 0.25 / 0.99, 0.0])
    little = Absorbing(vocab_size=4, noise=Constant(0.5))
    assert [leap.t for leap in JumpSchedule([1, 99]).plan(little)] == [1.0, 1.0]  # more masked than the noise ever masks


def test_files_hold_jumps_too(tmp_path):
    path = tmp_path / "s.json"
    schedules = {4: uniform(4), 8: JumpSchedule([1, 2, 3], Provenance(sampler="k-gillespie"))}
    save_schedules(path, schedules)
    assert load_schedules(path) == schedules
    edited(path, lambda c: c["schedules"][1].update(counts=[1, 0]))
    with pytest.raises(ValueError, match="positive whole numbers"):
        load_schedules(path)
