"""What a race found: who won, by how much, and what it cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpsteps.evaluation.metrics import Interval
from jumpsteps.schedules.schedule import Schedule

__all__ = ["Choice", "Race", "Runner"]


@dataclass(frozen=True)
class Runner:
    """A schedule in a race.

    Attributes:
        schedule: the schedule.
        samples: that it drew.
        behind: how much farther from the data than the best of its last round, with the 95%
            interval of this one difference; None for the best.
        dropped: whether it was clearly worse.
    """

    schedule: Schedule
    samples: int
    behind: Interval | None
    dropped: bool


@dataclass(frozen=True)
class Choice:
    """The race of one NFE.

    Attributes:
        runners: by name.
        best: the name of the schedule that is nearest to the data after the last round.
        used: model calls for each step of a run, until then.
        again: how much farther from the data than ``best`` the plain schedules are, on new samples
            and other data, with simultaneous intervals.
        winner: ``best``, or a plain schedule that is clearly better in ``again``.
    """

    runners: Mapping[str, Runner]
    best: str
    used: int
    winner: str
    again: Mapping[str, Interval] = field(default_factory=dict)

    @classmethod
    def of(cls, runners: Mapping[str, Runner], used: int) -> "Choice":
        """The choice after the last round, not compared again."""
        (best,) = (name for name, one in runners.items() if one.behind is None and not one.dropped)
        return cls(runners, best, used, best)

    @property
    def schedule(self) -> Schedule:
        """The winner's."""
        return self.runners[self.winner].schedule

    def lines(self) -> list[str]:
        """A line for each schedule, the nearest to the data first."""
        intervals = [one.behind for one in self.runners.values()] + list(self.again.values())
        unit = unit_of([abs(one.mean) for one in intervals if one is not None])
        width = max(len("schedule"), *map(len, self.runners))
        made = [
            f"  {'schedule':{width}}  samples  {f'farther than the best, 1e{unit}':36}"
            "on new samples"
        ]
        ranked = sorted(
            self.runners,
            key=lambda name: (
                self.runners[name].dropped,
                getattr(self.runners[name].behind, "mean", -math.inf),
            ),
        )
        for name in ranked:
            one = self.runners[name]
            first = "best" if one.behind is None else text(one.behind, unit)
            first += ", dropped" * one.dropped
            second = text(self.again[name], unit) if name in self.again else ""
            mark = "*" if name == self.winner else " "
            made.append(f"{mark} {name:{width}}  {one.samples:7d}  {first:36}{second}".rstrip())
        return made


@dataclass(frozen=True)
class Race:
    """The races of all NFE, as text a table of each.

    Attributes:
        choices: by NFE.
        level: the family-wise confidence level of what is dropped, and of the last comparison.
        model_calls: of all races.
        evaluated: sequences in these calls, all together.
        sequences: of data.
    """

    choices: Mapping[int, Choice]
    level: float
    model_calls: int
    evaluated: int
    sequences: int

    @property
    def schedules(self) -> dict[int, Schedule]:
        """The winner's schedule for each NFE."""
        return {nfe: choice.schedule for nfe, choice in self.choices.items()}

    def __str__(self) -> str:
        lines = [f"two-sample distance from {self.sequences} sequences, 95% intervals; * is chosen"]
        for nfe, choice in self.choices.items():
            lines += [f"NFE {nfe}", *choice.lines()]
        lines.append(
            f"race: {self.model_calls} model calls, {self.evaluated} sequences evaluated in them"
        )
        return "\n".join(lines)


def unit_of(values: list[float]) -> int:
    """The power of ten, a multiple of 3, in which the largest value is at least 10."""
    largest = max(values, default=0.0)
    return 3 * math.floor((math.log10(largest) - 1) / 3) if largest > 0 else 0


def text(interval: Interval, unit: int) -> str:
    scale = 10.0**-unit
    return f"{scale * interval.mean:.2f} [{scale * interval.low:.2f}, {scale * interval.high:.2f}]"
