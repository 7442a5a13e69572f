"""Where a chart puts means and the ends of their intervals."""

import math
import re

import numpy as np
import pytest

from builders.results import interval
from jumpsteps.evaluation.page.charts import quality_chart
from jumpsteps.evaluation.page.svg import BOTTOM, HEIGHT, TOP
from jumpsteps.evaluation.results import Row

BUDGETS = (2, 4, 8)


def heights(means, halves, scale=1.0):
    """[3, 3]: where the mean and the lower and upper end of each interval stand, in pixels."""
    rows = [
        Row(nfe, "a", (1.0, 0.0), interval(mean, half))
        for nfe, mean, half in zip(BUDGETS, means, halves, strict=True)
    ]
    drawn = quality_chart(rows, ["a"], "metric", scale)
    marks = re.findall(r'class="mark s0"[^>]*translate\(\S+ (\S+)\)', drawn)
    bars = re.findall(r'class="bar s0" x1="\S+" x2="\S+" y1="(\S+)" y2="(\S+)"', drawn)
    return np.array([[y, low, top] for y, (top, low) in zip(marks, bars, strict=True)], float)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize(
    ("means", "log"), [((0.1, 0.2, 0.39), False), ((0.1, 0.2, 0.41), True)], ids=["equal", "log"]
)
def test_means_and_ends_lie_on_one_axis_within_the_frame(means, log, scale):
    """Logarithmic from a factor of four on."""
    halves = (0.02, 0.1, 0.2)
    found = heights(means, halves, scale)
    values = [[m, m - h, m + h] for m, h in zip(means, halves, strict=True)]
    values = np.log(values) if log else np.array(values)
    slope, start = np.polyfit(values.ravel(), found.ravel(), 1)
    assert slope < 0
    assert found == pytest.approx(start + slope * values, abs=0.2)
    assert ((found >= TOP - 0.1) & (found <= HEIGHT - BOTTOM + 0.1)).all()


def test_of_a_logarithmic_axis_zeros_stand_below_all_others():
    found = heights((0.0, 0.05, 0.4), (0.0, 0.05, 0.1))
    floor = HEIGHT - BOTTOM - 6
    assert found[0].tolist() == [floor] * 3
    assert found[1, 1] == floor  # The lower end is zero, too.
    assert (found[1:, [0, 2]] < floor).all()
    assert found[1, 0] - found[2, 0] > 20 * math.log(0.4 / 0.05)
