"""Text in colours that say in which step each token came, for a terminal and as a page."""

import html
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.cli.outputs import output_file
from jumpsteps.core.files import replacing
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.examples import pieces_of
from jumpsteps.models import LoadedModel
from jumpsteps.models.tokenizer import Text

__all__ = ["coloured_file", "write_coloured"]

RAMP = (27, 33, 39, 45, 51, 49, 47, 46, 82, 118, 154, 190, 226, 220, 214, 208, 202, 196)
"""Colours of a terminal with 256 of them, from blue (the first step) to red (the last)."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.6 serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}
p.text {{ white-space: pre-wrap }}
span.given {{ font-weight: bold }}
</style>
<h1>{title}</h1>
<p>Blue tokens came in the first of {steps} steps, red ones in the last; observed ones are bold.</p>
{samples}
</html>
"""


def coloured_file(tokens: Path, model: LoadedModel) -> Path:
    """The page beside the file of tokens.

    Raises:
        ValueError: as ``text_of``, or as ``output_file``.
    """
    text_of(model)
    return output_file(str(tokens.with_suffix(".html")))


def text_of(model: LoadedModel) -> Text:
    """The model's text.

    Raises:
        ValueError: a model without a tokenizer.
    """
    if model.text is None:
        raise ValueError(
            f"--colour is for text, and {model.name!r} has no tokenizer; leave it out, or pass "
            "--tokenizer"
        )
    return model.text


def write_coloured(
    page: Path, model: LoadedModel, samples: Tensor, steps: Tensor, given: Given | None
) -> None:
    """Write all samples to a page, and print the first one in colours.

    Args:
        samples: int64 [n, L].
        steps: int64 [n, L], the step in which each token came, from 1; ``Simulation.step_map``.
    """
    known = torch.zeros_like(samples, dtype=torch.bool)
    if given is not None:
        known = given.mask.to(samples.device).expand(samples.shape)
    decode, last, parts = text_of(model).decode, int(steps.max()), []
    for i, (tokens, came, observed) in enumerate(
        zip(samples.tolist(), steps.tolist(), known.tolist(), strict=True), 1
    ):
        pieces = pieces_of(tokens, decode)
        if i == 1:
            print(in_terminal(pieces, came, observed, last))
        text = on_page(pieces, came, observed, last)
        parts.append(f'<h2>Sample {i}</h2>\n<p class="text">{text}</p>')
    title = html.escape(Path(model.name).name)
    content = PAGE.format(title=title, steps=last, samples="\n".join(parts))
    with replacing(page) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")
    print(f"in the colours of the steps: {page}")


def share(step: int, last: int) -> float:
    """0 for the first step, 1 for the last."""
    return 0.0 if last < 2 else (max(step, 1) - 1) / (last - 1)


def in_terminal(
    pieces: Sequence[str], steps: Sequence[int], known: Sequence[bool], last: int
) -> str:
    """Text with the escape codes of a terminal; observed tokens are bold."""
    codes = (
        "0;1" if observed else f"0;38;5;{RAMP[round(share(step, last) * (len(RAMP) - 1))]}"
        for step, observed in zip(steps, known, strict=True)
    )
    coloured = (f"\x1b[{code}m{piece}" for code, piece in zip(codes, pieces, strict=True))
    return "".join(coloured) + "\x1b[0m"


def on_page(pieces: Sequence[str], steps: Sequence[int], known: Sequence[bool], last: int) -> str:
    """Text as HTML, the background of each token in the colour of its step."""
    parts = []
    for piece, step, observed in zip(pieces, steps, known, strict=True):
        hue = round(240 - 240 * share(step, last))
        colour = f'title="step {step}" style="background:hsl({hue} 90% 85%)"'
        mark = 'class="given"' if observed else colour
        parts.append(f"<span {mark}>{html.escape(piece)}</span>")
    return "".join(parts)
