"""What a model takes, from the signature of its function: tokens, a time, and perhaps ``where``."""

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn

__all__ = ["takes_where"]

NO_TIMES = (
    *("attention_mask", "encoder_attention_mask", "head_mask", "mask", "padding_mask", "src_mask"),
    *("inputs_embeds", "past_key_values", "position_ids", "token_type_ids"),
    *("label", "labels", "target", "targets"),
)
"""Second parameters of networks that take no time there."""


def takes_where(model: Callable[..., Any]) -> bool:
    """Whether one of the model's parameters is called ``where``.

    Raises:
        ValueError: a signature that does not take tokens and a time.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile
    name = getattr(model, "__name__", type(model).__name__)
    if isinstance(model, nn.Module):
        return read(type(model).forward, name, bound=True)
    if isinstance(model, MethodType):
        return read(model.__func__, name, bound=True)
    if isinstance(model, FunctionType | partial):
        return read(model, name, bound=False)
    return read(type(model).__call__, name, bound=True)


@lru_cache(maxsize=256)
def read(function: Callable[..., Any], name: str, *, bound: bool) -> bool:
    """Whether a parameter is called ``where``, once the others are checked; see ``takes_where``.

    Args:
        bound: whether the first parameter is the object itself.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[bound:]
    except (TypeError, ValueError):  # Built-in functions have no signature.
        return False
    check(parameters, name)
    return any(one.name == "where" for one in parameters)


def check(parameters: list[inspect.Parameter], name: str) -> None:
    """Raises ValueError for parameters that are not tokens, a time and others with defaults."""
    others = [one for one in parameters if one.name != "where"]
    by_place = [
        one for one in others if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if any(one.kind is one.VAR_POSITIONAL for one in others):
        return
    shown = ", ".join(one.name for one in by_place)
    if len(by_place) < 2:
        raise ValueError(
            f"the model {name} takes ({shown}), and is called with tokens and a time; pass it as "
            "lambda x, t: network(x)"
        )
    if by_place[1].name in NO_TIMES:
        raise ValueError(
            f"the second argument of the model {name} is {by_place[1].name}, and it is called with "
            "a time there; pass it as lambda x, t: network(x)"
        )
    keywords = [one for one in others if one.kind is one.KEYWORD_ONLY]
    needed = [one.name for one in by_place[2:] + keywords if one.default is one.empty]
    if needed:
        raise ValueError(
            f"the model {name} needs {', '.join(needed)} besides tokens and a time; pass it as "
            f"lambda x, t: network(x, t, {', '.join(needed)})"
        )
