"""Notes on searches that take long on a CPU."""

import sys
from contextlib import suppress
from time import perf_counter

import torch
from torch import nn

from jumpsteps.models import LoadedModel
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler
from jumpsteps.search import certificate
from jumpsteps.search.auto_order import STATES, AutoOrder
from jumpsteps.search.jys import JYS
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import most_calls
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["note_long_search", "seconds_of_sequence"]

LONG = 120.0
"""Seconds, at most, of a search that is not announced."""

TIMED = 1e11, 1e15
"""Parameters times sites and sequences of a search for which the network is timed. Two idle cores
do 6e10 (the transformers of ``checkpoints/``) to 1.5e12 (the U-Net) of them in a second, and busy
ones 1e9. So less is short, and more is long.
"""

FEW = 4
"""Sequences that are timed."""


def note_long_search(
    model: LoadedModel,
    method: Method,
    steps: list[int],
    sampler: Sampler,
    sequences: int,
    held_out: int,
) -> None:
    """Say on standard error how many model calls a search takes that is long on a CPU, how long
    that is at most, and which search is shorter, if one is.

    The network is called twice to be timed.

    Args:
        sequences: of the data, of which so many are held out.
    """
    network, searched = model.reverse.model, sequences - held_out
    most = most_calls(method, steps, sampler, model.length, held_out)
    if most is None or not isinstance(network, nn.Module):
        return
    rows = evaluated(method, most, searched, held_out)
    parameters = [parameter for parameter in network.parameters() if parameter.device.type == "cpu"]
    work = sum(parameter.numel() for parameter in parameters) * model.length * rows
    if work < TIMED[0]:
        return
    each = seconds_of_sequence(model) if work < TIMED[1] else None
    if work < TIMED[1] and (each is None or each * rows <= LONG):
        return
    time = "" if each is None else f", at most {each * rows / 60:.0f} minutes"
    print(
        f"note: {method.name} takes up to {most} model calls of {searched} sequences{time}, on a "
        f"CPU; a line or a bar says the time left{shorter(model, method, sampler)}",
        file=sys.stderr,
    )


def evaluated(method: Method, calls: int, searched: int, held_out: int) -> int:
    """States that so many calls of the network evaluate, each of one sequence."""
    states = STATES if isinstance(method, AutoOrder) else 1
    if not held_out:
        return calls * states * searched
    certifying = certificate.CERTIFICATE_CALLS
    return (calls - certifying) * states * searched + certifying * certificate.STATES * held_out


def seconds_of_sequence(model: LoadedModel) -> float | None:
    """How long the network takes for a sequence, of a few that it gets together; None for one that
    is compiled, again for every number of sequences, or fails. The search then says why.
    """
    network, forward = model.reverse.model, model.reverse.forward
    parts = network.modules() if isinstance(network, nn.Module) else ()
    if any(getattr(part, "_compiled_call_impl", None) for part in parts):
        return None
    device = torch.device("cpu")
    generator = torch.Generator(device).manual_seed(0)
    x = forward.sample_prior((FEW, model.length), generator=generator, device=device)
    with suppress(Exception), torch.no_grad():
        model.reverse.call_model(x, 1.0)  # The first call of a process takes longer.
        began = perf_counter()
        model.reverse.call_model(x, 1.0)
        return (perf_counter() - began) / FEW
    return None


def shorter(model: LoadedModel, method: Method, sampler: Sampler) -> str:
    """The end of the note: which search is shorter."""
    forward = model.reverse.forward
    if isinstance(method, JYS) and isinstance(forward, Absorbing):
        return f"; {ShortestPath().name} takes {ShortestPath().evaluations} for all its schedules"
    if isinstance(sampler, Euler) and isinstance(forward.noise, LogLinear):
        return "; with this noise euler's steps are those of tweedie, whose search is shorter"
    return ""
