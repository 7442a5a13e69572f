"""Batches larger than memory: the outputs of parts are those of the whole."""

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps import ShortestPath, Tweedie, optimize_schedule, simulate
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.schedules.fixed import uniform

FORWARD = kernel("absorbing", 4)


OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


class Small:
    """A model on a device where ``room`` sequences fit; its output depends on the time."""

    def __init__(self, room: int, error: Exception = OUT_OF_MEMORY) -> None:
        self.room, self.error = room, error
        self.batches: list[int] = []

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        self.batches.append(len(x))
        if len(x) > self.room:
            raise self.error
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        table = torch.randn(5, 5, generator=seeded(0), dtype=torch.float64)
        logits = table[x.roll(1, -1)] + times[:, None, None] * table[x]
        return logits if where is None else logits[where]


class SmallNetwork(Small):
    """The same with hidden states that are kept."""

    def evaluate(self, x: Tensor, t: float, where: Tensor) -> Evaluation:
        return Evaluation(self(x, t, where), where, lambda rows, tokens: rows + tokens[:, None])


X = torch.randint(5, (11, 6), generator=seeded(1))
WHERE = torch.rand(11, 6, generator=seeded(2)) < 0.4


@pytest.mark.parametrize(
    "t", [0.3, torch.linspace(0.1, 0.9, 11, dtype=torch.float64)], ids=["one", "each"]
)
@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "some"])
def test_parts_give_what_the_whole_gives(t, where):
    small = Small(3)
    assert torch.equal(MicroBatches(small)(X, t, where), Small(100)(X, t, where))
    assert small.batches == [11, 6, 3, 3, 3, 2]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 2 GiB"),
        RuntimeError("alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_the_memory_of_a_cpu_is_split_too(error):
    small = Small(3, error)
    assert torch.equal(MicroBatches(small)(X, 0.3), Small(100)(X, 0.3))
    assert small.batches == [11, 6, 3, 3, 3, 2]


def test_other_errors_are_not_retried():
    small = Small(3, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        MicroBatches(small)(X, 0.3)
    assert small.batches == [11]


def test_the_size_that_fits_is_kept():
    small = Small(3)
    split = MicroBatches(small)
    split(X, 0.3)
    small.batches.clear()
    split(X[:7], 0.3)
    assert small.batches == [3, 3, 1]


def test_the_evaluations_of_parts_are_put_together():
    block = WHERE & (torch.arange(6) > 2)
    kept, whole = (
        MicroBatches(SmallNetwork(2)).evaluate(X, 0.3, WHERE),
        SmallNetwork(100).evaluate(X, 0.3, WHERE),
    )
    assert torch.equal(kept(X, 0.3, block), whole(X, 0.3, block))
    assert torch.equal(kept.rows, whole.rows)


def test_one_sequence_that_does_not_fit_is_an_error_of_one_line():
    with pytest.raises(
        ValueError,
        match=r"^one sequence of 6 sites does not fit in memory \(CUDA out of memory\.\); "
        r"use a smaller dtype$",
    ):
        MicroBatches(Small(0))(X, 0.3)


def test_no_sequence_is_one_call():
    assert MicroBatches(Small(3))(X[:0], 0.3).shape == (0, 6, 5)


def test_runs_and_searches_split_and_count_a_batch_once():
    runs = [
        simulate(
            PosteriorReverse(FORWARD, model), Tweedie(), uniform(4), (11, 6), generator=seeded(3)
        )
        for model in (Small(100), Small(3))
    ]
    assert torch.equal(runs[0].samples, runs[1].samples)
    assert [run.nfe for run in runs] == [4, 4]
    counter = CallCounter(MicroBatches(Small(3)))
    counter(X, 0.5)
    counter.evaluate(X, 0.5, WHERE)
    assert counter.calls == 2
    data = torch.randint(4, (11, 6), generator=seeded(4))
    found = [
        optimize_schedule(
            PosteriorReverse(FORWARD, model), data, [3], generator=seeded(5), method=ShortestPath()
        )[3]
        for model in (Small(100), Small(3))
    ]
    assert found[0] == found[1]
