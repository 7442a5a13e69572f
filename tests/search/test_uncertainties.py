"""The uncertainty of sites by rank: against single states one by one, and shared by processes."""

import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.models import WrongNetwork
from builders.statistics import seeded
from builders.threads import in_threads
from builders.waits import Waits
from jumpsteps.core.distributed import Workers
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.noise import Time
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.orders import Golden, Spread
from jumpsteps.search.costs.by_count import evaluate_orders, start_uncertainties
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.costs.uncertainties import Call, uncertainties, uncertainties_of_call
from jumpsteps.search.paths import Paths

FORWARD = kernel("absorbing", 3)
TRUTH = Enumerable.random(FORWARD, symbols=3, length=6, seed=4, concentration=0.3)
GIVEN = torch.eye(6, dtype=torch.bool)[:5]


def drawn(workers: Workers | None = None) -> Paths:
    """Five sequences, each with one observed site, at another place."""
    data = TRUTH.sample_data(5, generator=seeded(0))
    shared = {} if workers is None else {"workers": workers}
    return Paths.draw(FORWARD, data, generator=seeded(1), given_mask=GIVEN, **shared)


def states(paths: Paths) -> list[tuple[Tensor, int]]:
    ranks = [paths.free_ranks(order, generator=seeded(2)) for order in (Spread(), Golden())]
    return [(ranks[0], 0), (ranks[1], 3), (ranks[1], 4)]


def counted() -> tuple[PosteriorReverse, CallCounter]:
    counter = CallCounter(WrongNetwork(TRUTH, 3, 0.0))
    return PosteriorReverse(FORWARD, counter), counter


@pytest.mark.parametrize("measure", Measure)
@pytest.mark.parametrize("together", [1, 2, 3])
def test_they_are_those_of_one_site_at_a_time(measure, together):
    """By a call of the model for each sequence and state."""
    paths, (reverse, counter) = drawn(), counted()
    found = uncertainties(reverse, paths, states(paths), measure, together=together)
    assert found.shape == (1 + (measure is Measure.DATA), 3, 5, 5)
    assert counter.calls == -(-3 // together)
    for s, (ranks, m) in enumerate(states(paths)):
        for b in range(5):
            hidden = (ranks[b] >= m) & ~GIVEN[b]
            x = paths.data[b].masked_fill(hidden, FORWARD.mask_id)[None]
            w = reverse.leave_one_out(x, time_of_masked(FORWARD, 5 - m, 5))[0]
            for site in range(6):
                if GIVEN[b, site]:
                    continue
                p, rank = w[site], ranks[b, site]
                entropy = -torch.xlogy(p, p).sum() * hidden[site]
                assert found[0, s, b, rank] == pytest.approx(float(entropy), abs=1e-9)
                if measure is Measure.DATA:
                    nll = -p[paths.data[b, site]].log() * hidden[site]
                    assert found[1, s, b, rank] == pytest.approx(float(nll - entropy), abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_processes_have_equal_parts_and_find_what_one_finds_to_the_bit(count, monkeypatch):
    """Five sequences are no multiple of any; 20 processes are more than the rows of a call."""
    alone = uncertainties(counted()[0], drawn(), states(drawn()), Measure.DATA, together=2)

    def share(workers: Workers) -> tuple[Tensor, CallCounter]:
        paths, (reverse, counter) = drawn(workers), counted()
        found = uncertainties(reverse, paths, states(paths), Measure.DATA, together=2)
        return found, counter

    done = in_threads(monkeypatch, count, share)
    for found, counter in done:
        assert torch.equal(found, alone)
        assert counter.calls == 2
    rows = [counter.sequences for _, counter in done]
    assert max(rows) - min(rows) <= 1


def test_orders_share_the_state_with_no_site_known():
    """In every order it is that of the order's own evaluation, by its ranks."""
    paths, reverse = drawn(), counted()[0]
    orders = [
        (order, paths.free_ranks(order, generator=seeded(2)), torch.tensor([0, 2, 3]).numpy())
        for order in (Spread(), Golden())
    ]
    start = start_uncertainties(reverse, paths)
    each = evaluate_orders(reverse, paths, orders, Measure.DATA)
    shared = evaluate_orders(reverse, paths, orders, Measure.DATA, start=start, together=2)
    for one, other in zip(each, shared, strict=True):
        assert one.entropy.numpy() == pytest.approx(other.entropy.numpy(), abs=1e-9)
        assert one.gap.numpy() == pytest.approx(other.gap.numpy(), abs=1e-9)


@pytest.mark.parametrize("late", [False, True])
def test_a_token_that_the_model_excludes_is_an_error_at_the_first_call_or_at_the_end(late):
    def excluding(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = torch.zeros(*x.shape, 4)
        out[..., 0] = -torch.inf if (float(t) < 1) == late else 0.0
        return out if where is None else out[where]

    counter, paths = CallCounter(excluding), drawn()
    with pytest.raises(ValueError, match="the model gives probability zero to"):
        uncertainties(PosteriorReverse(FORWARD, counter), paths, states(paths), Measure.DATA)
    assert counter.calls == (3 if late else 1)


@pytest.mark.parametrize("head", ["log-score", "posterior"])
@pytest.mark.parametrize("together", [1, 2])
def test_a_call_does_not_wait_for_a_gpu(head, together, monkeypatch):
    """With the heads of the networks in chunks of few sites."""
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", 4 * 7)
    network, reverse = build(DiTConfig(4, 8, 1, 2), FORWARD, head)
    network.eval()
    paths = drawn()
    call = Call.of(paths, states(paths), 1, together)
    with torch.no_grad(), Waits() as waits:
        uncertainties_of_call(reverse, paths, call, Measure.DATA)
    assert waits.found == []
    with Waits() as waits:
        paths.data[paths.free]
        int(paths.data.sum())
    assert waits.found == ["index", "_local_scalar_dense"]
