r"""CountDown (Zhao et al. 2024, Sec. 5.1; Park et al. 2025, Sec. 4.1), a synthetic language.

The first symbol is uniform on 0..V-1. After x > 0 comes x - 1; after 0 comes a uniform symbol. A
few symbols determine a sequence almost completely, so that symbols drawn independently in one step
often contradict each other. The metric is the fraction of neighbouring pairs that break the rule.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.two_sample import histogram_similarity
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Exponential, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.tasks.task import Task

__all__ = [
    "KERNELS",
    "LENGTH",
    "SYMBOLS",
    "TASK",
    "chain",
    "exact_reverse",
    "sample_data",
    "show",
    "similarity",
    "violations",
]

SYMBOLS = 32
LENGTH = 256


def sample_data(
    n: int,
    *,
    generator: torch.Generator,
    symbols: int = SYMBOLS,
    length: int = LENGTH,
    smoothing: float = 0.0,
) -> Tensor:
    """Sequences of the language, int64 [n, length].

    Args:
        smoothing: probability that a symbol is replaced by a uniform one, a fresh start.
    """
    device = generator.device
    starts = torch.randint(symbols, (n, length), generator=generator, device=device)
    lengths = starts + 1
    if smoothing > 0:
        u = torch.rand((n, length), generator=generator, device=device, dtype=torch.float64)
        broken = (1 + torch.log1p(-u) / math.log1p(-smoothing)).clamp_max(length)
        lengths = torch.minimum(lengths, broken.to(torch.int64))
    ends = lengths.cumsum(-1)
    sites = torch.arange(length, device=device).expand(n, length).contiguous()
    run = torch.searchsorted(ends, sites, right=True)
    return (starts + ends - lengths).gather(-1, run) - sites


def chain(symbols: int = SYMBOLS) -> tuple[Tensor, Tensor]:
    """Initial distribution [V] and transition matrix [V, V] of the Markov chain, float64."""
    transition = torch.diag(torch.ones(symbols - 1, dtype=torch.float64), -1)
    transition[0] = 1 / symbols
    return torch.full((symbols,), 1 / symbols, dtype=torch.float64), transition


def violations(samples: Tensor) -> Tensor:
    """Fraction of the L - 1 neighbouring pairs that break the rule: int64 [B, L] -> float64 [B]."""
    return broken(samples).to(torch.float64).mean(-1)


def broken(samples: Tensor) -> Tensor:
    """Whether each neighbouring pair breaks the rule: int64 [B, L] -> bool [B, L - 1]."""
    before, after = samples[:, :-1], samples[:, 1:]
    return (before > 0) & (after != before - 1)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Minus the Hellinger distances of the neighbouring pairs' histograms, and of how many of them
    break the rule, added: int64 [n, L], [m, L] -> float64 [n, m].
    """
    rule = histogram_similarity(broken(x).to(torch.int64), broken(y).to(torch.int64))
    return histogram_similarity(x, y, neighbours=2) + rule


def show(sample: Tensor) -> str:
    """One sequence as text, one line per countdown."""
    words = [f"{int(x):2d}" for x in sample]
    breaks = [0, *(i + 1 for i, x in enumerate(sample[:-1]) if int(x) == 0), len(words)]
    return "\n".join(" ".join(words[a:b]) for a, b in pairwise(breaks))


KERNELS: dict[str, ForwardProcess] = {
    "absorbing": Absorbing(vocab_size=SYMBOLS + 1, noise=LogLinear()),
    "uniform": Uniform(vocab_size=SYMBOLS, noise=Constant(3.87)),
    "gaussian": Gaussian(
        vocab_size=SYMBOLS, rate_sigma=3.0, q_sigma=16.0, noise=Exponential(base=100.0, scale=0.25)
    ),
}
"""Forward processes of the exact models.

Masking as in SEDD; uniform noise as in tauLDR's piano model (rate 0.03 x 129 = 3.87); and the
Gaussian kernel of tauLDR's image model on fewer states. The spectral gap times the total noise is
6.5 here and 6.2 in tauLDR's model, so that both forget about as much of the data.
"""


def exact_reverse(kernel: str = "absorbing") -> PosteriorReverse:
    """The exact denoiser of a kernel of ``KERNELS``."""
    initial, transition = chain()
    return PosteriorReverse(KERNELS[kernel], MarkovChain(KERNELS[kernel], initial, transition))


TASK = Task(
    name="countdown",
    length=LENGTH,
    symbols=SYMBOLS,
    sample_data=lambda n, generator: sample_data(n, generator=generator),
    metric=violations,
    metric_name="violation rate",
    unit=1 / (LENGTH - 1),
    show=show,
    similarity=similarity,
    gallery="countdown",
)
