r"""Times for the solvers of Facebook's flow_matching, which run from noise at 0 to data at 1.

    solver = MixtureDiscreteEulerSolver(model, path, vocabulary_size)
    solver.sample(x_init, step_size=None, time_grid=time_grid(schedules[8]))

A token of its mixture paths is data at time t with probability :math:`\kappa_t`; here that is 1 -
m(t), m the share of masked tokens. ``time_grid`` gives the times at which :math:`\kappa` is as in a
schedule. The solver makes an Euler step between them.
"""

from itertools import accumulate

import torch
from torch import Tensor

from jumpsteps.process.noise import LogLinear, NoiseSchedule
from jumpsteps.schedules.conversion import masked_share
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = ["time_grid"]


def time_grid(
    schedule: Schedule, *, exponent: float = 1.0, noise: NoiseSchedule = LogLinear()
) -> Tensor:
    r"""The times of a solver of flow_matching, float64 [N + 1], increasing from 0 to 1.

    With a ``PolynomialConvexScheduler`` of exponent n, :math:`\kappa_t = t^n`, so that a state
    with the share m of its tokens masked has the time :math:`(1 - m)^{1/n}`.

    Args:
        schedule: times or counts of the absorbing kernel; the order of counts is not used.
        exponent: n, of the scheduler of the path.
        noise: the noise schedule that times are for.

    Raises:
        ValueError: an exponent that is not positive, times for another kernel or noise schedule, or
            times that do not end at 0.
    """
    if not exponent > 0:
        raise ValueError(f"the exponent must be positive, got {exponent}")
    if isinstance(schedule, CountSchedule):
        done = torch.tensor([*accumulate(schedule.counts, initial=0)], dtype=torch.float64)
        return (done / schedule.total) ** (1 / exponent)
    schedule.provenance.check_noise(noise)
    if schedule.times[-1] != 0:
        raise ValueError(
            f"the schedule ends at t = {schedule.times[-1]}, where tokens are still masked; "
            "append the time 0"
        )
    first = masked_share(noise, schedule.times[0])
    masked = torch.tensor([masked_share(noise, t) / first for t in schedule.times])
    return (1 - masked.to(torch.float64)) ** (1 / exponent)
