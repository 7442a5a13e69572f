from functools import reduce
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.special import rel_entr
from torch import Tensor

from builders.kernels import KERNELS, kernel
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.information import kl_divergence
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.schedules.schedule import TimeSchedule

STEPS = [(1.0, 0.5), (0.7, 0.2), (0.3, 0.0)]

TRUTHS = {
    f"{name}-{noise!r}-{symbols}^{length}": Enumerable.random(
        kernel(name, symbols, noise), symbols=symbols, length=length, seed=10 + length
    )
    for name in KERNELS
    for noise in (LogLinear(), Constant(1.5))
    for symbols, length in ((3, 2), (2, 3), (4, 1))
}

every_truth = pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS.keys())
every_step = pytest.mark.parametrize(("t", "s"), STEPS)
every_kernel = pytest.mark.parametrize("name", KERNELS)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def whole_transition(truth: Enumerable, s: float, t: float) -> np.ndarray:
    """q_{t|s} of whole states as the exponential of the generator of all sites together, by
    scipy.
    """
    v, length = truth.forward.vocab_size, truth.table.ndim
    elapsed = float(truth.forward.noise.total(t) - truth.forward.noise.total(s))
    return expm(elapsed * whole_generator(truth.forward.rate_matrix().numpy(), v, length))


def whole_generator(site: np.ndarray, v: int, length: int) -> np.ndarray:
    eye = np.eye(v)
    parts = [
        reduce(np.kron, [site if i == j else eye for j in range(length)]) for i in range(length)
    ]
    return np.sum(parts, axis=0)


def entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def test_kl_divergence() -> None:
    p, q = (torch.rand(4, 6, generator=seeded(i), dtype=torch.float64) for i in (1, 2))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    p[0] = torch.nn.functional.one_hot(torch.tensor(3), 6)
    close(kl_divergence(p, q), torch.from_numpy(rel_entr(p.numpy(), q.numpy()).sum(-1)))
    assert (kl_divergence(p, p) == 0).all()
    q[1, 2] = 0
    assert kl_divergence(p, q)[1] == torch.inf


@every_kernel
def test_states_are_numbered(name: str) -> None:
    truth = Enumerable.random(kernel(name, 3), symbols=3, length=3, seed=0)
    v = truth.forward.vocab_size
    assert truth.states.tolist() == [list(x) for x in product(range(v), repeat=3)]
    assert torch.equal(truth.index(truth.states), torch.arange(v**3))
    probs = truth.data_distribution()
    for index, x in enumerate(truth.states.tolist()):
        expected = (
            0.0
            if isinstance(truth.forward, Absorbing) and truth.forward.mask_id in x
            else float(truth.table[tuple(x)])
        )
        assert float(probs[index]) == expected


@every_truth
def test_marginals_and_transitions_of_whole_states(truth: Enumerable) -> None:
    for s, t in ((0.0, 0.4), (0.2, 0.9)):
        close(truth.transition(s, t), torch.from_numpy(whole_transition(truth, s, t)), 1e-11)
    close(truth.marginal(0.0), truth.data_distribution())
    close(
        truth.marginal(0.7),
        torch.from_numpy(truth.data_distribution().numpy() @ whole_transition(truth, 0.0, 0.7)),
        1e-11,
    )


@every_truth
@every_step
def test_conditional_carries_the_marginals(truth: Enumerable, t: float, s: float) -> None:
    conditional = truth.conditional(t, s)
    close(conditional.sum(-1), torch.ones(len(truth.states), dtype=torch.float64), 1e-10)
    close(truth.marginal(t) @ conditional, truth.marginal(s))


@every_truth
@every_step
def test_conditional_is_bayes_rule(truth: Enumerable, t: float, s: float) -> None:
    q = whole_transition(truth, s, t)
    joint = (truth.data_distribution().numpy() @ whole_transition(truth, 0.0, s))[:, None] * q
    torch.testing.assert_close(
        truth.conditional(t, s),
        torch.from_numpy(joint / joint.sum(0)).T.contiguous(),
        rtol=1e-8,
        atol=1e-11,
    )


@every_truth
@pytest.mark.parametrize("t", [0.1, 0.6, 1.0])
def test_the_model_is_the_posterior_of_single_sites(truth: Enumerable, t: float) -> None:
    posterior = truth(truth.states, t).exp()
    close(posterior, truth.site_marginals(truth.conditional(t, 0.0)), 1e-10)
    close(posterior.sum(-1), torch.ones(truth.states.shape, dtype=torch.float64))


@every_truth
def test_site_marginals_and_products(truth: Enumerable) -> None:
    v, length, size = truth.forward.vocab_size, truth.table.ndim, len(truth.states)
    distributions = torch.rand(5, size, generator=seeded(0), dtype=torch.float64)
    distributions = distributions / distributions.sum(-1, keepdim=True)
    marginals = truth.site_marginals(distributions)
    assert marginals.shape == (5, length, v)
    for site, y in product(range(length), range(v)):
        close(marginals[:, site, y], distributions[:, truth.states[:, site] == y].sum(-1))
    independent = truth.product(marginals)
    close(independent.sum(-1), torch.ones(5, dtype=torch.float64))
    close(truth.site_marginals(independent), marginals)
    close(independent[0], reduce(torch.kron, list(marginals[0])))


@every_truth
@every_step
def test_compounding_error_is_the_total_correlation(truth: Enumerable, t: float, s: float) -> None:
    """Marginal entropies minus joint entropy, averaged over x_t; all matrices from scipy."""
    v, length = truth.forward.vocab_size, truth.table.ndim
    joint = (truth.data_distribution().numpy() @ whole_transition(truth, 0.0, s))[
        :, None
    ] * whole_transition(truth, s, t)
    expected = 0.0
    for column in joint.clip(0).T:
        p_t = column.sum()
        cube = (column / p_t).reshape([v] * length)
        sites = [cube.sum(tuple(j for j in range(length) if j != site)) for site in range(length)]
        expected += p_t * (sum(entropy(p) for p in sites) - entropy(cube.reshape(-1)))
    error = float(truth.compounding_error(t, s))
    assert error == pytest.approx(expected, rel=1e-6, abs=1e-11)
    assert (
        error > 1e-6 or length == 1
    )  # the Gaussian kernel of two symbols has forgotten nearly all at t = 1
    assert abs(error) < 1e-12 or length > 1


@every_truth
@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_reverse_rates_carry_the_flow_back(truth: Enumerable, t: float) -> None:
    """p_t R^ = -dp_t/dt, with the diagonal that makes rows sum to zero."""
    rates = truth.reverse_rates(t)
    assert (rates >= 0).all()
    assert (rates.diagonal() == 0).all()
    generator = rates - torch.diag(rates.sum(-1))
    h = 1e-4
    slope = (
        8 * (truth.marginal(t + h) - truth.marginal(t - h))
        - truth.marginal(t + 2 * h)
        + truth.marginal(t - 2 * h)
    ) / (12 * h)
    close(truth.marginal(t) @ generator, -slope, 1e-7)


@every_truth
@pytest.mark.parametrize("t", [0.2, 1.0])
def test_reverse_rates_by_definition(truth: Enumerable, t: float) -> None:
    """R^(x, y) = R_t(y, x) p_t(y) / p_t(x), entry by entry for the flux: p_t(x) R^(x, y) = p_t(y)
    R_t(y, x).
    """
    v, length = truth.forward.vocab_size, truth.table.ndim
    sigma = float(truth.forward.noise.rate(t))
    forward = torch.from_numpy(
        sigma * whole_generator(truth.forward.rate_matrix().numpy(), v, length)
    ).fill_diagonal_(0)
    p = truth.marginal(t)
    close(p[:, None] * truth.reverse_rates(t), (p[:, None] * forward).T, 1e-10)


@every_truth
@every_step
@pytest.mark.parametrize("sampler", ["tweedie_transition", "euler_transition"])
def test_steps_are_distributions(truth: Enumerable, t: float, s: float, sampler: str) -> None:
    step = getattr(truth, sampler)(t, s)
    assert (step >= 0).all()
    close(step.sum(-1), torch.ones(len(truth.states), dtype=torch.float64), 1e-10)


@every_truth
@every_step
def test_a_tweedie_step_has_the_right_sites_and_makes_them_independent(
    truth: Enumerable, t: float, s: float
) -> None:
    step, conditional = truth.tweedie_transition(t, s), truth.conditional(t, s)
    close(truth.site_marginals(step), truth.site_marginals(conditional), 1e-10)
    for row in step:
        close(row, reduce(torch.kron, list(truth.site_marginals(row))), 1e-10)


def equal_by_theory(truth: Enumerable, one: str, other: str) -> bool:
    """One site: Tweedie is exact. Masked sites whose alpha is linear in t: Euler reveals with h/t,
    and so does Tweedie.
    """
    tweedie_is_exact = truth.table.ndim == 1
    euler_is_tweedie = isinstance(truth.forward, Absorbing) and isinstance(
        truth.forward.noise, LogLinear
    )
    return {
        ("tweedie_transition", "conditional"): tweedie_is_exact,
        ("euler_transition", "conditional"): tweedie_is_exact and euler_is_tweedie,
        ("euler_transition", "tweedie_transition"): euler_is_tweedie,
    }[one, other]


@every_truth
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tweedie_transition", "conditional"),
        ("euler_transition", "conditional"),
        ("euler_transition", "tweedie_transition"),
    ],
)
def test_steps_agree_to_first_order(truth: Enumerable, one: str, other: str) -> None:
    """They differ by O(h^2): halving h divides the difference by about 4. Where theory says equal,
    they are equal.
    """
    if equal_by_theory(truth, one, other):
        close(getattr(truth, one)(0.5, 0.4), getattr(truth, other)(0.5, 0.4))
        return
    steps = [0.004, 0.002, 0.001]
    gaps = [
        float((getattr(truth, one)(0.5, 0.5 - h) - getattr(truth, other)(0.5, 0.5 - h)).abs().max())
        for h in steps
    ]
    assert gaps[0] > 1e-7
    for wide, narrow in pairwise(gaps):
        assert 3.6 < wide / narrow < 4.4


@every_truth
def test_run_distribution_chains_steps(truth: Enumerable) -> None:
    schedule = TimeSchedule([1.0, 0.6, 0.25, 0.0])
    start = truth.marginal(1.0)
    close(
        truth.run_distribution(truth.conditional, schedule, start), truth.data_distribution(), 1e-10
    )
    expected = (
        start
        @ truth.tweedie_transition(1.0, 0.6)
        @ truth.tweedie_transition(0.6, 0.25)
        @ truth.tweedie_transition(0.25, 0.0)
    )
    close(truth.run_distribution(truth.tweedie_transition, schedule, start), expected)
    close(truth.euler_transition(0.25, 0.0), truth.tweedie_transition(0.25, 0.0))


@every_truth
def test_data_has_its_distribution(truth: Enumerable) -> None:
    data = truth.sample_data(20_000, generator=seeded(0))
    assert data.shape == (20_000, truth.table.ndim)
    assert chi_square_p(truth.index(data), truth.data_distribution()) > LEVEL
    assert torch.equal(data, truth.sample_data(20_000, generator=seeded(0)))


def random_chain(name: str, seed: int, smoothing: float) -> MarkovChain:
    """A chain of three symbols, with a forbidden step and a forbidden start that only smoothing
    allows.
    """
    transition = torch.rand(3, 3, generator=seeded(seed), dtype=torch.float64)
    transition[0, 1] = 0
    initial = torch.rand(3, generator=seeded(seed + 100), dtype=torch.float64) + 0.1
    return MarkovChain(
        kernel(name, 3),
        initial / initial.sum(),
        transition / transition.sum(-1, keepdim=True),
        smoothing=smoothing,
    )


@every_kernel
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [1, 2, 4])
def test_markov_chain_is_its_own_enumeration(name: str, seed: int, length: int) -> None:
    chain = random_chain(name, seed, smoothing=0.02)
    mixed = 0.98 * chain.transition + 0.02 / 3
    table = torch.zeros([3] * length, dtype=torch.float64)
    for data in product(range(3), repeat=length):
        table[data] = reduce(
            torch.mul, [mixed[a, b] for a, b in pairwise(data)], chain.initial[data[0]]
        )
    truth = Enumerable(chain.forward, table / table.sum())
    x = torch.randint(chain.forward.vocab_size, (200, length), generator=seeded(seed))
    t = (
        0.05 + 0.95 * torch.rand(20, generator=seeded(seed + 1), dtype=torch.float64)
    ).repeat_interleave(10)
    close(chain(x, t).exp(), truth(x, t).exp(), 1e-10)
    close(chain(x, 0.3).exp(), truth(x, 0.3).exp(), 1e-10)
    where = torch.rand(x.shape, generator=seeded(seed + 2)) < 0.4
    assert torch.equal(chain(x, t, where), chain(x, t)[where])
    assert torch.equal(truth(x, t, where), truth(x, t)[where])


@every_kernel
def test_markov_chain_at_length_400_does_not_underflow(name: str) -> None:
    chain = random_chain(name, 0, smoothing=1e-3)
    x = torch.randint(chain.forward.vocab_size, (4, 400), generator=seeded(0))
    posterior = chain(x, 0.5).exp()
    assert posterior.dtype == torch.float64
    close(posterior.sum(-1), torch.ones(4, 400, dtype=torch.float64))
    clean = torch.randint(3, (2, 400), generator=seeded(1))  # impossible steps among them
    close(chain(clean, 1e-6).exp()[..., :3], torch.nn.functional.one_hot(clean, 3).double(), 1e-2)


def test_a_chain_that_does_not_sum_to_one_is_refused() -> None:
    forward, third = kernel("uniform", 3), torch.full((3,), 1 / 3, dtype=torch.float64)
    for initial, transition in (
        (third, torch.ones(3, 3).double()),
        (2 * third, third.expand(3, 3)),
    ):
        with pytest.raises(ValueError, match="must sum to one"):
            MarkovChain(forward, initial, transition)


@every_kernel
def test_a_vocabulary_that_does_not_fit_is_refused(name: str) -> None:
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    for symbols in (2, 4):
        with pytest.raises(ValueError, match=rf"3 data symbols do not fit the {name} kernel with"):
            MarkovChain(kernel(name, symbols), third, third.expand(3, 3))
        with pytest.raises(ValueError, match=rf"3 data symbols do not fit the {name} kernel with"):
            Enumerable(kernel(name, symbols), torch.full((3, 3), 1 / 9, dtype=torch.float64))


def test_mask_must_be_the_last_state() -> None:
    forward = Absorbing(vocab_size=4, noise=LogLinear(), mask_id=1)
    with pytest.raises(ValueError, match="MASK, and it is the last"):
        Enumerable.random(forward, symbols=3, length=2, seed=0)


def test_too_many_states_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"2 states at 13 sites are 8192, more than 4096; use a smaller model"
    ):
        Enumerable.random(kernel("uniform", 2), symbols=2, length=13, seed=0)


@pytest.mark.parametrize("table", [[0.5, 0.0, 0.5], [0.6, -0.1, 0.5], [0.5, 0.4, 0.2]])
def test_a_table_that_is_no_positive_distribution_is_refused(table: list[float]) -> None:
    with pytest.raises(ValueError, match="positive probability, and all must sum to one"):
        Enumerable(kernel("uniform", 3), torch.tensor(table, dtype=torch.float64))


def test_random_tables_follow_seed_and_concentration() -> None:
    def table(seed: int, concentration: float) -> Tensor:
        return Enumerable.random(
            kernel("uniform", 3), symbols=3, length=2, seed=seed, concentration=concentration
        ).table

    assert torch.equal(table(1, 0.5), table(1, 0.5))
    assert not torch.equal(table(1, 0.5), table(2, 0.5))
    assert table(1, 0.1).max() > table(1, 100.0).max()
