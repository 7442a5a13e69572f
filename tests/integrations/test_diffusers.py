"""The loop of a diffusers user against ``simulate``, and what the scheduler's config keeps."""

import importlib
import json
import math
import sys

import pytest
import torch

from builders.kernels import kernel
from builders.models import ExactLogScore
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, Cosine, LogLinear
from jumpsteps.process.rate_matrix import RateMatrix
from jumpsteps.process.serialise import noise_to_json
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.event_driven import Gillespie
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.multistep import MultistepKGillespie, MultistepTweedie
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie, MaskGIT
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.orders import Golden, Random
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

diffusers = pytest.importorskip("diffusers")
from jumpsteps.integrations.diffusers import JumpStepsScheduler, on_device  # noqa: E402

TIMES = TimeSchedule([1.0, 0.62, 0.2, 0.05, 0.0])
SHAPE = (50, 4)
MASKED = Absorbing(vocab_size=4, noise=LogLinear(), mask_id=3)


def reverse_of(name, output="posterior"):
    forward = kernel(name, 3)
    truth = Enumerable.random(forward, symbols=3, length=4, seed=0)
    if output == "log-score":
        return LogScoreReverse(forward, ExactLogScore(truth))
    return (PosteriorReverse if output == "posterior" else LeaveOneOutReverse)(forward, truth)


def loop(scheduler, model, generator, steps=4, hold=lambda x: x):
    """As in the docs of diffusers."""
    scheduler.set_timesteps(steps)
    x = hold(scheduler.sample_prior(SHAPE, generator=generator))
    for t in scheduler.timesteps:
        output = model(scheduler.scale_model_input(x, t), t)
        x = hold(scheduler.step(output, t, x, generator=generator).prev_sample)
    return x


@pytest.mark.parametrize(
    ("name", "output", "sampler"),
    [
        *(
            (name, output, s)
            for name in ("absorbing", "uniform")
            for output in ("posterior", "log-score")
            for s in (Tweedie(), Euler())
        ),
        ("absorbing", "posterior", TauLeaping()),
        ("absorbing", "posterior", ReMDM(cap=0.3)),
        ("uniform", "log-score", TauLeaping(ordinal=True)),
        ("gaussian", "posterior", Tweedie()),
        ("uniform", "leave-one-out", Tweedie()),
    ],
)
def test_the_loop_gives_the_samples_of_simulate(name, output, sampler):
    reverse = reverse_of(name, output)
    scheduler = JumpStepsScheduler.from_reverse(reverse, {4: TIMES}, sampler=sampler)
    run = simulate(reverse, sampler, TIMES, SHAPE, generator=seeded(1))
    assert torch.equal(loop(scheduler, reverse.model, seeded(1)), run.samples)
    assert scheduler.timesteps.tolist() == [1.0, 0.62, 0.2, 0.05]
    assert not torch.equal(loop(scheduler, reverse.model, seeded(2)), run.samples)


def test_a_prompt_that_is_put_back_is_held():
    reverse = reverse_of("uniform")
    prompt = Given(torch.tensor([0, 2, 0, 0]), torch.tensor([False, True, False, False]))
    run = simulate(reverse, Tweedie(), TIMES, SHAPE, generator=seeded(1), given=prompt)
    scheduler = JumpStepsScheduler.from_reverse(reverse, {4: TIMES})
    assert torch.equal(loop(scheduler, reverse.model, seeded(1), hold=prompt.clamp), run.samples)


def test_logits_are_read_as_they_come():
    scheduler = JumpStepsScheduler.from_reverse(
        PosteriorReverse(MASKED, None), timestep_spacing="uniform"
    )
    logits = torch.tensor([5.0, -torch.inf, 5.0, 50.0], dtype=torch.bfloat16).expand(
        *SHAPE, 4
    )  # MASK is never drawn
    x = loop(scheduler, lambda x, t: logits, seeded(0))
    assert x.unique().tolist() == [0, 2]


def test_a_run_of_fewer_masked_sites_than_steps_ends_early():
    reverse = reverse_of("absorbing")
    scheduler = JumpStepsScheduler.from_reverse(reverse, {4: CountSchedule([1] * 4)})
    known = Given(torch.tensor([0, 1, 0, 0]), torch.tensor([True, True, False, False]))
    x = loop(scheduler, reverse.model, seeded(0), hold=known.clamp)
    assert (x < 3).all()


@pytest.mark.parametrize("order", [Golden(), Random()])
def test_counts_give_the_samples_of_simulate(tmp_path, order):
    reverse = reverse_of("absorbing")
    counts = CountSchedule([1, 2, 1], order=order)
    run = simulate(reverse, KGillespie(), counts, SHAPE, generator=seeded(1))
    JumpStepsScheduler.from_reverse(reverse, {3: counts}).save_pretrained(tmp_path)
    scheduler = JumpStepsScheduler.from_pretrained(tmp_path)
    assert torch.equal(loop(scheduler, reverse.model, seeded(1), steps=3), run.samples)
    assert scheduler.timesteps.tolist() == [step.t for step in counts.plan(reverse.forward)]


@pytest.mark.parametrize("sampler", [MultistepKGillespie(), MultistepTweedie()])
def test_multistep_samplers_give_the_samples_of_simulate(tmp_path, sampler):
    """Twice, because a run begins without the last step of the run before."""
    reverse = reverse_of("absorbing")
    schedule = CountSchedule([1, 2, 1]) if sampler.takes is CountSchedule else uniform(3)
    run = simulate(reverse, sampler, schedule, SHAPE, generator=seeded(1))
    JumpStepsScheduler.from_reverse(reverse, {3: schedule}, sampler=sampler).save_pretrained(
        tmp_path
    )
    scheduler = JumpStepsScheduler.from_pretrained(tmp_path)
    for _ in range(2):
        assert torch.equal(loop(scheduler, reverse.model, seeded(1), steps=3), run.samples)


def test_counts_are_rescaled_to_the_masked_sites_at_the_first_step():
    reverse = reverse_of("absorbing")
    scheduler = JumpStepsScheduler.from_reverse(reverse, {2: CountSchedule([4, 8])})
    scheduler.set_timesteps(2)
    x = torch.tensor([[3, 3, 3, 0], [3, 3, 3, 3]])
    left = []
    for t in scheduler.timesteps:
        x = scheduler.step(torch.zeros(2, 4, 4), t, x, generator=seeded(0)).prev_sample
        left.append((x == 3).sum(-1).tolist())
    assert left == [[2, 3], [0, 0]]


def test_interpolated_schedules_serve_any_number_of_steps():
    counts = {2: CountSchedule([2, 6], order=Golden()), 4: CountSchedule([1, 1, 2, 4])}
    scheduler = JumpStepsScheduler.from_reverse(
        reverse_of("absorbing"), counts, timestep_spacing="interpolated"
    )
    scheduler.set_timesteps(3)
    assert scheduler.schedule == counts[4].with_steps(3)
    scheduler.set_timesteps(1)
    assert scheduler.schedule.counts == (8,)
    assert scheduler.schedule.order == Golden()
    with pytest.raises(ValueError, match=r"'uniform' are times, .* counts; use 'interpolated'"):
        JumpStepsScheduler.from_reverse(reverse_of("absorbing"), counts, timestep_spacing="uniform")
    with pytest.raises(ValueError, match="needs schedules"):
        JumpStepsScheduler.from_reverse(reverse_of("uniform"), timestep_spacing="interpolated")


def test_which_times_are_used():
    reverse = reverse_of("absorbing")
    held = JumpStepsScheduler.from_reverse(reverse, {4: TIMES, 6: uniform(4)})
    held.set_timesteps(6)
    assert held.num_inference_steps == 6
    assert held.timesteps.tolist() == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(
        ValueError, match=r"holds schedules for \[4, 6\] steps, not 8; .*timestep_spacing"
    ):
        held.set_timesteps(8)
    for spacing, make in (("uniform", uniform), ("cosine", cosine)):
        scheduler = JumpStepsScheduler.from_reverse(reverse, {4: TIMES}, timestep_spacing=spacing)
        scheduler.set_timesteps(8)
        assert tuple(scheduler.timesteps.tolist()) == make(8).times[:-1]
        assert scheduler.timesteps.dtype == torch.float64
        scheduler.set_timesteps(4)
        assert scheduler.timesteps.tolist() == [1.0, 0.62, 0.2, 0.05]


def test_a_step_is_found_by_its_time_in_single_precision_too():
    reverse = reverse_of("uniform")
    scheduler = JumpStepsScheduler.from_reverse(reverse, {4: TIMES})
    scheduler.set_timesteps(4)
    x = torch.randint(3, SHAPE, generator=seeded(3))
    out = reverse.model(x, 0.2)
    exact = scheduler.step(out, 0.2, x, generator=seeded(4)).prev_sample
    assert torch.equal(
        scheduler.step(
            out, torch.tensor(0.2, dtype=torch.float32), x, generator=seeded(4)
        ).prev_sample,
        exact,
    )
    by_index = scheduler.step(out, 2, x, generator=seeded(4))
    assert torch.equal(by_index.prev_sample, exact)
    assert by_index.pred_logits is out
    assert torch.equal(
        scheduler.step(out, torch.tensor(2), x, generator=seeded(4)).prev_sample, exact
    )
    (plain,) = scheduler.step(out, 0.2, x, generator=seeded(4), return_dict=False)
    assert torch.equal(plain, exact)
    assert not torch.equal(scheduler.step(out, 0.05, x, generator=seeded(4)).prev_sample, exact)


@pytest.mark.parametrize(
    ("forward", "sampler"),
    [
        (Absorbing(vocab_size=4, noise=Cosine(eps=0.01), mask_id=1), ReMDM(cap=0.1, rescale=0.5)),
        (Uniform(vocab_size=4, noise=Constant(3.0)), TauLeaping(ordinal=True)),
        (kernel("gaussian", 4), Euler()),
    ],
)
@pytest.mark.parametrize("kind", [PosteriorReverse, LogScoreReverse])
def test_a_folder_keeps_everything(tmp_path, forward, sampler, kind):
    about = Provenance(
        kernel=forward.name, noise=noise_to_json(forward.noise), model="m", predicted_cost=0.1
    )
    schedules = {
        4: TimeSchedule(TIMES.times, about),
        3: TimeSchedule([1.0, 1 / 3, 1e-7, 0.0], about),
    }
    made = JumpStepsScheduler.from_reverse(
        kind(forward, None), schedules, sampler=sampler, timestep_spacing="cosine"
    )
    made.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler_config.json"]
    read = JumpStepsScheduler.from_pretrained(tmp_path)
    assert dict(read.config) == dict(made.config)
    assert (read.forward, read.sampler, read.schedules) == (forward, sampler, schedules)
    assert read.config.output == ("posterior" if kind is PosteriorReverse else "log-score")
    other = JumpStepsScheduler.from_config(read.config, timestep_spacing=None)
    assert other.config.timestep_spacing is None
    assert other.schedules == schedules


def test_a_loaded_scheduler_samples_the_same(tmp_path):
    reverse = reverse_of("absorbing", "log-score")
    made = JumpStepsScheduler.from_reverse(reverse, {4: TIMES}, sampler=Euler())
    made.save_pretrained(tmp_path)
    read = JumpStepsScheduler.from_pretrained(tmp_path)
    assert torch.equal(loop(read, reverse.model, seeded(5)), loop(made, reverse.model, seeded(5)))


def test_a_config_by_hand_has_sensible_defaults():
    settings = {
        "kernel": {"type": "absorbing", "vocab_size": 4},
        "noise": {"type": "LogLinear"},
        "timestep_spacing": "uniform",
    }
    scheduler = JumpStepsScheduler(**settings)
    assert (scheduler.forward, scheduler.sampler) == (MASKED, Tweedie())
    reverse = reverse_of("absorbing")
    run = simulate(reverse, Tweedie(), uniform(4), SHAPE, generator=seeded(1))
    assert torch.equal(loop(scheduler, reverse.model, seeded(1)), run.samples)


@pytest.mark.statistical
def test_noise_is_that_of_the_forward_process():
    t, start = torch.tensor([0.2, 0.9]), torch.tensor([0, 2])
    x0 = start[:, None].repeat(1, 40_000)
    mask, flat = (
        torch.tensor([0.0, 0, 0, 1], dtype=torch.float64),
        torch.full((3,), 1 / 3, dtype=torch.float64),
    )
    for forward, noise in (
        (Absorbing(vocab_size=4, noise=Cosine()), mask),
        (Uniform(vocab_size=3, noise=Cosine()), flat),
    ):
        scheduler = JumpStepsScheduler.from_reverse(PosteriorReverse(forward, None))
        noisy = scheduler.add_noise(x0, t, generator=seeded(0))
        for row, time, symbol in zip(noisy, t.tolist(), start.tolist(), strict=True):
            kept = math.cos(0.5 * math.pi * 0.999 * time)
            probs = (1 - kept) * noise
            probs[symbol] += kept
            assert chi_square_p(row, probs) > LEVEL
        assert torch.equal(
            scheduler.add_noise(x0[:1], 0.9, seeded(0)),
            scheduler.add_noise(x0[:1], t[1:], seeded(0)),
        )
        assert torch.equal(scheduler.add_noise(x0, 0.0, seeded(0)), x0)
    with pytest.raises(ValueError, match=r"t must be a number or have shape \[B\] = \[2\]"):
        scheduler.add_noise(x0, torch.tensor([0.2, 0.9, 0.1]))
    with pytest.raises(ValueError, match=r"original_samples holds MASK"):
        JumpStepsScheduler.from_reverse(PosteriorReverse(MASKED, None)).add_noise(
            torch.tensor([[3]]), 0.5
        )


def test_without_a_generator_the_global_one_is_used():
    reverse = reverse_of("uniform")
    scheduler = JumpStepsScheduler.from_reverse(reverse, {4: TIMES})
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(loop(scheduler, reverse.model, None))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    mine = seeded(0)
    assert on_device(mine, torch.device("cpu")) is mine


@pytest.mark.parametrize(
    "sampler", [ThetaTrapezoidal(), PredictorCorrector(), Ancestral(), MaskGIT(), Gillespie()]
)
def test_samplers_that_want_more_than_one_output_are_refused(sampler):
    with pytest.raises(
        ValueError,
        match=f"sampler {sampler.name} cannot .*; choose tweedie, euler, .*, k-gillespie",
    ):
        JumpStepsScheduler.from_reverse(reverse_of("absorbing"), {4: TIMES}, sampler=sampler)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": {"type": "none", "vocab_size": 4}}, "unknown kernel 'none'"),
        ({"kernel": {"vocab_size": 4}}, r"config is damaged: KeyError\('type'\)"),
        ({"noise": {"type": "LogLinear", "slope": 2}}, "config is damaged: TypeError"),
        ({"noise": {"type": "LogLinear", "eps": 2}}, "0 < eps < 1"),
        (
            {"sampler": {"type": "theta-rk2"}},
            "unknown sampler 'theta-rk2' for a step of diffusers; choose tweedie",
        ),
        (
            {"sampler": {"type": "remdm"}, "kernel": {"type": "uniform", "vocab_size": 4}},
            "remdm serves the absorbing kernel",
        ),
        (
            {"output": "logits"},
            r"output must be one of \['posterior', 'log-score', 'leave-one-out'\], got 'logits'",
        ),
        (
            {"timestep_spacing": "linear"},
            r"timestep_spacing must be one of \[None, 'uniform', .*, got 'linear'",
        ),
        ({"schedules": [{"nfe": 4}]}, "config is damaged: KeyError"),
        ({"schedules": [{"nfe": 2, "times": [1.0, 1.0, 0.0]}]}, "decrease strictly"),
    ],
)
def test_bad_configs_are_refused(tmp_path, change, message):
    config = {
        "kernel": {"type": "absorbing", "vocab_size": 4},
        "noise": {"type": "LogLinear"},
    } | change
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        JumpStepsScheduler.from_pretrained(tmp_path)


def test_schedules_that_do_not_belong_are_refused():
    reverse = reverse_of("absorbing")
    with pytest.raises(ValueError, match="schedule for 3 steps has corrections"):
        JumpStepsScheduler.from_reverse(
            reverse, {3: TimeSchedule([1.0, 0.0], redraws=(Redraw(2),))}
        )
    with pytest.raises(ValueError, match=r"2 steps has times, which sampler k-gillespie .*tweedie"):
        JumpStepsScheduler.from_reverse(reverse, {2: uniform(2)}, sampler=KGillespie())
    with pytest.raises(ValueError, match=r"3 steps has counts, .* tweedie does not .*k-gillespie"):
        JumpStepsScheduler.from_reverse(reverse, {2: uniform(2), 3: CountSchedule([1, 1, 2])})
    with pytest.raises(ValueError, match="k-gillespie serves the absorbing kernel"):
        JumpStepsScheduler.from_reverse(reverse_of("uniform"), {2: CountSchedule([1, 3])})
    with pytest.raises(
        ValueError, match="optimised for the kernel uniform, the scheduler has absorbing"
    ):
        JumpStepsScheduler.from_reverse(
            reverse, {2: TimeSchedule([1.0, 0.0], Provenance(kernel="uniform"))}
        )
    forward = RateMatrix(
        matrix=torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), noise=LogLinear()
    )
    with pytest.raises(ValueError, match="kernel cannot be written to a config"):
        JumpStepsScheduler.from_reverse(PosteriorReverse(forward, None))


def test_steps_that_do_not_fit_are_refused():
    scheduler = JumpStepsScheduler.from_reverse(reverse_of("absorbing"), {4: TIMES})
    x, out = torch.full(SHAPE, 3), torch.zeros(*SHAPE, 4)
    with pytest.raises(ValueError, match="call set_timesteps first"):
        scheduler.step(out, 1.0, x)
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match=r"timestep 0\.3 is none of this run's 4"):
        scheduler.step(out, 0.3, x)
    with pytest.raises(
        ValueError, match=r"model_output \[B, L, V\], got torch.int64 \[50, 4\] and \[50, 4\]"
    ):
        scheduler.step(out[..., 0], 1.0, x)
    with pytest.raises(ValueError, match=r"sample must be int64 .* got torch.int32"):
        scheduler.step(out, 1.0, x.int())
    with pytest.raises(
        ValueError, match="the model returned 5 values per site, the absorbing kernel has 4 states"
    ):
        scheduler.step(torch.zeros(*SHAPE, 5), 1.0, x)


@pytest.mark.slow
def test_a_pipeline_finds_the_scheduler_again(tmp_path):
    class Pipeline(diffusers.DiffusionPipeline):
        def __init__(self, scheduler):
            super().__init__()
            self.register_modules(scheduler=scheduler)

    Pipeline(JumpStepsScheduler.from_reverse(reverse_of("absorbing"), {4: TIMES})).save_pretrained(
        tmp_path
    )
    found = Pipeline.from_pretrained(tmp_path).scheduler
    assert isinstance(found, JumpStepsScheduler)
    assert found.schedules == {4: TIMES}


def test_without_diffusers_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "jumpsteps.integrations.diffusers")
    monkeypatch.setitem(sys.modules, "diffusers.configuration_utils", None)
    with pytest.raises(
        ImportError, match=r"needs diffusers .*: pip install 'jumpsteps\[diffusers\]'"
    ):
        importlib.import_module("jumpsteps.integrations.diffusers")
