"""Which forward process a schedule is good for, by its provenance."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builders.kernels import kernel
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix, birth_death
from jumpsteps.schedules.files import load_schedules, save_schedules
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule

NOISE = Constant(20.0)
ONES = torch.ones(3, dtype=torch.float64)


def walk(up: float = 1.0) -> RateMatrix:
    """A walk on four symbols, of its own name by its rates alone."""
    return RateMatrix(matrix=birth_death(up * ONES, ONES), noise=NOISE)


def written(schedule: Schedule, folder: Path) -> Schedule:
    save_schedules(folder / "s.json", {1: schedule})
    return load_schedules(folder / "s.json")[1]


@pytest.mark.parametrize("kind", [TimeSchedule, CountSchedule])
@pytest.mark.parametrize(
    ("found", "other"),
    [
        (walk(), walk(1.001)),
        (walk(), RateMatrix(matrix=birth_death(torch.ones(4), torch.ones(4)), noise=NOISE)),
        (Gaussian(vocab_size=8, q_sigma=4.0), Gaussian(vocab_size=8, q_sigma=5.0)),
    ],
    ids=["rates", "states", "gaussian"],
)
def test_a_schedule_for_other_rates_of_a_kernel_of_the_same_name_is_refused(
    found: MatrixKernel, other: MatrixKernel, kind: type[Schedule], tmp_path: Path
) -> None:
    numbers = [1.0, 0.0] if kind is TimeSchedule else [1]
    schedule = written(kind(numbers, Provenance().with_forward(found)), tmp_path)
    schedule.check_kernel(found)
    message = f"other rates of the kernel {found.name} than this model has; run 'jumpsteps optim"
    with pytest.raises(ValueError, match=message):
        schedule.check_kernel(other)


def test_rates_that_another_computer_rounds_otherwise_are_the_same_kernel() -> None:
    """Also rates that are round numbers, and one that is one, where the exponent changes."""
    matrix = birth_death(torch.tensor([1.0, 0.3, 2 / 3]), torch.tensor([0.1, 1e-9, 3.0])).double()
    known = RateMatrix(matrix=matrix, noise=NOISE).rates_hash
    for sign in (-1, 1):
        near = RateMatrix(matrix=matrix * (1 + sign * 2**-50), noise=NOISE)
        assert not torch.equal(near.rate_matrix(), matrix)
        assert near.rates_hash == known
    assert RateMatrix(matrix=matrix * (1 + 2**-12), noise=NOISE).rates_hash != known


def test_files_that_know_no_rates_are_for_every_kernel_of_the_name(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    save_schedules(path, {1: TimeSchedule([1.0, 0.0], Provenance().with_forward(walk()))})
    content = json.loads(path.read_text())
    assert content["schedules"][0]["provenance"].pop("rates_hash")
    path.write_text(json.dumps(content))
    load_schedules(path)[1].check_kernel(walk(2.0))


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_kernels_with_closed_forms_are_known_by_their_name(name: str) -> None:
    forward = kernel(name, 4)
    known = Provenance().with_forward(forward)
    assert known.rates_hash == ""
    replace(known, rates_hash="made by another version").check_forward(forward, "this model")
