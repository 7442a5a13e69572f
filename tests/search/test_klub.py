"""The KLUB of an interval of times or counts, against its expectation over all states."""

import itertools

import pytest
import torch

from builders.confident import CIFAR, Confident, log_odds
from builders.models import ExactLogScore, Tabulated
from builders.statistics import seeded
from jumpsteps.denoiser.call_counter import CallCounter
from jumpsteps.denoiser.parameterisations import LogScoreReverse, PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.search.klub import CountKlub, Klub
from jumpsteps.search.paths import Paths

KERNELS = {
    "absorbing": Absorbing(vocab_size=4, noise=LogLinear()),
    "uniform": Uniform(vocab_size=3, noise=LogLinear()),
}


def site_rates(
    model: Enumerable, x_own: torch.Tensor, context: torch.Tensor, t: float
) -> torch.Tensor:
    """Rates [L, V] of single sites out of x_own [L], the other sites at ``context`` [L].

    From the table of p_t.
    """
    p, rate = model.marginal(t), model.forward.rate(t)
    out = torch.zeros(len(x_own), model.forward.vocab_size, dtype=torch.float64)
    for site, own in enumerate(x_own.tolist()):

        def weight(symbol, site=site):
            state = context.clone()
            state[site] = symbol
            return p[model.index(state[None])[0]]

        for y in range(model.forward.vocab_size):
            if y != own:
                out[site, y] = rate[y, own] * weight(y) / weight(own)
    return out


def frozen_context(
    model: Enumerable, x_own: torch.Tensor, context: torch.Tensor, s: float, u: float
) -> torch.Tensor:
    """Rates [L, V] of single sites at time s out of x_own, given the other sites at time u."""
    n, length = model.table.shape[0], model.table.ndim
    q_u, q_s, rate = (
        model.forward.transition(0.0, u),
        model.forward.transition(0.0, s),
        model.forward.rate(s),
    )
    out = torch.zeros(length, model.forward.vocab_size, dtype=torch.float64)
    for site, own in enumerate(x_own.tolist()):
        joint = model.table
        for other in range(length):
            if other != site:
                shape = [n if axis == other else 1 for axis in range(length)]
                joint = joint * q_u[:n, context[other]].reshape(shape)
        w = joint.movedim(site, 0).reshape(n, -1).sum(-1)
        probs = w @ q_s[:n]
        out[site] = rate[:, own] * probs / probs[own]
        out[site, own] = 0
    return out


def exact_klub(
    model: Enumerable, u: float, s: float, t: float, *, full: bool, hold_time: bool
) -> float:
    """(s - t) E sum R_s log(R_s / R_u) over all pairs of states (Eq. 14), or a variant of it."""
    joint = model.marginal(s)[:, None] * model.transition(s, u)
    total = 0.0
    for i, x_s in enumerate(model.states):
        fine = site_rates(model, x_s, x_s, s)
        for j, x_u in enumerate(model.states):
            if joint[i, j] > 0:
                coarse = (
                    site_rates(model, x_s, x_u, u)
                    if hold_time
                    else frozen_context(model, x_s, x_u, s, u)
                )
                total += float(
                    joint[i, j] * torch.xlogy(fine, fine / coarse.masked_fill(fine == 0, 1)).sum()
                )
                total += float(joint[i, j] * (coarse - fine).sum()) if full else 0.0
    return (s - t) * total


@pytest.mark.statistical
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("interval", [(1.0, 0.6, 0.0), (0.8, 0.3, 0.2)])
@pytest.mark.parametrize(
    "variant",
    [(False, True), (True, True), (True, False)],
    ids=["published", "full", "full-context"],
)
def test_klub_equals_its_expectation_over_all_states(kernel, interval, variant):
    """Mean of 40,000 sequences against enumeration, within 4 standard errors."""
    u, s, t = interval
    model = Enumerable.random(KERNELS[kernel], symbols=3, length=2, seed=5, concentration=0.4)
    full, hold_time = variant
    exact = exact_klub(model, u, s, t, full=full, hold_time=hold_time)
    path = Paths.draw(
        model.forward, model.sample_data(40_000, generator=seeded(0)), generator=seeded(1)
    )
    for reverse in (
        PosteriorReverse(model.forward, model),
        LogScoreReverse(model.forward, ExactLogScore(model)),
    ):
        values = Klub(reverse, path, u, t, full=full, hold_time=hold_time).values(s)
        assert float(values.mean()) == pytest.approx(exact, abs=4 * float(values.std()) / 200)
        assert 4 * float(values.std()) / 200 < 0.1 * abs(exact)


def test_klub_is_deterministic_in_s_and_counts_its_calls():
    forward = KERNELS["absorbing"]
    model = Enumerable.random(forward, symbols=3, length=3, seed=0)
    counter = CallCounter(model)
    path = Paths.draw(forward, model.sample_data(50, generator=seeded(0)), generator=seeded(1))
    klub = Klub(PosteriorReverse(forward, counter), path, 1.0, 0.0)
    assert klub(0.5) == klub(0.5) == float(klub.values(0.5).mean())
    assert klub(0.5) != klub(0.50001)
    assert counter.calls == 6


def test_klub_refuses_bad_times_and_impossible_jumps():
    forward = KERNELS["absorbing"]
    path = Paths.draw(forward, torch.zeros(20, 2, dtype=torch.int64), generator=seeded(1))

    def forgetful(x, t, where=None):
        out = torch.zeros(*x.shape, 4, dtype=torch.float64)
        if t == 1.0:
            out[..., 1] = -torch.inf
        return out if where is None else out[where]

    reverse = PosteriorReverse(forward, forgetful)
    with pytest.raises(ValueError, match="0 <= t < u <= 1"):
        Klub(reverse, path, 0.2, 0.5)
    klub = Klub(reverse, path, 1.0, 0.1)
    with pytest.raises(ValueError, match="s must lie between"):
        klub(0.1)
    with pytest.raises(ValueError, match="the bound is infinite"):
        klub(0.5)


def exact_count_klub(model: Enumerable, n_u: int, n_s: int, n_t: int) -> float:
    """(n_s - n_t) times the mean KL of a random masked site, over all data and nested masks."""
    mask_id, length = model.forward.mask_id, model.table.ndim
    total, weight = 0.0, 0.0
    for masked_u in itertools.combinations(range(length), n_u):
        for masked_s in itertools.combinations(masked_u, n_s):
            for x0, p0 in zip(model.states, model.data_distribution(), strict=True):
                x_u, x_s = x0.clone(), x0.clone()
                x_u[list(masked_u)], x_s[list(masked_s)] = mask_id, mask_id
                fine, coarse = model(x_s[None], 0.5)[0].exp(), model(x_u[None], 0.5)[0].exp()
                for site in masked_s:
                    f, c = fine[site], coarse[site]
                    total += float(p0 * torch.xlogy(f, f / c.masked_fill(f == 0, 1)).sum())
                    weight += float(p0)
    return (n_s - n_t) * total / weight


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("counts", [(4, 2, 0), (3, 1, 0), (4, 3, 1)])
def test_count_klub_equals_its_expectation_over_masks_and_data(counts):
    """Mean of 40,000 sequences, within 4 standard errors; also with half the sites observed."""
    n_u, n_s, n_t = counts
    model = Enumerable.random(KERNELS["absorbing"], symbols=3, length=4, seed=5, concentration=0.4)
    exact = exact_count_klub(model, n_u, n_s, n_t)
    paths = Paths.draw(
        model.forward, model.sample_data(40_000, generator=seeded(0)), generator=seeded(1)
    )
    reverse = PosteriorReverse(model.forward, Tabulated(model, model))
    values = CountKlub(reverse, paths, n_u, n_t).values(n_s)
    assert float(values.mean()) == pytest.approx(exact, abs=4 * float(values.std()) / 200)
    assert 4 * float(values.std()) / 200 < 0.1 * abs(exact)


def test_given_sites_do_not_count():
    """Uniform kernel, site 0 observed: only free sites count, and x_0 stays at site 0."""
    forward = KERNELS["uniform"]
    model = Enumerable.random(forward, symbols=3, length=3, seed=2)
    data = model.sample_data(200, generator=seeded(0))
    known = torch.tensor([True, False, False])
    asked = []

    def recorded(x, t, where=None):
        asked.append((x, where))
        return model(x, t, where)

    paths = Paths.draw(forward, data, generator=seeded(1), given_mask=known)
    value = Klub(PosteriorReverse(forward, recorded), paths, 0.9, 0.1)(0.5)
    assert len(asked) == 2
    for x, where in asked:
        assert torch.equal(x[:, 0], data[:, 0])
        assert not where[:, 0].any()
        assert where[:, 1:].all()
    assert value != Klub(
        PosteriorReverse(forward, model), Paths.draw(forward, data, generator=seeded(1)), 0.9, 0.1
    )(0.5)


def test_count_klub_counts_its_calls_and_refuses_bad_numbers():
    forward = KERNELS["absorbing"]
    model = Enumerable.random(forward, symbols=3, length=4, seed=0)
    counter = CallCounter(model)
    paths = Paths.draw(forward, model.sample_data(20, generator=seeded(0)), generator=seeded(1))
    klub = CountKlub(PosteriorReverse(forward, counter), paths, 4, 0)
    assert klub(2) == klub(2) == float(klub.values(2).mean())
    assert counter.calls == 4
    for n in (0, 4):
        with pytest.raises(ValueError, match="n_s must lie between"):
            klub(n)
    for bad in ((5, 0), (2, 2), (2, -1)):
        with pytest.raises(ValueError, match="an interval needs 0 <= n_t < n_u <= 4"):
            CountKlub(PosteriorReverse(forward, counter), paths, *bad)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("hold_time", [False, True])
def test_rates_below_the_smallest_number_do_not_make_the_bound_infinite(
    full: bool, hold_time: bool
) -> None:
    """Far jumps have rates of 1e-310 and less at s, and of less at u; their logarithms are finite.

    The expectation is from sums of logarithms, over all jumps that a number can hold.
    """
    u, s, t = 0.0013, 0.0011, 0.001
    reverse = PosteriorReverse(CIFAR, Confident((1.0, -3.0), switch=0.0012))
    data = torch.randint(256, (2, 3), generator=seeded(1))
    paths = Paths.draw(CIFAR, data, generator=seeded(0))
    found = Klub(reverse, paths, u, t, full=full, hold_time=hold_time).values(s)

    x_u, x_s = paths(u).flatten(), paths(s).flatten()
    fine = log_rates(reverse.model(x_s, s), x_s, s, x_s, s)
    coarse = log_rates(reverse.model(x_u, u), x_u, u, x_s, u if hold_time else s)
    expected = fine.exp() * (fine - coarse)
    if full:
        expected = expected + coarse.exp() - fine.exp()
    expected = torch.where(fine.isfinite() & coarse.isfinite(), expected, 0).sum(-1)
    torch.testing.assert_close(found, (s - t) * expected.reshape(2, 3).sum(-1), rtol=1e-6, atol=0)


def log_rates(
    output: torch.Tensor, x: torch.Tensor, t: float, own: torch.Tensor, level: float
) -> torch.Tensor:
    """Logarithms of the reverse rates [K, V] out of ``own``, see ``log_odds``."""
    into = CIFAR.noise.rate(level).log() + CIFAR.rates_into(own).log()
    return into + log_odds(output, x, t, own, level)
