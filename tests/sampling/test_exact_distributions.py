"""Samples against exact distributions: of one step, and of whole runs."""

from itertools import pairwise

import pytest
import torch

from builders.kernels import KERNELS, SCORE_KERNELS
from builders.models import WrongNetwork, prior_distribution
from builders.samplers import (
    ALL_KERNELS,
    TIMED,
    cases,
    enumerable,
    posterior_reverse,
    reverses,
    step_matrix,
    step_p,
    timeless,
    total_variation,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from builders.step_formulas import (
    every_basic_sampler,
    every_kernel,
    exact_distribution,
    formula,
    step_distribution,
)
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import LogScoreReverse
from jumpsteps.exact import transition_matrices
from jumpsteps.process.noise import Constant, Cosine, LogLinear, NoiseSchedule
from jumpsteps.sampling.ancestral import ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

every_timed_sampler = pytest.mark.parametrize(("sampler", "name"), TIMED)


@every_timed_sampler
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.5, 0.1), (0.3, 0.0)])
def test_a_sampler_knows_its_transition_matrix(
    sampler: Sampler, name: str, t: float, s: float
) -> None:
    """From the reverse process, as the formulas have it from the enumerated time reversal."""
    truth = enumerable(name, Constant(3.0) if name == "uniform" else None, seed=2)
    matrix = step_matrix(truth, sampler)(t, s)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(-1), torch.ones(len(matrix), dtype=torch.float64))
    expected = formula(truth, sampler)
    if expected is not None:
        reached = truth.marginal(t) > 0
        torch.testing.assert_close(matrix[reached], expected(t, s)[reached], rtol=0, atol=1e-9)


@every_timed_sampler
def test_sites_can_be_selected(sampler: Sampler, name: str) -> None:
    truth = enumerable(name, seed=2)
    reverse, step = posterior_reverse(truth), Step(0.5, 0.2)
    if type(sampler).site_distribution is Sampler.site_distribution:
        with pytest.raises(ValueError, match="does not draw sites independently"):
            sampler.site_distribution(reverse, truth.states, step)
        return
    whole = sampler.site_distribution(reverse, truth.states, step)
    where = torch.rand(truth.states.shape, generator=seeded(3)) < 0.4
    some = sampler.site_distribution(reverse, truth.states, step, where)
    torch.testing.assert_close(some, whole[where])
    torch.testing.assert_close(
        truth.product(whole), sampler.transition_matrix(reverse, truth.states, step)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameterisation", "name"),
    [("posterior", name) for name in KERNELS] + [("log-score", name) for name in SCORE_KERNELS],
)
@every_basic_sampler
@pytest.mark.parametrize(
    "times", [[1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.6, 0.2, 0.0], [1.0, 0.7, 0.3]], ids=str
)
def test_runs_have_their_exact_distribution(
    name: str, sampler: Sampler, parameterisation: str, times: list[float]
) -> None:
    truth = enumerable(name)
    schedule = TimeSchedule(times)
    run = simulate(
        reverses(truth)[parameterisation], sampler, schedule, (100_000, 2), generator=seeded(1)
    )
    assert run.samples.dtype == torch.int64
    assert run.nfe == schedule.steps
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@every_timed_sampler
def test_every_sampler_has_its_exact_distribution(sampler: Sampler, name: str) -> None:
    truth = enumerable(name, Constant(3.0) if name == "uniform" else None)
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(posterior_reverse(truth), sampler, schedule, (100_000, 2), generator=seeded(1))
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@pytest.mark.slow
@every_timed_sampler
def test_one_step_from_every_state_has_its_exact_distribution(sampler: Sampler, name: str) -> None:
    """The joint distribution of the states before and after, those before that a run from noise
    never visits included.
    """
    truth, step = enumerable(name, seed=2), Step(0.5, 0.1)
    reverse, matrix = posterior_reverse(truth), step_distribution(truth, sampler)(step.t, step.s)
    p = step_p(truth, reverse, sampler, step, matrix, n=100_000, generator=seeded(6))
    assert p > LEVEL


@every_kernel
@every_basic_sampler
@pytest.mark.parametrize("noise", [Constant(3.0), Cosine()], ids=repr)
def test_runs_with_other_noise_have_their_exact_distribution(
    name: str, sampler: Sampler, noise: NoiseSchedule
) -> None:
    truth = enumerable(name, noise, seed=1)
    schedule = TimeSchedule([1.0, 0.45, 0.1, 0.0])
    run = simulate(posterior_reverse(truth), sampler, schedule, (100_000, 2), generator=seeded(2))
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, sampler, schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@pytest.mark.parametrize(
    "sampler", [Euler(), TauLeaping(), TauLeaping(ordinal=True)], ids=lambda sampler: sampler.name
)
def test_steps_by_scores_have_the_rates_of_the_network(sampler: Sampler) -> None:
    """Also where no distribution has its scores, so that no data can be drawn first."""
    truth, step = enumerable("uniform", Constant(3.0)), Step(0.6, 0.4)
    reverse = LogScoreReverse(truth.forward, WrongNetwork(truth, seed=3, trust=0))
    matrix = sampler.transition_matrix(reverse, truth.states, step)
    p = step_p(truth, reverse, sampler, step, matrix, n=50_000, generator=seeded(1))
    assert p > LEVEL


@pytest.mark.parametrize("times", [[1.0, 0.6, 0.2, 0.0], [1.0, 0.7, 0.3]], ids=str)
def test_remasking_nothing_is_tweedie(times: list[float]) -> None:
    truth = enumerable("absorbing")
    for t, s in pairwise(times):
        torch.testing.assert_close(
            transition_matrices.remdm(truth, t, s, 0.0), truth.tweedie_transition(t, s)
        )
    schedule = TimeSchedule(times)
    run = simulate(
        posterior_reverse(truth), ReMDM(cap=0.0), schedule, (100_000, 2), generator=seeded(1)
    )
    assert (
        chi_square_p(
            truth.index(run.samples),
            exact_distribution(truth, Tweedie(), schedule, prior_distribution(truth)),
        )
        > LEVEL
    )


@pytest.mark.parametrize("cap", [0.02, 0.3, 1.0])
def test_remasking_keeps_the_distribution_of_a_single_site(cap: float) -> None:
    truth = enumerable("absorbing", length=1)
    schedule = TimeSchedule([1.0, 0.8, 0.5, 0.45, 0.1])
    probs = exact_distribution(truth, ReMDM(cap=cap), schedule, truth.marginal(1.0))
    torch.testing.assert_close(probs, truth.marginal(0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL_KERNELS)
def test_a_correction_leaves_the_marginal_to_second_order(name: str) -> None:
    truth = enumerable(name)
    marginal = truth.marginal(0.4)
    errors = [
        total_variation(marginal @ transition_matrices.corrector(truth, 0.4, h), marginal)
        for h in (0.02, 0.01, 0.005)
    ]
    assert all(3.7 < coarse / fine < 4.3 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize(("sampler", "name"), cases(kernels=["absorbing"]))
def test_the_free_site_follows_the_given_one(sampler: Sampler, name: str) -> None:
    """Absorbing kernel, one site given: the other has the exact conditional distribution of the
    data.
    """
    truth = enumerable(name)
    known = Given(torch.tensor([1, 0]), torch.tensor([True, False]))
    schedule = TimeSchedule([1.0, 0.4, 0.0]) if sampler.takes is TimeSchedule else None
    run = simulate(
        timeless(truth),
        sampler,
        CountSchedule([1]) if sampler.takes is CountSchedule else schedule,
        (50_000, 2),
        generator=seeded(14),
        given=known,
    )
    assert chi_square_p(run.samples[:, 1], truth.table[1] / truth.table[1].sum()) > LEVEL


@pytest.mark.parametrize("noise", [LogLinear(), Constant(3.0)], ids=repr)
def test_the_distribution_tests_tell_the_samplers_apart(noise: NoiseSchedule) -> None:
    """Their power: distributions 0.05 and 0.017 apart in total variation never pass for each
    other.
    """
    truth = enumerable("uniform", noise)
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(posterior_reverse(truth), Euler(), schedule, (200_000, 2), generator=seeded(1))
    other = exact_distribution(truth, Tweedie(), schedule, prior_distribution(truth))
    assert chi_square_p(truth.index(run.samples), other) < 1e-12
