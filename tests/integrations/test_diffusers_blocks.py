"""Our counts and orders inside the block pipelines of diffusers, with tiny random weights."""

from itertools import accumulate, pairwise

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Blocks, Golden, Sequential
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule

diffusers = pytest.importorskip("diffusers", "0.39")
from builders.pipelines import (  # noqa: E402
    CANVAS,
    MASK,
    VOCABULARY,
    gemma_pipeline,
    llada2_pipeline,
)
from jumpsteps.denoiser.parameterisations import PosteriorReverse  # noqa: E402
from jumpsteps.integrations.diffusers import JumpStepsScheduler  # noqa: E402
from jumpsteps.integrations.diffusers_blocks import JumpStepsBlockScheduler  # noqa: E402
from jumpsteps.process.noise import LogLinear  # noqa: E402
from jumpsteps.process.uniform import Uniform  # noqa: E402
from jumpsteps.sampling.one_stage import Tweedie  # noqa: E402
from jumpsteps.schedules.schedule import Step, TimeSchedule  # noqa: E402

COUNTS = CountSchedule([1, 2, 2, 4, 7], order=Golden())
PROMPT = torch.arange(5)[None].repeat(2, 1)


def block_scheduler(schedules, **settings):
    return JumpStepsBlockScheduler.from_schedules(schedules, block_length=CANVAS, **settings)


def revealed(pipeline, steps, **settings):
    """int64 [B, calls]: how many sites each model call reveals, and where, bool [calls, B, L]."""
    where = []

    def record(pipe, step, timestep, arguments):
        where.append(arguments["transfer_index"])
        return {}

    output = pipeline(
        num_inference_steps=steps,
        callback_on_step_end=record,
        callback_on_step_end_tensor_inputs=["transfer_index"],
        output_type="seq",
        editing_threshold=None,
        eos_early_stop=False,
        mask_token_id=MASK,
        **settings,
    )
    where = torch.stack(where)
    return output.sequences, where.sum(-1).T.tolist(), where


def test_llada2_reveals_the_counts_of_the_schedule():
    pipeline = llada2_pipeline(block_scheduler({5: COUNTS}))
    long = torch.arange(CANVAS)[None].repeat(2, 1)
    made, counts, _ = revealed(
        pipeline, 5, input_ids=long, gen_length=2 * CANVAS, generator=seeded(0)
    )
    assert made.shape == (2, 2 * CANVAS)
    assert not (made == MASK).any()
    assert counts == [[*COUNTS.counts, *COUNTS.counts]] * 2


def test_a_block_of_fewer_sites_than_steps_is_finished_early():
    counts = block_scheduler({5: COUNTS}).get_num_transfer_tokens(3, 5)
    assert counts.tolist() == [1, 1, 1, 0, 0]


def test_a_prompt_that_reaches_into_a_block_rescales_its_counts():
    """11 of 16 sites are left of the first block, then 16, and the second is filled up."""
    pipeline = llada2_pipeline(block_scheduler({5: COUNTS}))
    _, counts, _ = revealed(pipeline, 5, input_ids=PROMPT, gen_length=20, generator=seeded(0))
    assert counts == [[*COUNTS.rescaled(11).counts, *COUNTS.counts]] * 2


@pytest.mark.parametrize("steps", [1, 3, 7, 16, 40])
def test_any_number_of_steps(steps):
    pipeline = llada2_pipeline(block_scheduler({5: COUNTS, 2: CountSchedule([4, 12])}))
    made, counts, _ = revealed(
        pipeline, steps, input_ids=torch.zeros(1, CANVAS, dtype=torch.int64), gen_length=CANVAS
    )
    assert not (made == MASK).any()
    nearest = COUNTS if steps > 3 else CountSchedule([4, 12])
    assert counts == [list(nearest.with_steps(min(steps, CANVAS)).counts)]


def test_sites_come_in_the_order_of_the_schedule():
    pipeline = llada2_pipeline(
        block_scheduler({5: CountSchedule(COUNTS.counts, order=Sequential())})
    )
    _, _, where = revealed(pipeline, 5, input_ids=PROMPT, gen_length=11)
    ends = [0, *torch.tensor(COUNTS.rescaled(11).counts).cumsum(0).tolist()]
    for step, (first, last) in enumerate(pairwise(ends)):
        assert where[step, 0].nonzero()[:, 0].tolist() == list(range(5 + first, 5 + last))


def test_golden_order_is_that_of_the_ranks():
    scheduler = block_scheduler({5: COUNTS})
    scheduler.set_timesteps(5, block_length=CANVAS)
    x, logits = torch.full((3, CANVAS), MASK), torch.zeros(3, CANVAS, VOCABULARY)
    ranks = Golden().free_ranks(x == MASK, generator=seeded(1))
    for step, count in enumerate(COUNTS.counts):
        before = x
        out = scheduler.step(logits, step, x, mask_token_id=MASK, generator=seeded(1))
        x = out.prev_sample
        done = sum(COUNTS.counts[:step])
        assert torch.equal(out.transfer_index, (ranks >= done) & (ranks < done + count))
        assert torch.equal(x != before, out.transfer_index)


def test_by_confidence_the_counts_are_those_of_the_schedule_too():
    pipeline = llada2_pipeline(block_scheduler({5: COUNTS}, by_confidence=True))
    _, counts, _ = revealed(
        pipeline, 5, input_ids=PROMPT, gen_length=11, threshold=2.0, generator=seeded(0)
    )
    assert counts == [list(COUNTS.rescaled(11).counts)] * 2
    scheduler = block_scheduler({5: COUNTS}, by_confidence=True)
    scheduler.set_timesteps(5, block_length=4)
    logits = torch.tensor([[[0.0, 1.0], [0.0, 4.0], [0.0, 3.0], [0.0, 2.0]]])
    x = torch.full((1, 4), 9)
    best = scheduler.step(logits, 0, x, mask_token_id=9, threshold=2.0).transfer_index
    assert best.tolist() == [[False, True, False, False]]
    sure = scheduler.step(logits, 0, x, mask_token_id=9, threshold=0.9).transfer_index
    assert sure.tolist() == [[False, True, True, False]]


def test_edits_change_what_is_revealed_and_not_the_prompt():
    scheduler = block_scheduler({5: COUNTS}, editing_threshold=0.5)
    scheduler.set_timesteps(5, block_length=4)
    logits = torch.tensor([0.0, 9.0]).expand(1, 4, 2)
    x, prompt = torch.tensor([[0, 0, 1, 9]]), torch.tensor([True, False, False, False])
    out = scheduler.step(logits, 0, x, mask_token_id=9, prompt_mask=prompt)
    assert out.editing_transfer_index.tolist() == [[False, True, False, False]]
    assert out.prev_sample.tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize("sampling", [{"temperature": 1.0}, {"sampling_method": "multinomial"}])
def test_symbols_are_drawn_as_the_pipeline_asks(sampling):
    scheduler = block_scheduler({1: CountSchedule([CANVAS])})
    scheduler.set_timesteps(1)
    logits = torch.zeros(64, CANVAS, 3)
    x = torch.full((64, CANVAS), 9)
    draw = {"mask_token_id": 9, "generator": seeded(0)}
    sampling = {"temperature": 1.0, **sampling}
    assert scheduler.step(logits, 0, x, **draw, **sampling).prev_sample.unique().numel() == 3
    assert scheduler.step(logits, 0, x, **draw).prev_sample.unique().numel() == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_gemma_commits_the_counts_of_the_schedule_and_renoises_the_others():
    states = []

    def record(pipeline, step, timestep, arguments):
        states.append((pipeline.scheduler.committed, arguments["canvas"]))
        return {}

    made = gemma_pipeline(block_scheduler({5: COUNTS}))(
        prompt="",
        gen_length=2 * CANVAS,
        num_inference_steps=5,
        temperature=1.0,
        confidence_threshold=None,
        callback_on_step_end=record,
        generator=seeded(0),
    )
    assert made.sequences.shape == (1, 2 * CANVAS)
    done = [int(committed.sum()) for committed, _ in states]
    assert done == 2 * list(accumulate(COUNTS.counts))
    for (committed, before), (_, after) in pairwise(states[:5]):
        assert torch.equal(before[committed], after[committed])
        assert not torch.equal(before[~committed], after[~committed])
    assert torch.equal(made.sequences[:, :CANVAS], states[4][1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("confidence_threshold", [None, 0.005])
def test_gemma_follows_our_times_by_the_index_of_the_step(confidence_threshold):
    reverse = PosteriorReverse(Uniform(vocab_size=VOCABULARY, noise=LogLinear()), None)
    scheduler = JumpStepsScheduler.from_reverse(reverse, {3: TimeSchedule([1.0, 0.7, 0.2, 0.0])})
    canvases = []

    def record(pipeline, step, timestep, arguments):
        canvases.append((timestep, arguments["canvas"], arguments["logits"]))
        return {}

    made = gemma_pipeline(scheduler)(
        prompt="",
        gen_length=2 * CANVAS,
        num_inference_steps=3,
        confidence_threshold=confidence_threshold,
        callback_on_step_end=record,
        callback_on_step_end_tensor_inputs=["canvas", "logits"],
        generator=seeded(0),
    )
    assert made.sequences.shape == (1, 2 * CANVAS)
    assert [index for index, *_ in canvases] == [0, 1, 2, 0, 1, 2]
    (_, before, _), (_, after, logits) = canvases[:2]
    drawn = seeded(0)
    torch.randint(VOCABULARY, (1, CANVAS), generator=drawn)
    x = torch.randint(VOCABULARY, (1, CANVAS), generator=seeded(0))
    own = PosteriorReverse(reverse.forward, lambda x, t: canvases[0][2])
    first, _, _ = Tweedie().step(own, x, Step(1.0, 0.7), None, generator=drawn)
    assert torch.equal(first, before)
    own = PosteriorReverse(reverse.forward, lambda x, t: logits)
    second, _, _ = Tweedie().step(own, before, Step(0.7, 0.2), None, generator=drawn)
    assert torch.equal(second, after)


def test_a_folder_keeps_everything(tmp_path):
    made = block_scheduler({5: COUNTS}, by_confidence=True, editing_threshold=0.25)
    made.save_pretrained(tmp_path)
    read = JumpStepsBlockScheduler.from_pretrained(tmp_path)
    assert {name: made.config[name] for name in read.config if name[0] != "_"} == {
        name: value for name, value in read.config.items() if name[0] != "_"
    }
    assert (read.schedules, read.config.by_confidence) == ({5: COUNTS}, True)
    assert (read.config.block_length, read.config.editing_threshold) == (CANVAS, 0.25)


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({}, "there are no schedules"),
        ({2: uniform(2)}, "2 steps has times, .*to_counts"),
        ({2: CountSchedule([1], redraws=(Redraw(1),))}, "2 steps has corrections"),
        ({2: CountSchedule([1, 3], order=Blocks(2))}, r"several blocks, .*schedule\.blocks\[0\]"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(schedules, message):
    with pytest.raises(ValueError, match=message):
        JumpStepsBlockScheduler.from_schedules(schedules)


def test_a_damaged_config_and_a_step_too_early_are_refused():
    with pytest.raises(ValueError, match="config is damaged: KeyError"):
        JumpStepsBlockScheduler(schedules=[{"nfe": 2}])
    with pytest.raises(ValueError, match="call set_timesteps first"):
        block_scheduler({5: COUNTS}).step(torch.zeros(1, 2, 3), 0, torch.zeros(1, 2).long())
