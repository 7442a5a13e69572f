"""Sites drawn by their data first, against the distributions that they are drawn from."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from builders.confident import CIFAR, Confident
from builders.processes import (
    PROCESSES,
    SMALL,
    all_states,
    base_matrix,
    close,
    data_weights,
    matrix,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.sample_generators import Generator, SampleGenerators
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.process import given_data, jump_lists, rate_matrix, time_tables
from jumpsteps.process import kernel as process_kernel
from jumpsteps.process.given_data import JumpTables, NearJumps, NearSymbols
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie, added_jumps
from jumpsteps.schedules.schedule import Step

REVISABLE = {name: forward for name, forward in PROCESSES.items() if forward.revisable}
every_revisable = pytest.mark.parametrize("forward", REVISABLE.values(), ids=REVISABLE.keys())
every_time = pytest.mark.parametrize("t", [0.01, 0.4, 1.0])


def pairs(forward: ForwardProcess) -> tuple[Tensor, Tensor]:
    """All x0 and x, x changing first, int64 [V V] each."""
    x = all_states(forward)
    return x.repeat_interleave(len(x)), x.repeat(len(x))


def rates_given_data(forward: ForwardProcess, t: float) -> Tensor:
    """R_t(y, x) q(y | x0) / q(x | x0) by scipy, zero at y = x, [x0, x, y]."""
    q = matrix(forward, 0.0, t)
    into = torch.from_numpy(base_matrix(forward)).T.clone().fill_diagonal_(0)
    return float(forward.noise.rate(t)) * into * q[:, None] / q[:, :, None]


@every_revisable
@every_time
def test_rates_of_leaving_given_data(forward: ForwardProcess, t: float) -> None:
    v, (x0, x) = forward.vocab_size, pairs(forward)
    data = torch.eye(v, dtype=torch.float64)[x0]
    found = forward.exits(data, x, t)
    expected = rates_given_data(forward, t).sum(-1).flatten()[:, None] * data
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    p = data_weights(forward, v)
    rates = rates_given_data(forward, t)
    expected = torch.einsum("xd,dxy->x", p, rates)
    torch.testing.assert_close(
        forward.exits(p, all_states(forward), t).sum(-1), expected, rtol=1e-6, atol=1e-9
    )


@every_revisable
@every_time
def test_jumps_given_data(forward: ForwardProcess, t: float) -> None:
    v, (x0, x) = forward.vocab_size, pairs(forward)
    y = forward.sample_jump(x0.repeat(3000), x.repeat(3000), t, generator=seeded(0))
    rates = rates_given_data(forward, t)
    joint = rates / rates.sum(-1, keepdim=True) / v**2
    cells = (x0.repeat(3000) * v + x.repeat(3000)) * v + y
    assert chi_square_p(cells, joint.flatten()) > LEVEL


@every_revisable
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.2, 0.7), (0.9, 1.0)])
def test_bridges_given_data(forward: ForwardProcess, s: float, t: float) -> None:
    v, (x0, x) = forward.vocab_size, pairs(forward)
    y = forward.sample_bridge(x0.repeat(3000), x.repeat(3000), t, s, generator=seeded(0))
    joint = matrix(forward, 0.0, s)[:, None] * matrix(forward, s, t).T
    joint = joint / joint.sum(-1, keepdim=True) / v**2
    cells = (x0.repeat(3000) * v + x.repeat(3000)) * v + y
    assert chi_square_p(cells, joint.clamp_min(0).flatten()) > LEVEL


@every_revisable
@every_time
def test_the_own_symbol_is_put_in(forward: ForwardProcess, t: float) -> None:
    x = all_states(forward)
    w = data_weights(forward, len(x))
    joint = w * matrix(forward, 0.0, t).T
    found = forward.put_in(w, x, t)
    close(found / found.sum(-1, keepdim=True), joint / joint.sum(-1, keepdim=True))
    assert torch.equal(forward.possible(w.log(), x, t), w.log())


@pytest.mark.parametrize("name", ["uniform-Constant", "gaussian-5-Constant", "circle-Constant"])
def test_without_noise_the_data_are_known(name: str) -> None:
    forward = PROCESSES[name]
    x, flat = all_states(forward), torch.zeros(forward.vocab_size, forward.vocab_size)
    for time in (0.0, torch.zeros(len(x), dtype=torch.float64)):
        found = forward.possible(flat, x, time).softmax(-1)
        assert torch.equal(found, torch.eye(forward.vocab_size))


@pytest.mark.parametrize(("sites", "numbers"), [(500, 5 * 7), (40, 5 * 24)])
def test_pairs_in_parts_draw_the_same(
    sites: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many parts, and in two."""
    forward = PROCESSES["gaussian-5-Constant"]
    x0, x = (part.repeat(20)[:sites] for part in pairs(forward))
    whole = forward.sample_bridge(x0, x, 0.7, 0.2, generator=seeded(0))
    monkeypatch.setattr(given_data, "NUMBERS", numbers)
    assert torch.equal(forward.sample_bridge(x0, x, 0.7, 0.2, generator=seeded(0)), whole)


def jump_means(forward: ForwardProcess, p: Tensor, x: Tensor, t: float, h: float) -> Tensor:
    """h times the reverse rates of sites with posterior p [K, V], from float64 matrices."""
    q = forward.transition(0.0, t)
    odds = (p.double() / q.T[x]) @ q
    return h * float(forward.noise.rate(t)) * forward.rates_into(x) * odds


SUMS = [
    ("uniform", PROCESSES["uniform-Constant"], 0.5, 0.3),
    ("uniform-many", PROCESSES["uniform-Constant"], 0.5, 1.5),
    ("plain", PROCESSES["plain-Constant"], 0.5, 0.3),
    ("circle", PROCESSES["circle-Constant"], 0.5, 0.4),
    ("gaussian", SMALL, 0.3, 0.05),
    ("gaussian-early", SMALL, 0.003, 0.002),
]


@pytest.mark.parametrize(
    ("forward", "t", "h"), [case[1:] for case in SUMS], ids=[c[0] for c in SUMS]
)
@pytest.mark.parametrize("rare", ["few", "many"])
@pytest.mark.parametrize("ahead", [(), ("cpu",)])
def test_sums_of_jumps(
    forward: ForwardProcess,
    t: float,
    h: float,
    rare: str,
    ahead: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their distribution at the ends of the range and inside it. Once with most jumps drawn one by
    one, and once with jumps that are asked for before their number is known."""
    monkeypatch.setattr(jump_lists, "AHEAD", ahead)
    if rare == "many":
        monkeypatch.setattr(given_data, "RARE", 0.7)
        monkeypatch.setattr(given_data, "SMALLEST", 1e-3)
        monkeypatch.setattr(rate_matrix, "time_tables", rate_matrix.time_tables.__wrapped__)
    v = forward.vocab_size
    x = torch.tensor([0, v // 3, v - 1])
    p = data_weights(forward, 3, seed=1).to(torch.float32)
    expected = added_jumps(jump_means(forward, p, x, t, h), x)
    many = torch.arange(3).repeat(40_000)
    y = forward.sample_jump_sum(p[many], x[many], t, h, generator=seeded(2)).clamp(0, v - 1)
    probs = (expected / 3).flatten()
    assert chi_square_p(many * v + y, probs / probs.sum()) > LEVEL


@pytest.mark.parametrize(
    ("forward", "t", "h"), [case[1:] for case in SUMS], ids=[c[0] for c in SUMS]
)
def test_jumps_asked_for_ahead_are_the_same(
    forward: ForwardProcess, t: float, h: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are, fewer, and none; also where the last site has none."""
    x = torch.arange(400) % forward.vocab_size
    p = data_weights(forward, 400, seed=1).to(torch.float32)
    for length in (h, 1e-3 * h, 0.0):
        found = []
        for devices in ((), ("cpu",)):
            monkeypatch.setattr(jump_lists, "AHEAD", devices)
            generator = SampleGenerators(0, range(400))
            found.append(forward.sample_jump_sum(p, x, t, length, generator=generator))
        assert torch.equal(*found)
        moved = bool((found[0] != x).any())
        assert moved or length < h
        assert length or not moved


def test_a_quarter_of_the_sites_jumps_before_the_number_of_jumps_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward, seen = PROCESSES["uniform-Constant"], []

    def times_of(means: Tensor, *, generator: Generator) -> tuple[Tensor, Callable[[], int]]:
        times = torch.arange(400) % 2
        return times, lambda: seen.append("number") or 200

    def jump(self: Uniform, x0: Tensor, x: Tensor, t: float, *, generator: Generator) -> Tensor:
        seen.append(len(x))
        return x + 1

    monkeypatch.setattr(jump_lists, "AHEAD", ("cpu",))
    monkeypatch.setattr(process_kernel, "poisson_times", times_of)
    monkeypatch.setattr(Uniform, "sample_jump", jump)
    p, x = data_weights(forward, 400), torch.zeros(400, dtype=torch.int64)
    found = forward.sample_jump_sum(p, x, 0.5, 0.3, generator=seeded(0))
    assert torch.equal(found, torch.arange(400) % 2)
    assert seen == [100, "number", 100]


@pytest.mark.parametrize("t", [1e-3, 0.01, 0.1, 0.5, 1.0])
def test_near_and_rare_jumps_are_all_jumps(t: float) -> None:
    """Of CIFAR-10's kernel, in float32, from the largest to the smallest noise."""
    near = NearJumps.of(JumpTables.of(CIFAR.transition(0.0, t), CIFAR.rates_between))
    x = torch.tensor([0, 3, 128, 250, 255])
    p = data_weights(CIFAR, 5).to(torch.float32)
    means = jump_means(CIFAR, p, x, t, 1.0) / float(CIFAR.noise.rate(t))
    close_by = (p * near.inverse[x]) @ near.tables.q.to(p)
    target = (x[:, None] + near.symbols.distance).clamp(0, 255)
    found = (close_by.gather(-1, target) * near.symbols.rates[x]).sum(-1) + (p * near.rare[x]).sum(
        -1
    )
    torch.testing.assert_close(found.double(), means.sum(-1), rtol=1e-5, atol=0)
    assert (p * near.rare[x]).sum() < found.sum()


@pytest.mark.parametrize("forward", [CIFAR, SMALL, PROCESSES["plain-Constant"]], ids=repr)
def test_near_symbols_are_as_few_as_leave_rare_jumps_out(forward: ForwardProcess) -> None:
    """Farther jumps have a share of all below ``RARE``, by the largest rate at each distance."""
    into = forward.rates_between.T
    v = len(into)
    largest = [max(float(into.diagonal(d).max()) for d in (a, -a)) for a in range(1, v)]
    wide = [w for w in range(1, v) if sum(largest[w:]) <= given_data.RARE * sum(largest)]
    found = NearSymbols.of(into)
    assert len(found.distance) == 2 * min(wide)
    assert found.far.count_nonzero() == into.triu(min(wide) + 1).count_nonzero() * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True)],
    ids=lambda sampler: sampler.name,
)
@pytest.mark.parametrize(("t", "s"), [(0.5, 0.49), (0.01, 0.005)])
def test_a_step_of_256_intensities(sampler: Sampler, t: float, s: float) -> None:
    """Samples, in float32 and by data, against the float64 distribution of the same step."""
    reverse = PosteriorReverse(CIFAR, Confident((2.0, 2.0)))
    x = torch.tensor([[2, 90, 250]])
    probs = sampler.site_distribution(reverse, x, Step(t, s))[0]
    many = x.expand(20_000, -1)
    y, _, _ = sampler.step(reverse, many, Step(t, s), None, generator=seeded(3))
    for site in range(3):
        assert chi_square_p(y[:, site], probs[site] / probs[site].sum()) > LEVEL


def test_threads_share_the_tables_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its own times: what is made for one must not take away what another reads, even where
    fewer tables are kept than one step reads."""
    monkeypatch.setattr(time_tables, "KEPT", (1, 1))
    forward = PROCESSES["gaussian-5-Constant"]
    x = all_states(forward)

    def walk(first: int) -> list[Tensor]:
        times = [0.9 - 0.013 * first - 0.1 * step for step in range(8)]
        return [forward.sample_bridge(x, x, t, t / 2, generator=seeded(first)) for t in times]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(walk, range(8)))
    for found, first in zip(together, range(8), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, walk(first), strict=True))


@pytest.mark.parametrize(("few", "symbols"), [(0, 7), (16, 7), (0, 256), (16, 256)])
def test_pairs_of_few_sites_are_drawn_as_those_of_many(
    few: int, symbols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without looking for equal pairs: by the distribution function, with zeros among weights."""
    monkeypatch.setattr(given_data, "FEW", few)
    generator = seeded(symbols)
    table = torch.rand(symbols, symbols, generator=generator, dtype=torch.float64)
    table[torch.rand(symbols, symbols, generator=generator) < 0.3] = 0
    x0, x = torch.randint(symbols, (2, 16 * symbols), generator=generator)
    drawn = given_data.draw_pairs(
        x0, x, symbols, lambda x0, x: table[x0] * table[x], generator=seeded(1)
    )
    u = torch.rand(16 * symbols, generator=seeded(1), dtype=torch.float64)
    weights = table[x0] * table[x]
    above = (weights.cumsum(-1) / weights.sum(-1, keepdim=True)).gather(-1, drawn[:, None])[:, 0]
    own = weights.gather(-1, drawn[:, None])[:, 0] / weights.sum(-1)
    assert (own > 0).all()
    assert (u < above + 1e-9).all()
    assert (u >= above - own - 1e-9).all()


@pytest.mark.parametrize("symbols", [256, 100, 7])
def test_products_are_drawn_in_two_stages(symbols: int) -> None:
    """By the distribution function of each site, with weights that are zero."""
    generator = seeded(symbols)
    left, right = torch.rand(2, symbols, symbols, generator=generator, dtype=torch.float64)
    left[torch.rand(symbols, symbols, generator=generator) < 0.3] = 0
    x0, x = torch.randint(symbols, (2, 20_000), generator=generator)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    drawn = given_data.two_stage_products(x0, x, left, right, u)
    weights = left[x0] * right[x]
    above = (weights.cumsum(-1) / weights.sum(-1, keepdim=True)).gather(-1, drawn[:, None])[:, 0]
    own = weights.gather(-1, drawn[:, None])[:, 0]
    assert (own > 0).all()
    assert (u < above + 1e-12).all()
    assert (u >= above - own / weights.sum(-1) - 1e-12).all()


def test_products_of_a_site_that_sum_to_zero_are_refused() -> None:
    left = torch.ones(7, 7, dtype=torch.float64)
    left[3] = 0
    x = torch.zeros(4, dtype=torch.int64)
    u = torch.rand(4, generator=seeded(0), dtype=torch.float64)
    given_data.two_stage_products(torch.tensor([0, 1, 2, 4]), x, left, left + 1, u)
    with pytest.raises(ValueError, match="cannot draw a symbol"):
        given_data.two_stage_products(torch.tensor([0, 1, 2, 3]), x, left, left + 1, u)


@pytest.mark.gpu
def test_many_products_on_a_gpu() -> None:
    """The same symbols as on the CPU, which draws by pairs."""
    generator = seeded(0)
    left, right = torch.rand(2, 256, 256, generator=generator, dtype=torch.float64)
    x0, x = torch.randint(256, (2, 2**17), generator=generator)
    sources = (SampleGenerators(0, range(2**17), device=d) for d in ("cpu", "cuda"))
    here, there = (
        given_data.draw_products(
            *(each.to(source.device) for each in (x0, x, left, right)), generator=source
        )
        for source in sources
    )
    assert torch.equal(here, there.cpu())


@every_revisable
@pytest.mark.parametrize("t", [1e-3, 0.01, 0.4])
def test_tables_of_a_kernel(forward: ForwardProcess, t: float) -> None:
    """Of leaving, and of what can have become x; a kernel has both, or neither and says so."""
    device, x = torch.device("cpu"), all_states(forward)
    possible = forward.possible_table(t, device)
    leaving = forward.leaving_table(t, device)
    if type(forward).possible_table is ForwardProcess.possible_table:
        assert possible is leaving is None
        data = given_data.KnownPosterior(torch.eye(len(x)), x)
        with pytest.raises(ValueError, match="no leaving_table; write both"):
            forward.sample_jump_sum_of(data, x, t, 0.1, generator=seeded(0))
        return
    assert possible is not None
    assert leaving is not None
    assert possible.dtype == leaving.dtype == torch.float32
    x0 = x.expand(len(x), -1)
    can = forward.can_become(x0, x[:, None].expand_as(x0), t)
    assert torch.equal(possible, torch.where(can, 1.0, -1.0))
    rates = rates_given_data(forward, t).sum(-1).T.to(torch.float32)
    torch.testing.assert_close(leaving, torch.where(can, rates, -1.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("forward", [SMALL, PROCESSES["circle-Constant"]], ids=repr)
def test_tables_mark_what_cannot_have_become_x(forward: ForwardProcess) -> None:
    """All but x itself without noise, where uniform symbols have no table."""
    device, own = torch.device("cpu"), torch.eye(forward.vocab_size, dtype=torch.bool)
    possible, leaving = forward.possible_table(0.0, device), forward.leaving_table(0.0, device)
    assert torch.equal(possible, torch.where(own, 1.0, -1.0))
    assert (leaving[~own] == -1).all()
    assert (leaving[own] == 0).all()  # It came from nowhere else.
    assert PROCESSES["uniform-Constant"].possible_table(0.0, device) is None
