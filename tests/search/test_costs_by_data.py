"""Costs measured by data: the few-step NLL of networks that are wrong, and the schedules chosen."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.models import WrongNetwork
from builders.statistics import seeded
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.noise import LogLinear, Time
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform_counts
from jumpsteps.schedules.orders import Fixed, Random, Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.calibration_gap import smoothed_gap
from jumpsteps.search.costs.few_step_nll import few_step_nll
from jumpsteps.search.costs.information_profile import information_profile, time_grid
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.learned_order import LearnedOrder
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.tasks import countdown

FORWARD = kernel("absorbing", 3, LogLinear(0.1))
TRUTH = Enumerable.random(FORWARD, symbols=3, length=4, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(FORWARD, WrongNetwork(TRUTH, 3, 0.0))
ORDER = Fixed((2, 0, 3, 1))


def wrong_paths(sequences: int) -> Paths:
    data = TRUTH.sample_data(sequences, generator=seeded(0))
    return Paths.draw(FORWARD, data, generator=seeded(1))


@pytest.mark.parametrize("counts", [(4,), (1, 3), (2, 2), (1, 1, 2), (1, 1, 1, 1)])
def test_counts_have_the_few_step_nll_of_every_sequence(counts):
    """A fixed order, an evaluation at every count: the same numbers, with no randomness left."""
    paths = wrong_paths(50)
    costs = count_costs(REVERSE, paths, ORDER, measure=Measure.DATA, generator=seeded(2))
    schedule = CountSchedule(counts, order=ORDER)
    exact = few_step_nll(REVERSE, paths, schedule, KGillespie(), generator=seeded(3))
    found = costs.few_step(schedule)
    assert found.per_sequence == pytest.approx(exact.per_sequence)
    assert found.reference == pytest.approx(exact.reference)
    assert costs.predict(schedule) == pytest.approx((exact.excess, exact.excess_stderr))
    assert (found.sites, found.model_calls) == (4, 4)


@pytest.mark.statistical
@pytest.mark.parametrize("counts", [(4,), (1, 3), (2, 2)])
def test_counts_in_random_order(counts):
    """3,000 sequences, two estimates: NLL and excess within 4 standard errors."""
    paths = wrong_paths(3000)
    costs = count_costs(
        REVERSE, paths, Random(), bandwidth=0, measure=Measure.DATA, generator=seeded(2)
    )
    exact = few_step_nll(REVERSE, paths, CountSchedule(counts), KGillespie(), generator=seeded(3))
    found = costs.few_step(CountSchedule(counts))
    assert found.nll == pytest.approx(exact.nll, abs=4 * np.hypot(found.stderr, exact.stderr))
    both = np.hypot(found.excess_stderr, exact.excess_stderr)
    assert found.excess == pytest.approx(exact.excess, abs=4 * both)


@pytest.mark.statistical
@pytest.mark.parametrize("times", [(1.0, 0.0), (1.0, 0.6, 0.0), (1.0, 0.8, 0.5, 0.2, 0.0)])
def test_times_have_the_few_step_nll(times):
    """3,000 sequences, 64 evaluations: within 4 standard errors and 0.5% of interpolation.

    A tenth of the sites is unmasked at t = 1, which no run starts with.
    """
    paths = wrong_paths(3000)
    profile = information_profile(REVERSE, paths, evaluations=64, measure=Measure.DATA)
    schedule = TimeSchedule(times)
    exact = few_step_nll(REVERSE, paths, schedule, Tweedie(), generator=seeded(3))
    costs = profile.step_costs(time_grid(FORWARD, 32))
    for found in (profile.few_step(schedule), costs.few_step(schedule)):
        error = 4 * np.hypot(found.stderr, exact.stderr) + 0.005 * exact.nll
        assert found.nll == pytest.approx(exact.nll, abs=error)
        both = np.hypot(found.excess_stderr, exact.excess_stderr)
        assert found.excess == pytest.approx(exact.excess, abs=4 * both + 0.005 * exact.nll)
    assert information_profile(REVERSE, paths, evaluations=8).few_step(schedule) is None


def test_costs_by_data_take_the_same_evaluations():
    for order in (Random(), Spread()):
        by_data, by_model = (
            count_costs(
                REVERSE, wrong_paths(20), order, measure=measure, generator=seeded(2)
            ).model_calls
            for measure in Measure
        )
        assert by_data == by_model


SYMBOLS, LENGTH = 8, 32
CHAIN_FORWARD = kernel("absorbing", SYMBOLS)
CHAIN = MarkovChain(CHAIN_FORWARD, *countdown.chain(SYMBOLS))


@dataclass(frozen=True)
class Overconfident:
    """A model that adds ``strength`` times the share of masked sites to the logits of symbol 0."""

    model: Model
    strength: float

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = self.model(x, t)
        masked = (x == SYMBOLS).to(out).mean(-1, keepdim=True)
        out[..., 0] += self.strength * masked
        return out if where is None else out[where]


def chain_data(sequences: int, seed: int) -> Tensor:
    return countdown.sample_data(sequences, generator=seeded(seed), symbols=SYMBOLS, length=LENGTH)


def nll_of(reverse: ReverseProcess, method: ShortestPath, nfe: int) -> tuple[float, float]:
    """The few-step NLL of the schedule found, on other data, and what the search says of it."""
    found = optimize_schedule(
        reverse, chain_data(64, 0), [nfe], generator=seeded(1), method=method, held_out=0
    )[nfe]
    fresh = few_step_nll(
        reverse, chain_data(400, 5), found, method.sampler, generator=seeded(6), reference_calls=2
    )
    return fresh.nll, found.provenance.few_step_nll


@pytest.mark.slow
@pytest.mark.parametrize("nfe", [2, 4])
@pytest.mark.parametrize("order", [Random(), Spread()], ids=lambda order: order.name)
def test_schedules_by_data_are_better_for_a_wrong_network(order, nfe):
    """They lose nothing where the network is calibrated; the search's NLL is that of other data."""
    for strength, gain in ((0.0, -0.5), (6.0, 0.1 if order == Spread() and nfe == 4 else 10.0)):
        reverse = PosteriorReverse(CHAIN_FORWARD, Overconfident(CHAIN, strength))
        by_data, said = nll_of(reverse, ShortestPath(order=order), nfe)
        by_model, _ = nll_of(reverse, ShortestPath(order=order, measure=Measure.MODEL), nfe)
        assert by_model - by_data > gain
        assert said == pytest.approx(by_data, rel=0.05)


def test_the_learned_order_is_measured_the_same_way():
    reverse = PosteriorReverse(CHAIN_FORWARD, CHAIN)
    for measure in Measure:
        found = optimize_schedule(
            reverse,
            chain_data(16, 0),
            [4],
            generator=seeded(1),
            method=LearnedOrder(stationary=True, measure=measure),
        )[4].provenance
        assert (found.few_step_nll is not None) == (measure is Measure.DATA)
        assert (found.predicted_cost is not None) == (measure is Measure.MODEL)


def test_noise_of_a_calibrated_model_is_shrunk_away():
    """Pure noise: almost nothing is left of it; a gap of 2 nats stays."""
    counts = np.array([0, 1, 2, 4, 8, 16])
    noise = torch.randn(6, 64, 32, generator=seeded(0), dtype=torch.float64)
    masked = torch.arange(32) >= torch.from_numpy(counts)[:, None, None]
    for exchangeable in (False, True):
        left = smoothed_gap(noise * masked, counts, 2.0, exchangeable=exchangeable)
        assert (left == 0).double().mean() > 0.8
        kept = smoothed_gap((2 + noise) * masked, counts, 2.0, exchangeable=exchangeable)
        assert kept[masked].numpy() == pytest.approx(2, abs=0.6)
        assert (kept[~masked] == 0).all()


def test_tokens_that_the_model_excludes_are_an_error():
    def excluding(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        out = torch.zeros(*x.shape, 4)
        out[..., 1] = -torch.inf
        return out if where is None else out[where]

    reverse = PosteriorReverse(FORWARD, excluding)
    data = torch.tensor([[1, 0, 2, 0], [0, 0, 2, 2]])
    for order in (Random(), Spread()):
        with pytest.raises(ValueError, match=r"probability zero to . tokens of the data"):
            optimize_schedule(
                reverse, data, [2], generator=seeded(0), method=ShortestPath(order=order)
            )
    with pytest.raises(ValueError, match="probability zero"):
        optimize_schedule(
            reverse,
            data,
            [2],
            generator=seeded(0),
            method=ShortestPath(),
            sampler=KGillespie(),
        )


def test_provenance_of_an_older_version_is_read():
    old = {"method": "shortest-path", "predicted_cost": 2.0, "predicted_cost_stderr": 0.1}
    known = Provenance.from_json(old)
    assert known.error == (2.0, 0.1)
    assert known.excess is None
    measured = known.with_evidence(
        few_step_nll=9.0,
        few_step_nll_stderr=0.3,
        bits_per_token=1.0,
        excess=1.0,
        excess_stderr=0.2,
        excess_limit=1.4,
    )
    assert measured.error == (1.0, 0.2)
    assert measured.predicted_cost is None
    assert Provenance.from_json(measured.to_json()) == measured
    assert measured.converted(FORWARD).few_step_nll is None


def test_more_steps_are_never_worse_on_the_grid():
    costs = count_costs(
        PosteriorReverse(CHAIN_FORWARD, CHAIN),
        Paths.draw(CHAIN_FORWARD, chain_data(64, 0), generator=seeded(1)),
        Spread(),
        measure=Measure.DATA,
        generator=seeded(2),
    )
    nll = [costs.few_step(uniform_counts(n, LENGTH, Spread())).nll for n in (1, 2, 4, 8)]
    assert all(after < before for before, after in pairwise(nll))
