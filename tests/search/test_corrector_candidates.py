"""Plans of steps and corrections: what is raced, and that a race finds the corrector's worth."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.race import race
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.files import load_schedules, save_schedules
from jumpsteps.schedules.orders import Golden, Random
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.search.corrector_candidates import STEPS_ALONE, corrector_candidates
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.tasks import countdown

FORWARD = kernel("absorbing", 8)
EXACT = MarkovChain(FORWARD, *countdown.chain(8))


def forgetful(x: Tensor, t: float, where: Tensor | None = None) -> Tensor:
    """The exact denoiser, unsure while much is masked: uniform with up to half the weight."""
    p = EXACT(x, 0.5).softmax(-1)
    p[..., :8] = p[..., :8] / p[..., :8].sum(-1, keepdim=True)
    masked = (x == FORWARD.mask_id).double().mean(-1)[:, None, None]
    weight = 0.5 * (masked > 0.3) * masked
    flat = torch.zeros_like(p)
    flat[..., :8] = 1 / 8
    out = ((1 - weight) * p + weight * flat).log()
    return out if where is None else out[where]


WRONG = PosteriorReverse(FORWARD, forgetful)


def data(n: int, seed: int) -> Tensor:
    return countdown.sample_data(n, generator=seeded(seed), symbols=8, length=32)


def plans(nfe):
    return corrector_candidates(WRONG, data(24, 0), nfe, generator=seeded(1))


def test_every_plan_makes_all_of_its_calls():
    found = plans([1, 2, 8])
    assert found[STEPS_ALONE].keys() == {1, 2, 8}
    assert len(found) == 1 + 2 * 8
    for name, by_nfe in found.items():
        for nfe, schedule in by_nfe.items():
            sampler = default_sampler(schedule)
            run = simulate(WRONG, sampler, schedule, (3, 32), generator=seeded(0))
            assert run.nfe == nfe
            assert isinstance(sampler, BlockedGibbs) == (name != STEPS_ALONE)
            assert (schedule.provenance.excess is None) == (name != STEPS_ALONE)
            corrections = sum(redraw.calls for redraw in schedule.redraws)
            part = 0 if name == STEPS_ALONE else Fraction(name.split()[0])
            assert corrections == int(nfe * part)
    twice = [name for name, by_nfe in found.items() if 2 in by_nfe and name != STEPS_ALONE]
    assert len(twice) == 2 * 7
    assert {name.split()[0] for name in twice} == {"1/2", "3/4"}


@pytest.mark.slow
def test_a_race_finds_that_a_corrector_repairs_early_mistakes():
    """A denoiser whose mistakes are made while much is masked: its floor is that of any number of
    steps, and the plan that is chosen breaks fewer rules.
    """
    result = race(
        WRONG,
        data(64, 2),
        plans([16]),
        samples=64,
        similarity=countdown.similarity,
        plain=(STEPS_ALONE,),
        generator=seeded(3),
    )
    chosen = result.schedules[16]
    assert chosen.redraws
    rates = {}
    for name, schedule in (
        ("chosen", chosen),
        ("floor", CountSchedule([1] * 32, order=Golden())),
    ):
        samples = simulate(
            WRONG, default_sampler(schedule), schedule, (256, 32), generator=seeded(4)
        ).samples
        rates[name] = float(countdown.violations(samples).double().mean())
    assert rates["chosen"] < 0.6 * rates["floor"]


def test_a_plan_is_a_schedule_file_like_others(tmp_path):
    redraws = (Redraw(3, 0.5, 0.3, Random()), Redraw(1))
    schedule = CountSchedule([4, 28], order=Golden(), redraws=redraws)
    save_schedules(tmp_path / "s.json", {6: schedule})
    assert load_schedules(tmp_path / "s.json") == {6: schedule}
    assert schedule.rescaled(16).redraws == redraws
    save_schedules(tmp_path / "s.json", {5: schedule})
    with pytest.raises(ValueError, match="NFE 5 is less than the 6 steps and corrections"):
        load_schedules(tmp_path / "s.json")


def test_corrections_are_not_left_out_unsaid():
    schedule = CountSchedule([4, 28], redraws=(Redraw(1),))
    with pytest.raises(ValueError, match="has corrections, which k-gillespie does not make"):
        simulate(WRONG, KGillespie(), schedule, (2, 32), generator=seeded(0))
    with pytest.raises(ValueError, match="steps without corrections; leave out the redraws"):
        few_step_nll(WRONG, data(4, 0), schedule, KGillespie(), generator=seeded(0))
