"""The list of samplers that the tests run over, and exact models for them.

A new sampler is one line in ``SAMPLERS``. It is then held to the contract (``test_contracts``), its
draws to its own ``transition_matrix`` by chi-square tests (``test_exact_distributions``), and its
error to decrease with the number of steps (``test_convergence``), on every kernel that it serves.
"""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

import jumpsteps
from builders.kernels import KERNELS, kernel
from builders.models import ExactLogScore, Tabulated
from builders.statistics import chi_square_p, seeded
from jumpsteps import (
    CountSchedule,
    Enumerable,
    ForwardProcess,
    LogScoreReverse,
    NoiseSchedule,
    PosteriorReverse,
    ReverseProcess,
    Sampler,
    TimeSchedule,
    simulate,
)
from jumpsteps.core.sample_generators import Generator
from jumpsteps.schedules.schedule import Step

SAMPLERS: list[Sampler] = [
    jumpsteps.Tweedie(),
    jumpsteps.Euler(),
    jumpsteps.TauLeaping(),
    jumpsteps.TauLeaping(ordinal=True),
    jumpsteps.PredictorCorrector(jumpsteps.Tweedie(), corrections=2, size=0.7),
    jumpsteps.PredictorCorrector(jumpsteps.Euler(), corrections=1, size=0.3),
    *(jumpsteps.LeaveOneOutCorrector(corrections=2, sites=k) for k in (1, 2)),
    jumpsteps.BlockedGibbs(redraws=(jumpsteps.Redraw(2, 0.5), jumpsteps.Redraw(1, 0.25, 0.5))),
    jumpsteps.BlockedGibbs(
        jumpsteps.Tweedie(), (jumpsteps.Redraw(2, 0.5, 0.3), jumpsteps.Redraw(1, 1.0))
    ),
    jumpsteps.ThetaTrapezoidal(theta=0.4),
    jumpsteps.ThetaRK2(theta=0.2),
    jumpsteps.Ancestral(),
    jumpsteps.ReMDM(cap=0.1),
    jumpsteps.ReMDM(cap=1.0, rescale=0.5),
    jumpsteps.KGillespie(),
    jumpsteps.MultistepTweedie(),
    jumpsteps.MultistepKGillespie(),
    jumpsteps.MaskGIT(),
    jumpsteps.FirstHitting(),
    jumpsteps.EntropyBounded(),
    jumpsteps.KLASS(confidence=0.5, divergence=0.1, history=1),
    jumpsteps.Gillespie(t_min=0.05),
]

ALL_KERNELS = (*KERNELS, "rate-matrix")

StepMatrix = Callable[[float, float], Tensor]


def serves(sampler: Sampler, forward: ForwardProcess) -> bool:
    try:
        sampler.check(forward)
    except ValueError:
        return False
    return True


def cases(kind: type | str | None = "any", kernels: Iterable[str] = ALL_KERNELS) -> list:
    """(sampler, kernel) for each kernel that a sampler serves; of those that take this kind of
    schedule.
    """
    return [
        pytest.param(sampler, name, id=f"{sampler.name}-{name}")
        for sampler in SAMPLERS
        for name in kernels
        if kind in ("any", sampler.takes) and serves(sampler, kernel(name, 3))
    ]


CASES = cases()
TIMED = cases(TimeSchedule)
COUNTED = cases(CountSchedule)
FREE = cases(None)


def enumerable(
    name: str, noise: NoiseSchedule | None = None, *, length: int = 2, seed: int = 0
) -> Enumerable:
    return Enumerable.random(kernel(name, 3, noise), symbols=3, length=length, seed=seed)


def posterior_reverse(truth: Enumerable) -> ReverseProcess:
    return PosteriorReverse(truth.forward, Tabulated(truth, truth))


def reverses(truth: Enumerable) -> dict[str, ReverseProcess]:
    """The same truth behind two parameterisations."""
    return {
        "posterior": posterior_reverse(truth),
        "log-score": LogScoreReverse(truth.forward, Tabulated(ExactLogScore(truth), truth)),
    }


def timeless(truth: Enumerable) -> ReverseProcess:
    """The absorbing kernel's posterior does not depend on the time: a model for sequences with
    times of their own.
    """
    table = Tabulated(truth, truth)

    def model(x: Tensor, t: object, where: Tensor | None = None) -> Tensor:
        return table(x, 0.5, where)

    return PosteriorReverse(truth.forward, model)


def step_matrix(truth: Enumerable, sampler: Sampler) -> StepMatrix:
    """The sampler's own exact matrix [S, S] of a step t -> s."""
    reverse = posterior_reverse(truth)
    return lambda t, s: sampler.transition_matrix(reverse, truth.states, Step(t, s))


def total_variation(p: Tensor, q: Tensor) -> float:
    return 0.5 * float((p - q).abs().sum())


def conditional(table: Tensor, site: int, known: tuple[int, ...]) -> Tensor:
    """p(x_site | x_known), with one axis per site, of length one where it does not matter."""
    others = [axis for axis in range(table.ndim) if axis != site and axis not in known]
    joint = table.sum(others, keepdim=True) if others else table
    return joint / joint.sum(site, keepdim=True)


def distribution_in_groups(table: Tensor, groups: list[tuple[int, ...]]) -> Tensor:
    """The distribution of the sites of each group drawn independently, given the groups before."""
    probs, known = torch.ones_like(table), ()
    for group in groups:
        for site in group:
            probs = probs * conditional(table, site, known)
        known = (*known, *group)
    return probs


def data_index(truth: Enumerable, x: Tensor) -> Tensor:
    """The number of each state of data symbols, as ``table.reshape(-1)`` lists them."""
    n = truth.table.shape[0]
    return (x * n ** torch.arange(truth.table.ndim - 1, -1, -1)).sum(-1)


def step_p(
    truth: Enumerable,
    reverse: ReverseProcess,
    sampler: Sampler,
    step: Step,
    matrix: Tensor,
    *,
    n: int,
    generator: Generator,
) -> float:
    """The p-value of the states before and after n steps, from states drawn uniformly (seed 3),
    under the matrix of a step [S, S].
    """
    states = len(truth.states)
    before = torch.randint(states, (n,), generator=seeded(3))
    run = simulate(
        reverse,
        sampler,
        TimeSchedule([step.t, step.s]),
        (n, truth.states.shape[1]),
        generator=generator,
        initial=truth.states[before],
    )
    return chi_square_p(before * states + truth.index(run.samples), (matrix / states).reshape(-1))
