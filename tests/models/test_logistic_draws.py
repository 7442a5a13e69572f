"""Draws of the compiled head against the whole distribution of the U-Net's head, float64."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from builders.processes import SMALL, all_states
from builders.statistics import LEVEL, chi_square_p, seeded
from builders.tauldr_checkpoints import UNET_CONFIG
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.data_draws import HeadAtSites
from jumpsteps.denoiser.model import DrawsWeighted, Evaluation
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.networks import unet
from jumpsteps.models.networks.logistic_bins import truncated_logistic
from jumpsteps.models.networks.logistic_draws import weighted_draw, weighted_masses
from jumpsteps.models.networks.unet import CompiledHead, UNet, UNetPosterior
from jumpsteps.process import given_data, rate_matrix
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Time
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.schedule import Step


def case(symbols: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, sites and a table of weights, some narrow rows far from all symbols that p leaves."""
    generator = seeded(symbols)
    rows = torch.stack(
        [
            torch.rand(3000, generator=generator) * 2 - 1,
            0.5 * torch.randn(3000, generator=generator),
        ],
        -1,
    )
    rows[:100] = torch.tensor([-0.9, -3.0])
    x = torch.randint(symbols, (3000,), generator=generator)
    x[:100] = 0
    table = 5 * torch.rand(symbols, symbols, generator=generator)
    table[torch.rand(symbols, symbols, generator=generator) < 0.3] = -1
    table[torch.rand(symbols, symbols, generator=generator) < 0.2] = 0
    table[0, : symbols // 2] = -1
    table[:, -1] = 1
    return rows, x, table


def expected_of(rows: Tensor, x: Tensor, table: Tensor) -> Tensor:
    """p(v) w(x, v), float64 [K, V]."""
    location, scale = rows.double().unbind(-1)
    log_p = truncated_logistic(location, scale, len(table), symmetric=True)
    p = log_p.masked_fill(table[x] < 0, -torch.inf).softmax(-1)
    return p * table[x].clamp_min(0)


def check_inverse(u: Tensor, drawn: Tensor, weights: Tensor) -> None:
    """Symbols are where the distribution functions exceed u, up to rounding."""
    above = weights.cumsum(-1) / weights.sum(-1, keepdim=True)
    own = weights.gather(-1, drawn[:, None])[:, 0] / weights.sum(-1)
    high = above.gather(-1, drawn[:, None])[:, 0]
    assert (u < high + 1e-4).all()
    assert (u >= high - own - 1e-4).all()


@pytest.mark.parametrize("symbols", [256, 100, 7])
def test_a_draw_inverts_the_distribution_function(symbols: int) -> None:
    rows, x, table = case(symbols)
    u = torch.rand(len(x), generator=seeded(0), dtype=torch.float64)
    drawn, mean, *sums = weighted_draw(rows, x, table, u)
    weights = expected_of(rows, x, table)
    torch.testing.assert_close(mean, weights.sum(-1), rtol=1e-4, atol=1e-30)
    check_inverse(u, drawn, weights)
    assert (table[x, drawn] > 0).all()
    assert all((each.min() > 0) & (each.max() < torch.inf) for each in sums)


@pytest.mark.parametrize("symbols", [256, 7])
def test_few_rows_are_drawn_without_a_compiled_pass(symbols: int) -> None:
    def compiled(*args: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("a pass is compiled for every number of rows")

    network = UNetPosterior(UNet(replace(UNET_CONFIG, vocab_size=symbols, symmetric=True)))
    network.head = compiled
    rows, x, table = case(symbols)
    head = CompiledHead(network, compiled, compiled)
    drawn, mean = head.draw_weighted(rows, x, table, generator=seeded(0))
    weights = expected_of(rows, x, table)
    torch.testing.assert_close(mean, weights.sum(-1), rtol=1e-4, atol=1e-30)
    u = torch.rand(len(x), generator=seeded(0), dtype=torch.float64)
    check_inverse(u, drawn, weights)
    assert (table[x, drawn] > 0).all()


@pytest.mark.parametrize("symbols", [256, 7])
def test_masses_and_means(symbols: int) -> None:
    rows, x, table = case(symbols)
    rates = torch.where(table < 0, -1.0, 3 * table**2)
    weights, mean, total = weighted_masses(rows, x, table, rates)
    torch.testing.assert_close(weights.double(), expected_of(rows, x, table), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        mean.double(), expected_of(rows, x, rates).sum(-1), rtol=1e-3, atol=1e-30
    )
    assert (total > 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_that_leaves_nothing_is_refused(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet, "MANY", 0)
    network = UNetPosterior(UNet(replace(UNET_CONFIG, symmetric=True)))
    head = CompiledHead(network, weighted_draw, weighted_masses)
    rows, x, table = case(7)
    with pytest.raises(ValueError, match="cannot draw a symbol"):
        head.draw_weighted(
            torch.where(torch.arange(3000)[:, None] == 5, bad, rows), x, table, generator=seeded(0)
        )
    nothing = table.clone()
    nothing[3] = -1
    with pytest.raises(ValueError, match="cannot draw a symbol"):
        head.draw_weighted(rows, x, nothing, generator=seeded(0))
    with pytest.raises(ValueError, match="cannot draw a symbol"):
        head.weighted(rows, x, nothing, nothing)


class Told:
    """A model with the same location and scale at every site that has the same token."""

    reads_site_mask = True

    def __init__(self, symbols: int, *, compiled: bool) -> None:
        config = replace(UNET_CONFIG, vocab_size=symbols, symmetric=True)
        posterior = UNetPosterior(UNet(config))
        self.head = posterior.reader
        if compiled:
            self.head = CompiledHead(posterior, weighted_draw, weighted_masses)
        self.symbols = symbols

    def rows(self, x: Tensor) -> Tensor:
        location = 0.9 * ((2 * x + 1) / self.symbols - 1)
        return torch.stack([location, torch.full_like(location, 0.5)], -1)

    def __call__(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        rows = self.rows(x)
        return self.head(rows if where is None else where.select(rows), x)

    def evaluate(self, x: Tensor, t: Time, where: SiteMask) -> Evaluation:
        return Evaluation(where.select(self.rows(x)), where, self.head)


KERNELS = {"gaussian": SMALL, "uniform": Uniform(vocab_size=6, noise=Constant(2.0))}


def step_p(sampler: Sampler, reverse: ReverseProcess, plain: ReverseProcess) -> float:
    """How well steps of one process have the distribution of another's: a p-value."""
    step, states = Step(0.4, 0.3), all_states(plain.forward)[:, None]
    expected = sampler.site_distribution(plain, states, step).reshape(len(states), -1)
    x = states.repeat(10_000, 1)
    y, _, _ = sampler.step(reverse, x, step, None, generator=seeded(1))
    probs = (expected / len(states)).flatten()
    return chi_square_p((x * len(states) + y)[:, 0], probs / probs.sum())


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("forward", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(
    "sampler", [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True)], ids=lambda s: s.name
)
def test_steps_have_their_distribution(
    sampler: Sampler, forward: ForwardProcess, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiled head, and by what it does at few sites; of a model that is told apart."""
    if not few:
        monkeypatch.setattr(unet, "MANY", 0)
    reverse = PosteriorReverse(forward, Told(forward.vocab_size, compiled=True))
    plain = PosteriorReverse(forward, Told(forward.vocab_size, compiled=False))
    assert isinstance(reverse.model.head, DrawsWeighted)
    assert step_p(sampler, reverse, plain) > LEVEL


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "sampler", [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True)], ids=lambda s: s.name
)
def test_a_head_of_another_distribution_does_not_draw(sampler: Sampler, compiled: bool) -> None:
    """It draws from posteriors, and its output stands for log p(x0^l | x_t^{-l})."""
    reverse = LeaveOneOutReverse(SMALL, Told(SMALL.vocab_size, compiled=compiled))
    assert step_p(sampler, reverse, reverse) > LEVEL


def test_rare_jumps_have_their_data_from_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """With most jumps drawn one by one."""
    for name, value in (("RARE", 0.7), ("SMALLEST", 1e-3)):
        monkeypatch.setattr(given_data, name, value)
    monkeypatch.setattr(rate_matrix, "time_tables", rate_matrix.time_tables.__wrapped__)
    monkeypatch.setattr(unet, "MANY", 0)
    reverse, plain = (
        PosteriorReverse(SMALL, Told(SMALL.vocab_size, compiled=c)) for c in (True, False)
    )
    assert step_p(TauLeaping(ordinal=True), reverse, plain) > LEVEL


STEPS = {
    Tweedie(): ["draw_weighted"],
    Euler(): ["draw_weighted"],
    TauLeaping(): ["draw_weighted"],
    TauLeaping(ordinal=True): ["weighted"],
}


@pytest.mark.parametrize("forward", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(("sampler", "passes"), STEPS.items(), ids=lambda s: getattr(s, "name", ""))
def test_a_step_is_one_pass_of_the_head(
    sampler: Sampler, passes: list[str], forward: ForwardProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step of a compiled head makes the V numbers of a site, or draws a symbol again."""
    asked: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        own = getattr(CompiledHead, name)

        def call(self: CompiledHead, *args: object, **options: object) -> object:
            asked.append(name)
            return own(self, *args, **options)

        return call

    for name in ("__call__", "draw", "draw_weighted", "weighted"):
        monkeypatch.setattr(CompiledHead, name, noted(name))
    reverse = PosteriorReverse(forward, Told(forward.vocab_size, compiled=True))
    x = all_states(forward)[:, None]
    sampler.step(reverse, x, Step(0.4, 0.399), None, generator=seeded(0))
    assert asked[:1] == passes
    assert set(asked) <= {"draw_weighted", *passes}


@pytest.mark.parametrize("few", [False, True])
def test_what_cannot_have_become_x_has_no_jumps(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tables, and the draws, are of a posterior without it."""
    if not few:
        monkeypatch.setattr(unet, "MANY", 0)
    rows, x, marked = case(7)
    network = UNetPosterior(UNet(replace(UNET_CONFIG, symmetric=True)))
    head = CompiledHead(network, weighted_draw, weighted_masses)
    table, rates = (1 + torch.rand(2, 7, 7, generator=seeded(3))).unbind()
    possible = torch.where(marked < 0, -1.0, 1.0)
    weights, mean, draw = HeadAtSites(head, rows, x, possible).weighted(table, rates)
    for found, own in ((weights.sum(-1), table), (mean, rates)):
        expected = expected_of(rows, x, torch.where(marked < 0, -1.0, own)).sum(-1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    sites = torch.arange(len(x)).repeat(20)
    assert (possible[x[sites], draw(sites, seeded(0))] > 0).all()


@pytest.mark.parametrize("sampler", [Tweedie(), Euler(), TauLeaping()], ids=lambda s: s.name)
def test_chunks_draw_the_same(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet, "MANY", 0)
    reverse = PosteriorReverse(SMALL, Told(SMALL.vocab_size, compiled=True))
    x = all_states(SMALL)[:, None].repeat(20, 3)
    whole, _, _ = sampler.step(reverse, x, Step(0.4, 0.3), None, generator=seeded(1))
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 50 * SMALL.vocab_size)
    parts, _, _ = sampler.step(reverse, x, Step(0.4, 0.3), None, generator=seeded(1))
    assert torch.equal(whole, parts)


def test_only_heads_with_two_floors_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(function: Callable[..., Tensor], **options: bool) -> Callable[..., Tensor]:
        return function

    monkeypatch.setattr(torch, "compile", plain)
    for symmetric in (False, True):
        network = UNetPosterior(UNet(replace(UNET_CONFIG, symmetric=symmetric)))
        network.compile_trunk()
        x = torch.zeros(1, 48, dtype=torch.int64)
        head = network.evaluate(x, 0.5, SiteMask.everywhere(x)).read
        assert isinstance(head, DrawsWeighted) == symmetric


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
def test_the_compiled_passes_of_a_gpu() -> None:
    """Against the plain ones on the CPU; where rounding decides, neighbours are drawn."""
    rows, x, table = (each.repeat(8, *[1] * (each.ndim - 1)) for each in case(256))
    table = table[:256]
    u = torch.rand(len(x), generator=seeded(0), dtype=torch.float64)
    found = torch.compile(weighted_draw)(*(each.cuda() for each in (rows, x, table, u)))
    expected = weighted_draw(rows, x, table, u)
    assert (found[0].cpu() != expected[0]).float().mean() < 1e-3
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-4, atol=1e-30)
    rates = torch.where(table < 0, -1.0, 3 * table**2)
    found = torch.compile(weighted_masses)(*(each.cuda() for each in (rows, x, table, rates)))
    expected = weighted_masses(rows, x, table, rates)
    for here, there in zip(expected, found, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-6)
