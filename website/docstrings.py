"""Formulas of docstrings for the site: :math:`x` and ``.. math::`` become $x$ and $$x$$."""

import re
from typing import Any

import griffe

INLINE = re.compile(r":math:`(.+?)`", re.S)
BLOCK = re.compile(r"^(?P<indent> *)\.\. math::(?P<formula>.*?)(?=\n *\n|\Z)", re.S | re.M)


def with_dollars(text: str) -> str:
    """The text of a docstring with its formulas between dollars."""

    def block(match: re.Match[str]) -> str:
        indent, formula = match["indent"], " ".join(match["formula"].split())
        return f"{indent}$$\n{indent}{formula}\n{indent}$$"

    def inline(match: re.Match[str]) -> str:
        return f"${' '.join(match[1].split())}$"

    return INLINE.sub(inline, BLOCK.sub(block, text))


class Formulas(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_dollars(obj.docstring.value)
