"""Noise schedules and kernels as JSON objects, and back.

A noise schedule is written as its type and its numbers, ``{"type": "LogLinear", "eps": 0.001}``; a
kernel likewise, without its noise: ``{"type": "absorbing", "vocab_size": 33, "mask_id": 32}``. Two
noise schedules are the same if and only if their objects are equal; floats survive JSON to the
bit.

Files of version 0.1 hold a noise schedule as the text of its ``repr``, which ``noise_from_text``
reads.
"""

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    LogLinear,
    NoiseSchedule,
)
from jumpsteps.process.uniform import Uniform

__all__ = [
    "forward_from_json",
    "forward_to_json",
    "noise_from_json",
    "noise_from_text",
    "noise_to_json",
]

NOISES: dict[str, type[NoiseSchedule]] = {
    kind.__name__: kind for kind in (Constant, Cosine, Exponential, Geometric, LogLinear)
}
KERNELS: dict[str, type[ForwardProcess]] = {
    kind.name: kind for kind in (Absorbing, Uniform, Gaussian)
}


def noise_to_json(noise: NoiseSchedule) -> dict[str, Any]:
    """The object of a noise schedule: its type and its attributes.

    The attributes are the fields of a dataclass, without what it caches. Those of a schedule of
    one's own that are neither numbers nor text are written as their ``repr``, tensors as lists:
    good for comparing two objects, but ``noise_from_json`` does not read such a schedule.
    """
    names = [one.name for one in fields(noise)] if is_dataclass(noise) else list(vars(noise))
    return {
        "type": type(noise).__name__,
        **{name: plain(getattr(noise, name)) for name in names},
    }


def plain(value: object) -> str | int | float:
    """A number or text as it is, anything else as text that only an equal value has."""
    if isinstance(value, str | int | float):
        return value
    return repr(value.tolist() if isinstance(value, Tensor) else value)


def noise_from_json(content: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule of ``noise_to_json``.

    Raises:
        ValueError: a type that this version does not know, or numbers that the type refuses.
        KeyError, TypeError: no type, or attributes that the type does not have.
    """
    settings = dict(content)
    kind = settings.pop("type")
    if kind not in NOISES:
        raise ValueError(
            f"unknown noise schedule {kind!r}; this jumpsteps knows {', '.join(NOISES)}"
        )
    return NOISES[kind](**settings)


def noise_from_text(text: str) -> NoiseSchedule:
    """The noise schedule of a ``repr`` such as "LogLinear(eps=0.001)"; no code is run.

    Raises:
        ValueError: any other text.
    """
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise SyntaxError
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return noise_from_json({"type": call.func.id, **settings})
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"{text!r} is not a noise schedule that this jumpsteps knows "
            f"({', '.join(NOISES)}), written as in 'LogLinear(eps=0.001)'"
        ) from error


def forward_to_json(forward: ForwardProcess) -> tuple[dict[str, Any], dict[str, Any]]:
    """The objects of a kernel and of its noise schedule; ``forward_from_json`` reads them.

    Raises:
        ValueError: a kernel without such an object: a rate matrix, or a kernel of one's own.
    """
    if type(forward) is not KERNELS.get(forward.name):
        raise ValueError(
            f"the {forward.name} kernel cannot be written to a config; those that can: "
            f"{', '.join(KERNELS)}"
        )
    names = [field.name for field in fields(forward) if field.name != "noise"]
    kernel = {"type": forward.name, **{name: getattr(forward, name) for name in names}}
    return kernel, noise_to_json(forward.noise)


def forward_from_json(kernel: Mapping[str, Any], noise: Mapping[str, Any]) -> ForwardProcess:
    """The forward process of ``forward_to_json``.

    Raises:
        ValueError: a type that this version does not know, or settings that the type refuses.
        KeyError, TypeError: no type, or settings that the type does not have.
    """
    schedule, settings = noise_from_json(noise), dict(kernel)
    kind = settings.pop("type")
    if kind not in KERNELS:
        raise ValueError(f"unknown kernel {kind!r}; this jumpsteps knows {', '.join(KERNELS)}")
    return KERNELS[kind](noise=schedule, **settings)
