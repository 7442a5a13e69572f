"""Threads and markers of the tests.

A test is `statistical` without being marked if it, or a function of the test files that it calls,
uses a p-value. `gpu` tests are skipped where there is no CUDA device. `slow` is marked by hand.
"""

import os
from inspect import unwrap

# Tests run in several processes; one thread each is faster than all of them fighting for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from types import CodeType, FunctionType

import pytest
import torch

torch.set_num_threads(1)

P_VALUES = {"LEVEL", "chi_square_p", "pvalue", "two_sample_p"}


def names_in(code: CodeType) -> set[str]:
    """The globals and attributes that the code uses, functions inside it included."""
    inner = (names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


def uses_a_p_value(function: FunctionType, seen: set[str]) -> bool:
    """Whether the function or one that it calls from its own module uses a p-value."""
    function = unwrap(function)
    names = names_in(function.__code__)
    if names & P_VALUES:
        return True
    called = (function.__globals__.get(name) for name in names - seen)
    own = [f for f in called if isinstance(f, FunctionType) and f.__module__ == function.__module__]
    return any(uses_a_p_value(f, seen | names) for f in own)


def body_of(item: pytest.Item) -> FunctionType | None:
    """The function of a test, without what Hypothesis wraps around it."""
    function = getattr(item, "function", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return function if isinstance(function, FunctionType) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    statistical: dict[FunctionType, bool] = {}
    for item in items:
        if (function := body_of(item)) is not None:
            if function not in statistical:
                statistical[function] = uses_a_p_value(function, set())
            if statistical[function]:
                item.add_marker("statistical")
        if hasattr(item, "callspec") and item.callspec.params.get("device") == "cuda":
            item.add_marker("gpu")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
