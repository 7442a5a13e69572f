"""Generation in the style of LLaDA's loop: a prompt, masked tokens, and a number for each step.

    tokens = generate(network, prompt, schedules[8], length=128, mask_id=126336,
                      generator=generator)

Each step calls the network once and reveals as many masked tokens as the schedule says, in the
schedule's order. ``by_confidence=True`` chooses the most confident tokens instead, as such loops do
by default. Counts are not optimised for that: a search bounds the error of an order that does not
look at the data, and no bound is known of one that does.

Shapes: tokens int64 [B, L]; logits [B, L, V].
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical
from jumpsteps.denoiser.model import output_of
from jumpsteps.process.noise import LogLinear, NoiseSchedule
from jumpsteps.sampling.parallel_decoding import smallest
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = ["generate"]


@torch.no_grad()
def generate(
    network: Callable[[Tensor], Any],
    prompt: Tensor,
    schedule: Schedule,
    *,
    length: int,
    mask_id: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    by_confidence: bool = False,
    noise: NoiseSchedule = LogLinear(),
) -> Tensor:
    """The prompt, continued by ``length`` tokens: int64 [B, P + length].

    Args:
        network: tokens [B, L] to logits [B, L, V], or to an object whose ``logits`` these are. The
            logit of MASK is not used.
        prompt: int64 [B, P]; P may be 0.
        schedule: counts, rescaled to ``length``; of times the counts are those that they reveal on
            average, in random order.
        mask_id: the token of MASK.
        generator: all random numbers, on the device of the prompt.
        temperature: logits are divided by it; 0 takes the most probable symbol. Schedules are found
            for 1.
        by_confidence: reveal the tokens whose symbols have the largest probability, in place of the
            schedule's order.
        noise: the noise schedule that times are for.

    Raises:
        ValueError: a prompt of another shape or type, no token to generate, or a negative
            temperature.
    """
    if prompt.ndim != 2 or prompt.dtype != torch.int64:
        raise ValueError(
            f"prompt must be int64 [B, P], got {prompt.dtype} {list(prompt.shape)}; pass token ids"
        )
    if not temperature >= 0:
        raise ValueError(f"temperature must be zero or more, got {temperature}")
    if isinstance(schedule, CountSchedule):
        counts, order = schedule.tokens_per_step(length), schedule.order
    else:
        counts, order = schedule.tokens_per_step(length, noise), Random()
    x = torch.nn.functional.pad(prompt, (0, length), value=mask_id)
    hidden = (torch.arange(x.shape[1], device=x.device) >= prompt.shape[1]).expand_as(x)
    ranks = order.free_ranks(hidden, generator=generator)
    for count in filter(None, counts):
        symbols, confidence = drawn(output_of(network(x))[hidden], mask_id, temperature, generator)
        keys = ranks.to(torch.float64)
        if by_confidence:
            keys = keys.masked_scatter(hidden, -confidence)
        chosen = smallest(keys.masked_fill(~hidden, torch.inf), count)
        x = torch.where(chosen, x.masked_scatter(hidden, symbols), x)
        hidden = hidden & ~chosen
    return x


def drawn(
    logits: Tensor, mask_id: int, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A symbol for each of K sites, int64 [K], and its probability at temperature 1, float64."""
    logits = logits.to(torch.float64).clone()
    logits[:, mask_id] = -torch.inf
    probs = logits.softmax(-1)
    if temperature == 0:
        confidence, symbols = probs.max(-1)
        return symbols, confidence
    symbols = categorical((logits / temperature).softmax(-1), generator=generator)
    return symbols, probs.gather(-1, symbols[:, None])[:, 0]
