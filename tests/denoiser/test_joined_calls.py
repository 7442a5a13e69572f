"""Runs whose model calls are made together: the same results by fewer calls."""

from dataclasses import replace

import pytest
import torch

from builders.processes import close
from builders.search import random_truth
from builders.statistics import seeded
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.joined_calls import run_together
from jumpsteps.denoiser.model import evaluate
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.schedules.fixed import cosine, uniform


@pytest.mark.parametrize("kernel", ["absorbing", "uniform", "gaussian"])
@pytest.mark.parametrize("sampler", [Tweedie(), TauLeaping()], ids=lambda one: one.name)
def test_runs_are_those_made_alone(kernel, sampler):
    truth = random_truth(kernel)
    reverse = PosteriorReverse(truth.forward, truth)

    def run(schedule, n):
        return lambda model: simulate(
            replace(reverse, model=model), sampler, schedule, (n, 3), generator=seeded(n)
        )

    runs = [run(uniform(4), 5), run(cosine(4), 7), run(uniform(3), 2)]
    counter = CallCounter(truth)
    together = run_together(counter, runs)
    alone = [one(truth) for one in runs]
    assert all(torch.equal(a.samples, b.samples) for a, b in zip(together, alone, strict=True))
    assert [one.nfe for one in together] == [4, 4, 3]
    assert counter.calls == 4
    assert counter.sequences == 4 * 12 + 3 * 2


def test_some_runs_may_keep_an_evaluation_and_select_sites():
    truth = random_truth("uniform")
    x = truth.sample_data(6, generator=seeded(0))
    mask = SiteMask(torch.rand(x.shape, generator=seeded(1)) < 0.5)
    everywhere = SiteMask(torch.ones_like(mask.mask))
    expected = truth(x, 0.3)
    runs = [
        lambda model: model(x, 0.3),
        lambda model: model(x, 0.3, mask),
        lambda model: evaluate(model, x, 0.3, mask)(x, 0.3, mask),
        lambda model: evaluate(model, x, 0.3, everywhere)(x, 0.3),
    ]
    counter = CallCounter(truth)
    found = run_together(counter, runs)
    assert counter.calls == 1
    for i in (0, 3):
        close(found[i], expected)
    for i in (1, 2):
        close(found[i], mask.select(expected))
    close(run_together(truth, runs[:2])[1], mask.select(expected))


def test_errors_of_runs_and_of_the_model_are_raised():
    def fails(model):
        model(torch.zeros(1, 2, dtype=torch.int64), 0.5)
        raise ValueError("a run's mistake")

    def model(x, t):
        return torch.zeros(*x.shape, 3)

    def broken(x, t):
        raise ValueError("the model's mistake")

    def twice(model):
        model(torch.zeros(1, 2, dtype=torch.int64), 0.5)
        return model(torch.zeros(1, 2, dtype=torch.int64), 0.25).shape

    with pytest.raises(ValueError, match="a run's mistake"):
        run_together(model, [fails, twice])
    with pytest.raises(ValueError, match="the model's mistake"):
        run_together(broken, [twice, twice])
    assert run_together(model, [twice]) == [(1, 2, 3)]
