"""First-hitting and Gillespie are exact, and their times are those of the reverse process."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

from builders.asked import Asked
from builders.models import TwoSites
from builders.samplers import (
    enumerable,
    timeless,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, Cosine, LogLinear, NoiseSchedule
from jumpsteps.sampling.event_driven import FirstHitting, Gillespie
from jumpsteps.sampling.loop import simulate
from jumpsteps.schedules.schedule import TimeSchedule


@pytest.mark.parametrize("length", [2, 3])
def test_first_hitting_is_exact(length: int) -> None:
    truth = enumerable("absorbing", length=length)
    run = simulate(timeless(truth), FirstHitting(), None, (100_000, length), generator=seeded(1))
    assert run.nfe == length
    assert (run.moved == 1).all()
    assert chi_square_p(truth.index(run.samples), truth.data_distribution()) > LEVEL


@pytest.mark.parametrize("noise", [LogLinear(), Cosine(), Constant(3.0)], ids=repr)
def test_first_hitting_times_are_those_of_the_process(noise: NoiseSchedule) -> None:
    """Of n masked sites the last one was masked at a time with distribution ((1 - alpha(t')) / (1 -
    alpha(t)))^n.
    """
    truth = enumerable("absorbing", noise, length=3)
    reverse = timeless(truth)
    asked = Asked(reverse.model)
    simulate(replace(reverse, model=asked), FirstHitting(), None, (20_000, 3), generator=seeded(2))
    masked = [1 - torch.exp(-noise.total(time)) for time in (torch.ones(20_000), *asked.times)]
    assert len(masked) == 4
    for n, (before, after) in zip((3, 2, 1), pairwise(masked), strict=True):
        assert stats.kstest((after / before) ** n, "uniform").pvalue > LEVEL


def frozen_step(truth: Enumerable, t: float, s: float) -> Tensor:
    """All jumps of a step at the rates of its beginning, without any other error."""
    if s == 0:
        return truth.tweedie_transition(t, s)
    rates = truth.reverse_rates(t)
    return torch.matrix_exp((t - s) * (rates - rates.sum(-1).diag()))


def expected_jumps(truth: Enumerable, since: float) -> float:
    """The mean number of jumps between this time and 1: forward in time as many as backward."""
    times = torch.linspace(since, 1, 401, dtype=torch.float64).tolist()
    leaving = [
        truth.marginal(t) @ -truth.forward.rate(t).diagonal()[truth.states].sum(-1) for t in times
    ]
    return float(torch.trapezoid(torch.stack(leaving), torch.tensor(times, dtype=torch.float64)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("absorbing", 100_000), ("uniform", 40_000), ("gaussian", 12_000), ("rate-matrix", 12_000)],
)
def test_gillespie_is_exact(name: str, size: int) -> None:
    """From the true x_1 down to t_min, and by one Tweedie step to 0: as many jumps as the true
    process makes, and its distribution. Rates frozen over a fifth of the run would not pass.
    """
    noise = {"absorbing": Constant(3.0), "uniform": Constant(3.0)}.get(name)
    truth = enumerable(name, noise)
    t_min = 0.02
    path = truth.forward.sample_path(
        truth.sample_data(size, generator=seeded(3)), generator=seeded(4)
    )
    run = simulate(
        PosteriorReverse(truth.forward, TwoSites(truth)),
        Gillespie(t_min=t_min),
        None,
        (size, 2),
        generator=seeded(1),
        initial=path(1.0),
    )
    assert (run.clipped == 0).all()
    jumps = run.moved[:-1].sum(0).double()
    deviation = float(jumps.mean()) - expected_jumps(truth, t_min)
    assert abs(deviation) < stats.norm.isf(LEVEL) * float(jumps.std()) / math.sqrt(size)
    draws = truth.index(run.samples)
    assert chi_square_p(draws, truth.marginal(t_min) @ truth.tweedie_transition(t_min, 0.0)) > LEVEL
    frozen = truth.run_distribution(
        lambda t, s: frozen_step(truth, t, s),
        TimeSchedule([1.0, 0.8, 0.6, 0.4, 0.2, t_min, 0.0]),
        truth.marginal(1.0),
    )
    assert chi_square_p(draws, frozen) < 1e-12


def test_without_a_site_to_jump_the_next_candidate_is_at_the_last_time() -> None:
    truth = enumerable("uniform", Constant(3.0))
    sites, now = torch.tensor([0, 2]), torch.full((2,), 0.501, dtype=torch.float64)
    reverse, sampler = PosteriorReverse(truth.forward, truth), Gillespie(t_min=0.5)
    found = torch.stack([sampler.candidate(reverse, sites, now, seeded(i)) for i in range(20)])
    assert (found[:, 0] == 0.5).all()
    assert (found >= 0.5).all()
