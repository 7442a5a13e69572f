"""The forward process of every kernel, against its matrices."""

import pytest
import torch
from torch import Tensor

from builders.processes import (
    BIRTH_DEATH,
    PROCESSES,
    Plain,
    all_states,
    base_matrix,
    close,
    data_weights,
    every_process,
    matrix,
)
from builders.statistics import seeded
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import LogLinear, Time
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix
from jumpsteps.process.uniform import Uniform

STEPS = [(0.0, 1.0), (0.0, 0.3), (0.2, 0.7), (0.5, 0.51), (0.9, 1.0)]

PULLED = {
    name: forward
    for name, forward in PROCESSES.items()
    if not isinstance(forward, MatrixKernel | Plain)
}

every_pulled = pytest.mark.parametrize("forward", PULLED.values(), ids=PULLED.keys())

every_step = pytest.mark.parametrize(("s", "t"), STEPS)


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
        pulled = {"pull": forward.pull(probs.log(), t)} if forward in PULLED.values() else {}
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
        pulled = (forward.pull(w.log(), t),) if forward in PULLED.values() else ()
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
    counts = "; vocab_size counts MASK" if mask_id == 4 else ""
    with pytest.raises(ValueError, match=rf"mask_id must lie in 0\.\.3, got {mask_id}{counts}$"):
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


@every_process
def test_what_can_become_x_is_what_a_posterior_keeps(forward):
    """At every pair of symbols, for numbers and tensors of times."""
    symbols = torch.arange(forward.vocab_size)
    x0, x = (part.flatten() for part in torch.meshgrid(symbols, symbols, indexing="ij"))
    for t in (0.3, 1.0, torch.full(x.shape, 0.3)):
        expected = forward.likelihood(x, t).gather(-1, x0[:, None])[:, 0] > 0
        assert torch.equal(forward.can_become(x0, x, t), expected)
