"""Exact distributions of steps and runs, from formulas that do not use the samplers."""

import math

import pytest
import torch
from torch import Tensor

from builders.kernels import KERNELS
from builders.samplers import (
    StepMatrix,
    step_matrix,
)
from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.multistep import MultistepTweedie
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules.schedule import TimeSchedule

BASIC: list[Sampler] = [Tweedie(), Euler()]


NOISES = [LogLinear(), Constant(3.0)]


every_kernel = pytest.mark.parametrize("name", KERNELS)


every_basic_sampler = pytest.mark.parametrize("sampler", BASIC, ids=lambda sampler: sampler.name)


every_noise = pytest.mark.parametrize("noise", NOISES, ids=repr)


def formula(truth: Enumerable, sampler: Sampler) -> StepMatrix | None:
    """The matrix [S, S] of one step t -> s from ``exact.transition_matrices``; None for a sampler
    that is not there.
    """
    match sampler:
        case Tweedie() | Ancestral():
            return truth.tweedie_transition
        case Euler():
            return truth.euler_transition
        case TauLeaping(ordinal=False):
            return lambda t, s: transition_matrices.tau_leaping(truth, t, s)
        case TauLeaping(ordinal=True):
            return lambda t, s: transition_matrices.tau_leaping_ordinal(truth, t, s)
        case ThetaTrapezoidal(theta=theta):
            return lambda t, s: transition_matrices.theta_trapezoidal(truth, t, s, theta)
        case ThetaRK2(theta=theta):
            return lambda t, s: transition_matrices.theta_rk2(truth, t, s, theta)
        case PredictorCorrector(predictor=predictor, corrections=corrections, size=size):
            predict = formula(truth, predictor)
            assert predict is not None

            def corrected(t: float, s: float) -> Tensor:
                if s == 0:
                    return predict(t, s)
                return predict(t, s) @ torch.linalg.matrix_power(
                    transition_matrices.corrector(truth, s, size * (t - s)), corrections
                )

            return corrected
        case ReMDM(cap=cap, rescale=rescale):

            def remasked(t: float, s: float) -> Tensor:
                alpha_t, alpha_s = (
                    math.exp(-float(truth.forward.noise.total(time))) for time in (t, s)
                )
                return transition_matrices.remdm(
                    truth, t, s, min(cap, rescale * min(1.0, (1 - alpha_s) / alpha_t))
                )

            return remasked
    return None


def step_distribution(truth: Enumerable, sampler: Sampler) -> StepMatrix:
    """The exact matrix of a step: by the independent formula, or by the sampler's own where there
    is none.
    """
    return formula(truth, sampler) or step_matrix(truth, sampler)


def exact_distribution(
    truth: Enumerable, sampler: Sampler, schedule: TimeSchedule, start: Tensor
) -> Tensor:
    """The distribution [S] at the end of a run."""
    if isinstance(sampler, MultistepTweedie):
        return multistep_distribution(truth, schedule, start)
    return truth.run_distribution(step_distribution(truth, sampler), schedule, start)


def multistep_distribution(truth: Enumerable, schedule: TimeSchedule, start: Tensor) -> Tensor:
    """Of Tweedie's multistep sampler, state by state and from the enumerated posterior: every pair
    of the last state and this one, with its probability.
    """
    forward, states, v = truth.forward, truth.states, truth.forward.vocab_size
    alphas = [math.exp(-float(forward.noise.total(t))) for t in schedule.times]
    pairs = {(x, x): float(p) for x, p in enumerate(start) if p > 0}
    for k, t in enumerate(schedule.times[:-1]):
        reveal = (alphas[k + 1] - alphas[k]) / (1 - alphas[k])
        now = truth.site_marginals(truth.conditional(t, 0.0))
        then = truth.site_marginals(truth.conditional(schedule.times[max(k - 1, 0)], 0.0))
        c = (alphas[k + 1] - alphas[k]) / (alphas[k] - alphas[k - 1]) / 2 if k else 0.0
        ahead: dict[tuple[int, int], float] = {}
        for (last, x), p in pairs.items():
            sites = torch.zeros(len(states[x]), v, dtype=torch.float64)
            for site, symbol in enumerate(states[x].tolist()):
                if symbol != v - 1:
                    sites[site, symbol] = 1
                    continue
                weights = (now[x, site] + c * (now[x, site] - then[last, site])).clamp_min(0)
                sites[site] = reveal * weights / weights.sum()
                sites[site, symbol] += 1 - reveal
            for y, q in enumerate(truth.product(sites).tolist()):
                ahead[x, y] = ahead.get((x, y), 0.0) + p * q
        pairs = {pair: p for pair, p in ahead.items() if p > 0}
    probs = torch.zeros(len(states), dtype=torch.float64)
    for (_, x), p in pairs.items():
        probs[x] += p
    return probs


def prefix(schedule: TimeSchedule, steps: int) -> TimeSchedule:
    return TimeSchedule(schedule.times[: steps + 1])
