"""Mistakes of a model that its numbers show: train mode, NaN, infinities, probabilities.

Reading a number of a GPU's tensor makes the CPU wait for all work before it, so outputs are not
checked at every call. ``CheckedModel`` checks the first output of a run, which finds a network that
is broken altogether. A NaN in a later output of a run is found where it is used: drawing a symbol
from weights that are not finite raises. A search would take it for an infinite cost, or for none;
``every_call_checked`` keeps the largest number of each output on its device, and reads them all
when the search ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Evaluation, call, evaluate
from jumpsteps.process.noise import Time

__all__ = ["CheckedModel", "every_call_checked", "networks_of"]

ROWS = range(8, 65)
"""From how many sites on sums of 1 are no accident, and at how many, at most, they are taken."""

TOLERANCE = 0.01
"""How far from 1 a sum of probabilities in bfloat16 may be."""


class CheckedModel:
    """A model for one run, whose first call checks its mode before and its output after it.

    Raises (when first called):
        ValueError: a network in train mode; NaN or plus infinity in the output (minus infinity is
            the logarithm of probability zero); probabilities in place of their logarithms.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.checked = False

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        if self.checked:
            return call(self.model, x, t, where)
        check_mode(self.model)
        output = call(self.model, x, t, where)
        self.check(output)
        return output

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        if self.checked:
            return evaluate(self.model, x, t, where)
        check_mode(self.model)
        evaluation = evaluate(self.model, x, t, where)
        self.check(evaluation.rows)
        return evaluation

    def check(self, output: Tensor) -> None:
        check_values(output)
        check_logarithms(output)
        self.checked = output.numel() > 0


class WatchedModel(CheckedModel):
    """A ``CheckedModel`` that remembers the largest number of every output, for ``report``."""

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__(model)
        self.largest: list[Tensor] = []
        self.times: list[Time] = []

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        output = super().__call__(x, t, where)
        self.note(output, t)
        return output

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        evaluation = super().evaluate(x, t, where)
        self.note(evaluation.rows, t)
        return evaluation

    def note(self, output: Tensor, t: Time) -> None:
        """Remember the largest number of the output: NaN if it holds one."""
        nothing = torch.zeros((), dtype=torch.float64, device=output.device)
        self.largest.append(output.amax().double() if output.numel() else nothing)
        self.times.append(t)

    def report(self) -> None:
        """Raises ValueError for the first call whose output held NaN or plus infinity."""
        if not self.largest:
            return
        largest = torch.stack(self.largest).cpu()
        wrong = (~(largest < torch.inf)).nonzero()
        if not len(wrong):
            return
        call = int(wrong[0])
        found = "NaN" if bool(largest[call].isnan()) else "infinity"
        times = torch.as_tensor(self.times[call]).unique().tolist()
        when = f"{times[0]:.4g}" if len(times) == 1 else f"{times[0]:.4g} to {times[-1]:.4g}"
        raise ValueError(
            f"the model's output holds {found} at call {call + 1} of {len(largest)}, at "
            f"t = {when}; check the network at this time, or return logits in float32"
        )


@contextmanager
def every_call_checked(model: Callable[..., Any]) -> Iterator[CheckedModel]:
    """A model for one search, whose outputs are all checked, without waiting for each of them.

    Raises:
        ValueError: as ``CheckedModel``; when the search ends, or fails, NaN or plus infinity in the
            output of a later call.
    """
    watched = WatchedModel(model)
    try:
        yield watched
    except Exception:
        watched.report()
        raise
    watched.report()


def check_mode(model: Callable[..., Any]) -> None:
    """Raises ValueError for a network in train mode."""
    for network in networks_of(model):
        # A wrapper of a network that was set to eval() may not be; its parts count.
        parts = (part for part in network.modules() if next(part.children(), None) is None)
        if any(part.training for part in parts):
            raise ValueError(
                f"the network {type(network).__name__} is in train mode, where dropout is at work; "
                "call .eval() on it before sampling or searching"
            )


def networks_of(model: Any, depth: int = 4) -> Iterator[nn.Module]:
    """The networks that a model is, holds as an attribute, or refers to by name in its function."""
    if isinstance(model, nn.Module):
        yield model
    elif callable(model) and depth:
        held = [*getattr(model, "__dict__", {}).values()]
        held += [getattr(model, name, None) for name in ("__self__", "func")]
        held += referred(model) if isinstance(model, FunctionType) else []
        for value in held:
            yield from networks_of(value, depth - 1)


def referred(function: FunctionType) -> list[Any]:
    """The networks among a function's global names, and what it closes over."""
    names = function.__code__.co_names
    named = [function.__globals__[name] for name in names if name in function.__globals__]
    return [value for value in named if isinstance(value, nn.Module)] + [
        cell.cell_contents for cell in function.__closure__ or ()
    ]


def check_values(output: Tensor) -> None:
    """Raises ValueError for NaN or plus infinity; waits for a GPU once."""
    if not output.numel() or bool((output < torch.inf).all()):  # False for NaN.
        return
    nan = bool(output.isnan().any())
    found = "NaN" if nan else "infinity"
    if output.dtype == torch.float16:
        raise ValueError(
            f"the model's output holds {found}: float16 overflows above 65504; "
            "load the network in bfloat16 or float32"
        )
    raise ValueError(
        f"the model's output holds {found} at its first call; check the network's weights and its "
        "input (the time at t = 1, tokens in the vocabulary), or return logits in float32"
    )


def check_logarithms(output: Tensor) -> None:
    """Raises ValueError if the output at the first sites is a distribution at each of them.

    Equal numbers pass, because they mean the same as logits.
    """
    rows = output.flatten(0, -2)[: ROWS[-1]].float()
    if len(rows) not in ROWS or rows.shape[1] < 2 or bool((rows < 0).any()):
        return
    varied = bool((rows.amax(-1) - rows.amin(-1) > TOLERANCE).any())
    if varied and bool(((rows.sum(-1) - 1).abs() < TOLERANCE).all()):
        raise ValueError(
            "the model returned probabilities: at each site its output is positive and sums to 1; "
            "return their logarithms, or the logits before the softmax"
        )
