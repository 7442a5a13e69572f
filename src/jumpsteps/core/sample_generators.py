r"""Random numbers of each sample by itself, which do not depend on the batch that it is drawn in.

A ``torch.Generator`` fills a whole batch from one sequence of numbers, so with another batch size
every sample is another one. Here a number is a function of where it is used,

.. math:: u = f(\text{seed}, \text{sample}, \text{step}, \text{draw}, \text{site}, \text{element}),

and nothing is carried from one draw to the next. f is SplitMix64 (Steele, Lea, Flood 2014): a state
of 64 bits, the sum of a number for each of these, each times an odd constant of its own or mixed
before, is mixed to 64 random bits. A uniform number has the upper 53 of them, as ``torch.rand`` in
float64 has.

Draws go through ``core.draws``, whose functions take either kind of ``Generator``. The first
dimension of what is drawn is the sequence of the batch, or after ``at_sites`` the selected site.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked, said
from jumpsteps.core.devices import usable_device
from jumpsteps.core.site_mask import SiteMask

__all__ = [
    "Generator",
    "SampleGenerators",
    "at_repeats",
    "at_rows",
    "at_sites",
    "at_step",
    "in_parts",
    "repeats_of",
]

GOLDEN = 0x9E3779B97F4A7C15
"""SplitMix64's increment: 2^64 over the golden ratio, rounded to an odd number."""

ELEMENT, SITE, REPEAT = 0x8CB92BA72F3D8DD7, 0xD1B54A32D192ED03, 0xABC98388FB8FAC03
"""2^64 times the generators of the three-dimensional Kronecker sequence of least discrepancy
(Roberts 2018), rounded to odd numbers."""


@said("SampleGenerators")
@kinds_checked()
class SampleGenerators:
    """A random generator for each sample of a batch, given by the seed and the sample's index.

    Attributes:
        keys: int64 [B], where each sample's numbers start.

    Args:
        seed: of all samples.
        samples: the index of each sample of the batch, such as range(32, 64).
        device: of the numbers. They are the same on every device.
    """

    def __init__(
        self, seed: int, samples: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        device = usable_device(device)
        indices = torch.tensor(list(samples), dtype=torch.int64, device=device)
        keys = mix((indices + 1).mul_(signed(GOLDEN)).add_(signed(mixed(seed))))
        self.keys, self.path, self.used = keys, 0, 0

    @staticmethod
    def seeded_by(generator: "Generator", count: int) -> "SampleGenerators":
        """Those of samples 0..count-1, with a seed that ``generator`` draws; ``SampleGenerators``
        as they are.
        """
        if isinstance(generator, SampleGenerators):
            return generator
        device = generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        return SampleGenerators(seed, range(count), device)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def __len__(self) -> int:
        return len(self.keys)

    def derived(self, keys: Tensor, path: int) -> "SampleGenerators":
        """Generators of these keys that start behind the draws of ``path``."""
        made = SampleGenerators.__new__(SampleGenerators)
        made.keys, made.path, made.used = keys, path, 0
        return made

    def next(self) -> int:
        """64 bits for the next draw, the same in all samples."""
        self.used += 1
        return mixed(self.path + self.used * GOLDEN)

    def at_step(self, step: int) -> "SampleGenerators":
        """The generators of a step of the run, from its start, whatever has been drawn before."""
        return self.derived(self.keys, mixed(~mixed(step + GOLDEN)))

    def at_rows(self, rows: Tensor | slice) -> "SampleGenerators":
        """Generators for these entries alone: indices, a slice, or bool [B]."""
        return self.derived(self.keys[rows], self.next())

    def at_sites(self, where: Tensor | SiteMask) -> "SampleGenerators":
        """A generator for each selected site, in the order of ``x[where]``.

        Args:
            where: bool [B, L].
        """
        where = SiteMask.of(where)
        self.check(where.shape[0])
        sites = torch.arange(where.shape[1], device=self.device).mul_(signed(SITE))
        return self.derived(where.select(self.keys[:, None] + sites), self.next())

    def between(self, rows: slice) -> "SampleGenerators":
        """Those of some samples of a batch from which nothing has been drawn."""
        return self.derived(self.keys[rows], self.path)

    def in_parts(self, sizes: int | list[int]) -> list["SampleGenerators"]:
        """Generators of so many entries each, whose next draws are those of all together."""
        parts = [self.derived(keys, self.path) for keys in self.keys.split(sizes)]
        for part in parts:
            part.used = self.used
        return parts

    def at_repeats(self, times: int | Tensor) -> "SampleGenerators":
        """``times`` generators for each entry, one after the other.

        Args:
            times: a number, or one for each entry, int64 [B].
        """
        count = torch.as_tensor(times, device=self.device).expand(len(self))
        total = int(count.sum())
        entries = torch.arange(len(self), device=self.device)
        entry = entries.repeat_interleave(count, output_size=total)
        repeat = torch.arange(total, device=self.device) - (count.cumsum(0) - count)[entry]
        return self.repeats()(entry, repeat)

    def repeats(self) -> Callable[[Tensor, Tensor], "SampleGenerators"]:
        """Generators of single repeats of a draw: of entries, and how many repeats each has had
        before, int64 [J] both.
        """
        path = self.next()

        def at(entry: Tensor, earlier: Tensor) -> SampleGenerators:
            return self.derived(self.keys[entry] + earlier * signed(REPEAT), path)

        return at

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1), float64, of a shape [B, ...].

        Raises:
            ValueError: another number of rows than there are generators.
        """
        self.check(shape[0] if shape else 1)
        state = self.keys + signed(self.next())
        if (elements := math.prod(shape[1:])) != 1:
            element = torch.arange(elements, device=self.device).mul_(signed(ELEMENT))
            state = state[:, None] + element
        return unit(state).reshape(shape)

    def check(self, rows: int) -> None:
        if rows != len(self):
            raise ValueError(
                f"a draw of {rows} rows from the generators of {len(self)}; draw [B, ...] for a "
                "batch, and for selected sites from at_sites(generator, where)"
            )


Generator = torch.Generator | SampleGenerators
"""A source of randomness: of a batch, or of each sample."""


def at_step(generator: Generator, step: int) -> Generator:
    """The source of the draws of a step of the run: 1, 2, ..., or another number for draws that
    have no step; a ``torch.Generator`` as it is.
    """
    return generator.at_step(step) if isinstance(generator, SampleGenerators) else generator


def at_rows(generator: Generator, rows: Tensor | slice) -> Generator:
    """The source of draws for some rows of a batch; a ``torch.Generator`` as it is."""
    return generator.at_rows(rows) if isinstance(generator, SampleGenerators) else generator


def at_sites(generator: Generator, where: Tensor | SiteMask) -> Generator:
    """The source of draws [K, ...] for the selected sites of a batch, bool [B, L]; a
    ``torch.Generator`` as it is.
    """
    return generator.at_sites(where) if isinstance(generator, SampleGenerators) else generator


def in_parts(generator: Generator, sizes: list[int]) -> list[Generator]:
    """The source of the draws of each part of the rows; a ``torch.Generator`` for all of them."""
    if isinstance(generator, SampleGenerators):
        return [*generator.in_parts(sizes)]
    return [generator] * len(sizes)


def at_repeats(generator: Generator, times: int | Tensor) -> Generator:
    """The source of ``times`` draws for each row, one after the other; a ``torch.Generator`` as it
    is.
    """
    return generator.at_repeats(times) if isinstance(generator, SampleGenerators) else generator


def repeats_of(generator: Generator) -> Callable[[Tensor, Tensor], Generator]:
    """Sources of single repeats of a draw (``SampleGenerators.repeats``); a ``torch.Generator`` for
    all of them.
    """
    if isinstance(generator, SampleGenerators):
        return generator.repeats()
    return lambda _entry, _earlier: generator


def mixed(number: int) -> int:
    """64 random bits from 64 bits, one to one: the output function of SplitMix64."""
    number &= 2**64 - 1
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def mix(state: Tensor) -> Tensor:
    """``mixed`` of int64 numbers, in place."""
    state.bitwise_xor_(shifted(state, 30)).mul_(signed(0xBF58476D1CE4E5B9))
    state.bitwise_xor_(shifted(state, 27)).mul_(signed(0x94D049BB133111EB))
    return state.bitwise_xor_(shifted(state, 31))


def unit(state: Tensor) -> Tensor:
    """The uniform numbers in [0, 1) of int64 states, float64; it may write to ``state``."""
    if state.is_cuda:
        return fused_unit()(state).view(torch.float64)
    return shifted(mix(state), 11).to(torch.float64).mul_(2.0**-53)


@cache
def fused_unit() -> Callable[[Tensor], Tensor]:
    """``unit`` as one CUDA kernel; its float64 numbers are returned as int64 of the same bits."""
    compiled: Callable[[Tensor], Tensor] = torch.cuda.jiterator._create_jit_fn(
        """template <typename T> T unit(T state) {
            unsigned long long z = state;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
            z = z ^ (z >> 31);
            return __double_as_longlong((z >> 11) * 1.1102230246251565e-16);
        }"""
    )
    return compiled


def shifted(number: Tensor, bits: int) -> Tensor:
    """int64 numbers as 64 bits shifted to the right, zeros on the left."""
    return (number >> bits).bitwise_and_(2 ** (64 - bits) - 1)


def signed(number: int) -> int:
    """The int64 number of the same lowest 64 bits."""
    return (number + 2**63) % 2**64 - 2**63
