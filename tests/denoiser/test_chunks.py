"""Chunked evaluation: what a sampler draws does not depend on the size of the chunks."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
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
