"""The probability of one bin against the whole distribution of the U-Net's head."""

import math

import pytest
import torch
from torch import Tensor

from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.models.networks import logistic_bins
from jumpsteps.models.networks.logistic_bins import (
    draw_bins,
    log_probability_of_bin,
    truncated_logistic,
)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [256, 32])
def test_it_is_the_entry_of_the_whole_distribution(symmetric, size):
    """Scales from 0.02 of a bin to three times the interval; locations up to its ends."""
    location = torch.tanh(2 * torch.randn(60, 1, generator=seeded(0), dtype=torch.float64))
    location[:2, 0] = torch.tensor([-1.0, 1.0])
    log_scale = torch.linspace(-7, 3, 40, dtype=torch.float64).expand(60, -1)
    location = location.expand(-1, 40)
    whole = truncated_logistic(location, log_scale, size, symmetric=symmetric).log_softmax(-1)
    for index in (0, 1, size // 3, size - 1):
        one = log_probability_of_bin(
            location.float(),
            log_scale.float(),
            torch.full(location.shape, index),
            size,
            symmetric=symmetric,
        )
        reference = truncated_logistic(
            location.float().double(), log_scale.float().double(), size, symmetric=symmetric
        ).log_softmax(-1)[..., index]
        torch.testing.assert_close(one.double(), reference, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(whole).all()


def test_its_gradient_is_finite():
    location = torch.tensor([-1.0, 0.0, 1.0, 0.3], requires_grad=True)
    log_scale = torch.tensor([-9.0, 6.0, 0.0, -2.0], requires_grad=True)
    index = torch.tensor([255, 0, 128, 166])
    log_probability_of_bin(location, log_scale, index, 256, symmetric=True).sum().backward()
    assert torch.isfinite(location.grad).all()
    assert torch.isfinite(log_scale.grad).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("location", "log_scale"), [(0.2, -1.0), (-1.0, 1.5), (0.97, -3.0), (0.1, 4.0)]
)
def test_drawn_bins_have_the_distribution(symmetric, location, log_scale, monkeypatch):
    """With a floor of a hundredth in place of a millionth, so that it counts."""
    monkeypatch.setattr(logistic_bins, "FLOOR", 0.01)
    n = 60_000
    exact = truncated_logistic(
        torch.tensor(location).double(), torch.tensor(log_scale).double(), 16, symmetric=symmetric
    ).softmax(-1)
    drawn = draw_bins(
        torch.full((n,), location),
        torch.full((n,), log_scale),
        16,
        symmetric=symmetric,
        generator=seeded(3),
    )
    assert chi_square_p(drawn, exact) > LEVEL


def test_a_bin_does_not_depend_on_the_others_that_are_drawn():
    location = torch.linspace(-1.2, 1.2, 3000)
    log_scale = torch.linspace(-1, 9, 3000).roll(1111)

    def drawn(rows: range) -> Tensor:
        some, generator = slice(rows.start, rows.stop), SampleGenerators(0, rows)
        return draw_bins(location[some], log_scale[some], 256, symmetric=True, generator=generator)

    whole, parts = drawn(range(3000)), [drawn(range(i, i + 1000)) for i in (0, 1000, 2000)]
    assert torch.equal(whole, torch.cat(parts))


def test_narrow_and_wide_scales_stay_inside():
    location = torch.tensor([-1.0, 1.0, 0.3, 0.3, -1.0, 1.0]).repeat(1000)
    log_scale = torch.tensor([-60.0, -60.0, -60.0, 60.0, 60.0, 9.0]).repeat(1000)
    bins = draw_bins(location, log_scale, 256, symmetric=True, generator=seeded(4)).view(-1, 6)
    assert bins.min() >= 0
    assert bins.max() <= 255
    assert set(bins[:, 2].tolist()) == {166}  # 0.3 lies in bin (1.3 / 2) 256 = 166.4.
    assert bins[:, 3].unique().numel() > 200


@pytest.mark.parametrize("wrong", [(math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0)])
def test_what_is_no_distribution_is_refused(wrong):
    pair = torch.tensor([(0.1, 0.0), wrong]).T
    with pytest.raises(ValueError, match="not finite"):
        draw_bins(*pair, 256, symmetric=True, generator=seeded(0))
