"""Models of one's own: every form that works, and one line for every mistake."""

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps import (
    JYS,
    AutoOrder,
    ClosedForm,
    ForwardProcess,
    Golden,
    Method,
    PosteriorReverse,
    ShortestPath,
    Tweedie,
    equal_error,
    few_step_nll,
    optimize_schedule,
    simulate,
)
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import as_tokens
from jumpsteps.denoiser.checks import CheckedModel
from jumpsteps.denoiser.model import Evaluation, call
from jumpsteps.schedules.fixed import uniform

V, SHAPE = 4, (3, 6)
FORWARD = kernel("absorbing", V)
TABLE = torch.randn(V + 1, V + 1, generator=seeded(0), dtype=torch.float64)


def logits(x: Tensor) -> Tensor:
    return TABLE[x.roll(1, -1)]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(V + 1, V + 1, _weight=TABLE.clone())

    def forward(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.table(x.roll(1, -1)).detach()


class Selecting(Network):
    """Returns the rows of the mask; the kind of mask is kept."""

    def forward(self, x: Tensor, t: Any, where: Tensor | None = None) -> Tensor:
        self.kind = type(where)
        out = super().forward(x, t)
        return out if where is None else out[where]


class Reading(Selecting):
    reads_site_mask = True

    def forward(self, x: Tensor, t: Any, where: Any = None) -> Tensor:
        self.kind = type(where)
        out = Network.forward(self, x, t)
        return out if where is None else where.select(out)


class Holding:
    """An object that holds its network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        return self.network(x, t)


def function(x: Tensor, t: Any, *, where: Tensor | None = None) -> Tensor:
    return logits(x) if where is None else logits(x)[where]


def plain(scale: float, x: Tensor, t: Any) -> Tensor:
    return scale * logits(x)


MODELS = {
    "function of x and t": lambda x, t: logits(x),
    "function that ignores where": lambda x, t, where=None: logits(x),
    "tuple": lambda x, t: (logits(x), "hidden"),
    "object with logits": lambda x, t: SimpleNamespace(logits=logits(x)),
    "any arguments": lambda *arguments: logits(arguments[0]),
    "partial": functools.partial(plain, 1.0),
    "module": Network().eval(),
    "module with where": Selecting().eval(),
    "module that reads indices": Reading().eval(),
    "object": Holding(Network().eval()),
    "bound method": Holding(Network().eval()).__call__,
    "compiled": torch.compile(Selecting().eval(), backend="eager"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_form_of_a_model_gives_the_same(name: str) -> None:
    x = torch.randint(V + 1, SHAPE, generator=seeded(1))
    where = torch.rand(SHAPE, generator=seeded(2)) < 0.5
    assert torch.equal(call(MODELS[name], x, 0.5), logits(x))
    for mask in (where, SiteMask(where)):
        assert torch.equal(call(MODELS[name], x, 0.5, mask), logits(x)[where])


@pytest.mark.parametrize("name", MODELS)
def test_every_form_of_a_model_runs_and_is_searched(name: str) -> None:
    reverse = PosteriorReverse(FORWARD, MODELS[name])
    data = torch.randint(V, SHAPE, generator=seeded(3)).numpy().astype(np.int32)
    schedules = optimize_schedule(reverse, data, [2], generator=seeded(4))
    known = PosteriorReverse(FORWARD, function)
    expected = optimize_schedule(known, torch.as_tensor(data).long(), [2], generator=seeded(4))
    assert schedules == expected
    runs = [
        simulate(one, Tweedie(), schedules[2], SHAPE, generator=seeded(5)).samples
        for one in (reverse, known)
    ]
    assert torch.equal(*runs)


def test_the_mask_is_bool_unless_a_model_reads_indices() -> None:
    where = torch.ones(SHAPE, dtype=torch.bool)
    for network, kind in ((Selecting(), Tensor), (Reading(), SiteMask)):
        call(network, torch.zeros(SHAPE, dtype=torch.int64), 0.5, where)
        assert network.kind is kind


def test_tokens_may_be_a_numpy_array() -> None:
    initial = np.full(SHAPE, V, dtype=np.uint8)
    reverse = PosteriorReverse(FORWARD, function)
    found, expected = (
        simulate(reverse, Tweedie(), uniform(2), SHAPE, generator=seeded(0), initial=x).samples
        for x in (initial, None)
    )
    assert torch.equal(found, expected)


def test_lists_are_no_tokens() -> None:
    with pytest.raises(ValueError, match="data must be a tensor or an array of integers, got list"):
        as_tokens([[0, 1]], "data")


@pytest.mark.parametrize("x", [np.array([0.5]), torch.tensor([True]), torch.tensor([1.0])])
def test_tokens_that_are_no_integers_are_refused(x: Any) -> None:
    with pytest.raises(ValueError, match="data must hold tokens, which are integers; got torch"):
        as_tokens(x, "data")


def with_value(value: float, dtype: torch.dtype = torch.float64) -> Any:
    return lambda x, t: logits(x).index_fill(-1, torch.tensor([1]), value).to(dtype)


class OnAnotherDevice(Holding):
    def __call__(self, x: Tensor, t: Any) -> Tensor:
        return torch.empty(*x.shape, V + 1, device="meta")


TRAINING = Network()


def in_a_closure() -> Any:
    network = Network()
    return lambda x, t: network(x, t)


MISTAKES = {
    "train mode of a global name": (lambda x, t: TRAINING(x, t), "the network Network is in train"),
    "train mode in a closure": (in_a_closure(), "the network Network is in train mode"),
    "train mode": (Network(), r"the network Network is in train mode, .*; call \.eval\(\) on it"),
    "train mode inside": (Holding(Network()), "the network Network is in train mode"),
    "NaN": (with_value(torch.nan), "output holds NaN at its first call; check .* weights"),
    "inf": (with_value(torch.inf), "output holds infinity at its first call"),
    "float16": (
        with_value(1e5, torch.float16),
        "output holds infinity: float16 overflows above 65504; load the network in bfloat16",
    ),
    "shape": (
        lambda x, t: logits(x)[:, 1:],
        r"returned shape \[3, 5, 5\] for tokens \[3, 6\]; return \[B, L, V\] = \[3, 6, V\]",
    ),
    "transposed": (lambda x, t: logits(x).mT, r"returned shape \[3, 5, 6\] for tokens \[3, 6\]"),
    "symbols": (
        lambda x, t: logits(x)[..., :V],
        "returned 4 values per site, the absorbing kernel has 5 states; build the forward process "
        r"with .* vocabulary, or pad the logits if the network has none for MASK: .*\(0, 1\)\)",
    ),
    "too many symbols": (
        lambda x, t: nn.functional.pad(logits(x), (0, 1)),
        "returned 6 values per site, the absorbing kernel has 5 states; .* the model's vocabulary$",
    ),
    "device": (
        OnAnotherDevice(nn.Identity().eval()),
        "output is on meta, its tokens are on cpu; move both to one device",
    ),
    "integers": (lambda x, t: x[..., None].expand(*x.shape, V + 1), "model returned torch.int64;"),
    "dictionary": (lambda x, t: {"logits": logits(x)}, "the model returned dict; return a tensor"),
    "probabilities": (
        lambda x, t: logits(x).softmax(-1),
        "returned probabilities: .* return their logarithms, or the logits before the softmax",
    ),
}  # fmt: skip


class OfTokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return logits(x)


class OfText(nn.Module):
    """Would take a time for a mask of tokens, and go on."""

    def forward(self, input_ids: Tensor, attention_mask: Any = 1, labels: Any = None) -> Tensor:
        return attention_mask * logits(input_ids)


class OfClasses(nn.Module):
    def forward(self, x: Tensor, t: Any, label: Tensor, *, scale: float, bias: int = 0) -> Tensor:
        return scale * logits(x)

    def of_targets(self, idx: Tensor, targets: Any = None) -> Tensor:
        return logits(idx)


SIGNATURES = {
    "no time": (OfTokens().eval(), r"OfTokens takes \(x\), and is called with tokens and a time;"),
    "a function without a time": (lambda x: logits(x), r"lambda x, t: network\(x\)"),
    "a mask": (OfText().eval(), "argument of the model OfText is attention_mask, and it is called"),
    "targets": (
        OfClasses().eval().of_targets,
        "of_targets is targets, and it is called with a time",
    ),
    "a class": (
        OfClasses().eval(),
        r"needs label, scale besides .*: network\(x, t, label, scale\)",
    ),
    "a compiled network": (torch.compile(OfTokens().eval(), backend="eager"), "OfTokens takes"),
    "a partial function": (functools.partial(plain, t=0.5, x=1), r"takes \(scale\), and is called"),
}


@pytest.mark.parametrize("mistake", SIGNATURES)
def test_a_model_that_takes_no_time_is_refused_at_every_call(mistake: str) -> None:
    model, message = SIGNATURES[mistake]
    x = torch.zeros(SHAPE, dtype=torch.int64)
    for where in (None, x == 0):
        with pytest.raises(ValueError, match=message) as raised:
            call(model, x, 0.5, where)
        assert "\n" not in str(raised.value)
    call(lambda x, t: logits(x), x, 0.5)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_in_a_run_and_in_a_search(mistake: str) -> None:
    model, message = MISTAKES[mistake]
    reverse = PosteriorReverse(FORWARD, model)
    data = torch.randint(V, SHAPE, generator=seeded(3))
    with pytest.raises(ValueError, match=message) as run:
        simulate(reverse, Tweedie(), uniform(1), SHAPE, generator=seeded(0))
    with pytest.raises(ValueError, match=message) as search:
        optimize_schedule(reverse, data, [2], generator=seeded(0))
    for error in (run, search):
        assert "\n" not in str(error.value)


def test_values_are_checked_at_the_first_call_and_minus_infinity_is_allowed() -> None:
    calls: list[int] = []

    def model(x: Tensor, t: Any) -> Tensor:
        calls.append(0)
        return logits(x).index_fill(
            -1, torch.tensor([V]), -torch.inf if len(calls) == 1 else torch.nan
        )

    checked, x = CheckedModel(model), torch.zeros(SHAPE, dtype=torch.int64)
    assert checked(x, 0.5).isneginf().any()
    assert checked(x, 0.5).isnan().any()  # No check, and no waiting for a GPU.


def test_a_nan_of_a_later_call_is_found_where_a_symbol_is_drawn() -> None:
    def model(x: Tensor, t: float) -> Tensor:
        return logits(x) if t == 1 else torch.nan * logits(x)

    reverse = PosteriorReverse(FORWARD, model)
    with pytest.raises(ValueError, match="the model may have returned NaN"):
        simulate(reverse, Tweedie(), uniform(3), SHAPE, generator=seeded(0))


def broken_from(first: int, value: float, kernel: ForwardProcess) -> PosteriorReverse:
    """A model whose outputs hold the value from this call on."""
    calls: list[int] = []

    def model(x: Tensor, t: Any) -> Tensor:
        calls.append(0)
        out = logits(x)
        return out if len(calls) < first else out.index_fill(0, torch.tensor([0]), value)

    return PosteriorReverse(kernel, model)


UNIFORM = kernel("uniform", V + 1)
SEARCHES: list[tuple[ForwardProcess, Method]] = [
    (FORWARD, ShortestPath()),
    (FORWARD, ShortestPath(order=Golden())),
    (FORWARD, AutoOrder()),
    (FORWARD, JYS()),
    (FORWARD, ClosedForm("equal-error", equal_error)),
    (UNIFORM, ShortestPath()),
    (UNIFORM, JYS()),
]


@pytest.mark.parametrize(("value", "found"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
@pytest.mark.parametrize(("forward", "method"), SEARCHES)
def test_a_nan_of_a_later_call_of_a_search_is_named(
    forward: ForwardProcess, method: Method, value: float, found: str
) -> None:
    """Some searches failed for another reason, and Jump Your Steps returned a schedule."""
    data = torch.randint(V, (8, 6), generator=seeded(3))
    message = rf"the model's output holds {found} at call 3 of \d+, at t = 0\.\d+( to .*)?; check"
    with pytest.raises(ValueError, match=message):
        optimize_schedule(
            broken_from(3, value, forward), data, [4], generator=seeded(0), method=method
        )
    optimize_schedule(
        broken_from(999, value, forward), data, [4], generator=seeded(0), method=method
    )


def test_a_nan_of_a_measurement_is_named() -> None:
    data = torch.randint(V, (8, 6), generator=seeded(3))
    with pytest.raises(ValueError, match=r"holds NaN at call 2 of \d+, at t = "):
        few_step_nll(
            broken_from(2, torch.nan, UNIFORM), data, uniform(4), Tweedie(), generator=seeded(0)
        )


def test_a_wrapper_of_a_network_in_evaluation_mode_is_fine() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network().eval()

        def forward(self, x: Tensor, t: Any) -> Tensor:
            return self.network(x, t)

    CheckedModel(Wrapper())(torch.zeros(SHAPE, dtype=torch.int64), 0.5)


class Large(Holding):
    """With hidden states; NaN in them is found as in an output."""

    def evaluate(self, x: Tensor, t: Any, where: Tensor) -> Evaluation:
        assert isinstance(where, Tensor)
        return Evaluation(torch.nan * logits(x)[where], where, lambda rows, tokens: rows)


def test_hidden_states_are_checked_as_outputs_are() -> None:
    x = torch.zeros(SHAPE, dtype=torch.int64)
    with pytest.raises(ValueError, match="holds NaN at its first call"):
        CheckedModel(Large(Network().eval())).evaluate(x, 0.5, x == 0)


def test_an_output_is_an_evaluation() -> None:
    x = torch.randint(V + 1, SHAPE, generator=seeded(1))
    where = torch.rand(SHAPE, generator=seeded(2)) < 0.5
    evaluation = Evaluation.of_output(logits(x))
    assert torch.equal(evaluation(x, 0.5), logits(x))
    assert torch.equal(evaluation(x, 0.5, where), logits(x)[where])
