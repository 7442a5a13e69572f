"""Measured order of weak convergence: exact distributions of whole runs on an enumerable model, no sampling.

    python experiments/order.py

A random distribution of two sites and three symbols; runs from the true distribution at t = 1 in N equal steps, N = 16 to 256. Prints the total
variation from the true distribution at N = 16 and 256 and the slope of its logarithm against log N, for runs that end at t = 0.1 and runs
that end at t = 0, where rates are infinite. The figures are in docs/samplers.md. About 2 minutes on two cores.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from jumpsteps.exact import transition_matrices
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Exponential, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.schedule import TimeSchedule

STEPS = (16, 32, 64, 128, 256)
PROCESSES: dict[str, ForwardProcess] = {
    "absorbing, log-linear": Absorbing(vocab_size=4, noise=LogLinear()),
    "absorbing, constant": Absorbing(vocab_size=4, noise=Constant(4.0)),
    "uniform, log-linear": Uniform(vocab_size=3, noise=LogLinear()),
    "uniform, constant": Uniform(vocab_size=3, noise=Constant(4.0)),
    "gaussian, exponential": Gaussian(
        vocab_size=3, rate_sigma=1.0, q_sigma=1.0, noise=Exponential(base=10.0, scale=0.3)
    ),
    "gaussian, constant": Gaussian(vocab_size=3, rate_sigma=1.0, q_sigma=1.0, noise=Constant(2.0)),
}

Step = Callable[[float, float], Tensor]


def steps_of(truth: Enumerable) -> dict[str, Step]:
    found: dict[str, Step] = {
        "tweedie": truth.tweedie_transition,
        "euler": truth.euler_transition,
        "tau-leaping": partial(transition_matrices.tau_leaping, truth),
        "theta-trapezoidal": partial(transition_matrices.theta_trapezoidal, truth, theta=0.5),
        "theta-rk2": partial(transition_matrices.theta_rk2, truth, theta=0.5),
        "tweedie-corrected": partial(corrected, truth),
    }
    return found


def corrected(truth: Enumerable, t: float, s: float) -> Tensor:
    step = truth.tweedie_transition(t, s)
    return step @ transition_matrices.corrector(truth, s, 0.5 * (t - s)) if s > 0 else step


def errors(truth: Enumerable, step: Step, end: float) -> list[float]:
    """Total variation from the true distribution at ``end``, for each number of steps."""
    target, found = truth.marginal(end), []
    for n in STEPS:
        schedule = TimeSchedule([1 - (1 - end) * i / n for i in range(n)] + [end])
        probs = truth.run_distribution(step, schedule, truth.marginal(1.0))
        found.append(0.5 * float((probs - target).abs().sum()))
    return found


def run() -> None:
    torch.set_num_threads(1)
    print(
        f"{'process':24s}{'sampler':20s}"
        + "".join(f"{'to ' + end:>9s}{'N=16':>10s}{'N=256':>10s}" for end in ("0.1", "0"))
    )
    for name, forward in PROCESSES.items():
        truth = Enumerable.random(forward, symbols=3, length=2, seed=0)
        for sampler, step in steps_of(truth).items():
            cells = ""
            for end in (0.1, 0.0):
                found = errors(truth, step, end)
                slope = -np.polyfit(np.log(STEPS), np.log(found), 1)[0]
                cells += f"{slope:9.2f}{found[0]:10.1e}{found[-1]:10.1e}"
            print(f"{name:24s}{sampler:20s}{cells}", flush=True)


if __name__ == "__main__":
    run()
