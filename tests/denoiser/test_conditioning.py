"""Observed sites, at every state that the model is evaluated at."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps import Given, PosteriorReverse, simulate
from jumpsteps.denoiser.conditioning import ClampedModel
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Info, Sampler, nothing_clipped
from jumpsteps.sampling.event_driven import FirstHitting, Gillespie
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import EntropyBounded
from jumpsteps.schedules.schedule import Step, TimeSchedule

V, BATCH, LENGTH = 5, 4, 6
TOKENS = torch.arange(BATCH)[:, None].expand(BATCH, LENGTH).contiguous()
MASK = torch.arange(LENGTH) < 1 + torch.arange(BATCH)[:, None] % 2
GIVEN = Given(TOKENS, MASK)


class Seen:
    """A model that keeps the states it is evaluated at."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.states: list[Tensor] = []

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        self.states.append(x)
        logits = torch.zeros(*x.shape, self.size, dtype=torch.float64)
        return logits if where is None else logits[where]


class TwoStages(Sampler):
    """Moves all sites, and then evaluates the model for the odd sequences alone."""

    name = "two-stages"
    order = source = ""

    def __init__(self, *, says_rows: bool) -> None:
        self.says_rows = says_rows

    def step(
        self,
        reverse: ReverseProcess,
        x: Tensor,
        step: Step,
        state: Any,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, None, Info]:
        moved, rows = (x + 1) % V, torch.arange(1, len(x), 2)
        part = reverse.at_rows(rows) if self.says_rows else reverse
        part.leave_one_out(moved[rows], step.t)
        return moved, None, nothing_clipped(x)


def run(sampler: Sampler, model: Seen, given: Given, name: str = "uniform") -> None:
    schedule = None if sampler.takes is None else TimeSchedule([1.0, 0.5, 0.0])
    reverse = PosteriorReverse(kernel(name, V), model)
    simulate(reverse, sampler, schedule, (BATCH, LENGTH), generator=seeded(0), given=given)


def test_a_part_of_the_batch_is_clamped_to_its_own_observed_sites() -> None:
    model = Seen(V)
    run(TwoStages(says_rows=True), model, GIVEN)
    assert [len(x) for x in model.states] == [2, 2]
    for x in model.states:
        assert torch.equal(x[MASK[1::2]], TOKENS[1::2][MASK[1::2]])
        assert not torch.equal(x, TOKENS[1::2])


def test_a_part_of_unknown_rows_is_refused_unless_all_rows_are_alike() -> None:
    with pytest.raises(
        ValueError, match=r"2 sequences .* sites of 4 are observed; .* reverse\.at_rows\(rows\)"
    ):
        run(TwoStages(says_rows=False), Seen(V), GIVEN)
    model = Seen(V)
    run(TwoStages(says_rows=False), model, Given(TOKENS[3], MASK[3]))
    assert all((x[:, :2] == 3).all() for x in model.states)


@pytest.mark.parametrize("sampler", [EntropyBounded(0.5), FirstHitting(), Gillespie(t_min=0.3)])
def test_samplers_that_leave_finished_sequences_out_say_which(sampler: Sampler) -> None:
    model = Seen(V + 1)
    run(sampler, model, GIVEN, "absorbing")
    assert min(len(x) for x in model.states) < BATCH
    assert all((x[:, 0] < V).all() for x in model.states)


def test_evaluations_are_clamped_too() -> None:
    model = Seen(V)
    where = ~MASK
    evaluation = ClampedModel(model, GIVEN).evaluate((TOKENS + 1) % V, 0.5, where)
    assert isinstance(evaluation, Evaluation)
    assert torch.equal(model.states[0][MASK], TOKENS[MASK])


def test_numpy_arrays_will_do() -> None:
    given = Given(TOKENS.numpy().astype(np.uint8), MASK.numpy())  # type: ignore[arg-type]
    assert given.tokens.dtype == torch.int64
    assert given.mask.dtype == torch.bool
    given.check((BATCH, LENGTH), kernel("uniform", V))
    assert torch.equal(given.clamp((TOKENS + 1) % V)[MASK], TOKENS[MASK])


@pytest.mark.parametrize(
    ("tokens", "mask"),
    [(TOKENS, MASK[1]), (TOKENS[1], MASK)],
    ids=["one mask", "one sequence"],
)
def test_one_row_of_tokens_or_mask_is_for_all_sequences(tokens: Tensor, mask: Tensor) -> None:
    model = Seen(V)
    run(Tweedie(), model, Given(tokens, mask))
    tokens, mask = tokens.expand(BATCH, LENGTH), mask.expand(BATCH, LENGTH)
    assert len(model.states) == 2
    for x in model.states:
        assert torch.equal(x[mask], tokens[mask])
        assert not torch.equal(x, tokens)


def test_mistakes_of_given_are_one_line_each() -> None:
    with pytest.raises(ValueError, match=r"given tokens must hold tokens, .*; got torch.float32"):
        Given(TOKENS.float(), MASK)
    with pytest.raises(
        ValueError, match=r"must each have shape \[L\] = \[6\] or \[B, L\] = \[3, 6\]"
    ):
        GIVEN.check((3, 6), kernel("uniform", V))
    with pytest.raises(ValueError, match=r"given tokens \[4, 6\] and mask \[3\] must each have"):
        Given(TOKENS, MASK[0, :3]).check((BATCH, LENGTH), kernel("uniform", V))
    with pytest.raises(ValueError, match=r"given holds tokens 0..3, the vocabulary is 0..2"):
        GIVEN.check((BATCH, LENGTH), kernel("uniform", 3))
