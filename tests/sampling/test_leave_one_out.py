"""The leave-one-out corrector: what its sweeps leave unchanged, which sites they choose, what they
repair.
"""

import pytest
import torch

from builders.kernels import kernel
from builders.samplers import ALL_KERNELS, enumerable, posterior_reverse, total_variation
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps import (
    Given,
    KGillespie,
    LeaveOneOutCorrector,
    TimeSchedule,
    Tweedie,
    simulate,
    uniform,
)
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.schedules.schedule import Step

every_kernel = pytest.mark.parametrize("name", ALL_KERNELS)
STEP = Step(0.7, 0.4)


def sweep(truth: Enumerable, sites: int) -> torch.Tensor:
    corrector = LeaveOneOutCorrector(sites=sites)
    return corrector.correction_matrix(posterior_reverse(truth), truth.states, STEP)


@every_kernel
@pytest.mark.parametrize("length", [1, 2, 3])
def test_one_site_leaves_the_marginal_unchanged(name: str, length: int) -> None:
    truth = enumerable(name, length=length)
    marginal = truth.marginal(STEP.s)
    torch.testing.assert_close(marginal @ sweep(truth, 1), marginal, rtol=0, atol=1e-10)


@every_kernel
def test_one_site_is_the_gibbs_kernel(name: str) -> None:
    """p(x_s^l | x_s^{-l}) from the enumerated p_s, by Bayes' rule: no model, no leave-one-out
    posterior.
    """
    truth = enumerable(name, seed=3)
    p, states = truth.marginal(STEP.s), truth.states
    expected = torch.zeros(len(p), len(p), dtype=torch.float64)
    for site in range(2):
        same = states[:, None, 1 - site] == states[None, :, 1 - site]
        expected += 0.5 * same * p / (same * p).sum(-1, keepdim=True)
    torch.testing.assert_close(sweep(truth, 1), expected, rtol=0, atol=1e-10)


@every_kernel
def test_several_sites_at_once_are_approximate(name: str) -> None:
    truth = enumerable(name)
    marginal = truth.marginal(STEP.s)
    assert total_variation(marginal @ sweep(truth, 2), marginal) > 1e-3


@every_kernel
def test_sweeps_repair_a_wrong_start(name: str) -> None:
    truth = enumerable(name)
    wrong = torch.full((len(truth.states),), 1 / len(truth.states), dtype=torch.float64)
    marginal, distances = truth.marginal(STEP.s), []
    for _ in range(12):
        distances.append(total_variation(wrong, marginal))
        wrong = wrong @ sweep(truth, 1)
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.2 * distances[0]


@every_kernel
@pytest.mark.parametrize("sites", [1, 2, 3, 9])
def test_a_sweep_draws_so_many_free_sites(name: str, sites: int) -> None:
    """Of four sites one is observed: never more than three change, and the observed one never."""
    truth = enumerable(name, length=4)
    asked = []

    def model(x: torch.Tensor, t: float, where: torch.Tensor) -> torch.Tensor:
        asked.append(where)
        return truth(x, t, where)

    reverse = posterior_reverse(truth)
    reverse = type(reverse)(truth.forward, model)
    observed = Given(torch.tensor([0, 1, 0, 0]), torch.tensor([False, True, False, False]))
    corrector = LeaveOneOutCorrector(corrections=2, sites=sites)
    run = simulate(
        reverse,
        corrector,
        TimeSchedule([1.0, 0.5, 0.0]),
        (50, 4),
        generator=seeded(0),
        given=observed,
    )
    assert run.nfe == len(asked) == corrector.calls(2) == 4
    for chosen in asked[1:3]:
        assert (chosen.sum(-1) == min(sites, 3)).all()
        assert not chosen[:, 1].any()
    assert (run.samples[:, 1] == 1).all()


@every_kernel
def test_observed_sites_condition_the_others(name: str) -> None:
    """With one free site the sampler is exact: the sweep draws it from its conditional
    distribution.
    """
    truth = enumerable(name)
    observed = Given(torch.tensor([1, 0]), torch.tensor([True, False]))
    start = torch.tensor([[1, 2]]).expand(50_000, 2)
    run = simulate(
        posterior_reverse(truth),
        LeaveOneOutCorrector(),
        TimeSchedule([STEP.t, STEP.s]),
        (50_000, 2),
        generator=seeded(2),
        given=observed,
        initial=start,
    )
    size = truth.forward.vocab_size
    p = truth.marginal(STEP.s).reshape(size, size)[1]
    assert chi_square_p(run.samples[:, 1], p / p.sum()) > LEVEL


def test_corrections_bring_runs_nearer_to_the_data() -> None:
    truth = enumerable("uniform")
    reverse, times = posterior_reverse(truth), uniform(8)

    def error(sampler: Tweedie | LeaveOneOutCorrector) -> float:
        def step(t: float, s: float) -> torch.Tensor:
            return sampler.transition_matrix(reverse, truth.states, Step(t, s))

        end = truth.run_distribution(step, times, truth.marginal(1.0))
        return total_variation(end, truth.data_distribution())

    assert error(LeaveOneOutCorrector(corrections=4)) < 0.8 * error(Tweedie())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": 0}, "1 site or more, got sites=0"),
        ({"sites": 1.5}, "sites must be a whole number, got 1.5"),
        ({"corrections": 0}, "corrections must be 1 or more"),
        ({"predictor": KGillespie()}, "k-gillespie does not"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeaveOneOutCorrector(**settings)


def test_it_serves_what_its_predictor_serves() -> None:
    for name in ALL_KERNELS:
        LeaveOneOutCorrector().check(kernel(name, 3))
