"""Forward processes of every kind with a few states, and their matrices entry by entry."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from builders.kernels import gaussian_rates, one_way_rates, series
from builders.statistics import seeded
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Exponential, LogLinear, NoiseSchedule
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix
from jumpsteps.process.uniform import Uniform

# A walk to the nearest neighbours; the circle runs one way, without detailed balance
BIRTH_DEATH = torch.tensor(
    [[-2.0, 2.0, 0.0, 0.0], [0.5, -1.5, 1.0, 0.0], [0.0, 0.7, -3.7, 3.0], [0.0, 0.0, 1.2, -1.2]],
    dtype=torch.float64,
)

CIRCLE = one_way_rates(5)

NOISES = [LogLinear(), Constant(1.7)]


class Plain(ForwardProcess):
    """The uniform kernel with the eight methods that every kernel writes, and all the defaults."""

    name = "plain"
    rate_matrix, transition, push = Uniform.rate_matrix, Uniform.transition, Uniform.push
    likelihood, bridge, sample_prior = Uniform.likelihood, Uniform.bridge, Uniform.sample_prior
    sample_path, sample_transition = Uniform.sample_path, Uniform.sample_transition


BUILDERS: dict[str, Callable[[NoiseSchedule], ForwardProcess]] = {
    "absorbing": lambda noise: Absorbing(vocab_size=4, noise=noise),
    "absorbing-mask-inside": lambda noise: Absorbing(vocab_size=4, noise=noise, mask_id=1),
    "uniform": lambda noise: Uniform(vocab_size=4, noise=noise),
    "uniform-2": lambda noise: Uniform(vocab_size=2, noise=noise),
    "plain": lambda noise: Plain(vocab_size=4, noise=noise),
    "gaussian-4": lambda noise: Gaussian(vocab_size=4, noise=noise, rate_sigma=1.5, q_sigma=1.8),
    "gaussian-5": lambda noise: Gaussian(vocab_size=5, noise=noise, rate_sigma=1.0, q_sigma=2.5),
    "birth-death": lambda noise: RateMatrix(matrix=BIRTH_DEATH, noise=noise),
    "circle": lambda noise: RateMatrix(matrix=CIRCLE, noise=noise),
}

PROCESSES = {
    f"{name}-{type(noise).__name__}": build(noise)
    for name, build in BUILDERS.items()
    for noise in NOISES
}

every_process = pytest.mark.parametrize("forward", PROCESSES.values(), ids=PROCESSES.keys())


def base_matrix(forward: ForwardProcess) -> np.ndarray:
    """R_b from its definition, entry by entry."""
    v = forward.vocab_size
    if isinstance(forward, Absorbing):
        return np.array(
            [[float(y == forward.mask_id) - float(y == x) for y in range(v)] for x in range(v)]
        )
    if isinstance(forward, Gaussian):
        return gaussian_rates(v, forward.rate_sigma, forward.q_sigma)
    if isinstance(forward, RateMatrix):
        return {4: BIRTH_DEATH, 5: CIRCLE}[v].numpy().copy()
    return np.array([[1 / v - float(y == x) for y in range(v)] for x in range(v)])


def data_weights(forward: ForwardProcess, *shape: int, seed: int = 0) -> Tensor:
    """Random distributions over data symbols, [..., V]: no mass at MASK."""
    w = torch.rand(*shape, forward.vocab_size, generator=seeded(seed), dtype=torch.float64) + 0.05
    if isinstance(forward, Absorbing):
        w[..., forward.mask_id] = 0
    return w / w.sum(-1, keepdim=True)


def all_states(forward: ForwardProcess) -> Tensor:
    return torch.arange(forward.vocab_size)


SMALL = Gaussian(
    vocab_size=24, rate_sigma=2.0, q_sigma=8.0, noise=Exponential(base=100.0, scale=0.3)
)

NOISE = Constant(1.7)


def float64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def relative(actual: Tensor, expected: Tensor, rtol: float, smallest: float = 1e-280) -> None:
    """Every entry of at least ``smallest``, by its own size."""
    seen = expected >= smallest
    assert seen.any()
    torch.testing.assert_close(actual[seen], expected[seen], rtol=rtol, atol=0)


def accurate(forward: MatrixKernel, t: float) -> Tensor:
    """q_{t|0} with small entries as precise as large ones."""
    return torch.from_numpy(series(forward.rate_matrix().numpy(), float(forward.noise.total(t))))


some_steps = pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.2, 0.7), (0.9, 1.0)])


def matrix(forward: ForwardProcess, s: float, t: float) -> Tensor:
    """q_{t|s} by scipy."""
    elapsed = float(forward.noise.total(t) - forward.noise.total(s))
    return torch.from_numpy(expm(elapsed * base_matrix(forward)))
