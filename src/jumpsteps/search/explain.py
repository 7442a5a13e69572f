r"""The theory as numbers: what the steps of a schedule cost, by every measure there is, and what they really do.

For each step t -> s, in nats per sequence:

* CDE, E KL(p(x_s | x_t) || prod_l p(x_s^l | x_t)) (Park et al. 2025, Eq. 3-4): known exactly for enumerable models;
* context: the divergence of paths when the context is frozen, Tweedie's step (``rate_costs``); at least the CDE for an exact model;
* rates: the divergence of paths when the rates are frozen, Euler's and tau-leaping's (Girsanov's theorem);
* KLUB: what a stop in the middle would gain, as published (``klub``).

For enumerable models, too, the KL divergence of the data from the samples of a whole run that starts from the true distribution at t = 1.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch

from jumpsteps.core.information import Floats, kl_divergence, standard_error
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.by_path import rate_costs
from jumpsteps.search.costs.correction import NO_CORRECTION
from jumpsteps.search.klub import Klub
from jumpsteps.search.paths import Paths

__all__ = ["Explanation", "StepErrors", "explain", "show"]

T_MIN = 1e-3
"""Where the KLUB of a step to t = 0 ends."""


@dataclass(frozen=True)
class StepErrors:
    """One step, in nats per sequence.

    Attributes:
        t, s: the time before and after.
        cde: exact; None where the model cannot be enumerated.
        context, rates: of each sequence, [B].
        klub: as published, of a stop in the middle.
    """

    t: float
    s: float
    cde: float | None
    context: Floats
    rates: Floats
    klub: float


@dataclass(frozen=True)
class Explanation:
    """One schedule.

    Attributes:
        steps: its steps.
        tweedie, euler: KL(p_0 || distribution of the samples) of these samplers, nats; None where the model cannot be enumerated.
    """

    steps: tuple[StepErrors, ...]
    tweedie: float | None
    euler: float | None


@torch.no_grad()
def explain(
    reverse: ReverseProcess,
    paths: Paths,
    schedules: list[TimeSchedule],
    *,
    generator: torch.Generator,
) -> list[Explanation]:
    """Explain schedules for a model, on forward paths of data.

    Two passes of 64 model calls serve all schedules; the KLUB adds two calls for each step. What enumerable models know exactly is
    left out where the paths have given sites: it is of runs without them.
    """
    context, rates = (
        rate_costs(
            reverse,
            paths,
            points=64,
            bandwidth=0,
            steps=0,
            hold_time=hold,
            correction=NO_CORRECTION,
            generator=generator,
        )
        for hold in (False, True)
    )
    truth = (
        reverse.model if isinstance(reverse.model, Enumerable) and bool(paths.free.all()) else None
    )
    found = []
    for schedule in schedules:
        steps = tuple(
            StepErrors(
                t,
                s,
                None if truth is None else float(truth.compounding_error(t, s)),
                context.step(t, s),
                rates.step(t, s),
                middle_klub(reverse, paths, t, s),
            )
            for t, s in pairwise(schedule.times)
        )
        found.append(Explanation(steps, *divergences(truth, schedule)))
    return found


def middle_klub(reverse: ReverseProcess, paths: Paths, t: float, s: float) -> float:
    end = max(s, min(T_MIN, t / 4))
    return Klub(reverse, paths, t, end)(0.5 * (t + end))


def divergences(
    truth: Enumerable | None, schedule: TimeSchedule
) -> tuple[float | None, float | None]:
    """KL(p_0 || q_0) of Tweedie's and of Euler's run."""
    if truth is None:
        return None, None
    start, data = truth.marginal(1.0), truth.data_distribution()
    runs = (
        truth.run_distribution(step, schedule, start)
        for step in (truth.tweedie_transition, truth.euler_transition)
    )
    tweedie, euler = (float(kl_divergence(data, probs)) for probs in runs)
    return tweedie, euler


def show(explanation: Explanation) -> str:
    """The table as text."""
    lines = [
        "step".rjust(18)
        + "".join(name.rjust(22) for name in ("CDE", "context", "rates", "KLUB, middle"))
    ]
    for step in explanation.steps:
        cells = [exact(step.cde), measured(step.context), measured(step.rates), f"{step.klub:.4f}"]
        lines.append(f"{step.t:8.4f} ->{step.s:7.4f}" + "".join(cell.rjust(22) for cell in cells))
    context, rates = (
        sum(getattr(step, name) for step in explanation.steps) for name in ("context", "rates")
    )
    known = [step.cde for step in explanation.steps if step.cde is not None]
    cells = [exact(sum(known) if known else None), measured(context), measured(rates)]
    lines.append("sum".rjust(18) + "".join(cell.rjust(22) for cell in cells))
    if explanation.tweedie is not None and explanation.euler is not None:
        lines.append(
            f"KL(data || samples): Tweedie {explanation.tweedie:.4f}, Euler {explanation.euler:.4f}"
        )
    return "\n".join(lines)


def exact(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def measured(parts: Floats) -> str:
    return f"{parts.mean():.4f} ±{standard_error(parts):.4f}"
