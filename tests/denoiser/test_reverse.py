from itertools import product

import pytest
import torch
from torch import Tensor

from builders.kernels import KERNELS, SCORE_KERNELS, kernel
from builders.models import ExactLogScore
from builders.statistics import seeded
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.noise import Constant, LogLinear, Time
from jumpsteps.process.uniform import Uniform

NOISES = {"LogLinear": LogLinear(), "Constant": Constant(2.0)}
SIZES = [(2, 4), (3, 3)]
TIMES = [0.02, 0.4, 1.0]
QUESTIONS = ["posterior", "leave_one_out", "log_score", "rates"]
ABOUT_DATA = ["posterior", "leave_one_out"]
"""Questions that a log-score model answers with ``pull``, so not for a ``MatrixKernel``."""

TRUTHS = {
    f"{name}-{noise}-{symbols}^{length}": Enumerable.random(
        kernel(name, symbols, NOISES[noise]), symbols=symbols, length=length, seed=length
    )
    for name in (*KERNELS, "rate-matrix")
    for noise in NOISES
    for symbols, length in SIZES
}
Parameterisation = type[PosteriorReverse] | type[LogScoreReverse]
PARAMETERISATIONS: list[Parameterisation] = [PosteriorReverse, LogScoreReverse]


def answers(name: str, parameterisation: Parameterisation, question: str) -> bool:
    return (
        parameterisation is PosteriorReverse
        or question not in ABOUT_DATA
        or name.startswith(SCORE_KERNELS)
    )


ASKED = [asked for asked in product(KERNELS, PARAMETERISATIONS, QUESTIONS) if answers(*asked)]
DATA_ASKED = [asked for asked in product(TRUTHS, PARAMETERISATIONS) if answers(*asked, "posterior")]

every_truth = pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS.keys())
few_truths = pytest.mark.parametrize("name", [f"{name}-LogLinear-3^3" for name in KERNELS])
every_time = pytest.mark.parametrize("t", TIMES)
every_parameterisation = pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
every_question = pytest.mark.parametrize(("name", "parameterisation", "question"), ASKED)
every_data_question = pytest.mark.parametrize(("name", "parameterisation"), DATA_ASKED)


def reverse_of(truth: Enumerable, parameterisation: Parameterisation) -> ReverseProcess:
    model: Model = truth if parameterisation is PosteriorReverse else ExactLogScore(truth)
    return parameterisation(truth.forward, model)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def single_site_rates(truth: Enumerable, t: float) -> Tensor:
    """``Enumerable.reverse_rates`` as [S, L, V]: from every state to every change of one site."""
    v, length = truth.forward.vocab_size, truth.table.ndim
    rates = truth.reverse_rates(t)
    out = torch.zeros(len(truth.states), length, v, dtype=torch.float64)
    for (row, x), site, y in product(enumerate(truth.states), range(length), range(v)):
        changed = x.clone()
        changed[site] = y
        out[row, site, y] = rates[row, int(truth.index(changed[None]))]
    return out


def brute_force_leave_one_out(truth: Enumerable, t: float) -> Tensor:
    """p(x0^l | x_t^{-l}), [S, L, N], by a sum of p_0(x0) times q_{t|0} of all sites but l."""
    length, n = truth.table.ndim, truth.table.shape[0]
    q = truth.forward.transition(0.0, t)
    w = torch.zeros(len(truth.states), length, n, dtype=torch.float64)
    for x0 in product(range(n), repeat=length):
        for site in range(length):
            term = truth.table[x0].expand(len(truth.states)).clone()
            for other in range(length):
                if other != site:
                    term *= q[x0[other], truth.states[:, other]]
            w[:, site, x0[site]] += term
    return w / w.sum(-1, keepdim=True)


@every_truth
@every_time
@every_parameterisation
def test_rates_are_those_of_the_time_reversal(
    truth: Enumerable, t: float, parameterisation: Parameterisation
) -> None:
    rates = reverse_of(truth, parameterisation).rates(truth.states, t)
    close(rates, single_site_rates(truth, t))
    assert (rates.gather(-1, truth.states[..., None]) == 0).all()


@every_truth
@every_time
def test_both_parameterisations_answer_alike(truth: Enumerable, t: float) -> None:
    x = truth.states
    by_posterior, by_score = (
        reverse_of(truth, parameterisation) for parameterisation in PARAMETERISATIONS
    )
    # Absorbing: leave_one_out and log_score have a meaning at masked sites only.
    where = truth.forward.movable(x)
    if answers(truth.forward.name, LogScoreReverse, "posterior"):
        close(by_score.posterior(x, t), by_posterior.posterior(x, t))
        close(by_score.leave_one_out(x, t)[where], by_posterior.leave_one_out(x, t)[where])
    close(by_score.log_score(x, t)[where], by_posterior.log_score(x, t)[where])
    close(by_score.rates(x, t), by_posterior.rates(x, t))


@every_data_question
@every_time
def test_leave_one_out_by_brute_force(
    name: str, t: float, parameterisation: Parameterisation
) -> None:
    truth = TRUTHS[name]
    w = reverse_of(truth, parameterisation).leave_one_out(truth.states, t)
    where = truth.forward.movable(truth.states)
    n = truth.table.shape[0]
    close(w[where][:, :n], brute_force_leave_one_out(truth, t)[where])
    assert (w[where][:, n:] == 0).all()
    close(w.sum(-1), torch.ones(truth.states.shape, dtype=torch.float64))


@every_data_question
@every_time
def test_posterior_by_brute_force(name: str, t: float, parameterisation: Parameterisation) -> None:
    """p(x0^l | x_t) ∝ p(x0^l | x_t^{-l}) q_{t|0}(x_t^l | x0^l), at revealed sites, too."""
    truth = TRUTHS[name]
    n = truth.table.shape[0]
    posterior = reverse_of(truth, parameterisation).posterior(truth.states, t)
    joint = (
        brute_force_leave_one_out(truth, t)
        * truth.forward.transition(0.0, t).T[truth.states][..., :n]
    )
    close(posterior[..., :n], joint / joint.sum(-1, keepdim=True))
    assert (posterior[..., n:] == 0).all()


@every_truth
@every_time
@every_parameterisation
def test_log_score_is_the_ratio_of_marginals(
    truth: Enumerable, t: float, parameterisation: Parameterisation
) -> None:
    x = truth.states
    log_score = reverse_of(truth, parameterisation).log_score(x, t)
    where = truth.forward.movable(x)
    close(log_score[where], ExactLogScore(truth)(x, t)[where])
    assert (log_score.gather(-1, x[..., None]) == 0).all()


@pytest.mark.parametrize(
    ("name", "parameterisation"),
    [asked for asked in DATA_ASKED if not asked[0].startswith("absorbing")],
)
@pytest.mark.parametrize("t", [0.1, 1.0])
def test_leave_one_out_does_not_depend_on_its_own_site(
    name: str, parameterisation: Parameterisation, t: float
) -> None:
    """Not for the absorbing kernel, whose movable sites all hold MASK."""
    truth = TRUTHS[name]
    w = reverse_of(truth, parameterisation).leave_one_out(truth.states, t)
    v, length = truth.forward.vocab_size, truth.table.ndim
    for site in range(length):
        by_own_state = w[:, site].reshape(*[v] * length, v).movedim(site, 0)
        close(by_own_state, by_own_state[:1].expand_as(by_own_state))


@every_question
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_time_per_sequence(
    name: str, parameterisation: Parameterisation, question: str, dtype: torch.dtype
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    times = torch.tensor([0.1, 0.7, 0.1, 1.0, 0.35], dtype=dtype)
    x = truth.states[torch.randperm(len(truth.states), generator=seeded(0))[:5]]
    ask = getattr(reverse_of(truth, parameterisation), question)
    together = ask(x, times)
    for row, t in enumerate(times.tolist()):
        expected = ask(x, t)
        assert expected.shape == (*x.shape, truth.forward.vocab_size)
        torch.testing.assert_close(together[row], expected[row], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ask(x, times[0]), ask(x, float(times[0])), rtol=1e-10, atol=1e-12)


@every_question
def test_selected_sites(name: str, parameterisation: Parameterisation, question: str) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    x = truth.states
    ask = getattr(reverse_of(truth, parameterisation), question)
    where = torch.rand(x.shape, generator=seeded(1)) < 0.5
    for t in (0.3, torch.tensor([0.1, 0.4, 0.9])[torch.randint(3, (len(x),), generator=seeded(2))]):
        answer = ask(x, t, where)
        assert answer.shape == (int(where.sum()), truth.forward.vocab_size)
        torch.testing.assert_close(answer, ask(x, t)[where], rtol=1e-12, atol=1e-14)
        assert ask(x, t, torch.zeros_like(where)).shape == (0, truth.forward.vocab_size)


class Recorder:
    """Passes its arguments on and keeps them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.seen: list[Tensor | None] = []

    def __call__(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        self.seen.append(where)
        return self.model(x, t, where)


@every_question
def test_one_call_of_the_model_for_the_selected_sites(
    name: str, parameterisation: Parameterisation, question: str
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    recorder = Recorder(reverse_of(truth, parameterisation).model)
    where = torch.rand(truth.states.shape, generator=seeded(3)) < 0.5
    getattr(parameterisation(truth.forward, recorder), question)(truth.states, 0.5, where)
    assert len(recorder.seen) == 1
    assert recorder.seen[0] is where


@few_truths
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_unnormalised_posterior_is_as_good(name: str, question: str) -> None:
    truth = TRUTHS[name]
    shift = 10 * torch.randn(*truth.states.shape, 1, generator=seeded(4), dtype=torch.float64)

    def shifted(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return truth(x, t) + shift

    plain, other = PosteriorReverse(truth.forward, truth), PosteriorReverse(truth.forward, shifted)
    for t in (0.05, 0.6, 1.0):
        torch.testing.assert_close(
            getattr(other, question)(truth.states, t),
            getattr(plain, question)(truth.states, t),
            rtol=1e-10,
            atol=1e-12,
        )


@few_truths
@pytest.mark.parametrize("question", QUESTIONS)
def test_outputs_at_impossible_symbols_are_ignored(name: str, question: str) -> None:
    """A network gives logits for MASK, too, and for all symbols at revealed sites."""
    truth = TRUTHS[name]

    def noisy(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        impossible = truth.forward.likelihood(x, t) == 0
        return torch.where(impossible, 5.0, truth(x, t))

    plain, other = PosteriorReverse(truth.forward, truth), PosteriorReverse(truth.forward, noisy)
    torch.testing.assert_close(
        getattr(other, question)(truth.states, 0.5), getattr(plain, question)(truth.states, 0.5)
    )


@pytest.mark.parametrize(
    ("name", "question"), [(name, q) for name, p, q in ASKED if p is LogScoreReverse]
)
def test_the_value_at_the_own_symbol_of_a_score_is_ignored(name: str, question: str) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    exact = ExactLogScore(truth)

    def careless(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return exact(x, t).scatter(-1, x[..., None], 3.0)

    plain, other = LogScoreReverse(truth.forward, exact), LogScoreReverse(truth.forward, careless)
    assert torch.equal(
        getattr(other, question)(truth.states, 0.5), getattr(plain, question)(truth.states, 0.5)
    )


@every_question
def test_a_float32_model_gives_finite_answers_near_the_exact_ones(
    name: str, parameterisation: Parameterisation, question: str
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    exact = reverse_of(truth, parameterisation)

    def network(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return exact.model(x, t, where).float()

    where = truth.forward.movable(truth.states)
    rough = getattr(parameterisation(truth.forward, network), question)(truth.states, 0.5, where)
    torch.testing.assert_close(
        rough.double(), getattr(exact, question)(truth.states, 0.5, where), rtol=1e-4, atol=1e-5
    )


@every_parameterisation
@pytest.mark.parametrize("question", QUESTIONS)
def test_another_vocabulary_is_refused(parameterisation: Parameterisation, question: str) -> None:
    truth = TRUTHS["uniform-LogLinear-3^3"]
    reverse = parameterisation(
        Uniform(vocab_size=5, noise=LogLinear()), reverse_of(truth, parameterisation).model
    )
    with pytest.raises(
        ValueError, match=r"the model returned 3 values per site, the uniform kernel has 5 states"
    ):
        getattr(reverse, question)(truth.states, 0.5)


def test_another_vocabulary_is_refused_of_leave_one_out_posteriors() -> None:
    truth = TRUTHS["uniform-LogLinear-3^3"]
    reverse = LeaveOneOutReverse(Uniform(vocab_size=5, noise=LogLinear()), truth)
    for ask in (
        lambda: reverse.leave_one_out(truth.states, 0.5),
        lambda: reverse.leave_one_out_from(truth(truth.states, 0.5), truth.states, 0.5),
    ):
        with pytest.raises(ValueError, match="3 values per site, the uniform kernel has 5 states"):
            ask()


@pytest.mark.parametrize("name", KERNELS)
@every_parameterisation
@pytest.mark.parametrize("t", [0.0, torch.tensor(0.0), torch.tensor([0.5, 0.0])])
def test_rates_at_time_zero_are_refused(
    name: str, parameterisation: Parameterisation, t: Time
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    with pytest.raises(ValueError, match=r"defined for t > 0 only; end the run with a step to 0"):
        reverse_of(truth, parameterisation).rates(truth.states[:2], t)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 3), (1,)])
def test_a_time_of_another_shape_is_refused(
    name: str, question: str, shape: tuple[int, ...]
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    with pytest.raises(ValueError, match=r"t must be a number or have shape \[B\] = \[2\], got \["):
        getattr(reverse_of(truth, PosteriorReverse), question)(
            truth.states[:2], torch.full(shape, 0.5)
        )


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_score_model_refuses_it_too(name: str, question: str) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]

    def network(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        return torch.zeros(*x.shape, truth.forward.vocab_size)

    with pytest.raises(
        ValueError, match=r"t must be a number or have shape \[B\] = \[2\], got \[3\]"
    ):
        getattr(LogScoreReverse(truth.forward, network), question)(
            truth.states[:2], torch.full((3,), 0.5)
        )


@pytest.mark.parametrize("name", ["gaussian", "rate-matrix"])
@pytest.mark.parametrize("question", ABOUT_DATA)
def test_a_score_model_of_a_matrix_kernel_has_no_posterior(name: str, question: str) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    reverse = reverse_of(truth, LogScoreReverse)
    with pytest.raises(
        ValueError,
        match=rf"cannot be turned into a posterior for the {name} kernel.*; use .*PosteriorReverse",
    ):
        getattr(reverse, question)(truth.states, 0.5)


@every_question
def test_a_question_is_a_call_and_a_reading_of_its_output(
    name: str, parameterisation: Parameterisation, question: str
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    asked = reverse_of(truth, parameterisation)
    silent = parameterisation(truth.forward, lambda x, t: 1 / 0)  # Reading calls no model.
    where = torch.rand(truth.states.shape, generator=seeded(5)) < 0.5
    times = torch.rand(len(truth.states), generator=seeded(6), dtype=torch.float64).clamp_min(0.1)
    for t in (0.4, times):
        output = asked.call_model(truth.states, t)
        for mask in (None, where, SiteMask(where)):
            sites = output if mask is None else output[where]
            expected = getattr(asked, question)(truth.states, t, mask)
            found = getattr(silent, f"{question}_from")(sites, truth.states, t, mask)
            assert torch.equal(found, expected)


@every_question
def test_an_output_of_another_vocabulary_is_refused(
    name: str, parameterisation: Parameterisation, question: str
) -> None:
    truth = TRUTHS[f"{name}-LogLinear-3^3"]
    output = torch.zeros(*truth.states.shape, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match="the model returned 7 values per site"):
        getattr(reverse_of(truth, parameterisation), f"{question}_from")(output, truth.states, 0.5)
