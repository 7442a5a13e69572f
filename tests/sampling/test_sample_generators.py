"""A generator for each sample: it is the same in every batch, by every sampler on every kernel."""

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.models import prior_distribution
from builders.samplers import (
    ALL_KERNELS,
    CASES,
    SAMPLERS,
    enumerable,
    posterior_reverse,
    serves,
    step_p,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from builders.step_formulas import exact_distribution
from jumpsteps import (
    Blocks,
    CountSchedule,
    Dilated,
    Fixed,
    Golden,
    KGillespie,
    Mixture,
    PosteriorReverse,
    Random,
    RevealOrder,
    Sampler,
    Schedule,
    Spread,
    TauLeaping,
    TimeSchedule,
    Tweedie,
    load,
    simulate,
    uniform,
)
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.schedules.schedule import Step

SYMBOLS, SAMPLES, LENGTH = 3, 12, 6
SIZES = ((12,), (1, 3, 8))
ORDERS = (
    Random(),
    Spread(),
    Golden(),
    Dilated(),
    Blocks(2),
    Blocks(4, Spread()),
    Fixed((3, 1, 0, 2, 5, 4), shift=True),
    Mixture((Random(), Golden()), (0.3, 0.7)),
)


def neighbours(x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
    """Logits that depend on the two neighbours."""
    left, right = torch.randn(2, 4, 4, generator=seeded(0), dtype=torch.float64)
    logits = left[x.roll(1, -1)] + right[x.roll(-1, -1)]
    return logits if where is None else logits[where]


def three_symbols(x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
    return neighbours(x, t, where)[..., :SYMBOLS]


def schedule_for(sampler: Sampler, order: RevealOrder | None = None) -> Schedule | None:
    if sampler.takes is TimeSchedule:
        return TimeSchedule([1.0, 0.8, 0.3, 0.0])
    return None if sampler.takes is None else CountSchedule((2, 3, 1), order=order or Random())


def drawn(
    sampler: Sampler,
    name: str,
    sizes: tuple[int, ...],
    *,
    given: Given | None = None,
    order: RevealOrder | None = None,
    seed: int = 5,
) -> Tensor:
    """Samples 0 .. n - 1, in runs of these sizes."""
    forward, runs, start = kernel(name, SYMBOLS), [], 0
    model = neighbours if forward.vocab_size > SYMBOLS else three_symbols
    for size in sizes:
        rows = range(start, start := start + size)
        known = None if given is None else given.at_rows(slice(rows.start, rows.stop))
        run = simulate(
            PosteriorReverse(forward, model),
            sampler,
            schedule_for(sampler, order),
            (size, LENGTH),
            generator=SampleGenerators(seed, rows),
            given=known,
        )
        runs.append(run.samples)
    return torch.cat(runs)


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_a_sample_does_not_depend_on_its_batch(sampler: Sampler, name: str) -> None:
    whole, parts = (drawn(sampler, name, sizes) for sizes in SIZES)
    assert torch.equal(whole, parts)
    assert len(whole.unique(dim=0)) > SAMPLES // 2
    assert not torch.equal(whole, drawn(sampler, name, SIZES[0], seed=6))


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_nor_where_sites_are_given(sampler: Sampler, name: str) -> None:
    mask = torch.rand(SAMPLES, LENGTH, generator=seeded(1)) < 0.4
    given = Given(torch.randint(SYMBOLS, mask.shape, generator=seeded(2)), mask)
    assert torch.equal(*(drawn(sampler, name, sizes, given=given) for sizes in SIZES))


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_nor_on_the_size_of_chunks(
    sampler: Sampler, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawn(sampler, name, SIZES[0])
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 20)
    assert torch.equal(whole, drawn(sampler, name, SIZES[0]))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_nor_in_any_order(order: RevealOrder) -> None:
    whole, parts = (drawn(KGillespie(), "absorbing", sizes, order=order) for sizes in SIZES)
    assert torch.equal(whole, parts)


STEPS = [
    pytest.param(sampler, name, id=f"{sampler.name}-{name}")
    for sampler in SAMPLERS
    for name in ALL_KERNELS
    if sampler.takes is TimeSchedule and serves(sampler, kernel(name, 3))
]


@pytest.mark.parametrize(("sampler", "name"), STEPS)
def test_a_step_has_the_distribution_of_the_sampler(sampler: Sampler, name: str) -> None:
    """As ``test_exact_distributions`` has it for a ``torch.Generator``; all samples of one run."""
    truth, step, n = enumerable(name), Step(0.7, 0.2), 20_000
    reverse, generator = posterior_reverse(truth), SampleGenerators(4, range(n))
    matrix = sampler.transition_matrix(reverse, truth.states, step)
    assert step_p(truth, reverse, sampler, step, matrix, n=n, generator=generator) > LEVEL


@pytest.mark.parametrize("name", ALL_KERNELS)
def test_a_run_has_the_distribution_of_its_steps(name: str) -> None:
    """No step draws the numbers of another one."""
    truth, n = enumerable(name), 20_000
    schedule = TimeSchedule([1.0, 0.6, 0.2, 0.0])
    run = simulate(
        posterior_reverse(truth),
        Tweedie(),
        schedule,
        (n, 2),
        generator=SampleGenerators(4, range(n)),
    )
    exact = exact_distribution(truth, Tweedie(), schedule, prior_distribution(truth))
    assert chi_square_p(truth.index(run.samples), exact) > LEVEL


def test_generators_of_another_number_of_samples_are_refused() -> None:
    reverse = PosteriorReverse(kernel("uniform", SYMBOLS), three_symbols)
    with pytest.raises(ValueError, match="a run of 3 samples with the generators of 2"):
        simulate(
            reverse,
            TauLeaping(),
            TimeSchedule([1, 0]),
            (3, 4),
            generator=SampleGenerators(0, [4, 5]),
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["countdown", "piano-absorbing", "piano-uniform"])
def test_samples_of_shipped_networks_do_not_depend_on_their_batch(name: str) -> None:
    """A network's float32 output is the same to the bit in either batch, on a CPU."""
    model = load(name)
    whole, parts = (
        sample_batches(
            model.reverse,
            Tweedie(),
            uniform(2),
            (8, model.length),
            generator=SampleGenerators(0, range(8)),
            batch=batch,
        )[0]
        for batch in (8, 3)
    )
    assert torch.equal(whole, parts)
