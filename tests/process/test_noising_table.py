"""States drawn from the table against the transition matrices."""

import pytest
import torch

from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant
from jumpsteps.process.noising_table import NoisingTable
from jumpsteps.process.rate_matrix import RateMatrix, birth_death

KERNELS = [
    Gaussian(vocab_size=256),
    RateMatrix(
        matrix=birth_death(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])), noise=Constant(1.0)
    ),
]


@pytest.mark.parametrize("forward", KERNELS, ids=lambda forward: forward.name)
def test_states_have_the_distribution_of_the_transition_rows(forward):
    times = torch.tensor([0.02, 0.3, 0.9], dtype=torch.float64)
    if forward.vocab_size == 3:
        times = times[[1]]
    table = NoisingTable(forward, times)
    x0 = torch.tensor([0, forward.vocab_size // 3, forward.vocab_size - 1])
    which = torch.arange(len(times))
    draws = table.draw(
        x0.repeat_interleave(20_000).expand(len(times), -1), which, generator=seeded(0)
    ).view(len(times), 3, -1)
    for k, t in enumerate(times):
        rows = forward.transition(0.0, float(t))[x0]
        for drawn, probs in zip(draws[k], rows, strict=True):
            assert chi_square_p(drawn, probs) > LEVEL


def test_many_times_are_computed_in_parts():
    forward = KERNELS[1]
    times = torch.linspace(0.1, 1, 300, dtype=torch.float64)
    table = NoisingTable(forward, times)
    x0 = torch.zeros(300, 1000, dtype=torch.int64)
    drawn = table.draw(x0, torch.arange(300), generator=seeded(1))
    counts = torch.stack([torch.bincount(row, minlength=3) for row in drawn]).double()
    exact = torch.stack([forward.transition(0.0, float(t))[0] for t in times])
    assert ((counts / 1000 - exact).abs() < 5 * (exact * (1 - exact) / 1000).sqrt() + 1e-9).all()
