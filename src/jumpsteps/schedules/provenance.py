"""Where a schedule came from, and what it is good for."""

from dataclasses import dataclass, replace

from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import NoiseSchedule

__all__ = ["Provenance"]


@dataclass(frozen=True)
class Provenance:
    """How a schedule was found. Empty fields are unknown.

    Attributes:
        method: how the times were chosen.
        kernel, noise: the forward process, e.g. "absorbing" and "LogLinear(eps=0.001)".
        sampler: the sampler the schedule is for.
        model, model_hash: name and SHA-256 of the model's weights.
        data: what the search saw.
        sequences: how many sequences it saw.
        seed: of the search.
        model_calls: calls of the model that the search made.
        predicted_cost: the search's own estimate of the run's error, nats per sequence.
        predicted_cost_stderr: its standard error.
        version: of jumpsteps.
    """

    method: str = ""
    kernel: str = ""
    noise: str = ""
    sampler: str = ""
    model: str = ""
    model_hash: str = ""
    data: str = ""
    sequences: int | None = None
    seed: int | None = None
    model_calls: int | None = None
    predicted_cost: float | None = None
    predicted_cost_stderr: float | None = None
    version: str = ""


def check_noise(provenance: Provenance, noise: NoiseSchedule) -> None:
    """Raises ValueError for times that do not belong to the absorbing kernel with this noise schedule."""
    if provenance.kernel not in ("", Absorbing.name):
        raise ValueError(
            f"the schedule is for the {provenance.kernel} kernel, which masks no tokens; optimise one for absorbing"
        )
    if provenance.noise not in ("", repr(noise)):
        raise ValueError(
            f"the schedule is for the noise schedule {provenance.noise}, got {noise!r}; pass the one it was found for"
        )


def converted(provenance: Provenance, forward: ForwardProcess) -> Provenance:
    """Of times made from jumps, or the other way round: the sampler is another one, and so is the error."""
    same = replace(provenance, sampler="", predicted_cost=None, predicted_cost_stderr=None)
    return replace(same, kernel=forward.name, noise=repr(forward.noise))


def check_kernel(provenance: Provenance, forward: ForwardProcess, model: str) -> None:
    for what, found, wanted in (
        ("kernel", provenance.kernel, forward.name),
        ("noise schedule", provenance.noise, repr(forward.noise)),
    ):
        if found and found != wanted:
            raise ValueError(
                f"schedule was optimised for the {what} {found}, {model} has {wanted}; "
                "run 'jumpsteps optimize' on this model or pass --schedule uniform"
            )
