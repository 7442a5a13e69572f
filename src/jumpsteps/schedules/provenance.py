"""Provenance: where a schedule came from, and which forward process it is good for.

A schedule is only good for the kernel and the noise schedule that it was found for, and best for
its model and sampler. The noise schedule is kept as the JSON object of
``process.serialise.noise_to_json``: two noise schedules are the same if and only if their objects
are equal.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, get_type_hints

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import NoiseSchedule
from jumpsteps.process.serialise import noise_from_text, noise_to_json
from jumpsteps.version import __version__

__all__ = ["EVIDENCE", "Provenance"]

EVIDENCE = (
    "held_out",
    "few_step_nll",
    "few_step_nll_stderr",
    "bits_per_token",
    "excess",
    "excess_stderr",
    "excess_limit",
)
"""The fields of a ``Provenance`` that data vouch for."""

REMEDY = "run 'jumpsteps optimize' on this model or pass --schedule uniform"


@dataclass(frozen=True)
class Provenance:
    """How a schedule was found. Empty fields are unknown.

    Attributes:
        method: how the steps were chosen.
        kernel: the name of the forward process's kernel.
        rates_hash: SHA-256 of the rates of a kernel that is known by its rate matrix.
        noise: its noise schedule, as ``noise_to_json`` writes it.
        sampler: the sampler that the schedule is for.
        model, model_hash: name and SHA-256 of the model's weights.
        data: name of the search's data.
        sequences: how many sequences of it chose the schedule.
        seed: of the search.
        model_calls: calls of the model that the search made.
        held_out: how many other sequences vouch for the next six fields; None if these are
            interpolated, on the sequences that chose the schedule.
        few_step_nll: a bound of -log p of data under a run, nats per sequence.
        few_step_nll_stderr: its standard error over sequences.
        bits_per_token: the same, in bits per free site.
        excess: the few-step NLL above that of one site at a time, nats per sequence.
        excess_stderr: its standard error.
        excess_limit: its 95% upper limit, the certificate; None without held-out sequences.
        order: name of the reveal order, if it was chosen among several.
        runner_up: the next best one.
        runner_up_difference: by how much the few-step NLL of the next best is higher, nats per
            sequence, on sequences that chose no counts.
        runner_up_half_width: of its 95% interval.
        predicted_cost: where the search gives no bound, its own estimate of the run's error, nats
            per sequence.
        predicted_cost_stderr: its standard error.
        version: of jumpsteps.
    """

    method: str = ""
    kernel: str = ""
    rates_hash: str = ""
    noise: Mapping[str, Any] = field(default_factory=dict)
    sampler: str = ""
    model: str = ""
    model_hash: str = ""
    data: str = ""
    sequences: int | None = None
    seed: int | None = None
    model_calls: int | None = None
    held_out: int | None = None
    few_step_nll: float | None = None
    few_step_nll_stderr: float | None = None
    bits_per_token: float | None = None
    excess: float | None = None
    excess_stderr: float | None = None
    excess_limit: float | None = None
    order: str = ""
    runner_up: str = ""
    runner_up_difference: float | None = None
    runner_up_half_width: float | None = None
    predicted_cost: float | None = None
    predicted_cost_stderr: float | None = None
    version: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What ``to_json`` wrote, here or in a version whose fields were others.

        Version 0.1 wrote the noise schedule as text, such as "LogLinear(eps=0.001)". A text that is
        no known noise schedule is kept as it is; it equals no noise schedule.

        Raises:
            TypeError: a field of another type.
        """
        known = {name: value for name, value in content.items() if name in cls.__dataclass_fields__}
        if isinstance(text := known.get("noise"), str):
            known["noise"] = noise_of_text(text)
        for name, value in known.items():
            if not isinstance(value, type_of_field(name)):
                raise TypeError(f"{name} in the provenance is {value!r}")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """The fields as they are shown to a reader: the noise schedule as text."""
        return self.to_json() | {"noise": text_of(self.noise)}

    def with_forward(self, forward: ForwardProcess) -> Self:
        """The same, for this forward process."""
        return replace(
            self,
            kernel=forward.name,
            rates_hash=forward.rates_hash,
            noise=noise_to_json(forward.noise),
        )

    def with_search(
        self,
        forward: ForwardProcess,
        *,
        method: str,
        sampler: str,
        sequences: int,
        seed: int,
        model_calls: int,
    ) -> Self:
        """The same, with what a search by this version of jumpsteps did."""
        return replace(
            self.with_forward(forward),
            method=method,
            sampler=sampler,
            sequences=sequences,
            seed=seed,
            model_calls=model_calls,
            version=__version__,
        )

    def with_error(self, cost: float | None, stderr: float | None) -> Self:
        """The same, with an error that is no bound and its standard error, nats per sequence, and
        no few-step NLL.
        """
        nothing: dict[str, Any] = dict.fromkeys(EVIDENCE)
        return replace(self, predicted_cost=cost, predicted_cost_stderr=stderr, **nothing)

    def with_evidence(self, *, held_out: int | None = None, **measured: float | None) -> Self:
        """The same, with all the fields of ``EVIDENCE``, measured by data."""
        known: dict[str, Any] = {"held_out": held_out} | measured
        evidence = {name: known[name] for name in EVIDENCE}
        return replace(self.with_error(None, None), **evidence)

    @property
    def error(self) -> tuple[float | None, float | None]:
        """The excess and its standard error, or those of the predicted cost."""
        if self.excess is not None:
            return self.excess, self.excess_stderr
        return self.predicted_cost, self.predicted_cost_stderr

    def converted(self, forward: ForwardProcess) -> Self:
        """Of times made from counts, or counts from times: the sampler and the error are no longer
        known.
        """
        return replace(self.with_forward(forward), sampler="").with_error(None, None)

    def interpolated(self, steps: int) -> Self:
        """Of a schedule made from one of so many steps: the error is no longer known."""
        method = f"{self.method or 'schedule'}, interpolated from {steps} steps"
        return replace(self.with_error(None, None), method=method)

    def check_forward(self, forward: ForwardProcess, model: str) -> None:
        """Raises ValueError if the schedule was found for another kernel or noise schedule, or for
        other rates, than ``model`` has.
        """
        wanted = Provenance().with_forward(forward)
        for what, mine, other in (
            ("kernel", self.kernel, wanted.kernel),
            ("noise schedule", self.noise, wanted.noise),
        ):
            if mine and mine != other:
                found, has = (
                    part if isinstance(part, str) else text_of(part) for part in (mine, other)
                )
                raise ValueError(
                    f"schedule was optimised for the {what} {found}, {model} has {has}; {REMEDY}"
                )
        if self.rates_hash and wanted.rates_hash and self.rates_hash != wanted.rates_hash:
            raise ValueError(
                f"schedule was optimised for other rates of the kernel {self.kernel} than {model} "
                f"has; {REMEDY}"
            )

    def check_noise(self, noise: NoiseSchedule) -> None:
        """Raises ValueError for a schedule that is not one of the absorbing kernel with this noise
        schedule.
        """
        if self.kernel not in ("", Absorbing.name):
            raise ValueError(
                f"the schedule is for the {self.kernel} kernel, which masks no tokens; "
                "optimise one for absorbing"
            )
        if self.noise and self.noise != noise_to_json(noise):
            raise ValueError(
                f"the schedule is for the noise schedule {text_of(self.noise)}, got {noise!r}; "
                "pass the one it was found for"
            )


def type_of_field(name: str) -> Any:
    """The types that a field may have; a whole number is a float as well."""
    if name == "noise":
        return Mapping
    hint = get_type_hints(Provenance)[name]
    return int | hint if hint == float | None else hint


def noise_of_text(text: str) -> dict[str, Any]:
    """The object of a noise schedule's ``repr``; of any other text, an object that holds it."""
    if not text:
        return {}
    try:
        return noise_to_json(noise_from_text(text))
    except ValueError:
        return {"text": text}


def text_of(noise: Mapping[str, Any]) -> str:
    """The object of a noise schedule as ``noise_of_text`` reads it."""
    if "type" not in noise:
        return str(noise.get("text", ""))
    settings = ", ".join(f"{name}={value!r}" for name, value in noise.items() if name != "type")
    return f"{noise['type']}({settings})"
