r"""Counts as an alpha scheduler of dLLM (Zhou et al., github.com/ZHZisZZ/dllm).

    sampler = MDLMSampler(model, tokenizer, scheduler=CountAlphaScheduler(schedules[8]))
    sampler.sample(inputs, steps=8, remasking="random")

dLLM's samplers take the number of tokens of every step from a function alpha(t), the share of
tokens that are revealed at time t: with N steps, of n tokens that are masked at k/N they reveal
:math:`n (\alpha_{(k-1)/N} - \alpha_{k/N}) / (1 - \alpha_{k/N})`, rounded. ``CountAlphaScheduler``
interpolates a schedule of counts, so that its own number of steps gives its counts.

The tokens are chosen by confidence, or at random with ``remasking="random"``. Counts that were
found for random order fit the latter; dLLM has no other order.

Needs dLLM, which PyPI does not have.
"""

import torch
from torch import Tensor

from jumpsteps.schedules.schedule import CountSchedule

try:
    from dllm.core.schedulers import BaseAlphaScheduler
except ImportError as error:
    raise ImportError(
        f"jumpsteps.integrations.dllm needs dLLM ({error}): install it from github.com/ZHZisZZ/dllm"
    ) from error

__all__ = ["CountAlphaScheduler"]


class CountAlphaScheduler(BaseAlphaScheduler):
    """alpha(t) through the points of a schedule of counts, piecewise linear.

    After k of N steps the time is 1 - k/N, and alpha the share of sites that are revealed.

    Args:
        schedule: counts. Its order is not used.
        sites: the number of masked tokens of a block, to which the counts are rescaled; by default
            that of the schedule. With another number in a run its counts may differ by rounding.

    Raises:
        ValueError: no site.
    """

    def __init__(self, schedule: CountSchedule, sites: int | None = None) -> None:
        self.schedule = schedule if sites is None else schedule.rescaled(sites)
        counts = torch.tensor(self.schedule.counts, dtype=torch.float64)
        revealed = torch.nn.functional.pad(counts.cumsum(0), (1, 0)) / self.schedule.total
        self.alphas = revealed.flip(0)  # alpha at 0, 1/N, ..., 1

    def _alpha(self, i: Tensor) -> Tensor:
        """alpha at times i in [0, 1], float64 of the same shape."""
        position, below = self.located(i)
        alphas = self.alphas.to(i.device)
        return torch.lerp(alphas[below], alphas[below + 1], position - below)

    def _alpha_derivative(self, i: Tensor) -> Tensor:
        """d alpha / dt, float64; at a point of the schedule, that of later times."""
        _, below = self.located(i)
        return torch.diff(self.alphas).to(i.device)[below] * self.schedule.steps

    def located(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """Where times lie between the points of the schedule, in points, and the point below."""
        position = i.to(torch.float64) * self.schedule.steps
        return position, position.floor().clamp_max(self.schedule.steps - 1).to(torch.int64)
