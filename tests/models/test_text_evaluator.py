"""The shipped judge of text: it knows English from the same tokens in disorder."""

import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps.models.built_in import checkpoint_folder
from jumpsteps.models.evaluator import load_evaluator

pytestmark = pytest.mark.slow

TEXT = (
    "It was a fine morning in the spring of the year, and the old gentleman had gone down to the "
    "gate to see whether the post had come. There was no letter for him, and he walked slowly "
    "back to the house, with his hands behind him and his eyes upon the ground."
)


def test_english_is_likelier_than_its_tokens_in_disorder():
    text = jumpsteps.load("text-small").text
    assert text is not None
    tokens = torch.tensor(text.encode(TEXT))[None]
    disorder = tokens[:, torch.randperm(tokens.shape[1], generator=seeded(0))]
    evaluator = load_evaluator(checkpoint_folder("text-evaluator"))
    with torch.no_grad():
        english, other = (float(evaluator.nll(x).mean()) for x in (tokens, disorder))
    assert english < 4.5 < other - 2
