"""Enumerable models and forward paths of their data, for tests of costs and searches."""

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import NoiseSchedule
from jumpsteps.search.paths import Paths


def random_truth(name: str, length: int = 3, noise: NoiseSchedule | None = None) -> Enumerable:
    """A random table of 3 symbols at ``length`` sites, with the kernel of this name."""
    return Enumerable.random(
        kernel(name, 3, noise), symbols=3, length=length, seed=5, concentration=0.3
    )


def paths_of(truth: Enumerable, sequences: int, seed: int = 0) -> Paths:
    data = truth.sample_data(sequences, generator=seeded(seed))
    return Paths.draw(truth.forward, data, generator=seeded(100 + seed))
