"""Doubtful input is named, each doubt in one line; sound input is not."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from builders.command_line import run
from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.models.networks.dit import DiT, DiTConfig
from jumpsteps.process.noise import Time
from jumpsteps.schedules.orders import Random, Spread
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.costs.table import Calibration
from jumpsteps.search.doubts import DoubtfulInput, doubt_calibration, doubt_data, doubt_found
from jumpsteps.search.method import FoundSchedule
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown

FORWARD = kernel("absorbing", 8)
CHAIN = MarkovChain(FORWARD, *countdown.chain(8))


def data(sequences: int) -> Tensor:
    return countdown.sample_data(sequences, generator=seeded(0), symbols=8, length=16)


def doubts(action: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert all(issubclass(one.category, DoubtfulInput) for one in caught)
    return [str(one.message) for one in caught]


class Everything(ShortestPath):
    """A search of one's own, which lies between the call and a doubt."""

    def find(self, *args, **options):
        return super().find(*args, **options)


@pytest.mark.parametrize("method", [ShortestPath(), AutoOrder(), Everything()])
def test_a_doubt_points_to_the_line_that_calls_the_library(method):
    """Or to that of a search of one's own, for what this one was told."""
    reverse, few = PosteriorReverse(FORWARD, Sharpened(4.0)), data(7)

    @torch.no_grad()
    def optimise():
        return optimize_schedule(reverse, few, [2], generator=seeded(1), method=method)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimise()
    first = optimise.__wrapped__.__code__.co_firstlineno + 2
    inner = Everything.find.__code__.co_firstlineno + 1
    told = inner if type(method) is Everything else first
    lines = {str(one.message)[16:24]: one.lineno for one in caught}
    assert lines == {"a search": first, "the mode": told}
    assert {one.filename for one in caught} == {__file__}


@dataclass(frozen=True)
class Sharpened:
    """A model whose distributions are sharper than the data: log p times a power."""

    power: float

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return self.power * CHAIN(x, t, where)


def search(power: float, sequences: int, order: Random | Spread = Random()) -> list[str]:
    reverse = PosteriorReverse(FORWARD, Sharpened(power))
    method = ShortestPath(order=order)
    return doubts(
        lambda: optimize_schedule(reverse, data(sequences), [4], generator=seeded(1), method=method)
    )


@pytest.mark.parametrize("order", [Random(), Spread()], ids=lambda order: order.name)
def test_sound_input_is_not_doubted(order):
    assert search(1.0, 32, order) == []


def test_few_sequences():
    (doubt,) = search(1.0, 7)
    assert doubt.startswith("doubtful input: a search on 7 sequences has hardly an interval")
    assert search(1.0, 8) == []


@pytest.mark.parametrize("order", [Random(), Spread()], ids=lambda order: order.name)
def test_entropies_far_from_what_data_say(order):
    """Both numbers at three noise levels."""
    doubt = next(one for one in search(4.0, 32, order) if "entropies" in one)
    assert "\n" not in doubt
    assert doubt.count(" and ") == 5
    assert all(f"with {share}% of the sites masked" in doubt for share in (100, 50))


def test_a_search_within_a_tolerance_doubts_the_same():
    reverse = PosteriorReverse(FORWARD, Sharpened(4.0))
    found = doubts(
        lambda: optimize_schedule(reverse, data(32), tolerance=20.0, generator=seeded(1))
    )
    assert any("entropies" in one for one in found)


@pytest.mark.parametrize(
    ("masked", "entropy", "gap", "stderr", "far"),
    [
        (0.5, 1.0, 0.26, 0.001, True),  # a fifth of 1.26 is 0.252
        (0.5, 1.0, 0.24, 0.001, False),
        (0.5, 1.0, -0.17, 0.001, True),
        (0.5, 1.0, -0.16, 0.001, False),
        (0.5, 1.0, 0.5, 0.12, True),  # four standard errors
        (0.5, 1.0, 0.5, 0.13, False),
        (0.1, 0.3, 0.21, 0.001, True),  # a hundredth of 2 nats, by a tenth of the sites
        (0.1, 0.3, 0.19, 0.001, False),
    ],
)
def test_gaps_that_are_large_significant_and_matter(masked, entropy, gap, stderr, far):
    levels = Calibration(1.0, 2.0, 0.0, 0.001), Calibration(masked, entropy, gap, stderr)
    found = doubts(lambda: doubt_calibration(levels))
    assert len(found) == far
    if far:
        both = f"{entropy:.2f} and {entropy + gap:.2f} with {100 * masked:.0f}% of the sites"
        assert f"2.00 and 2.00 with 100% of the sites masked, {both}" in found[0]


def test_sequences_of_another_length():
    network = DiT(
        DiTConfig(vocab_size=9, hidden_size=8, cond_dim=8, n_blocks=1, n_heads=1, length=16)
    )
    (doubt,) = doubts(lambda: doubt_data(data(8)[:, :12], network))
    assert "the sequences have 12 tokens, the network is for 16" in doubt
    assert doubts(lambda: doubt_data(data(8), network)) == []
    silent = nn.Linear(1, 1)
    silent.config = SimpleNamespace(length=None)
    assert doubts(lambda: doubt_data(data(8), silent)) == []


def test_errors_below_zero():
    schedule = TimeSchedule([1.0, 0.0])
    found = {2: FoundSchedule(schedule, -1.0, 0.4), 4: FoundSchedule(schedule, -1.0, 0.6)}
    (doubt,) = doubts(lambda: doubt_found(found | {8: FoundSchedule(schedule)}, 30))
    assert "at NFE 2 the error -1.00 ±0.82 nats per sequence lies below zero" in doubt


def test_the_command_prints_one_line(tmp_path, capsys):
    file = tmp_path / "s.json"
    code, out, err = run(
        capsys,
        "optimize countdown-exact --order spread --nfe 2 --sequences 3 --device cpu -o",
        file,
    )
    assert code == 0
    assert "few-step NLL" in out
    assert "no certificate" in out
    assert err.splitlines() == [
        "warning: doubtful input: a search on 3 sequences has hardly an interval; pass 16 to 64"
    ]
