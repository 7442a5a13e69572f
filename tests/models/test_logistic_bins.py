"""The probability of one bin against the whole distribution of the U-Net's head."""

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.models.networks.logistic_bins import log_probability_of_bin
from jumpsteps.models.networks.unet import truncated_logistic


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
