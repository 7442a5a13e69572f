"""The shipped image network on pictures that are drawn here."""

import math
from dataclasses import replace

import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.training.recipes import RECIPES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return jumpsteps.load("cifar10-gaussian")


def landscape():
    """A blue sky that is lighter below, above green ground, with a dark disc, int64 [1, 3072]."""
    height, width = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    sky = torch.stack([120 + 3 * height, 150 + 2 * height, 220 - height])
    ground = torch.stack([90 - height, 140 - height, 60 - height])
    image = torch.where(height < 20, sky, ground)
    image = torch.where((height - 16) ** 2 + (width - 18) ** 2 < 30, 40, image)
    return image.reshape(1, -1)


def cross_entropy(model, image, t):
    """Bits per site of -log p(x_0 | x_t) at one x_t of a fixed seed."""
    generator = seeded(0)
    x = model.reverse.forward.sample_transition(image, 0.0, t, generator=generator)
    with torch.no_grad():
        log_p = model.reverse.call_model(x, t).log_softmax(-1)
    return -float(log_p.gather(-1, image[..., None]).mean()) / math.log(2)


def test_it_is_the_network_of_the_recipe(model):
    recipe = RECIPES["cifar10-gaussian"]
    assert model.reverse.forward == recipe.forward == Gaussian()
    assert replace(model.reverse.model.network.config, dropout=0.0) == replace(
        recipe.network, dropout=0.0
    )
    assert (model.length, model.task.name) == (3072, "images")


@pytest.mark.parametrize(("t", "bits"), [(0.05, 3.72), (0.2, 4.38), (0.5, 5.30)])
def test_it_knows_pictures(model, t, bits):
    """The cross-entropy is as measured, and far below that of the pixels in disorder."""
    image = landscape()
    assert cross_entropy(model, image, t) == pytest.approx(bits, abs=0.05)
    disorder = image[:, torch.randperm(3072, generator=seeded(1))]
    assert cross_entropy(model, disorder, t) > bits + 3
