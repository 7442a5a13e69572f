"""Scales, ticks and numbers of charts."""

import pytest

from jumpsteps.evaluation.page.svg import (
    RAMP,
    Frame,
    Scale,
    colour_of_step,
    element,
    linear_ticks,
    log_ticks,
    number,
    with_ends,
)


def test_a_scale_maps_its_ends_and_middle():
    assert [Scale(0, 2, 10, 20)(v) for v in (0, 1, 2)] == [10, 15, 20]
    assert [Scale(-3, 1, 10, 20)(v) for v in (-3, -2, 1)] == [10, 12.5, 20]
    assert Scale(10, 1000, 300, 100, log=True)(100) == pytest.approx(200)
    assert Scale(3, 3, 0, 10)(3) == 5


def test_ticks_are_round_and_lie_inside():
    assert log_ticks(0.05, 21) == [0.1, 1, 10]
    assert log_ticks(1, 10) == [1, 2, 5, 10]
    assert log_ticks(0.001, 1000) == pytest.approx([10.0**k for k in range(-3, 4)])
    assert linear_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert linear_ticks(-3, 7) == [-2, 0, 2, 4, 6]


def test_numbers_have_three_digits_and_no_powers_of_ten():
    values = (0.05, 0.123456, -7.0, 250.0, 999.6, 1234.5, -31_000.0)
    assert [number(v) for v in values] == [
        *("0.05", "0.123", "-7", "250"),
        *("1,000", "1,234", "-31,000"),
    ]


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ((10.13, 9.45, 10.81), ("10.13", "9.45", "10.81")),
        ((0.0613, 0.0004, 0.1222), ("0.061", "0.000", "0.122")),
        ((0.02, -0.0002, 0.04), ("0.020", "-0.000", "0.040")),
        ((3031.2, 2900.0, 3160.0), ("3,031", "2,900", "3,160")),
        ((0.0, 0.0, 0.0), ("0.00", "0.00", "0.00")),
        ((-1e-15, -2e-15, 3e-15), ("0.00", "0.00", "0.00")),
    ],
)
def test_a_mean_has_two_digits_of_its_interval(ends, texts):
    assert with_ends(*ends) == tuple(text.replace("-0.000", "0.000") for text in texts)


def test_the_first_and_last_step_have_the_ends_of_the_ramp():
    for steps in (2, 3, 8, 64):
        colours = [colour_of_step(k, steps) for k in range(1, steps + 1)]
        assert (colours[0], colours[-1]) == (0, RAMP - 1)
        assert colours == sorted(colours)
    assert colour_of_step(1, 1) == 0


def test_attributes_are_escaped():
    assert element("a", "x", class_="b", aria_label='"<') == (
        '<a class="b" aria-label="&quot;&lt;">x</a>'
    )


def test_a_frame_of_one_value_has_room():
    frame = Frame.of([8], [3.0], log_x=True)
    assert frame.y.low < 3 < frame.y.high
    assert "NFE" in frame.draw("NFE", "metric")
    assert Frame.of([8], [3.0], log_x=True, log_y=True).y.low < 3
