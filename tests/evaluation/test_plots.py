"""What the pictures of comparisons show."""

import pytest

from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.plots import new_figure, place_of_zero, plot_metric
from jumpsteps.evaluation.report import table
from jumpsteps.evaluation.results import Row

pytest.importorskip("matplotlib")
ROWS = [
    Row(4, "a", (1.0, 0.0), Interval(0.2, 0.18, 0.22, 0.95, 64)),
    Row(8, "a", (1.0, 0.0), Interval(0.0, 0.0, 0.004, 0.95, 64)),
]


def test_zeros_are_drawn_on_the_logarithmic_axis_with_their_upper_ends():
    axes = new_figure(3, 2).subplots()
    axes.set_yscale("log")
    zero = place_of_zero(ROWS)
    assert zero == pytest.approx(0.2)
    plot_metric(axes, ROWS, "a", 0, 100.0, zero)
    line, _, (bars,) = axes.containers[0]
    assert line.get_ydata().tolist() == pytest.approx([20, zero])
    assert bars.get_segments()[1][:, 1].tolist() == pytest.approx([zero, 0.4])


def test_a_picture_of_zeros_alone_has_a_place_for_them():
    assert place_of_zero([Row(4, "a", (), Interval(0.0, 0.0, 0.0, 0.95, 2))]) > 0


def test_the_table_names_both_ends_where_they_differ():
    text = table(ROWS, "violations")
    assert "20.00 ±2.00" in text
    assert "0.00 [0.00, 0.40]" in text
