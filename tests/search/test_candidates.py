"""Schedules to race: which there are, for every kernel and sampler, and what they cost."""

from itertools import pairwise

import pytest
import torch

from builders.search import random_truth
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import EntropyBounded, KGillespie, MaskGIT
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.candidates import race_candidates
from jumpsteps.search.costs.correction import NO_CORRECTION
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath


def candidates(kernel, nfe, sampler=None):
    truth = random_truth(kernel, length=4)
    reverse, data = (
        PosteriorReverse(truth.forward, truth),
        truth.sample_data(32, generator=seeded(0)),
    )
    return race_candidates(reverse, data, nfe, sampler=sampler, generator=seeded(1)), reverse, data


@pytest.mark.parametrize("sampler", [None, TauLeaping()], ids=["tweedie", "tau-leaping"])
def test_kernels_that_revise_have_weaker_corrections_from_one_pass(sampler):
    found, reverse, data = candidates("uniform", [2, 4], sampler)
    paths = [name for name in found if name.startswith("shortest-path")]
    assert paths == [
        "shortest-path",
        "shortest-path, 4 x d",
        "shortest-path, 16 x d",
        "shortest-path, no correction",
    ]
    assert {found[name][4].provenance.model_calls for name in paths} == {
        found["shortest-path"][4].provenance.model_calls
    }
    assert found["shortest-path"][4].provenance.model_calls <= 32
    # The weaker the correction, the more of every error is left.
    errors = [found[name][4].provenance.predicted_cost for name in paths]
    assert all(one < other for one, other in pairwise(errors))
    assert {"few-step-nll", "few-step-nll, corrected"} < set(found)
    for name, method in (
        ("shortest-path", ShortestPath()),
        ("shortest-path, no correction", ShortestPath(correction=NO_CORRECTION, evaluations=32)),
    ):
        own = optimize_schedule(
            reverse, data, [2, 4], generator=seeded(1), method=method, sampler=sampler
        )
        if name == "shortest-path":  # Without correction the pass evaluates at other times.
            assert found[name][4].times == own[4].times
            assert found[name][4].provenance.predicted_cost == own[4].provenance.predicted_cost
        assert found[name][4].times == pytest.approx(own[4].times, abs=0.1)
    assert all(set(by_nfe) == {2, 4} for by_nfe in found.values())


def test_no_nll_where_the_network_excludes_the_data():
    truth = random_truth("uniform", length=4)

    def certain(x, t):
        logits = torch.full((*x.shape, 3), -torch.inf, dtype=torch.float64)
        logits[..., 0] = 0
        return logits

    found = race_candidates(
        LeaveOneOutReverse(truth.forward, certain),
        truth.sample_data(32, generator=seeded(0)),
        [2],
        generator=seeded(1),
    )
    assert "few-step-nll" not in found
    assert "shortest-path" in found


def test_the_absorbing_kernel_has_times_and_orders():
    found, *_ = candidates("absorbing", [2, 4])
    assert {"uniform", "cosine", "power 1.5", "shortest-path"} < set(found)
    orders = {"shortest-path-spread", "shortest-path-golden"}
    assert {name for name in found if isinstance(found[name][2], CountSchedule)} == orders
    found, *_ = candidates("absorbing", [2, 4], Tweedie())
    assert not orders & set(found)
    found, *_ = candidates("absorbing", [2, 4], KGillespie())
    assert set(found) == {"uniform", "cosine", "shortest-path"} | orders
    assert all(sum(by_nfe[4].counts) == 4 for by_nfe in found.values())
    multistep, *_ = candidates("absorbing", [2, 4], MultistepKGillespie())
    assert multistep == found
    found, *_ = candidates("absorbing", [2, 4], MaskGIT())
    assert set(found) == {"uniform", "cosine", "shortest-path"}


def test_two_calls_a_step_make_half_as_many_steps():
    found, *_ = candidates("uniform", [4, 9], ThetaTrapezoidal())
    steps = {n: {by_nfe[n].steps for by_nfe in found.values()} for n in (4, 9)}
    assert steps == {n: {ThetaTrapezoidal().steps(n)} for n in (4, 9)}
    with pytest.raises(ValueError, match="chooses its own steps"):
        candidates("absorbing", [4], EntropyBounded())
