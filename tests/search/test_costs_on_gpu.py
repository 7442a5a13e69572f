"""Searches on stand-ins for a GPU's tensors, which refuse to be mixed with those of the CPU."""

import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.kernels import kernel
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.noise import Time
from jumpsteps.schedules.orders import Blocks, Golden, Random, RevealOrder, Spread
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.costs.by_block import block_costs
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.table import Measure
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from test_layout import ROOT

SYMBOLS = 4
TABLE = torch.randn(SYMBOLS + 1, SYMBOLS + 1, generator=seeded(1))
DATA = torch.randint(SYMBOLS, (8, 16), generator=seeded(2))

Search = Callable[[ReverseProcess, Tensor, torch.Generator], object]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("launches")


def on_both(stand_ins: ModuleType, search: Search) -> list[object]:
    """What a search finds on the CPU, and on the stand-ins."""
    forward, gpu = kernel("absorbing", SYMBOLS), stand_ins.DeviceGenerator()
    gpu.manual_seed(0)

    def reverse(table: Tensor) -> ReverseProcess:
        def model(x: Tensor, t: Time) -> Tensor:
            return table[x.roll(1, -1)] + 0.5 * table[x.roll(-1, -1)]

        return PosteriorReverse(forward, model)

    found = [search(reverse(TABLE), DATA, seeded(0))]
    with torch.no_grad(), stand_ins.pretended_device(), stand_ins.Counting():
        table, data = (stand_ins.OnDevice(each) for each in (TABLE, DATA))
        found.append(search(reverse(table), data, gpu))
    return found


@pytest.mark.parametrize("measure", [Measure.DATA, Measure.MODEL])
@pytest.mark.parametrize("order", [Random(), Spread(), Blocks(4), Blocks(4, inner=Spread())])
def test_costs_are_those_of_the_cpu(
    order: RevealOrder, measure: Measure, stand_ins: ModuleType
) -> None:
    costs = block_costs if isinstance(order, Blocks) else count_costs

    def search(reverse: ReverseProcess, data: Tensor, generator: torch.Generator) -> np.ndarray:
        paths = Paths.draw(reverse.forward, data, generator=generator)
        table = costs(reverse, paths, order, evaluations=8, measure=measure, generator=generator)
        assert isinstance(table.value, np.ndarray)
        return np.stack([table.value, table.stderr])

    cpu, gpu = on_both(stand_ins, search)
    np.testing.assert_allclose(gpu, cpu, atol=1e-12)


def test_the_best_order_is_that_of_the_cpu(stand_ins: ModuleType) -> None:
    """Its candidates share a state, and the best one is evaluated again."""
    method = AutoOrder(orders=(Random(), Golden()), learned=False, evaluations=12, screening=4)

    def search(reverse: ReverseProcess, data: Tensor, generator: torch.Generator) -> object:
        found = optimize_schedule(reverse, data, [3], generator=generator, method=method)
        return found[3].counts, found[3].order, found[3].provenance.few_step_nll

    (counts, order, nll), (*other, same_nll) = on_both(stand_ins, search)
    assert [counts, order] == other
    assert same_nll == pytest.approx(nll)


def test_tensors_of_two_devices_are_refused(stand_ins: ModuleType) -> None:
    with stand_ins.Counting(), pytest.raises(RuntimeError, match="on two devices"):
        stand_ins.OnDevice(TABLE) + TABLE
