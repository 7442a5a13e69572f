import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import expm, null_space
from torch import Tensor

from helpers import LEVEL, chi_square_p, gaussian_rates, one_way_rates, seeded, series
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, LogLinear, NoiseSchedule, Time
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix
from jumpsteps.process.uniform import Uniform

# a walk to the nearest neighbours; the circle runs one way, without detailed balance
BIRTH_DEATH = torch.tensor(
    [[-2.0, 2.0, 0.0, 0.0], [0.5, -1.5, 1.0, 0.0], [0.0, 0.7, -3.7, 3.0], [0.0, 0.0, 1.2, -1.2]],
    dtype=torch.float64,
)
CIRCLE = one_way_rates(5)

NOISES = [LogLinear(), Constant(1.7)]
BUILDERS: dict[str, Callable[[NoiseSchedule], ForwardProcess]] = {
    "absorbing": lambda noise: Absorbing(vocab_size=4, noise=noise),
    "absorbing-mask-inside": lambda noise: Absorbing(vocab_size=4, noise=noise, mask_id=1),
    "uniform": lambda noise: Uniform(vocab_size=4, noise=noise),
    "uniform-2": lambda noise: Uniform(vocab_size=2, noise=noise),
    "gaussian-4": lambda noise: Gaussian(vocab_size=4, noise=noise, rate_sigma=1.5, q_sigma=1.8),
    "gaussian-5": lambda noise: Gaussian(vocab_size=5, noise=noise, rate_sigma=1.0, q_sigma=2.5),
    "birth-death": lambda noise: RateMatrix(matrix=BIRTH_DEATH, noise=noise),
    "circle": lambda noise: RateMatrix(matrix=CIRCLE, noise=noise),
}
PROCESSES = {
    f"{name}-{type(noise).__name__}": build(noise)
    for name, build in BUILDERS.items()
    for noise in NOISES
}
STEPS = [(0.0, 1.0), (0.0, 0.3), (0.2, 0.7), (0.5, 0.51), (0.9, 1.0)]

CPU = torch.device("cpu")

every_process = pytest.mark.parametrize("forward", PROCESSES.values(), ids=PROCESSES.keys())
PULLED = {
    name: forward for name, forward in PROCESSES.items() if not isinstance(forward, MatrixKernel)
}
every_pulled = pytest.mark.parametrize("forward", PULLED.values(), ids=PULLED.keys())
every_step = pytest.mark.parametrize(("s", "t"), STEPS)
some_steps = pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.2, 0.7), (0.9, 1.0)])


def base_matrix(forward: ForwardProcess) -> np.ndarray:
    """R_b from its definition, entry by entry."""
    v = forward.vocab_size
    if isinstance(forward, Absorbing):
        return np.array(
            [[float(y == forward.mask_id) - float(y == x) for y in range(v)] for x in range(v)]
        )
    if isinstance(forward, Gaussian):
        return gaussian_rates(v, forward.rate_sigma, forward.q_sigma)
    if isinstance(forward, RateMatrix):
        return {4: BIRTH_DEATH, 5: CIRCLE}[v].numpy().copy()
    return np.array([[1 / v - float(y == x) for y in range(v)] for x in range(v)])


def matrix(forward: ForwardProcess, s: float, t: float) -> Tensor:
    """q_{t|s} by scipy."""
    elapsed = float(forward.noise.total(t) - forward.noise.total(s))
    return torch.from_numpy(expm(elapsed * base_matrix(forward)))


def data_weights(forward: ForwardProcess, *shape: int, seed: int = 0) -> Tensor:
    """Random distributions over data symbols, [..., V]: no mass at MASK."""
    w = torch.rand(*shape, forward.vocab_size, generator=seeded(seed), dtype=torch.float64) + 0.05
    if isinstance(forward, Absorbing):
        w[..., forward.mask_id] = 0
    return w / w.sum(-1, keepdim=True)


def all_states(forward: ForwardProcess) -> Tensor:
    return torch.arange(forward.vocab_size)


def close(actual: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@every_process
def test_base_rates(forward: ForwardProcess) -> None:
    rates = forward.rate_matrix()
    assert rates.dtype == torch.float64
    close(rates, torch.from_numpy(base_matrix(forward)), atol=1e-15)
    close(rates.sum(-1), torch.zeros(forward.vocab_size, dtype=torch.float64))


@every_process
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_rate_is_sigma_times_the_base(forward: ForwardProcess, t: float) -> None:
    rate = forward.rate(t)
    assert rate.dtype == torch.float64
    close(rate, float(forward.noise.rate(t)) * torch.from_numpy(base_matrix(forward)), atol=1e-9)


@every_process
@every_step
def test_transition_is_the_matrix_exponential(forward: ForwardProcess, s: float, t: float) -> None:
    transition = forward.transition(s, t)
    assert transition.dtype == torch.float64
    close(transition, matrix(forward, s, t), atol=1e-12)
    close(transition.sum(-1), torch.ones(forward.vocab_size, dtype=torch.float64))
    close(forward.transition(0.0, s) @ transition, forward.transition(0.0, t), atol=1e-12)


@every_process
@pytest.mark.parametrize("t", [0.0, 0.01, 0.5, 1.0])
def test_push_is_a_product_with_the_transition(forward: ForwardProcess, t: float) -> None:
    w = torch.rand(5, forward.vocab_size, generator=seeded(0), dtype=torch.float64)
    w = w / w.sum(-1, keepdim=True)
    close(forward.push(w, t), w @ matrix(forward, 0.0, t))
    kept = w.clone()
    forward.push(w, t)
    assert torch.equal(w, kept)


@every_pulled
@pytest.mark.parametrize("t", [0.0, 0.01, 0.5, 1.0])
def test_pull_undoes_push(forward: ForwardProcess, t: float) -> None:
    w = data_weights(forward, 6)
    probs = forward.push(w, t)
    kept = probs.clone()
    close(forward.pull(probs.log(), t), w, atol=1e-10)
    close(forward.pull((7.5 * probs).log(), t), w, atol=1e-10)
    assert torch.equal(probs, kept)


def test_pull_cuts_negative_parts_off() -> None:
    forward = Uniform(vocab_size=3, noise=LogLinear())
    w = forward.pull(torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64).log(), 0.5)
    assert w[2] == 0
    assert w.sum() == pytest.approx(1, abs=1e-15)
    assert w[0] / w[1] > 9


@every_process
@pytest.mark.parametrize("t", [0.0, 0.01, 0.5, 1.0])
def test_likelihood_is_a_column_of_the_transition(forward: ForwardProcess, t: float) -> None:
    x = all_states(forward)
    expected = matrix(forward, 0.0, t).T.clone()
    if isinstance(forward, Absorbing):
        expected[:, forward.mask_id] = 0  # data never shows MASK
    likelihood = forward.likelihood(x, t)
    assert likelihood.dtype == torch.float64
    close(likelihood, expected)
    close(
        forward.likelihood(x.reshape(1, -1, 1), t), expected.reshape(1, forward.vocab_size, 1, -1)
    )


@every_process
def test_rates_into_are_columns_of_the_base_rates(forward: ForwardProcess) -> None:
    rates = forward.rates_into(all_states(forward))
    assert rates.dtype == torch.float64
    expected = torch.from_numpy(base_matrix(forward)).T.clone().fill_diagonal_(0)
    close(rates, expected, atol=1e-15)


@every_process
def test_rates_from_are_rows_of_the_base_rates(forward: ForwardProcess) -> None:
    expected = torch.from_numpy(base_matrix(forward)).clone().fill_diagonal_(0)
    rates = forward.rates_from(all_states(forward))
    assert rates.dtype == torch.float64
    close(rates, expected, atol=1e-15)
    x = torch.randint(forward.vocab_size, (2, 3), generator=seeded(0))
    close(forward.rates_from(x), expected[x], atol=1e-15)
    close(
        forward.rates_into(x),
        torch.from_numpy(base_matrix(forward)).T.clone().fill_diagonal_(0)[x],
        atol=1e-15,
    )


def leaving_rates(forward: ForwardProcess, total: float, w: Tensor) -> Tensor:
    """sum_y R_b(y, x) (w q)(y) / (w q)(x), from the definition, [len(w), X].

    One row for each distribution w, one column for each movable x.
    """
    rates = torch.from_numpy(base_matrix(forward)).fill_diagonal_(0)
    probs = w @ torch.from_numpy(series(base_matrix(forward), total))
    return (probs @ rates / probs)[:, forward.movable(all_states(forward))]


@every_process
def test_no_site_leaves_faster_than_the_exit_bound(forward: ForwardProcess) -> None:
    """Whether the distribution of x0 is certain, nearly certain or broad; and one of them comes
    near the bound."""
    v, most = forward.vocab_size, float(forward.noise.total(1.0))
    certain = torch.eye(v, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        certain = certain[all_states(forward) != forward.mask_id]
    broad = data_weights(forward, 20)
    w = torch.cat(
        [
            certain,
            broad,
            *((1 - part) * certain + part * broad[: len(certain)] for part in (1e-12, 1e-6, 1e-2)),
        ]
    )
    # Below, on and between the noise levels of a matrix kernel.
    exponents = torch.cat(
        [torch.linspace(-10, 0, 101), -8 * torch.rand(100, generator=seeded(1))]
    ).double()
    for total in (most * 10**exponents).tolist():
        bound = float(forward.exit_rate_bound.rate(torch.tensor(total, dtype=torch.float64)))
        fastest = float(leaving_rates(forward, total, w).max())
        assert fastest <= bound * (1 + 1e-9)
        assert fastest > bound / 3
        if isinstance(forward, Absorbing):
            assert bound == pytest.approx(fastest, rel=1e-9)
        if isinstance(forward, Uniform):
            assert bound - 1 / v == pytest.approx(fastest, rel=1e-9)


@every_process
def test_the_exit_bound_is_attained_at_some_noise(forward: ForwardProcess) -> None:
    """A matrix kernel adds 2% to the largest rate that it finds."""
    if isinstance(forward, Uniform):
        return  # 1/V above it, everywhere
    most = float(forward.noise.total(1.0))
    certain = torch.eye(forward.vocab_size, dtype=torch.float64)
    shares = [
        float(
            leaving_rates(forward, most * 10**e, certain[data_weights(forward) > 0]).max()
            / forward.exit_rate_bound.rate(torch.tensor(most * 10**e))
        )
        for e in np.linspace(-8, 0, 200)
    ]
    assert max(shares) > 0.98 - 1e-3


@every_process
def test_the_exit_bound_is_the_slope_of_its_integral(forward: ForwardProcess) -> None:
    total = float(forward.noise.total(1.0)) * torch.logspace(-6, 0, 60, dtype=torch.float64)
    step = 1e-4 * total
    f = forward.exit_rate_bound.integral
    slope = (
        8 * (f(total + step) - f(total - step)) - f(total + 2 * step) + f(total - 2 * step)
    ) / (12 * step)
    torch.testing.assert_close(slope, forward.exit_rate_bound.rate(total), rtol=1e-8, atol=0)
    assert (forward.exit_rate_bound.rate(total) > 0).all()
    assert f(torch.zeros(1, dtype=torch.float64)) == -torch.inf


@every_process
def test_the_exit_bound_time_inverts_the_integral(forward: ForwardProcess) -> None:
    most = float(forward.noise.total(1.0))
    total = torch.cat(
        [
            torch.logspace(-6, math.log10(most), 60, dtype=torch.float64),
            torch.tensor([most], dtype=torch.float64),
        ]
    )
    value = forward.exit_rate_bound.integral(total)
    torch.testing.assert_close(forward.exit_rate_bound.inverse(value), total, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        forward.exit_rate_bound.inverse(value.reshape(1, -1, 1)),
        total.reshape(1, -1, 1),
        rtol=1e-10,
        atol=0,
    )
    far_back = forward.exit_rate_bound.inverse(value - 1e4)
    assert (far_back >= 0).all()
    assert (far_back < 1e-6).all()


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian-4", "circle"])
def test_exit_bounds_at_the_ends(name: str) -> None:
    """Very much noise, and sequences without movable sites, whose next candidate never comes."""
    forward = BUILDERS[name](Constant(900.0))
    waiting = torch.tensor([1e-3, 1.0, 10.0], dtype=torch.float64)
    value = forward.exit_rate_bound.integral(torch.tensor(900.0, dtype=torch.float64)) - waiting
    total = forward.exit_rate_bound.inverse(value)
    assert (total >= 0).all()
    assert (total < 900).all()
    torch.testing.assert_close(
        forward.exit_rate_bound.integral(total), value, rtol=1e-10, atol=1e-12
    )
    assert forward.exit_rate_bound.inverse(torch.tensor([-torch.inf], dtype=torch.float64)) == 0


@every_process
@pytest.mark.parametrize("t", [0.01, 0.5, 1.0])
def test_reverse_rates_of_one_site(forward: ForwardProcess, t: float) -> None:
    """R^(x -> y) = R_t(y, x) p_t(y) / p_t(x), all from matrices, for every x."""
    x = all_states(forward)
    w = data_weights(forward)
    p = w @ matrix(forward, 0.0, t)
    expected = (
        float(forward.noise.rate(t)) * torch.from_numpy(base_matrix(forward)).T * p / p[:, None]
    )
    expected.fill_diagonal_(0)
    actual = forward.reverse_rates(w.expand(len(x), -1), x, t)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    ratio = (p / p[:, None]).expand(len(x), -1)
    torch.testing.assert_close(forward.jump_rates(ratio, x, t), expected, rtol=1e-10, atol=1e-12)


@every_process
@every_step
def test_a_step_of_one_site_is_exact(forward: ForwardProcess, s: float, t: float) -> None:
    """draw_moving and bridge: p(x_s | x_t) ∝ q_{t|s}(x_t | x_s) (w q_{s|0})(x_s), row x_t."""
    v, x = forward.vocab_size, all_states(forward)
    w = data_weights(forward)
    joint = matrix(forward, s, t).T * (w @ matrix(forward, 0.0, s))
    expected = joint / joint.sum(-1, keepdim=True)
    bridge = forward.bridge(w.expand(v, -1), x, t, s)
    bridge = bridge / bridge.sum(-1, keepdim=True)
    stay = torch.eye(v, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        reveal = forward.reveal_probability(t, s)
        assert reveal.dtype == torch.float64
        moving = torch.zeros(v, dtype=torch.float64)
        moving[forward.mask_id] = reveal
    else:
        assert forward.draw_moving(x, t, s, generator=seeded(0)).all()
        moving = torch.ones(v, dtype=torch.float64)
    close(moving[:, None] * bridge + (1 - moving)[:, None] * stay, expected)


@pytest.mark.parametrize("mask_id", [0, 1, 3])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.4), (0.3, 0.1)])
def test_absorbing_reveals_masked_sites_at_their_rate(mask_id: int, t: float, s: float) -> None:
    forward = Absorbing(vocab_size=4, noise=Constant(1.7), mask_id=mask_id)
    x = torch.arange(4).repeat(20_000, 1)
    moving = forward.draw_moving(x, t, s, generator=seeded(1))
    assert moving.dtype == torch.bool
    masked = x == mask_id
    assert torch.equal(forward.movable(x), masked)
    assert not moving[~masked].any()
    survive_s, survive_t = math.exp(-1.7 * s), math.exp(-1.7 * t)
    wanted = (survive_s - survive_t) / (1 - survive_t)
    assert stats.binomtest(int(moving.sum()), 20_000, wanted).pvalue > LEVEL
    assert torch.equal(forward.draw_moving(x, t, 0.0, generator=seeded(2)), masked)


def test_uniform_moves_everywhere() -> None:
    forward = Uniform(vocab_size=4, noise=LogLinear())
    x = torch.arange(4).repeat(3, 1)
    assert forward.movable(x).all()
    assert forward.movable(x).shape == x.shape


@every_process
@pytest.mark.parametrize(
    "length", [2, 5]
)  # a matrix kernel multiplies site by site, or time by time
def test_a_time_per_sequence_is_a_time_per_row(forward: ForwardProcess, length: int) -> None:
    times = [0.05, 0.5, 0.93]
    column = torch.tensor(times, dtype=torch.float64)[:, None]
    x = torch.randint(forward.vocab_size, (3, length), generator=seeded(0))
    w = data_weights(forward, 3, length)
    ratio = torch.rand(w.shape, generator=seeded(1), dtype=torch.float64)
    probs = forward.push(w, 0.4)
    seen_at = forward.sample_path(x, generator=seeded(2))

    def answers(t: Time) -> dict[str, Tensor]:
        pulled = {} if isinstance(forward, MatrixKernel) else {"pull": forward.pull(probs.log(), t)}
        return pulled | {
            "push": forward.push(w, t),
            "likelihood": forward.likelihood(x, t),
            "jump_rates": forward.jump_rates(ratio, x, t),
            "reverse_rates": forward.reverse_rates(w + 1e-3, x, t),
            "sample_path": seen_at(t),
            "sample_transition": forward.sample_transition(x, 0.5 * t, t, generator=seeded(3)),
        }

    by_column = answers(column)
    for row, t in enumerate(times):
        by_row = answers(t)
        for name, expected in by_row.items():
            torch.testing.assert_close(
                by_column[name][row], expected[row], rtol=1e-13, atol=1e-14, msg=name
            )


@every_process
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distributions_keep_the_dtype_of_w(forward: ForwardProcess, dtype: torch.dtype) -> None:
    w = data_weights(forward, 2, 3).to(dtype)
    x = torch.randint(forward.vocab_size, (2, 3), generator=seeded(0))
    for t in (0.5, torch.tensor([[0.5], [0.5]], dtype=torch.float64)):
        pulled = () if isinstance(forward, MatrixKernel) else (forward.pull(w.log(), t),)
        for out in (
            *pulled,
            forward.push(w, t),
            forward.jump_rates(w, x, t),
            forward.reverse_rates(w + 0.1, x, t),
        ):
            assert out.dtype == dtype
            assert out.shape == w.shape
            assert out.isfinite().all()
    assert forward.bridge(w, x, 0.5, 0.2).dtype == dtype


@every_process
@some_steps
def test_paths_have_the_joint_distribution_of_two_times(
    forward: ForwardProcess, s: float, t: float
) -> None:
    v, w = forward.vocab_size, data_weights(forward, seed=4)
    x0 = torch.multinomial(w, 20_000, replacement=True, generator=seeded(5)).reshape(-1, 2)
    at = forward.sample_path(x0, generator=seeded(6))
    x_t, x_s = at(t), at(s)  # the later time first: all randomness is drawn before
    joint = w[:, None, None] * matrix(forward, 0.0, s)[:, :, None] * matrix(forward, s, t)[None]
    assert chi_square_p((x0 * v + x_s) * v + x_t, joint.reshape(-1).clamp_min(0)) > LEVEL


@every_process
def test_paths_have_the_joint_distribution_of_three_times(forward: ForwardProcess) -> None:
    """A path is a Markov chain: x_u depends on x_t alone."""
    v = forward.vocab_size
    at = forward.sample_path(torch.zeros(30_000, dtype=torch.int64), generator=seeded(8))
    s, t, u = 0.15, 0.5, 0.8
    joint = (
        matrix(forward, 0.0, s)[0][:, None, None]
        * matrix(forward, s, t)[:, :, None]
        * matrix(forward, t, u)[None]
    )
    assert chi_square_p((at(s) * v + at(t)) * v + at(u), joint.reshape(-1).clamp_min(0)) > LEVEL


@every_process
def test_a_path_is_the_same_at_every_evaluation(forward: ForwardProcess) -> None:
    x0 = data_weights(forward, 100, 7, seed=1).argmax(-1)
    kept = x0.clone()
    at = forward.sample_path(x0, generator=seeded(6))
    first = {t: at(t) for t in (0.9, 0.2, 1.0, 0.5)}
    for t, x in first.items():
        assert x.dtype == torch.int64
        assert x.shape == x0.shape
        assert torch.equal(at(t), x)
        assert torch.equal(at(torch.tensor(t, dtype=torch.float64)), x)
        assert torch.equal(forward.sample_path(x0, generator=seeded(6))(t), x)
    assert not torch.equal(forward.sample_path(x0, generator=seeded(7))(0.5), first[0.5])
    assert torch.equal(x0, kept)


@every_process
def test_paths_start_at_the_data(forward: ForwardProcess) -> None:
    x0 = torch.randint(forward.vocab_size, (50, 7), generator=seeded(9))
    assert torch.equal(forward.sample_path(x0, generator=seeded(10))(0.0), x0)
    assert forward.sample_path(x0[:0], generator=seeded(10))(0.5).shape == (0, 7)


@every_process
@some_steps
def test_transitions_have_their_distribution(forward: ForwardProcess, s: float, t: float) -> None:
    v = forward.vocab_size
    x = torch.randint(v, (10_000, 2), generator=seeded(11))
    x_t = forward.sample_transition(x, s, t, generator=seeded(12))
    assert x_t.dtype == torch.int64
    assert x_t.shape == x.shape
    assert chi_square_p(x * v + x_t, (matrix(forward, s, t) / v).reshape(-1).clamp_min(0)) > LEVEL
    assert torch.equal(forward.sample_transition(x, s, t, generator=seeded(12)), x_t)


@every_process
def test_prior(forward: ForwardProcess) -> None:
    x = forward.sample_prior((10_000, 2), generator=seeded(13), device=CPU)
    assert x.dtype == torch.int64
    assert x.shape == (10_000, 2)
    probs = torch.full((forward.vocab_size,), 1 / forward.vocab_size, dtype=torch.float64)
    if isinstance(forward, Absorbing):
        probs = torch.nn.functional.one_hot(
            torch.tensor(forward.mask_id), forward.vocab_size
        ).double()
    if isinstance(forward, MatrixKernel):
        probs = torch.from_numpy(null_space(base_matrix(forward).T)).squeeze(-1)
        probs = probs / probs.sum()
        close(forward.stationary(), probs)
    assert chi_square_p(x[:, 0] * forward.vocab_size + x[:, 1], torch.kron(probs, probs)) > LEVEL
    # with a long horizon it is where the forward process ends
    far = replace(forward, noise=Constant(60.0))
    close(far.transition(0.0, 1.0), probs.expand(forward.vocab_size, -1))


def test_names_and_masks() -> None:
    noise = LogLinear()
    assert Absorbing(vocab_size=5, noise=noise).mask_id == 4
    assert Absorbing(vocab_size=5, noise=noise, mask_id=2).mask_id == 2
    assert Absorbing(vocab_size=5, noise=noise).name == "absorbing"
    assert Uniform(vocab_size=5, noise=noise).name == "uniform"
    assert Absorbing(vocab_size=5, noise=noise) == Absorbing(vocab_size=5, noise=noise, mask_id=4)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_too_few_states_are_refused(size: int) -> None:
    for build in (Absorbing, Uniform):
        with pytest.raises(
            ValueError, match=rf"{build.__name__} needs at least 2 states, got vocab_size={size}"
        ):
            build(vocab_size=size, noise=LogLinear())


@pytest.mark.parametrize("mask_id", [-2, 4, 100])
def test_a_mask_outside_the_vocabulary_is_refused(mask_id: int) -> None:
    with pytest.raises(ValueError, match=rf"mask_id must lie in 0\.\.3, got {mask_id}"):
        Absorbing(vocab_size=4, noise=LogLinear(), mask_id=mask_id)


def test_pull_of_the_absorbing_kernel_leaves_mask_out() -> None:
    probs = torch.tensor([0.9, 0.2, 0.3, 0.4], dtype=torch.float64)
    w = Absorbing(vocab_size=4, noise=LogLinear(), mask_id=2).pull(probs.log(), 0.5)
    close(w, torch.tensor([0.6, 0.4 / 3, 0, 0.8 / 3], dtype=torch.float64))


@pytest.mark.parametrize("token", [-1, 4])
def test_tokens_outside_the_vocabulary_are_refused(token: int) -> None:
    for forward in (
        Absorbing(vocab_size=4, noise=LogLinear()),
        Uniform(vocab_size=4, noise=LogLinear()),
    ):
        with pytest.raises(
            ValueError, match=rf"prompt holds tokens .*{token}.*, the vocabulary is 0\.\.3"
        ):
            forward.check_data(torch.tensor([1, token]), "prompt")
    forward.check_states(torch.tensor([3]), "state")


def test_the_absorbing_kernel_alone_is_not_revisable() -> None:
    assert [kernel.revisable for kernel in (Absorbing, Uniform)] == [False, True]


class Plain(ForwardProcess):
    """The uniform kernel with the eight methods that every kernel writes, and all the defaults."""

    name = "plain"
    rate_matrix, transition, push = Uniform.rate_matrix, Uniform.transition, Uniform.push
    likelihood, bridge, sample_prior = Uniform.likelihood, Uniform.bridge, Uniform.sample_prior
    sample_path, sample_transition = Uniform.sample_path, Uniform.sample_transition


def test_the_default_gap_is_that_of_a_reversible_matrix() -> None:
    forward = RateMatrix(matrix=BIRTH_DEATH, noise=LogLinear())
    gap = ForwardProcess.spectral_gap.__get__(forward)
    assert gap == pytest.approx(forward.spectral_gap, rel=1e-10)


def test_defaults_of_a_kernel_of_ones_own() -> None:
    plain, known = (kind(vocab_size=4, noise=LogLinear()) for kind in (Plain, Uniform))
    x, w = torch.randint(4, (2, 3), generator=seeded(0)), data_weights(known, 2, 3)
    assert torch.equal(plain.movable(x), known.movable(x))
    assert plain.draw_moving(x, 0.5, 0.2, generator=seeded(1)).all()
    for name in ("rates_into", "rates_from"):
        close(getattr(plain, name)(x), getattr(known, name)(x))
    close(plain.reverse_rates(w, x, 0.5), known.reverse_rates(w, x, 0.5))
    close(
        plain.leave_out(w.log(), x, 0.5).softmax(-1), known.leave_out(w.log(), x, 0.5).softmax(-1)
    )
    close(plain.stay_probability(0.5), known.stay_probability(0.5))
    assert plain.spectral_gap == pytest.approx(1)
    assert plain.max_exit_rate == pytest.approx(0.75)  # Without hits that change nothing.
    total = torch.tensor([1e-3, 0.1, 2.0], dtype=torch.float64)
    exact = known.exit_rate_bound.rate(total) - 0.25
    assert (plain.exit_rate_bound.rate(total) >= exact).all()
    assert (plain.exit_rate_bound.rate(total) <= 1.5 * exact).all()
    with pytest.raises(ValueError, match="cannot be turned into a posterior for the plain kernel"):
        plain.pull(w.log(), 0.5)


@pytest.mark.parametrize(
    "t", [0.4, 1e-6, torch.tensor([[0.4], [0.9]])], ids=["number", "early", "tensor"]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "forward",
    [Absorbing(vocab_size=4, noise=LogLinear()), Uniform(vocab_size=4, noise=LogLinear())],
)
def test_leave_out_divides_the_posterior_by_the_likelihood(forward, dtype, t):
    x = torch.tensor([[0, 1, 2], [3, 3, 0]])
    log_posterior = torch.randn(2, 3, 4, generator=seeded(0)).to(dtype)
    before = log_posterior.clone()
    found = forward.leave_out(log_posterior, x, t)
    likelihood = forward.likelihood(x, t)
    w = torch.where(likelihood > 0, log_posterior.double().exp() / likelihood, 0)
    assert found.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert torch.allclose(
        found.double().softmax(-1),
        w / w.sum(-1, keepdim=True),
        rtol=1e-10 if dtype is torch.float64 else 1e-5,
    )
    assert torch.equal(log_posterior, before)
