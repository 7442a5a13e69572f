"""The times of a schedule for the solvers of flow_matching."""

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.integrations.flow_matching import time_grid
from jumpsteps.process.noise import Cosine, LogLinear
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

COUNTS = CountSchedule([1, 3, 4])


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("noise", [LogLinear(), Cosine()])
def test_as_much_is_data_as_in_the_schedule(exponent, noise):
    times = TimeSchedule([1.0, 0.7, 0.2, 0.0])
    grid = time_grid(times, exponent=exponent, noise=noise)
    first = 1 - float(noise.alpha(1.0))
    masked = [(1 - float(noise.alpha(t))) / first for t in times.times]
    assert (1 - grid**exponent).tolist() == pytest.approx(masked)
    assert (grid[0], grid[-1]) == (0, 1)
    data = time_grid(COUNTS, exponent=exponent) ** exponent
    assert data.tolist() == pytest.approx([0, 1 / 8, 4 / 8, 1])


def test_uniform_times_are_a_uniform_grid():
    assert time_grid(uniform(4)).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="exponent must be positive, got 0"):
        time_grid(COUNTS, exponent=0)
    with pytest.raises(ValueError, match="append the time 0"):
        time_grid(TimeSchedule([1.0, 0.5]))
    with pytest.raises(ValueError, match="uniform kernel, which masks no tokens"):
        time_grid(TimeSchedule([1.0, 0.0], Provenance(kernel="uniform")))


def test_the_solver_calls_the_model_at_these_times():
    pytest.importorskip("flow_matching")
    from flow_matching.path import MixtureDiscreteProbPath
    from flow_matching.path.scheduler import PolynomialConvexScheduler
    from flow_matching.solver import MixtureDiscreteEulerSolver
    from flow_matching.utils import ModelWrapper

    called = []

    class Model(ModelWrapper):
        def __init__(self):
            super().__init__(None)

        def forward(self, x, t, **extras):
            called.append(float(t.flatten()[0]))
            return torch.tensor([0.5, 0.5, 0.0]).expand(*x.shape, 3)

    path = MixtureDiscreteProbPath(PolynomialConvexScheduler(n=1.0))
    solver = MixtureDiscreteEulerSolver(Model(), path, vocabulary_size=3)
    grid = time_grid(COUNTS).float()
    torch.manual_seed(int(torch.randint(99, (), generator=seeded(0))))
    made = solver.sample(torch.full((4, 8), 2), step_size=None, time_grid=grid)
    assert called == pytest.approx(grid[:-1].tolist())
    assert set(made.unique().tolist()) <= {0, 1}
