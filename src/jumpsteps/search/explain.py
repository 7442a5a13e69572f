r"""The error of every step of a schedule, by every measure of it, in nats per sequence.

For a step t -> s:

* CDE, :math:`E\, \mathrm{KL}(p(x_s \mid x_t) \,\|\, \prod_l p(x_s^l \mid x_t))` (Park et al. 2025,
  Eq. 3-4): known exactly for enumerable models;
* context: the path divergence with a frozen context, of Tweedie's step (``path_costs``); at least
  the CDE for an exact model;
* rates: the path divergence with frozen rates, of Euler's and tau-leaping's step (Girsanov);
* KLUB: what a stop in the middle would gain, as published (``klub``).

For enumerable models also :math:`\mathrm{KL}(p_0 \,\|\, q_0)`, the divergence of the data from the
samples of a whole run that starts from the true distribution at t = 1.

All but the last two trust the model. The few-step NLL of the run (``few_step_nll``) does not: it is
measured on data, and a bound for any network.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import Floats, kl_divergence, standard_error
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION
from jumpsteps.search.costs.few_step_nll import FewStepNLL, few_step_nll
from jumpsteps.search.klub import Klub
from jumpsteps.search.paths import Paths

__all__ = ["Explanation", "StepErrors", "explain"]

T_MIN = 1e-3
"""Where the KLUB of a step to t = 0 ends."""


@dataclass(frozen=True)
class StepErrors:
    """The errors of one step, in nats per sequence.

    Attributes:
        t, s: the time before and after.
        cde: exact; None where the model cannot be enumerated.
        context, rates: path divergence of each sequence, [B].
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
    """The errors of one schedule; ``str()`` gives a table.

    Attributes:
        steps: of its steps.
        tweedie, euler: KL(p_0 || q_0) of runs of these samplers, nats; None where the model
            cannot be enumerated.
        few_step: the few-step NLL; None for a sampler whose step does not draw sites independently.
        sampler: its name.
    """

    steps: tuple[StepErrors, ...]
    tweedie: float | None
    euler: float | None
    few_step: FewStepNLL | None = None
    sampler: str = ""

    def __str__(self) -> str:
        rows = [("step", "CDE", "context", "rates", "KLUB, middle")]
        for step in self.steps:
            name = f"{step.t:8.4f} ->{step.s:7.4f}"
            measures = exact(step.cde), measured(step.context), measured(step.rates)
            rows.append((name, *measures, f"{step.klub:.4f}"))
        context = measured(np.sum([step.context for step in self.steps], axis=0))
        rates = measured(np.sum([step.rates for step in self.steps], axis=0))
        known = [step.cde for step in self.steps if step.cde is not None]
        lines = [line(*row) for row in rows]
        lines.append(line("sum", exact(sum(known) if known else None), context, rates))
        if self.tweedie is not None and self.euler is not None:
            lines.append(f"KL(data || samples): Tweedie {self.tweedie:.4f}, Euler {self.euler:.4f}")
        if self.few_step is not None:
            lines.append(f"{self.sampler}: {self.few_step}")
        return "\n".join(lines)


def line(name: str, *cells: str) -> str:
    return name.rjust(18) + "".join(cell.rjust(22) for cell in cells)


def exact(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def measured(parts: Floats) -> str:
    return f"{parts.mean():.4f} ±{standard_error(parts):.4f}"


@kinds_checked()
@torch.no_grad()
def explain(
    reverse: ReverseProcess,
    paths: Paths,
    schedules: list[TimeSchedule],
    *,
    sampler: Sampler = Tweedie(),
    generator: torch.Generator,
) -> list[Explanation]:
    """Explain schedules for a model, on forward paths of data.

    Two passes of 64 model evaluations serve all schedules; the KLUB adds two for each step, the
    few-step NLL of the sampler one for each step and 64 for each schedule. The
    exact values of enumerable models are of runs without observed sites, so they are left out
    where the paths have any.
    """
    context, rates = (
        path_costs(
            reverse,
            paths,
            evaluations=64,
            bandwidth=0,
            max_steps=None,
            hold_time=hold,
            correction=NO_CORRECTION,
            generator=generator,
        )
        for hold in (False, True)
    )
    truth = None
    if isinstance(reverse.model, Enumerable) and bool(paths.free.all()):
        truth = reverse.model
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
        measured = (
            None
            if sampler.holds is None
            else few_step_nll(reverse, paths, schedule, sampler, generator=generator)
        )
        found.append(Explanation(steps, *divergences(truth, schedule), measured, sampler.name))
    return found


def middle_klub(reverse: ReverseProcess, paths: Paths, t: float, s: float) -> float:
    """The KLUB of a stop in the middle of t -> s."""
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
        truth.run_distribution(transition, schedule, start)
        for transition in (truth.tweedie_transition, truth.euler_transition)
    )
    tweedie, euler = (float(kl_divergence(data, probs)) for probs in runs)
    return tweedie, euler
