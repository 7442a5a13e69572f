"""What kernels draw: the prior, transitions and forward paths, by chi-square tests."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from scipy.linalg import null_space

from builders.processes import (
    base_matrix,
    close,
    data_weights,
    every_process,
    matrix,
    some_steps,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant
from jumpsteps.process.rate_matrix import MatrixKernel

CPU = torch.device("cpu")


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
