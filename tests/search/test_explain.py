"""The error measures of a schedule, against the quantities themselves."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps.core.information import kl_divergence, standard_error
from jumpsteps.denoiser import chunks
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.built_in import load_toy
from jumpsteps.schedules.fixed import uniform
from jumpsteps.search.explain import StepErrors, explain
from jumpsteps.search.paths import Paths
from jumpsteps.tasks import countdown, toy


def explained(kernel: str, sequences: int = 600):
    reverse = toy.reverse(kernel)
    paths = Paths.draw(
        reverse.forward, toy.TASK.sample_data(sequences, seeded(0)), generator=seeded(1)
    )
    return reverse.model, explain(reverse, paths, [uniform(3)], generator=seeded(2))[0]


def test_the_toy_is_countdown():
    """The table breaks the rule as often as a smoothed chain, and data are drawn from it."""
    table = toy.table()
    assert float(table.sum()) == pytest.approx(1, abs=1e-12)
    broken = sum(
        float(table.sum((2, 3))[a, b]) for a in range(1, 4) for b in range(4) if b != a - 1
    )
    assert broken == pytest.approx(0.75 * 1e-3 * 0.75, rel=1e-9)
    data = toy.TASK.sample_data(40_000, seeded(3))
    states = Enumerable(toy.KERNELS["uniform"], table)
    seen = torch.bincount(states.index(data), minlength=256) / 40_000
    assert float((seen - states.data_distribution()).abs().sum()) < 0.06
    assert jumpsteps.load("toy-uniform").digest != jumpsteps.load("toy-gaussian").digest
    with pytest.raises(ValueError, match="pass --device cpu"):
        load_toy("uniform", torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", list(toy.KERNELS))
def test_each_measure_is_the_quantity_itself(kernel):
    truth, found = explained(kernel)
    assert [(step.t, step.s) for step in found.steps] == list(pairwise(uniform(3).times))
    for step in found.steps:
        assert step.cde == pytest.approx(float(truth.compounding_error(step.t, step.s)))
        error = step.context.std(ddof=1) / np.sqrt(600)
        if kernel == "absorbing":
            assert step.context.mean() == pytest.approx(step.cde, abs=4 * error)
        assert step.context.mean() > step.cde - 4 * error
    if kernel == "absorbing":
        check_frozen_rates(found.steps[:2], truth.table.ndim)
    probs = truth.run_distribution(truth.tweedie_transition, uniform(3), truth.marginal(1.0))
    assert found.tweedie == pytest.approx(float(kl_divergence(truth.data_distribution(), probs)))
    assert 0 < found.tweedie < sum(step.cde for step in found.steps)
    for step, end in ((found.steps[0], found.steps[0].s), (found.steps[2], 1e-3)):
        assert step.klub == pytest.approx(klub_in_the_middle(kernel, step.t, end))
    text = str(found)
    table = text.splitlines()[:5]
    assert len({len(row) for row in table[:4]}) == 1
    assert [row[:18].split() for row in table[1:]] == [
        *([f"{step.t:.4f}", "->", f"{step.s:.4f}"] for step in found.steps),
        ["sum"],
    ]
    assert f"Tweedie {found.tweedie:.4f}, Euler {found.euler:.4f}" in text
    assert text.count("\n") == 6
    assert f"tweedie: {found.few_step}" in text
    entropy = -float(torch.xlogy(truth.data_distribution(), truth.data_distribution()).sum())
    assert found.tweedie <= found.few_step.interval[1] - entropy


def klub_in_the_middle(kernel: str, t: float, end: float) -> float:
    reverse = toy.reverse(kernel)
    paths = Paths.draw(reverse.forward, toy.TASK.sample_data(600, seeded(0)), generator=seeded(1))
    return jumpsteps.Klub(reverse, paths, t, end)(0.5 * (t + end))


def check_frozen_rates(steps: tuple[StepErrors, ...], sites: int) -> None:
    """They cost more than a frozen context by what the clock loses.

    Absorbing kernel, a site masked with probability tau at the time tau: a masked site jumps at the
    rate a = 1 / tau, frozen at 1 / t. The integral over a step of L tau (a log(t / tau) - a
    + 1 / t) is L ((t^2 - s^2) / 2t - s log(t / s)).
    """
    for step in steps:
        t, s = step.t, step.s
        exact = sites * ((t**2 - s**2) / (2 * t) - s * np.log(t / s))
        more = step.rates - step.context
        error = 4 * standard_error(more)
        assert more.mean() == pytest.approx(exact, abs=error + 0.01 * exact)
        assert error < 0.2 * exact


@pytest.mark.slow
def test_a_model_that_cannot_be_enumerated_has_no_exact_numbers():
    model = jumpsteps.load("countdown-exact-uniform")
    paths = Paths.draw(
        model.reverse.forward, countdown.sample_data(3, generator=seeded(0)), generator=seeded(1)
    )
    (found,) = explain(model.reverse, paths, [uniform(2)], generator=seeded(2))
    assert found.tweedie is None
    assert found.steps[0].cde is None
    assert "KL(" not in str(found)
    large = replace(
        found,
        steps=tuple(replace(step, context=np.array([4000.0, 3000.0])) for step in found.steps),
    )
    assert str(large).split().count("3500.0000") == 2  # columns do not run together


def test_entropies_in_chunks_are_those_of_all_sites_at_once(monkeypatch):
    reverse = toy.reverse("absorbing")
    paths = Paths.draw(reverse.forward, toy.TASK.sample_data(5, seeded(0)), generator=seeded(1))
    x = paths(0.6)
    where = paths.movable(x)
    p = reverse.posterior(x, 0.6, where=where)
    expected = -torch.xlogy(p, p).sum(-1)
    for numbers in (1, 3 * 5, 10**6):
        monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", numbers)
        assert torch.allclose(chunks.site_entropies(reverse, x, 0.6, where), expected, atol=1e-12)
    assert chunks.site_entropies(reverse, x, 0.6, torch.zeros_like(where)).shape == (0,)
