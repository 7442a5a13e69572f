"""Explained counts: the parts of the few-step NLL and of its excess."""

import numpy as np
import pytest

from builders.kernels import kernel
from builders.models import WrongNetwork
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Fixed, Random
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.explain_counts import explain_counts
from jumpsteps.search.paths import Paths

ORDERS = [Random(), Fixed((2, 0, 3, 1))]


def wrong(sequences):
    truth = Enumerable.random(
        kernel("absorbing", 3), symbols=3, length=4, seed=2, concentration=0.3
    )
    reverse = PosteriorReverse(truth.forward, WrongNetwork(truth, 2, 0.5))
    data = truth.sample_data(sequences, generator=seeded(1))
    return reverse, Paths.draw(truth.forward, data, generator=seeded(3))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_steps_add_up_to_the_few_step_nll(order):
    """Every rank has its own call, so nothing is drawn."""
    reverse, paths = wrong(30)
    schedule = CountSchedule((3, 1), order=order)
    found = explain_counts(reverse, paths, schedule, generator=seeded(4))
    expected = few_step_nll(reverse, paths, schedule, KGillespie(), generator=seeded(5))
    np.testing.assert_allclose(found.few_step.per_sequence, expected.per_sequence, rtol=1e-9)
    np.testing.assert_allclose(found.few_step.reference, expected.reference, rtol=1e-9)
    assert [(step.known, step.count) for step in found.steps] == [(0, 3), (3, 1)]
    assert (found.steps[1].excess == 0).all()
    assert found.model_calls == 2 + 3
    assert found.few_step.sites == 4


@pytest.mark.statistical
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_the_excess_of_a_step_is_unbiased(order, monkeypatch):
    """One call for three ranks, 3,000 sequences: within 4 standard errors of three calls."""
    reverse, paths = wrong(3000)
    schedule = CountSchedule((3, 1), order=order)
    exact = explain_counts(reverse, paths, schedule, generator=seeded(4)).steps[0].excess
    monkeypatch.setattr("jumpsteps.search.explain_counts.CALLS", 2)
    drawn = explain_counts(reverse, paths, schedule, generator=seeded(4)).steps[0].excess
    gap = drawn - exact
    assert gap.std() > 0
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))
    assert abs(exact.mean()) > 8 * gap.std() / np.sqrt(len(gap))


def test_another_number_of_sites_is_refused():
    reverse, paths = wrong(4)
    with pytest.raises(ValueError, match="reveals 5 sites, the sequences have 4 free ones"):
        explain_counts(reverse, paths, CountSchedule((3, 2)), generator=seeded(1))
