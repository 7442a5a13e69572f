"""Chunked evaluation: what a sampler draws does not depend on the size of the chunks, nor on
whether the model's head draws it."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser import chunks, data_draws
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant
from jumpsteps.process.rate_matrix import RateMatrix, birth_death
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie, MaskGIT
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule

V, LENGTH, BATCH = 5, 9, 6
SAME_DRAWS: list[Sampler] = [
    Tweedie(),
    Euler(),
    Ancestral(),
    ReMDM(cap=0.3),
    KGillespie(),
    MaskGIT(),
]


@dataclass
class Network:
    """Logits that depend on all sites, kept as rows; counts calls and the rows that are read."""

    symbols: int
    calls: int = 0
    read: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float, where: Tensor | None = None) -> Tensor:
        where = torch.ones_like(x, dtype=torch.bool) if where is None else where
        return self.evaluate(x, t, where)(x, t, where)

    def evaluate(self, x: Tensor, t: float, where: Tensor) -> Evaluation:
        self.calls += 1
        table = torch.randn(
            LENGTH, self.symbols, self.symbols, generator=seeded(3), dtype=torch.float64
        )
        rows = sum(table[i][x.roll(i, -1)] for i in range(LENGTH))[where]

        def head(rows: Tensor, tokens: Tensor) -> Tensor:
            self.read.append(len(rows))
            return rows

        return Evaluation(rows, where, head)


def chunks_of(sites: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", sites * (V + 1))


def test_chunks_are_the_selected_sites_in_order(monkeypatch):
    where = torch.rand(BATCH, LENGTH, generator=seeded(0)) < 0.5
    chunks_of(4, monkeypatch)
    pieces = list(chunks.site_chunks(where, V + 1))
    full, rest = divmod(int(where.sum()), 4)
    assert [len(piece) for piece in pieces] == [4] * full + [rest] * (rest > 0)
    assert torch.equal(torch.cat([piece.mask.nonzero() for piece in pieces]), where.nonzero())
    assert [len(piece) for piece in chunks.site_chunks(torch.zeros_like(where), V + 1)] == [0]


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        pytest.param(sampler, name, id=f"{sampler.name}-{name}")
        for sampler in SAME_DRAWS
        for name in ("absorbing", "uniform")
        if name in (sampler.kernels or (name,))
    ],
)
def test_a_run_by_chunks_draws_the_same_samples(sampler: Sampler, name: str, monkeypatch):
    forward = kernel(name, V)
    schedule = (
        CountSchedule([5, 4]) if sampler.takes is CountSchedule else TimeSchedule([1, 0.6, 0.2, 0])
    )

    def run() -> tuple[Tensor, Network, int]:
        network = Network(forward.vocab_size)
        made = simulate(
            PosteriorReverse(forward, network),
            sampler,
            schedule,
            (BATCH, LENGTH),
            generator=seeded(1),
        )
        return made.samples, network, made.nfe

    whole, _, nfe = run()
    chunks_of(4, monkeypatch)
    pieces, network, calls = run()
    assert torch.equal(whole, pieces)
    assert calls == nfe == network.calls  # One call, however many chunks.
    assert max(network.read) <= 5


@pytest.mark.parametrize("name", ["uniform", "absorbing"])
def test_tau_leaping_by_chunks_has_its_distribution(name: str, monkeypatch):
    truth = Enumerable.random(kernel(name, 3), symbols=3, length=2, seed=0)
    n, t, s = 60_000, 0.8, 0.3
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 7_001 * truth.forward.vocab_size)
    start = (
        torch.full((n, 2), 3)
        if name == "absorbing"
        else torch.tensor([[0, 2]]).expand(n, 2).contiguous()
    )
    x, _, _ = TauLeaping().step(
        PosteriorReverse(truth.forward, truth), start, Step(t, s), None, generator=seeded(2)
    )
    v = truth.forward.vocab_size
    expected = transition_matrices.tau_leaping(truth, t, s)[int(start[0, 0]) * v + int(start[0, 1])]
    assert chi_square_p(x[:, 0] * v + x[:, 1], expected) > LEVEL


class DrawingHead:
    """Rows are the output itself; counts the symbols that are drawn and the rows that are read."""

    drawn = read = 0

    def __call__(self, rows: Tensor, tokens: Tensor) -> Tensor:
        self.read += len(rows)
        return rows

    def draw(self, rows: Tensor, *, generator: torch.Generator) -> Tensor:
        self.drawn += len(rows)
        return categorical(rows.softmax(-1), generator=generator)


class DrawingModel:
    """The log-posterior of an enumerable model, whose head draws. Symbols that cannot have become
    x_t have as much probability as all others together.
    """

    def __init__(self, truth: Enumerable) -> None:
        self.truth, self.head = truth, DrawingHead()

    def evaluate(self, x: Tensor, t: float, where: Tensor) -> Evaluation:
        reverse = PosteriorReverse(self.truth.forward, self.truth)
        log_p = reverse.posterior(x, t, where).log()
        impossible = log_p == -torch.inf
        share = -torch.log(impossible.sum(-1, keepdim=True).clamp_min(1).double())
        return Evaluation(torch.where(impossible, share, log_p), where, self.head)

    def __call__(self, x: Tensor, t: float, where: Tensor) -> Tensor:
        return self.evaluate(x, t, where)(x, t, where)


@pytest.mark.parametrize("redraws", [4, 0])
@pytest.mark.parametrize(("name", "t", "s"), [("uniform", 0.8, 0.3), ("gaussian", 0.9, 0.4)])
def test_a_head_that_draws_gives_the_same_distribution(name, t, s, redraws, monkeypatch):
    """The exact step of Tweedie's sampler from one state, (0, 2)."""
    truth = Enumerable.random(kernel(name, 3), symbols=3, length=2, seed=0)
    model, n = DrawingModel(truth), 60_000
    monkeypatch.setattr(data_draws, "REDRAWS", redraws)
    start = torch.tensor([[0, 2]]).expand(n, 2).contiguous()
    x, _, _ = Tweedie().step(
        PosteriorReverse(truth.forward, model), start, Step(t, s), None, generator=seeded(2)
    )
    exact = Tweedie().transition_matrix(
        PosteriorReverse(truth.forward, truth), truth.states, Step(t, s)
    )
    assert chi_square_p(x[:, 0] * 3 + x[:, 1], exact[2]) > LEVEL
    assert (model.head.drawn, model.head.read) == (2 * n, 0)


@pytest.mark.parametrize("redraws", [4, 0])
def test_symbols_that_cannot_have_become_x_are_drawn_again(redraws, monkeypatch):
    """A walk to neighbours so short that the farther ones count as impossible."""
    forward = RateMatrix(matrix=birth_death(torch.ones(5), torch.ones(5)), noise=Constant(1e-120))
    truth = Enumerable.random(forward, symbols=6, length=1, seed=1)
    model, n = DrawingModel(truth), 20_000
    monkeypatch.setattr(data_draws, "REDRAWS", redraws)
    reverse = PosteriorReverse(forward, model)
    x = torch.full((n, 1), 1)
    where = SiteMask(torch.ones_like(x, dtype=torch.bool))
    x0 = data_draws.draw_data(reverse, x, 1.0, where, generator=seeded(3))
    exact = PosteriorReverse(forward, truth).posterior(x[:1], 1.0)[0, 0]
    assert 0 < int((exact == 0).sum()) < 5
    assert chi_square_p(x0, exact) > LEVEL
    assert model.head.drawn > n or redraws == 0
    assert model.head.read > 0
    rows = {size: [range(i, i + size) for i in range(0, 60, size)] for size in (60, 4)}
    whole, parts = (
        torch.cat(
            [
                data_draws.draw_data(
                    reverse, x[some], 1.0, SiteMask(where.mask[some]), generator=generator
                )
                for some, generator in ((list(r), SampleGenerators(5, r)) for r in rows[size])
            ]
        )
        for size in rows
    )
    assert torch.equal(whole, parts)
