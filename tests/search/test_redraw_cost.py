"""The cost of a redraw on data, against the total correlation of an enumerated distribution."""

import pytest
import torch

from builders.asked import Asked
from builders.kernels import kernel
from builders.samplers import enumerable
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.sampling.blocked_gibbs import sets_of
from jumpsteps.schedules.orders import Fixed, Golden, Random
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.search.costs.redraw_cost import redraw_cost
from jumpsteps.search.paths import Paths

TRUTH = Enumerable.random(kernel("absorbing", 3), symbols=3, length=4, seed=4, concentration=0.3)
REVERSE = PosteriorReverse(TRUTH.forward, TRUTH)


def entropy(sites: tuple[int, ...]) -> float:
    rest = [site for site in range(4) if site not in sites]
    p = TRUTH.table.sum(rest) if rest else TRUTH.table
    return -float(torch.xlogy(p, p).sum())


def total_correlation(sites: tuple[int, ...]) -> float:
    """Of the sites given all others."""
    rest = tuple(site for site in range(4) if site not in sites)
    known = entropy(rest) if rest else 0.0
    return sum(entropy((*rest, site)) - known for site in sites) - (entropy(range(4)) - known)


@pytest.mark.statistical
@pytest.mark.parametrize("sets", [Random(), Golden(), Fixed((2, 0, 3, 1))], ids=repr)
@pytest.mark.parametrize("calls", [32, 2])
def test_the_excess_is_the_total_correlation(sets, calls):
    """Within 4 standard errors, with an evaluation of every number of sites or with two."""
    data = TRUTH.sample_data(4000, generator=seeded(0))
    for count in (2, 3):
        found = redraw_cost(
            REVERSE,
            data,
            Redraw(share=count / 4, sets=sets),
            generator=seeded(1),
            reference_calls=calls,
        )
        exact = sum(p * total_correlation(sites) for p, sites in sets_of(sets, 4, count))
        assert found.excess == pytest.approx(exact, abs=4 * found.excess_stderr)
        assert found.excess_stderr < 0.1 * exact
        assert found.sites == count
        assert found.model_calls == 1 + min(calls, count)
    one = redraw_cost(REVERSE, data[:50], Redraw(share=0.1, sets=sets), generator=seeded(1))
    assert one.excess == pytest.approx(0, abs=1e-12)


def test_forward_paths_bring_their_observed_sites():
    data, known = (
        TRUTH.sample_data(6, generator=seeded(0)),
        torch.tensor([True, False, False, False]),
    )
    paths = Paths.draw(TRUTH.forward, data, generator=seeded(1), given_mask=known)
    assert redraw_cost(REVERSE, paths, Redraw(share=1.0), generator=seeded(2)).sites == 3


@pytest.mark.statistical
def test_more_sets_of_a_sequence_narrow_the_interval():
    """Half of the sites, 8 sets: the same mean within 4 standard errors, from fewer sequences."""
    data = TRUTH.sample_data(1000, generator=seeded(0))
    redraw = Redraw(share=0.5, sets=Random())
    one, eight = (
        redraw_cost(REVERSE, data, redraw, generator=seeded(1), draws=draws) for draws in (1, 8)
    )
    exact = sum(p * total_correlation(sites) for p, sites in sets_of(Random(), 4, 2))
    assert eight.excess == pytest.approx(exact, abs=4 * eight.excess_stderr)
    assert eight.excess_stderr < 0.8 * one.excess_stderr
    assert (one.model_calls, eight.model_calls) == (3, 24)


def test_observed_sites_are_given():
    mask = torch.tensor([True, False, False, True])
    data = TRUTH.sample_data(3000, generator=seeded(0))
    found = redraw_cost(REVERSE, data, Redraw(share=1.0), generator=seeded(1), given_mask=mask)
    assert found.excess == pytest.approx(total_correlation((1, 2)), abs=4 * found.excess_stderr)


def test_the_model_is_conditioned_on_the_masks_of_the_call():
    """Of four sites two are masked, and then one: shares 1/2, 1/2 and 1/4."""
    asked = Asked(lambda x, t, where: TRUTH(x, 0.5, where))
    reverse = PosteriorReverse(TRUTH.forward, asked)
    data = TRUTH.sample_data(2, generator=seeded(0))
    redraw_cost(reverse, data, Redraw(share=0.5), generator=seeded(1))
    alpha = TRUTH.forward.noise.alpha
    assert [[round(1 - float(alpha(t)), 6) for t in times] for times in asked.times] == [
        [0.5, 0.5],
        [0.5, 0.5],
        [0.25, 0.25],
    ]


def test_errors():
    data = TRUTH.sample_data(3, generator=seeded(0))
    uniform = enumerable("uniform")
    with pytest.raises(ValueError, match="for the absorbing kernel, got uniform"):
        redraw_cost(PosteriorReverse(uniform.forward, uniform), data, Redraw(), generator=seeded(0))
    with pytest.raises(ValueError, match="at least two sequences, got 1"):
        redraw_cost(REVERSE, data[:1], Redraw(), generator=seeded(0))
    with pytest.raises(ValueError, match="at least one draw of the sites, got 0"):
        redraw_cost(REVERSE, data, Redraw(), generator=seeded(0), draws=0)
