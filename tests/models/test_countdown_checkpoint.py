"""The shipped CountDown network: sizes, and that it does what its card says, on few samples."""

from pathlib import Path

import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.tasks import countdown
from jumpsteps.training.recipes import RECIPES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return jumpsteps.load("countdown")


def test_it_is_the_recipes_network(model):
    recipe = RECIPES["countdown"]
    assert model.reverse.forward == recipe.forward
    assert model.reverse.model.network.config == recipe.network
    assert model.length == recipe.length
    assert (
        Path(jumpsteps.__file__).parents[2] / "checkpoints" / "countdown" / "model.safetensors"
    ).stat().st_size < 3_000_000


@torch.no_grad()
def test_its_posterior_is_close_to_the_exact_one(model):
    """Mean KL(exact || network) of a masked site, at three times: under 0.01 nats."""
    exact = countdown.exact_reverse()
    path = model.reverse.forward.sample_path(
        countdown.sample_data(4, generator=seeded(0)), generator=seeded(1)
    )
    for t in (0.9, 0.6, 0.3):
        x = path(t)
        masked = model.reverse.forward.movable(x)
        p, q = (r.posterior(x, t, where=masked).double() for r in (exact, model.reverse))
        q = q.clamp_min(1e-300)
        assert float((torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1).mean()) < 0.01


def test_it_makes_the_errors_of_the_exact_model(model):
    """The exact model violates 22.3% at 4 uniform steps; 12 samples, 99.9% interval."""
    run = jumpsteps.simulate(
        model.reverse,
        jumpsteps.Tweedie(),
        jumpsteps.TimeSchedule([1, 0.75, 0.5, 0.25, 0]),
        (12, 256),
        generator=seeded(2),
    )
    interval = mean_interval(countdown.violations(run.samples), level=0.999)
    assert interval.low < 0.223 < interval.high
    assert interval.high - interval.low < 0.1
