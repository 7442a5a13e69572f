"""Samples that a report keeps: what each site's step is, and the file's form."""

import pytest
import torch

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.examples import (
    GIVEN_SITE,
    Examples,
    examples_from_json,
    examples_to_json,
)
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.orders import Sequential
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.tasks import toy


def run_in_order(counts, given=None):
    return simulate(
        toy.reverse("absorbing"),
        KGillespie(),
        CountSchedule(counts, order=Sequential()),
        (3, 4),
        generator=torch.Generator().manual_seed(0),
        given=given,
    )


def test_the_step_of_a_site_is_the_one_that_revealed_it():
    run = run_in_order([1, 3])
    examples = Examples.of(run, 2, None)
    assert examples.steps == ((1, 2, 2, 2),) * 2
    assert examples.tokens == tuple(map(tuple, run.samples[:2].tolist()))
    assert len(Examples.of(run, 9, None).tokens) == 3


def test_observed_sites_have_no_step():
    given = Given(torch.tensor([2, 0, 0, 0]), torch.tensor([True, False, False, False]))
    run = run_in_order([1, 2], given)
    assert Examples.of(run, 1, given).steps == ((GIVEN_SITE, 1, 2, 2),)
    each = Given(given.tokens.expand(3, -1), given.mask.expand(3, -1))
    assert Examples.of(run, 1, each).steps == ((GIVEN_SITE, 1, 2, 2),)


def test_the_pieces_of_a_text_join_to_the_text():
    words = ["It", "was", "late"]
    examples = Examples(((0, 1, 2),), ((1, 1, 2),)).with_text(
        lambda tokens: " ".join(words[token] for token in tokens)
    )
    assert examples.pieces == (("It", " was", " late"),)


def test_examples_survive_their_file():
    examples = Examples(((3, 1), (0, 2)), ((1, 2), (-1, 0)), (("a", "b"), ("c", "<&")))
    content = examples_to_json(examples)
    assert content["tokens"] == ["3 1", "0 2"]
    assert examples_from_json(content) == examples
    with pytest.raises(ValueError, match="other numbers of steps"):
        examples_from_json(content | {"steps": ["1", "1 2"]})
