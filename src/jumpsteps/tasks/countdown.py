r"""CountDown (Zhao et al. 2024, Sec. 5.1; Park et al. 2025, Sec. 4.1): the synthetic language of the JYS paper.

The first symbol is uniform on 0..V-1. After x > 0 comes x - 1; after 0 comes a uniform symbol. Every sequence is almost
deterministic given a few of its symbols, so symbols that are drawn together without regard for each other contradict each other.
The metric is the fraction of neighbouring pairs that break the rule.
"""

import torch
from torch import Tensor

__all__ = ["LENGTH", "SYMBOLS", "chain", "sample_data", "show", "violations"]

SYMBOLS = 32
LENGTH = 256


def sample_data(n: int, *, generator: torch.Generator, symbols: int = SYMBOLS, length: int = LENGTH) -> Tensor:
    """Exact sequences, int64 [n, length]."""
    starts = torch.randint(symbols, (n, length), generator=generator, device=generator.device)
    ends = (starts + 1).cumsum(-1)
    sites = torch.arange(length, device=generator.device).expand(n, length).contiguous()
    run = torch.searchsorted(ends, sites, right=True)
    return ends.gather(-1, run) - 1 - sites


def chain(symbols: int = SYMBOLS) -> tuple[Tensor, Tensor]:
    """The law as a Markov chain: initial law [V], transition matrix [V, V], float64."""
    transition = torch.diag(torch.ones(symbols - 1, dtype=torch.float64), -1)
    transition[0] = 1 / symbols
    return torch.full((symbols,), 1 / symbols, dtype=torch.float64), transition


def violations(samples: Tensor) -> Tensor:
    """The fraction of the L-1 neighbouring pairs that break the rule, float64 [B]; int64 samples [B, L]."""
    before, after = samples[:, :-1], samples[:, 1:]
    return ((before > 0) & (after != before - 1)).to(torch.float64).mean(-1)


def show(sample: Tensor) -> str:
    """One sequence as text, a line for each countdown."""
    words = [f"{int(x):2d}" for x in sample]
    breaks = [0, *(i + 1 for i, x in enumerate(sample[:-1]) if int(x) == 0), len(words)]
    return "\n".join(" ".join(words[a:b]) for a, b in zip(breaks, breaks[1:], strict=False))
