"""Arguments of another kind than their annotation says: refused in one line, before they are used.

``@kinds_checked()`` reads the annotations of a function, or of the fields of a dataclass. Numbers
may be numpy's; a list serves where a tuple is expected. The entries of lists, tuples and mappings
are checked as well, what an iterator or an array holds is not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from operator import index
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_at_least", "check_kind", "kinds_checked", "said"]

Checked = TypeVar("Checked", bound=Callable[..., Any])

WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    Tensor: "a tensor",
    np.ndarray: "an array",
    torch.Generator: "a torch.Generator",
    torch.device: "a torch.device",
    torch.dtype: "a dtype such as torch.bfloat16",
    Callable: "a function",
    NoneType: "None",
}
"""What a kind is called in a message; ``said`` adds to it."""


def said(words: str) -> Callable[[Checked], Checked]:
    """A class is called so where something else is given: words, with an example.

    >>> @said("a sampler such as jumpsteps.Tweedie()")
    """

    def known(kind: Checked) -> Checked:
        WORDS[kind] = words
        return kind

    return known


def check_kind(name: str, value: object, kind: Any, expected: str = "") -> None:
    """Raises ValueError for a value of another kind, or a class in place of an object of it.

    Args:
        name: of the argument.
        kind: a type, or an annotation.
        expected: what it must be, in words, with an example; by default the words for its kind.
    """
    if fits(value, kind):
        return
    wanted = f"{name} must be {expected or words(kind)}"
    if isinstance(value, type):
        raise ValueError(f"{wanted}, got the class {value.__name__}; call it")
    shown = isinstance(value, str | bytes | Real | list | tuple | NoneType)
    found = shortened(repr(value)) if shown else type(value).__name__
    raise ValueError(f"{wanted}, got {found}{hint(name, value, kind)}")


def check_at_least(minimum: float, **values: float | None) -> None:
    """Raises ValueError for a value below the minimum, NaN included; None passes."""
    for name, value in values.items():
        if value is not None and not value >= minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


def kinds_checked(**expected: str) -> Callable[[Checked], Checked]:
    """Check the kinds of a function's arguments, or of a dataclass's fields, when it is called.

    Args:
        expected: what an argument must be, where the words for its kind do not suffice.
    """

    def checked(thing: Checked) -> Checked:
        if isinstance(thing, type):
            thing.__init__ = kinds_checked(**expected)(thing.__init__)  # type: ignore[misc]
            return thing
        parameters = signature(thing).parameters

        @cache
        def kinds() -> dict[str, Any]:
            hints = get_type_hints(thing)
            return {name: hints.get(name, Any) for name in parameters}

        @wraps(thing)
        def call(*args: Any, **options: Any) -> Any:
            for name, value in [*zip(parameters, args, strict=False), *options.items()]:
                if name in parameters and parameters[name].kind is not Parameter.VAR_KEYWORD:
                    check_kind(name, value, kinds()[name], expected.get(name, ""))
            return thing(*args, **options)

        return call  # type: ignore[return-value]

    return checked


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation names."""
    origin = get_origin(kind) or kind
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in get_args(kind))
    protocol = getattr(origin, "_is_protocol", False) and not origin._is_runtime_protocol
    if kind is None or not (isinstance(origin, type) or origin in SIMPLE) or protocol:
        return kind is not None or value is None
    if isinstance(value, type) and kind is not Any:
        return False
    if origin in SIMPLE:
        return SIMPLE[origin](value)
    if issubclass(origin, Iterable) and get_args(kind):
        return holds(value, Sequence if origin is tuple else origin, get_args(kind))
    return isinstance(value, origin)


def holds(value: object, kind: Any, parts: tuple[Any, ...]) -> bool:
    """Whether a value is a container of this kind, with parts of these kinds as far as it can be
    looked into.
    """
    if kind is np.ndarray:
        return isinstance(value, kind)
    if not isinstance(value, kind) or isinstance(value, str | bytes):
        return False
    if isinstance(value, Mapping):
        key, own = parts if len(parts) == 2 else (parts[0], Any)
        return all(fits(k, key) and fits(v, own) for k, v in value.items())
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 1 and all(fits(one, parts[0]) for one in value[:1].tolist())
    if not isinstance(value, list | tuple):
        return True
    if len(parts) > 1 and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(fits, value, parts))
    return all(fits(one, parts[0]) for one in value)


def is_index(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def is_number(value: object) -> bool:
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    return (isinstance(value, Real) and not isinstance(value, bool)) or single


SIMPLE: dict[Any, Callable[[object], bool]] = {
    Any: lambda value: True,
    None: lambda value: value is None,
    bool: lambda value: isinstance(value, bool | np.bool_ | Integral),
    int: is_index,
    float: is_number,
    Path: lambda value: isinstance(value, PathLike),
    Callable: callable,
}
"""Kinds that are not told by ``isinstance``."""


def words(kind: Any) -> str:
    """What a kind is called."""
    origin = get_origin(kind) or kind
    if origin in (Union, UnionType):
        parts = list(dict.fromkeys(words(one) for one in get_args(kind)))
        return " or ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    if origin in WORDS:
        return WORDS[origin]
    parts = [words(one) for one in get_args(kind) if one is not Ellipsis]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dict" + (f" from {parts[0]} to {parts[1]}" if len(parts) == 2 else "")
    if len(set(parts)) == 1:
        several = "a list" if len(parts) == 1 else f"a tuple of {len(parts)}"
        return f"{several}, each entry {parts[0]}"
    name = getattr(origin, "__name__", str(origin))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def hint(name: str, value: object, kind: Any) -> str:
    """What to pass instead, where that is known."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if Tensor in kinds and isinstance(value, np.ndarray | list | tuple):
        return f"; pass torch.as_tensor({name})"
    if isinstance(value, Mapping) and not any(get_origin(one) is Mapping for one in kinds):
        return "; pass one of its values"
    several = any(get_origin(one) in (Iterable, Sequence, tuple) for one in kinds)
    if several and isinstance(value, Real):
        return f"; pass [{value}]"
    return ""
