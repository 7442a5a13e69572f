"""CountDown with 4 symbols at 4 sites.

Its states can be enumerated, so that every quantity of the theory is known exactly.
"""

from functools import reduce

from torch import Tensor

from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Exponential, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.tasks import countdown
from jumpsteps.tasks.task import Task

__all__ = ["KERNELS", "LENGTH", "SYMBOLS", "TASK", "reverse", "table"]

SYMBOLS, LENGTH, SMOOTHING = 4, 4, 1e-3

KERNELS: dict[str, ForwardProcess] = {
    "absorbing": Absorbing(vocab_size=SYMBOLS + 1, noise=LogLinear()),
    "uniform": Uniform(vocab_size=SYMBOLS, noise=Constant(3.87)),
    "gaussian": Gaussian(
        vocab_size=SYMBOLS, rate_sigma=1.0, q_sigma=2.0, noise=Exponential(base=100.0, scale=0.05)
    ),
}


def table() -> Tensor:
    """p_0 as float64 [4, 4, 4, 4].

    Every symbol is a fresh start with probability 0.001, so that all states have positive
    probability.
    """
    initial, transition = countdown.chain(SYMBOLS)
    mixed = (1 - SMOOTHING) * transition + SMOOTHING / SYMBOLS
    return reduce(lambda probs, _: probs[..., None] * mixed, range(LENGTH - 1), initial)


def reverse(kernel: str) -> PosteriorReverse:
    """The exact denoiser of a kernel of ``KERNELS``; its model is an ``Enumerable``."""
    return PosteriorReverse(KERNELS[kernel], Enumerable(KERNELS[kernel], table()))


TASK = Task(
    name="toy",
    length=LENGTH,
    symbols=SYMBOLS,
    sample_data=lambda n, generator: countdown.sample_data(
        n, generator=generator, symbols=SYMBOLS, length=LENGTH, smoothing=SMOOTHING
    ),
    metric=countdown.violations,
    metric_name="violation rate",
    unit=1 / (LENGTH - 1),
    show=countdown.show,
    similarity=countdown.similarity,
    gallery="countdown",
)
