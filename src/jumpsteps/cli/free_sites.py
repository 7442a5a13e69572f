"""The free sites of a run, and schedules of counts that were made for another number of them."""

import sys

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import LoadedModel
from jumpsteps.schedules.schedule import CountSchedule

__all__ = ["free_sites", "note_rescaled"]


def free_sites(model: LoadedModel, given: Given | None) -> tuple[int, int]:
    """The least and the largest number of sites of a sequence that are not observed."""
    if given is None:
        return model.length, model.length
    free = (~given.mask).sum(-1)
    return int(free.min()), int(free.max())


def note_rescaled(name: str, schedule: CountSchedule, free: tuple[int, int]) -> None:
    """Say on standard error that a file's counts are used for another number of free sites."""
    least, most = free
    if least == most == schedule.total or most < 1:
        return
    sites = f"{most}" if least == most else f"{least} to {most}"
    steps = schedule.rescaled(most).steps
    words = f"{steps} step" + "s" * (steps != 1)
    made = "" if steps == schedule.steps else f", in {words} in place of {schedule.steps}"
    print(
        f"note: {name} holds counts of {schedule.total} tokens; they are rescaled to the {sites} "
        f"that are free{made}",
        file=sys.stderr,
    )
