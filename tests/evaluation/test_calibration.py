"""Calibration: zero gap for the exact denoiser, the right sign and size for one that is not."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from builders.statistics import LEVEL
from jumpsteps.core.information import half_width
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.calibration import (
    CalibrationCurve,
    calibration_from_json,
    calibration_to_json,
    measure_calibration,
    reliability,
)
from jumpsteps.tasks import toy


@dataclass(frozen=True)
class Tempered:
    """The logits of a model times a factor; above 1 the model is too sure of itself."""

    model: Model
    factor: float

    def __call__(self, x: Tensor, t: object, where: Tensor | None = None) -> Tensor:
        logits = self.model(x, t)
        tempered = (self.factor * logits).log_softmax(-1)
        return tempered if where is None else tempered[where]


def curve(kernel: str, factor: float = 1.0, n: int = 600) -> CalibrationCurve:
    exact = toy.reverse(kernel)
    assert isinstance(exact, PosteriorReverse)
    reverse = replace(exact, model=Tempered(exact.model, factor))
    generator = torch.Generator().manual_seed(0)
    data = toy.TASK.sample_data(n, generator)
    return measure_calibration(reverse, data, generator=generator)


def gaps(found: CalibrationCurve) -> list[float]:
    return [one.gap / half_width(one.stderr, found.sequences, 1 - LEVEL) for one in found.levels]


@pytest.mark.parametrize("kernel", ["absorbing", "uniform"])
def test_the_exact_denoiser_is_calibrated(kernel):
    found = curve(kernel)
    assert len(found.levels) == 5
    assert all(abs(gap) < 1 for gap in gaps(found))
    for one in found.bins:
        slack = half_width(max(one.stderr, 0.01), found.sequences, 1 - LEVEL)
        assert abs(one.confidence - one.accuracy) < slack
    assert sum(one.share for one in found.bins) == pytest.approx(1)


def test_a_model_too_sure_of_itself_is_seen():
    found = curve("absorbing", factor=3.0)
    assert all(one.gap > 0 for one in found.levels)
    assert max(gaps(found)) > 1
    wrong = [one for one in found.bins if one.confidence > 0.6]
    assert any(one.confidence - one.accuracy > 4 * one.stderr > 0 for one in wrong)


def test_given_sites_are_not_measured():
    reverse, generator = toy.reverse("absorbing"), torch.Generator().manual_seed(0)
    data = toy.TASK.sample_data(50, generator)
    mask = torch.tensor([True, True, True, False])
    found = measure_calibration(
        reverse, data, generator=generator, given_mask=mask, levels=[0.9, 0.5]
    )
    alone = measure_calibration(reverse, data, generator=generator, levels=[0.9])
    assert found.levels[0].nll < alone.levels[0].nll
    nothing = torch.ones(4, dtype=torch.bool)
    empty = measure_calibration(reverse, data, generator=generator, given_mask=nothing)
    assert (empty.levels, empty.bins) == ((), ())


def test_a_curve_survives_its_file():
    found = curve("absorbing", n=20)
    assert calibration_from_json(calibration_to_json(found)) == found


def test_bins_of_confidence_by_hand():
    """Certain sites count in the last bin; errors are those of a ratio over three sequences."""
    rows = [[[1.0, 0.95, 0.55], [1, 0, 1]], [[0.9, 0.51], [1, 0]], [[1.0], [1]]]
    half, last = reliability([torch.tensor(row, dtype=torch.float64) for row in rows])
    assert (half.confidence, half.accuracy, half.share) == pytest.approx((0.53, 0.5, 2 / 6))
    assert half.stderr == pytest.approx(math.sqrt(3 / 2 * (0.5**2 + 0.5**2)) / 2)
    assert (last.confidence, last.accuracy, last.share) == pytest.approx((3.85 / 4, 0.75, 4 / 6))
    assert last.stderr == pytest.approx(math.sqrt(3 / 2 * (0.5**2 + 0.25**2 + 0.25**2)) / 4)


def test_one_sequence_is_refused():
    with pytest.raises(ValueError, match="at least two sequences"):
        curve("absorbing", n=1)
