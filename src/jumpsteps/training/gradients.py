"""The gradient of a batch: one flat tensor, on a GPU also as one CUDA graph.

A flat gradient is averaged over processes and clipped by a few operations, whatever the number of
parameters. A CUDA graph launches all kernels of forward and backward pass at once, with the random
numbers that the plain pass would draw.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.training.losses import Loss

__all__ = ["Backward", "Say", "backward_of", "fastest", "flat_gradient"]

Backward = Callable[[Tensor, torch.Generator], Tensor]
"""(x0 [B, L], generator) -> mean loss in nats per sequence; fills the gradient of loss per site."""

Say = Callable[[str], None]

SAME = 1e-2
"""Largest relative difference between the gradient of a CUDA graph and the plain one."""


def flat_gradient(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Zeros [P], of which the gradients of the parameters are views from now on.

    Each view has the memory layout of its parameter, which fused optimisers ask for. P is the
    number of all weights.
    """
    flat = torch.zeros(
        sum(p.numel() for p in parameters), device=parameters[0].device, dtype=parameters[0].dtype
    )
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.as_strided(p.shape, p.stride())
    return flat


def backward_of(reverse: ReverseProcess, loss: Loss, flat: Tensor, *, bf16: bool) -> Backward:
    """The plain forward and backward pass, which fills ``flat``."""

    def backward(x0: Tensor, generator: torch.Generator) -> Tensor:
        flat.zero_()
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
            value = loss(reverse, x0, generator=generator).mean()
        (value / x0.shape[1]).backward()
        return value.detach()

    return backward


class CapturedBackward:
    """A ``Backward`` for batches of one shape, recorded as a CUDA graph.

    Raises:
        RuntimeError: the loss cannot be recorded, such as one that waits for the device.
    """

    def __init__(self, plain: Backward, x0: Tensor) -> None:
        self.x0 = x0.clone()
        self.generator = torch.Generator(x0.device).manual_seed(0)
        side = torch.cuda.Stream(x0.device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                plain(self.x0, self.generator)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.value = plain(self.x0, self.generator)

    def __call__(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        self.x0.copy_(x0)
        self.generator.set_state(generator.get_state())
        self.graph.replay()
        return self.value.clone()


def fastest(
    plain: Backward, x0: Tensor, flat: Tensor, compile: Callable[[], None] | None, say: Say
) -> Backward:
    """The fastest of a pass and its CUDA graphs, before and after the network is compiled.

    Args:
        x0: int64 [B, L], a batch; later ones have the same shape.
        flat: what ``plain`` fills.
        compile: compiles the network, if that is to be tried.
        say: takes the times, or the reason why there is no graph.
    """
    if x0.device.type != "cuda":
        say(f"no CUDA graph on the device {x0.device.type}; training goes on without")
        if compile is not None:
            compile()
        return plain
    eager, seconds = captured(plain, "eager", x0, flat, say)
    if compile is None:
        return eager
    compile()
    compiled, other = captured(plain, "compiled", x0, flat, say)
    # The plain pass is compiled by now, so only a graph is still eager.
    return eager if eager is not plain and seconds < other else compiled


def captured(
    plain: Backward, name: str, x0: Tensor, flat: Tensor, say: Say
) -> tuple[Backward, float]:
    """A CUDA graph of ``plain`` if one can be recorded, agrees with it and is faster; else itself.

    Returns it with the seconds that it takes.
    """
    before = seconds_of(plain, x0)
    try:
        graph = CapturedBackward(plain, x0)
        difference = max(gradient_difference(graph, plain, x0, flat, seed) for seed in (1, 2))
    except RuntimeError as error:
        torch.cuda.synchronize()
        reason = str(error).partition("\n")[0]
        say(f"no CUDA graph of the {name} gradient: {reason}")
        return plain, before
    if not difference < SAME:  # Nor one that is not finite.
        say(f"no CUDA graph of the {name} gradient: it differs by {difference:.1e}")
        return plain, before
    after = seconds_of(graph, x0)
    say(f"{name} gradient: {1e3 * before:.1f} ms, as a CUDA graph {1e3 * after:.1f} ms")
    return (graph, after) if after < before else (plain, before)


def gradient_difference(
    one: Backward, other: Backward, x0: Tensor, flat: Tensor, seed: int
) -> float:
    """Norm of the difference of two gradients with the same random numbers, relative to one's."""
    found = []
    for backward in (one, other):
        torch.manual_seed(seed)
        backward(x0, torch.Generator(x0.device).manual_seed(seed))
        found.append(flat.clone())
    return float((found[0] - found[1]).norm() / found[1].norm())


def seconds_of(backward: Backward, x0: Tensor, repeats: int = 8) -> float:
    """Mean time of a call, after one that is not counted."""
    generator = torch.Generator(x0.device).manual_seed(0)
    backward(x0, generator)
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(repeats):
        backward(x0, generator)
    torch.cuda.synchronize()
    return (time.monotonic() - began) / repeats
