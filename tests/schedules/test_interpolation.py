"""Schedules of other numbers of steps."""

from itertools import pairwise

import pytest

from jumpsteps.schedules.fixed import cosine_counts, uniform, uniform_counts
from jumpsteps.schedules.interpolation import interpolated, nearest
from jumpsteps.schedules.orders import Golden
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule


def test_values_lie_on_the_lines_between_those_of_the_schedule():
    assert interpolated([10, 6, 0], 4) == [10, 8.0, 6.0, 3.0, 0]
    assert interpolated([10, 6, 0], 1) == [10, 0]
    assert interpolated([10, 8, 6, 3, 0], 2) == [10, 6.0, 0]


def test_uniform_schedules_stay_uniform():
    for n in (1, 3, 8, 16):
        assert uniform_counts(4, 240).with_steps(n).counts == uniform_counts(n, 240).counts
        assert uniform(4).with_steps(n).times == pytest.approx(uniform(n).times)


def test_counts_of_other_steps_are_near_those_of_the_same_curve():
    left = [240 * share for share in interpolated([1, 0.9, 0.5, 0], 6)]
    counts = CountSchedule([24, 96, 120], order=Golden()).with_steps(6)
    assert counts.order == Golden()
    assert counts.counts == tuple(round(a) - round(b) for a, b in pairwise(left))
    many = cosine_counts(64, 1024).with_steps(8).counts
    assert all(abs(a - b) <= 1 for a, b in zip(many, cosine_counts(8, 1024).counts, strict=True))


def test_every_step_reveals_a_site():
    counts = CountSchedule([1, 1, 10]).with_steps(12)
    assert counts.counts == (1,) * 12
    with pytest.raises(ValueError, match="choose at most 12 steps"):
        counts.with_steps(13)


@pytest.mark.parametrize("schedule", [CountSchedule([2, 6]), TimeSchedule([1.0, 0.3, 0.0])])
def test_what_was_measured_is_no_longer_known(schedule):
    about = Provenance(method="auto", model="m", few_step_nll=1.0, excess=0.5, excess_limit=0.7)
    known = type(schedule)(next(iter(vars(schedule).values())), about, redraws=(Redraw(1),))
    other = known.with_steps(4)
    assert other.provenance.method == "auto, interpolated from 2 steps"
    assert (other.provenance.model, other.provenance.excess_limit) == ("m", None)
    assert other.redraws == known.with_steps(2).redraws == ()
    assert known.with_steps(2).provenance == about
    with pytest.raises(ValueError, match="at least 1, got 0"):
        schedule.with_steps(0)


def test_the_nearest_is_that_of_the_nearest_ratio():
    found = {2: "two", 8: "eight", 32: "thirty-two"}
    assert [nearest(found, n) for n in (1, 2, 3, 5, 8, 15, 17, 99)] == [
        "two", "two", "two", "eight", "eight", "eight", "thirty-two", "thirty-two",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="there are no schedules"):
        nearest({}, 4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        nearest(found, 0)
