"""A few samples of a run as they are kept for a report: tokens, and the step that each came in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.loop import Simulation
from jumpsteps.sampling.run_folder import Samples

__all__ = ["GIVEN_SITE", "Examples", "examples_from_json", "examples_to_json"]

GIVEN_SITE = -1
"""In place of a step: an observed site."""


@dataclass(frozen=True)
class Examples:
    """The first n samples of a schedule.

    Attributes:
        tokens: n rows of L tokens.
        steps: n rows of L steps, counted from 1: the last one that changed the site; 0 where none
            did, ``GIVEN_SITE`` where the site was observed.
        pieces: n rows of L texts, one for each token; empty for data that are no text.
    """

    tokens: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, ...], ...]
    pieces: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, run: Simulation | Samples, n: int, given: Given | None) -> Self:
        """The first n samples of a run, or all of fewer.

        Args:
            given: the observed sites of the run's samples.
        """
        steps = run.step_map[:n]
        if given is not None:
            mask = given.at_rows(slice(len(steps))).mask
            steps = steps.masked_fill(mask.to(steps.device), GIVEN_SITE)
        return cls(*(tuple(map(tuple, rows.tolist())) for rows in (run.samples[:n], steps)))

    def with_text(self, decode: Callable[[Sequence[int]], str]) -> Self:
        """The same, with the text of every token, read after the token before it.

        Args:
            decode: tokens to text.
        """
        return replace(self, pieces=tuple(pieces_of(row, decode) for row in self.tokens))


def pieces_of(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[str, ...]:
    """The text that each token adds to the one before it."""
    others = (decode(pair).removeprefix(decode(pair[:1])) for pair in pairwise(tokens))
    return (decode(tokens[:1]), *others)


def examples_to_json(examples: Examples) -> dict[str, Any]:
    """The JSON object of examples: a text of numbers for each row."""
    content: dict[str, Any] = {
        "tokens": [" ".join(map(str, row)) for row in examples.tokens],
        "steps": [" ".join(map(str, row)) for row in examples.steps],
    }
    if examples.pieces:
        content["pieces"] = [list(row) for row in examples.pieces]
    return content


def examples_from_json(content: Mapping[str, Any]) -> Examples:
    """The examples of ``examples_to_json``.

    Raises:
        KeyError, TypeError, ValueError: missing or misplaced parts.
    """
    tokens, steps = (
        tuple(tuple(map(int, row.split())) for row in content[name]) for name in ("tokens", "steps")
    )
    pieces = tuple(map(tuple, content.get("pieces", [])))
    if [len(row) for row in tokens] != [len(row) for row in steps]:
        raise ValueError("examples with other numbers of steps than of tokens")
    return Examples(tokens, steps, pieces)
