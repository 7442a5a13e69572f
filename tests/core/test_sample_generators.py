import math

import numpy as np
import pytest
import torch
from scipy import stats

from builders.statistics import LEVEL, chi_square_p
from jumpsteps.core.draws import categorical, integers, poisson, uniform
from jumpsteps.core.poisson import poisson_quantile
from jumpsteps.core.sample_generators import (
    GOLDEN,
    SampleGenerators,
    at_repeats,
    at_rows,
    at_sites,
    at_step,
    mix,
    mixed,
    signed,
)

CPU = torch.device("cpu")
REFERENCE = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""The first numbers of SplitMix64 with the seed 1234567, by Vigna's reference code."""


def test_the_mixing_is_that_of_splitmix64() -> None:
    states = [1234567 + (i + 1) * GOLDEN for i in range(5)]
    assert [mixed(state) for state in states] == REFERENCE
    tensor = torch.tensor([signed(state) for state in states])
    assert [number % 2**64 for number in mix(tensor).tolist()] == REFERENCE


def test_a_number_is_that_of_its_seed_sample_draw_and_element_alone() -> None:
    whole = SampleGenerators(7, range(10))
    first, second = whole.uniform((10, 4)), whole.uniform((10, 4))
    part = SampleGenerators(7, [3, 8])
    assert torch.equal(part.uniform((2, 4)), first[[3, 8]])
    assert torch.equal(part.uniform((2, 4)), second[[3, 8]])
    assert torch.equal(SampleGenerators(7, [3]).uniform((1,)), first[3, :1])
    every = torch.stack(
        [first, second, *(SampleGenerators(s, range(10)).uniform((10, 4)) for s in (8, -7))]
    )
    assert len(every.unique()) == every.numel()


def test_sites_rows_and_repeats_have_numbers_of_their_own() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    generators = SampleGenerators(0, range(3))
    sites = at_sites(generators, mask).uniform((5, 2))
    alone = at_sites(SampleGenerators(0, [2]), mask[2:]).uniform((3, 2))
    assert torch.equal(sites[2:], alone)
    times = torch.tensor([2, 0, 1])
    repeats = at_repeats(generators, times).uniform((3,))
    other = SampleGenerators(0, [2])
    other.used = 1
    assert torch.equal(repeats[2:], at_repeats(other, torch.tensor([1])).uniform((1,)))
    rows = at_rows(generators, mask[:, 0]).uniform((2,))
    steps = [at_step(generators, i).uniform((3,)) for i in (-1, 0, 1)]
    first = SampleGenerators(0, range(3)).uniform((3,))
    of_sites = at_repeats(at_sites(generators, mask), 3).uniform((15, 2)).flatten()
    last = generators.uniform((3,))
    every = torch.cat([sites.flatten(), repeats, rows, *steps, first, of_sites, last])
    assert len(every.unique()) == len(every)


def test_a_step_starts_anew_from_wherever_it_is_asked() -> None:
    generators = SampleGenerators(0, range(3))
    expected = generators.at_step(4).uniform((3,))
    within = generators.at_step(2)
    within.uniform((3,))
    assert torch.equal(within.at_step(4).uniform((3,)), expected)


def test_numbers_are_uniform_and_independent() -> None:
    """Along each way in which two numbers can differ: elements, draws, samples, seeds, sites."""
    n = 40_000
    whole, one = SampleGenerators(1, range(n)), SampleGenerators(0, [0])
    mask = torch.ones(n // 8, 8, dtype=torch.bool)
    ways = {
        "elements": SampleGenerators(2, [0]).uniform((1, n))[0],
        "samples": whole.uniform((n,)),
        "draws": torch.cat([whole.at_rows(torch.tensor([5])).uniform((1,)) for _ in range(2000)]),
        "seeds": torch.cat([SampleGenerators(s, [0]).uniform((1,)) for s in range(2000)]),
        "steps": torch.cat([at_step(one, s).uniform((1,)) for s in range(2000)]),
        "sites": at_sites(SampleGenerators(3, range(n // 8)), mask).uniform((n,)),
        "repeats": at_repeats(SampleGenerators(4, [0]), n).uniform((n,)),
    }
    for name, u in ways.items():
        assert u.dtype == torch.float64
        assert stats.kstest(u.numpy(), "uniform").pvalue > LEVEL, name
        for lag in (1, 2, 7, 8):
            pair = (8 * u[lag:]).long() * 8 + (8 * u[:-lag]).long()
            assert chi_square_p(pair, torch.full((64,), 1 / 64)) > LEVEL, (name, lag)


def test_the_lowest_bits_are_uniform_too() -> None:
    u = SampleGenerators(0, range(50_000)).uniform((50_000,))
    low = (u * 2**53).long() % 16
    assert chi_square_p(low, torch.full((16,), 1 / 16)) > LEVEL
    assert float(u.max()) < 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mean", [0.0, 1e-9, 0.02, 0.7, 6.0, 80.0, 144.0, 200.0, 5e4])
def test_poisson_numbers_are_quantiles(mean: float, device: str) -> None:
    u = np.concatenate([np.linspace(0, 1, 400, endpoint=False), 1 - 2.0 ** -np.arange(2, 53)])
    means = torch.full((len(u),), mean, dtype=torch.float64, device=device)
    k = poisson_quantile(torch.tensor(u, device=device), means).double().cpu().numpy()
    # P(N < k) <= u < P(N <= k), up to rounding, which grows with the exponent of a term.
    rounding = 1e-13 + 1e-15 * mean
    assert (stats.poisson.cdf(k - 1, mean) <= u + rounding).all()
    assert (stats.poisson.cdf(k, mean) >= u - rounding).all()


def test_draws_have_their_distributions() -> None:
    n = 50_000
    generators = SampleGenerators(11, range(n))
    k = poisson(torch.full((n,), 2.5, dtype=torch.float32), generator=generators)
    probs = torch.tensor(stats.poisson.pmf(np.arange(40), 2.5))
    assert chi_square_p(k, probs / probs.sum()) > LEVEL
    assert (
        chi_square_p(integers(8, (n,), generator=generators, device=CPU), torch.full((8,), 1 / 8))
        > LEVEL
    )
    weights = torch.tensor([1.0, 0.0, 3.0, 2.0], dtype=torch.float64)
    y = categorical(weights.expand(n, 2, 4), generator=generators)
    assert chi_square_p(y[:, 0] * 4 + y[:, 1], torch.kron(weights, weights) / 36) > LEVEL


def test_draws_of_another_number_of_rows_are_refused() -> None:
    generators = SampleGenerators(0, range(4))
    with pytest.raises(ValueError, match=r"5 rows from the generators of 4; .* at_sites"):
        uniform((5,), generator=generators, device=CPU)
    with pytest.raises(ValueError, match="3 rows from the generators of 4"):
        at_sites(generators, torch.ones(3, 2, dtype=torch.bool))


def test_a_torch_generator_is_its_own_source_everywhere() -> None:
    generator, mask = torch.Generator(), torch.ones(2, 3, dtype=torch.bool)
    sources = [
        at_step(generator, 1),
        at_rows(generator, mask[:, 0]),
        at_sites(generator, mask),
        at_repeats(generator, 2),
    ]
    assert all(source is generator for source in sources)
    assert math.isfinite(float(uniform((1,), generator=sources[0], device=CPU)))


@pytest.mark.gpu
def test_a_gpu_has_the_numbers_of_a_cpu() -> None:
    for shape in ((5,), (5, 7), (5, 7, 300)):
        drawn = [
            uniform(shape, generator=SampleGenerators(3, range(5), name), device=torch.device(name))
            for name in ("cpu", "cuda")
        ]
        assert torch.equal(drawn[0], drawn[1].cpu())
