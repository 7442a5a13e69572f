"""The options of every command: what the flags of ``flags.py`` are parsed into, once.

Each field of an option dataclass is a flag of the same name, or another option dataclass. A command
passes on the dataclass or the value that a function needs.
"""

import argparse
import math
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar, get_type_hints

from jumpsteps.denoiser.temperature import check_temperature

__all__ = [
    "CompareOptions",
    "CorrectorOptions",
    "DemoOptions",
    "ExplainOptions",
    "ModelOptions",
    "ObservedOptions",
    "OptimizeOptions",
    "Options",
    "PlayOptions",
    "RaceOptions",
    "ReportOptions",
    "SampleOptions",
    "SearchOptions",
    "TrainOptions",
    "build",
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is loaded."""

    name: str
    device: str | None
    dtype: str | None
    compile: bool
    trust_remote_code: bool
    mask_id: int | None
    length: int | None
    tokenizer: str | None


@dataclass(frozen=True)
class ObservedOptions:
    """Which sites are observed: by a prompt or a suffix or both, by a file, by a template."""

    prompt: str | None
    suffix: str | None
    given: str | None
    template: str | None

    def __post_init__(self) -> None:
        check_exclusive(prompt=self.prompt, given=self.given, template=self.template)
        check_exclusive(suffix=self.suffix, given=self.given, template=self.template)


@dataclass(frozen=True)
class SearchOptions:
    """What a search for schedules reads: budgets of model calls, data, and what costs are of."""

    nfe: tuple[int, ...]
    data: str | None
    text: str | None
    column: str
    sequences: int
    measure: str | None

    def __post_init__(self) -> None:
        check_exclusive(data=self.data, text=self.text)


@dataclass(frozen=True)
class DemoOptions:
    """``jumpsteps demo``."""

    out: str
    device: str | None


@dataclass(frozen=True)
class RaceOptions:
    """The race of ``jumpsteps optimize``: samples of a schedule, further schedules, model calls."""

    race: int | None
    race_with: tuple[str, ...]
    race_calls: int | None

    def __post_init__(self) -> None:
        if self.race is None and (self.race_with or self.race_calls is not None):
            raise ValueError(
                "--race-with and --race-calls are of a race; pass --race N (samples, 64 to 256)"
            )


@dataclass(frozen=True)
class OptimizeOptions:
    """``jumpsteps optimize``."""

    model: ModelOptions
    observed: ObservedOptions
    search: SearchOptions
    racing: RaceOptions
    sampler: str | None
    order: str | None
    seed: int
    method: str | None
    tolerance: float | None
    corrector: str | None
    block_size: int | None
    out: str
    curve: str | None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_exclusive(nfe=self.search.nfe or None, tolerance=self.tolerance)
        if not self.search.nfe and self.tolerance is None:
            raise ValueError("pass --nfe (numbers of model calls) or --tolerance (an error)")
        check_exclusive(corrector=self.corrector, tolerance=self.tolerance)
        check_exclusive(corrector=self.corrector, method=self.method)
        check_exclusive(corrector=self.corrector, sampler=self.sampler)
        check_exclusive(corrector=self.corrector, curve=self.curve)
        check_exclusive(corrector=self.corrector, measure=self.search.measure)
        check_exclusive(block_size=self.block_size, corrector=self.corrector)
        check_exclusive(block_size=self.block_size, race=self.racing.race)
        check_exclusive(corrector=self.corrector, race_with=self.racing.race_with or None)
        race = self.racing.race
        check_exclusive(race=race, tolerance=self.tolerance)
        check_exclusive(race=race, curve=self.curve)
        if self.corrector is None:  # Whose plans are in an order.
            check_exclusive(race=race, order=self.order)
        check_exclusive(race=race, measure=self.search.measure)
        if race is not None and self.method is not None:
            raise ValueError(
                f"a race chooses among several searches; add this one: --race-with {self.method}"
            )
        check_not_negative(tolerance=self.tolerance)


@dataclass(frozen=True)
class CorrectorOptions:
    """The corrector of a run: model calls that draw a share of the sites again."""

    corrections: int | None
    redraw_share: float | None

    def __post_init__(self) -> None:
        if self.redraw_share is not None and self.corrections is None:
            raise ValueError("--redraw-share is of a corrector; pass its calls with --corrections")


@dataclass(frozen=True)
class SampleOptions:
    """``jumpsteps sample``."""

    model: ModelOptions
    observed: ObservedOptions
    sampler: str | None
    order: str | None
    seed: int
    schedule: str | None
    nfe: int | None
    corrector: CorrectorOptions
    temperature: float
    n: int
    batch: int | None
    shard_model: bool
    colour: bool
    out: str | None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_temperature(self.temperature)
        if self.shard_model and self.model.compile:
            raise ValueError("a divided network is not compiled; leave out --compile")


@dataclass(frozen=True)
class CompareOptions:
    """``jumpsteps compare``."""

    model: ModelOptions
    observed: ObservedOptions
    search: SearchOptions
    sampler: str | None
    order: str | None
    seed: int
    schedules: tuple[str, ...]  # None named: uniform, and the model's own or a search's.
    n: int | None  # By default as many as ``samples_by_default`` says.
    batch: int | None
    metric: str | None
    evaluator: str | None
    out: str
    picture: str | None
    command_line: str

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_exclusive(metric=self.metric, evaluator=self.evaluator)
        if self.n is not None and self.n < 2:
            raise ValueError(f"intervals need at least two samples, got -n {self.n}; raise -n")


@dataclass(frozen=True)
class ReportOptions:
    """``jumpsteps report``."""

    results: tuple[str, ...]
    out: str


@dataclass(frozen=True)
class PlayOptions:
    """``jumpsteps play``."""

    model: ModelOptions
    port: int
    no_browser: bool


@dataclass(frozen=True)
class ExplainOptions:
    """``jumpsteps explain``."""

    model: ModelOptions
    observed: ObservedOptions
    search: SearchOptions
    sampler: str | None
    order: str | None
    seed: int
    schedules: tuple[str, ...]

    def __post_init__(self) -> None:
        check_seed(self.seed)


@dataclass(frozen=True)
class TrainOptions:
    """``jumpsteps train``."""

    recipe: str
    device: str | None
    data: str | None
    tokenizer: str | None
    column: str
    out: str
    steps: int | None
    batch: int | None
    warmup: int | None
    max_minutes: float | None
    finish: bool
    start_from: str | None
    from_step: int | None
    resume: bool
    cuda_graph: bool
    bf16_reduce: bool
    save_every: int | None
    from_scratch: bool

    def __post_init__(self) -> None:
        check_not_negative(
            max_minutes=self.max_minutes, warmup=self.warmup, from_step=self.from_step
        )
        check_exclusive(resume=self.resume or None, from_scratch=self.from_scratch or None)


Options = (
    DemoOptions
    | OptimizeOptions
    | SampleOptions
    | CompareOptions
    | ReportOptions
    | PlayOptions
    | ExplainOptions
    | TrainOptions
)

T = TypeVar("T")


def build(kind: type[T], args: argparse.Namespace) -> T:
    """An option dataclass, its groups included, from the flags of the same names.

    Raises:
        ValueError: flags that contradict each other, or a number out of range.
    """
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint) and isinstance(hint, type):
            values[name] = build(hint, args)
        else:
            value = getattr(args, name)
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_exclusive(**values: object) -> None:
    """Raises ValueError if more than one of these flags has a value."""
    used = [flag(name) for name, value in values.items() if value is not None]
    if len(used) > 1:
        raise ValueError(f"{' and '.join(used)} exclude each other; pass one of them")


def check_not_negative(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{flag(name)} must be zero or more, got {value}")


def check_seed(seed: int) -> None:
    if not -(2**63) <= seed < 2**63 - 1:
        raise ValueError(f"--seed must fit in 64 bits, got {seed}")
