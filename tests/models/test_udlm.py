"""UDLM and Duo: the minimiser of their loss, and folders in their published layout."""

import pytest
import torch

import jumpsteps
from builders.checkpoints import DUO, UDLM
from builders.reference_dit import (
    D,
    L,
    V,
    backbone,
    check_that_damage_is_refused,
    logits_of,
    random_weights,
    without,
    write_folder,
)
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.models.formats.udlm import is_udlm
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform

WEIGHTS = random_weights()
PUBLISHED = backbone(WEIGHTS)
TOKENS = torch.randint(V, (3, L), generator=seeded(1))
SOME = torch.rand(TOKENS.shape, generator=seeded(2)) < 0.4

TRUTH = Enumerable.random(Uniform(vocab_size=4, noise=LogLinear()), symbols=4, length=2, seed=0)
OWN = TRUTH.states  # every x_t, [16, 2]


def alpha(t):
    return 1 - 0.999 * torch.as_tensor(t, dtype=torch.float64)


def channel(t, size=4):
    """q_{t|0} of a site: kept, or replaced by a uniform symbol."""
    return alpha(t) * torch.eye(size, dtype=torch.float64) + (1 - alpha(t)) / size


def exact_leave_one_out(t):
    """p(x_0^l | x_t^{-l}) of the two sites of TRUTH, [16, 2, 4], given the other site."""
    first = (TRUTH.table @ channel(t)).T[OWN[:, 1]]
    second = (TRUTH.table.T @ channel(t)).T[OWN[:, 0]]
    w = torch.stack([first, second], 1)
    return w / w.sum(-1, keepdim=True)


def exact_posterior(t):
    """p(x0^l | x_t), [16, 2, 4], from the joint distribution of both sites."""
    joint = TRUTH.table * channel(t).T[OWN[:, 0]][:, :, None] * channel(t).T[OWN[:, 1]][:, None, :]
    posterior = torch.stack([joint.sum(2), joint.sum(1)], 1)
    return posterior / posterior.sum(-1, keepdim=True)


def plug_in(x, t, s):
    """q(x_s | x_t, x_theta) of a distribution in place of x_0, [16, 2, 4] (Schiff et al. 2024)."""
    n, own = 4, torch.eye(4, dtype=torch.float64)[OWN]
    at, as_ = alpha(t), alpha(s)
    numerator = (
        at * n * x * own + (at / as_ - at) * own + (as_ - at) * x + (1 - at / as_) * (1 - as_) / n
    )
    return numerator / (at * n * (x * own).sum(-1, keepdim=True) + 1 - at)


@pytest.mark.parametrize(
    ("t", "s", "least"), [(0.9, 0.5, 0.02), (0.7, 0.3, 0.05), (0.3, 0.29, 0.01), (0.2, 0.0, 0.05)]
)
def test_the_plug_in_formula_is_exact_for_the_leave_one_out_posterior_only(t, s, least):
    exact = TRUTH.site_marginals(TRUTH.conditional(t, s))
    torch.testing.assert_close(plug_in(exact_leave_one_out(t), t, s), exact, rtol=0, atol=1e-12)
    wrong = plug_in(exact_posterior(t), t, s)
    torch.testing.assert_close(wrong.sum(-1), torch.ones(16, 2, dtype=torch.float64))
    assert (wrong - exact).abs().max() > least


def expected_loss(logits, t):
    """E[loss | x_t] summed over x_t and sites, for x_theta = softmax(logits), [16, 2, 4].

    The loss is the integrand of the continuous-time bound (Schiff et al. 2024) for every x_0,
    weighted with p(x_0^l | x_t).
    """
    n, at = 4, alpha(t)
    bar_theta = n * at * logits.softmax(-1) + 1 - at
    own = bar_theta.gather(-1, OWN[..., None])
    total = torch.zeros((), dtype=torch.float64)
    for x0 in range(n):
        bar = (n * at * torch.eye(n, dtype=torch.float64)[x0] + 1 - at).expand_as(bar_theta)
        bar_own = bar.gather(-1, OWN[..., None])
        inner = bar / bar_own * ((own / bar_theta).log() + (bar / bar_own).log())
        loss = -0.999 / (n * at) * ((n / bar_own - n / own)[..., 0] - inner.sum(-1))
        total = total + (exact_posterior(t)[..., x0] * loss).sum()
    return total


@pytest.mark.parametrize("t", [0.2, 0.6, 0.95])
def test_the_training_loss_is_least_at_the_leave_one_out_posterior(t):
    w, posterior = (
        probs(t).log().requires_grad_() for probs in (exact_leave_one_out, exact_posterior)
    )
    at_w, at_posterior = expected_loss(w, t), expected_loss(posterior, t)
    assert 0 < at_w < at_posterior
    assert torch.autograd.grad(at_w, w)[0].abs().max() < 1e-12
    assert torch.autograd.grad(at_posterior, posterior)[0].abs().max() > 1e-3


class ExactLeaveOneOut:
    """log w of TRUTH plus a constant for each site: outputs need not be normalised."""

    def __call__(self, x, t, where=None):
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        rows = [
            exact_leave_one_out(time)[TRUTH.index(state[None])]
            for state, time in zip(x, times, strict=True)
        ]
        out = torch.cat(rows).log() + x[..., None]
        return out if where is None else out[where]


@pytest.mark.parametrize("t", [0.3, torch.linspace(0.1, 1, 16)])
def test_a_model_of_the_leave_one_out_posterior_answers_like_the_exact_one(t):
    reverse, exact = (
        LeaveOneOutReverse(TRUTH.forward, ExactLeaveOneOut()),
        PosteriorReverse(TRUTH.forward, TRUTH),
    )
    where = OWN % 3 == 1
    for question in ("posterior", "leave_one_out", "log_score", "rates"):
        for sites in (None, where):
            answers = (getattr(process, question)(OWN, t, sites) for process in (reverse, exact))
            torch.testing.assert_close(*answers, rtol=1e-9, atol=1e-9)
    assert (reverse.posterior(OWN, t) - reverse.leave_one_out(OWN, t)).abs().max() > 0.1


def test_the_absorbing_kernel_is_refused():
    with pytest.raises(ValueError, match="use PosteriorReverse"):
        LeaveOneOutReverse(Absorbing(vocab_size=5, noise=LogLinear()), ExactLeaveOneOut())


def reference(t):
    """The leave-one-out posterior, and the posterior, of TOKENS at times t [3], in float64."""
    logits = torch.stack(
        [
            logits_of(WEIGHTS, row, float(-alpha(time).log()))
            for row, time in zip(TOKENS, t, strict=True)
        ]
    )
    w = logits.softmax(-1)
    likelihood = torch.stack([channel(time, V).T[row] for row, time in zip(TOKENS, t, strict=True)])
    posterior = w * likelihood
    return w, posterior / posterior.sum(-1, keepdim=True)


def close(actual, expected):
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config", [UDLM, DUO, DUO | {"model_type": "duo"}], ids=["udlm", "DUO", "duo"]
)
@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_a_published_folder_equals_the_reference(tmp_path, config, pickled):
    model = jumpsteps.load(write_folder(tmp_path / "model", config, PUBLISHED, pickled))
    assert model.reverse.forward == Uniform(vocab_size=V, noise=LogLinear(1e-3))
    assert (model.length, model.task, len(model.digest)) == (L, None, 64)
    assert not model.reverse.model.training
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    w, posterior = reference(t)
    assert w.std(0).max() > 0.05  # times, contexts and positions matter
    assert (w - posterior).abs().max() > 0.5
    out = model.reverse.model(TOKENS, t)
    assert out.dtype == torch.float32
    close(out.softmax(-1), w)
    close(model.reverse.leave_one_out(TOKENS, t), w)
    close(model.reverse.posterior(TOKENS, t), posterior)
    close(model.reverse.leave_one_out(TOKENS, t, SOME), w[SOME])
    close(model.reverse.posterior(TOKENS, t, SOME), posterior[SOME])


@torch.no_grad()
def test_what_is_evaluated_is_read_like_the_model(tmp_path):
    reverse = jumpsteps.load(write_folder(tmp_path / "model", DUO, PUBLISHED)).reverse
    kept = reverse.model.evaluate(TOKENS, 0.3, SOME)
    assert kept.rows.shape == (SOME.sum(), D)  # hidden states, not V outputs
    fewer = SOME & (torch.arange(L) % 2 == 0)
    w, _ = reference([0.3] * 3)
    close(kept(TOKENS, 0.3, fewer).softmax(-1), w[fewer])


@torch.no_grad()
def test_what_was_loaded_is_sampled(tmp_path):
    reverse = jumpsteps.load(write_folder(tmp_path / "model", UDLM, PUBLISHED)).reverse
    times = jumpsteps.TimeSchedule([1, 0.5, 0])
    run = jumpsteps.simulate(reverse, jumpsteps.Tweedie(), times, (64, L), generator=seeded(0))
    assert run.nfe == 2
    assert run.samples.max() == V - 1  # the last symbol is no MASK


def test_other_configs_are_not_taken_for_udlm():
    assert is_udlm(UDLM)
    assert is_udlm(DUO)
    assert not is_udlm({"model_type": "mdlm"})
    assert not is_udlm({"format": "jumpsteps-model"})


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        (
            PUBLISHED,
            {"vocab_size": V + 1},
            rf"has shape \[{V}(, {D})?\], config.json asks for \[{V + 1}(, {D})?\]",
        ),
        (PUBLISHED, {"vocab_size": None}, "vocab_size must be a positive integer, got None"),
        (PUBLISHED, {"model_length": "12"}, "model_length must be a positive integer, got '12'"),
        (PUBLISHED, {"n_heads": 5}, "hidden_size must be a multiple of 2 x n_heads"),
        (PUBLISHED, {"n_blocks": 3}, "missing keys backbone.blocks.2"),
        (
            PUBLISHED,
            {"cfg": True},
            "cfg is True; a network that is conditioned on a class is not supported",
        ),
        (PUBLISHED, {"causal": True}, "causal is True; an autoregressive network is not supported"),
        (
            PUBLISHED,
            {"time_conditioning": False},
            "time_conditioning is False; a network that is not conditioned on time is not",
        ),
        (
            without(PUBLISHED, "backbone.sigma_map.mlp.0.bias"),
            {},
            "missing keys backbone.sigma_map.mlp.0.bias, unexpected keys none",
        ),
        (
            PUBLISHED | {"backbone.cond_map.embedding_table.weight": torch.ones(2)},
            {},
            "unexpected keys backbone.cond_map",
        ),
        (WEIGHTS, {}, "missing keys backbone.*, unexpected keys blocks"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, weights, change, message):
    folder = write_folder(tmp_path / "model", UDLM | change, weights)
    with pytest.raises(ValueError, match=message) as error:
        jumpsteps.load(folder)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(tmp_path):
    check_that_damage_is_refused(write_folder(tmp_path / "model", DUO, PUBLISHED))
