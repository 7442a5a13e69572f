"""Errors of whole runs decrease with the number of steps, and are bounded by the theory."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from builders.kernels import KERNELS, kernel
from builders.samplers import (
    TIMED,
    enumerable,
    total_variation,
)
from builders.step_formulas import (
    every_basic_sampler,
    every_kernel,
    every_noise,
    exact_distribution,
)
from jumpsteps.core.information import kl_divergence
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, Cosine, Exponential, LogLinear, NoiseSchedule
from jumpsteps.sampling.ancestral import ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import TimeSchedule


@pytest.mark.slow
@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(
    name=st.sampled_from(KERNELS),
    symbols=st.integers(2, 3),
    length=st.integers(2, 3),
    seed=st.integers(0, 10_000),
    concentration=st.floats(0.1, 3.0),
    noise=st.sampled_from([LogLinear(), Constant(1.0), Constant(4.0), Cosine()]),
    inner=st.lists(st.integers(1, 49), unique=True, max_size=4),
)
def test_the_error_is_at_most_the_sum_of_compounding_errors(
    name: str,
    symbols: int,
    length: int,
    seed: int,
    concentration: float,
    noise: NoiseSchedule,
    inner: list[int],
) -> None:
    """Theorem 3.1 of Park et al. 2025, for a run that starts from the true p_1."""
    forward = kernel(name, symbols, noise)
    truth = Enumerable.random(
        forward, symbols=symbols, length=length, seed=seed, concentration=concentration
    )
    schedule = TimeSchedule([1.0, *sorted((i / 50 for i in inner), reverse=True), 0.0])
    probs = exact_distribution(truth, Tweedie(), schedule, truth.marginal(1.0))
    bound = sum(float(truth.compounding_error(t, s)) for t, s in pairwise(schedule.times))
    error = float(kl_divergence(truth.data_distribution(), probs))
    assert -1e-12 <= error <= bound + 1e-9


@every_kernel
@every_noise
@pytest.mark.parametrize(
    "times", [[], [0.5], [0.9, 0.1], [0.75, 0.5, 0.25], [0.99, 0.3, 0.2, 0.01]], ids=str
)
def test_one_site_is_exact(name: str, noise: NoiseSchedule, times: list[float]) -> None:
    truth = Enumerable.random(kernel(name, 5, noise), symbols=5, length=1, seed=3)
    probs = exact_distribution(
        truth, Tweedie(), TimeSchedule([1.0, *times, 0.0]), truth.marginal(1.0)
    )
    torch.testing.assert_close(probs, truth.data_distribution(), rtol=0, atol=1e-12)


@every_kernel
@every_basic_sampler
@every_noise
def test_more_steps_are_nearer(name: str, sampler: Sampler, noise: NoiseSchedule) -> None:
    truth = enumerable(name, noise, length=3)
    distances = []
    for steps in (1, 2, 4, 8, 16, 32):
        probs = exact_distribution(truth, sampler, uniform(steps), truth.marginal(1.0))
        distances.append(total_variation(probs, truth.data_distribution()))
    assert all(fine < coarse for coarse, fine in pairwise(distances))
    assert 1.6 < distances[-2] / distances[-1] < 2.3  # both are of first order


@pytest.mark.parametrize(("sampler", "name"), TIMED)
def test_every_sampler_tends_to_the_data(sampler: Sampler, name: str) -> None:
    """With a constant remasking probability ReMDM's error would not vanish; here the probability is
    1/N.
    """
    if sampler.order == "does not converge":
        pytest.skip("by design")
    truth = enumerable(name)
    distances = []
    for steps in (4, 8, 16):
        finer = ReMDM(cap=1 / steps) if isinstance(sampler, ReMDM) else sampler
        probs = exact_distribution(truth, finer, uniform(steps), truth.marginal(1.0))
        distances.append(total_variation(probs, truth.data_distribution()))
    assert all(1.5 < coarse / fine < 4.5 for coarse, fine in pairwise(distances))
    assert distances[-1] < 0.1


def slope(errors: dict[int, float]) -> float:
    """The order of convergence: minus the slope of log error against log steps."""
    return -float(
        stats.linregress(
            [math.log(n) for n in errors], [math.log(e) for e in errors.values()]
        ).slope
    )


ORDER_NOISES = {
    "absorbing": [LogLinear(), Constant(3.0)],
    "uniform": [LogLinear(), Constant(3.0)],
    "gaussian": [Exponential(base=10.0, scale=0.3), Constant(2.0)],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "noise"), [(name, noise) for name in KERNELS for noise in ORDER_NOISES[name]], ids=str
)
def test_orders_of_convergence(name: str, noise: NoiseSchedule) -> None:
    """From true x_1 to x_0.1. The cut of negative rates brings the trapezoidal sampler's order down
    as steps grow, but its error stays a small share of Euler's, that of Euler with as many model
    calls included.
    """
    truth = enumerable(name, noise)
    start, end = truth.marginal(1.0), truth.marginal(0.1)

    def errors(sampler: Sampler) -> dict[int, float]:
        grids = {
            n: TimeSchedule([1 - 0.9 * i / n for i in range(n + 1)])
            for n in (4, 8, 16, 32, 64, 128)
        }
        return {
            n: total_variation(exact_distribution(truth, sampler, grid, start), end)
            for n, grid in grids.items()
        }

    def coarse(error: dict[int, float]) -> float:
        return slope({n: error[n] for n in (4, 8, 16, 32)})

    def fine(error: dict[int, float]) -> float:
        return slope({n: error[n] for n in (16, 32, 64, 128)})

    euler, trapezoidal = errors(Euler()), errors(ThetaTrapezoidal())
    for error in (euler, *map(errors, (Tweedie(), TauLeaping(), ThetaRK2()))):
        assert fine(error) == pytest.approx(1, abs=0.2)
    assert coarse(trapezoidal) > coarse(euler) + 0.15
    assert fine(trapezoidal) > fine(euler) + 0.05
    for n in (16, 32, 64):
        assert trapezoidal[n] < euler[n] / 4
        assert trapezoidal[n] < euler[2 * n] / 2
