"""Schedules by name: fixed ones, those of the model, of a file, of a folder or of the hub."""

import sys
from pathlib import Path

from jumpsteps.cli.free_sites import free_sites, note_rescaled
from jumpsteps.cli.named import is_search, order_named, search_named
from jumpsteps.cli.names import FIXED, SHIPPED
from jumpsteps.cli.your_own import is_own, module_hint
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.integrations.hub import ScheduleSet
from jumpsteps.models import LoadedModel
from jumpsteps.models.hub import looks_like_hub_id
from jumpsteps.models.loaded import SCHEDULES_FILE
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie, MaskGIT
from jumpsteps.schedules.files import at_nfe, load_schedules
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule, Schedule, TimeSchedule

__all__ = [
    "check_schedule_names",
    "check_whole",
    "note_other_weights",
    "schedule_named",
    "stored_schedule",
]


def check_schedule_names(names: tuple[str, ...]) -> None:
    """Raises ValueError for a name that is no fixed schedule, no search method and no file."""
    for name in names:
        if is_search(name):
            search_named(name)
        else:
            check_schedule_name(name)


def check_schedule_name(name: str) -> None:
    is_local = Path(name).is_file() or (Path(name) / SCHEDULES_FILE).is_file()
    if name not in (*FIXED, SHIPPED) and not is_local and not is_hub_id(name):
        raise ValueError(
            f"there is no schedule {name!r}: not {' or '.join((*FIXED, SHIPPED))}, not a file, a "
            f"folder with a {SCHEDULES_FILE} or a hub id; make one with 'jumpsteps optimize'"
            f"{module_hint(name)}"
        )


def is_hub_id(name: str) -> bool:
    """Whether a name can only be that of a hub repository: OWNER/NAME, where OWNER is no folder."""
    return looks_like_hub_id(name) and not name.endswith(".json") and not Path(name).parent.is_dir()


def stored_schedule(name: str, nfe: int, model: LoadedModel) -> Schedule:
    """The schedule with this NFE of a file, a folder or a hub repository, or that came with the
    model.

    Raises:
        ValueError: there is none.
    """
    if name != SHIPPED:
        return at_nfe(schedule_set(name), nfe, name)
    if nfe not in model.schedules:
        known = f"for NFE {sorted(model.schedules)} only" if model.schedules else "none"
        raise ValueError(
            f"the schedules that came with {model.name!r}: {known}; find one for NFE {nfe} with "
            "'jumpsteps optimize', and pass its file"
        )
    return model.schedules[nfe]


def schedule_set(name: str) -> dict[int, Schedule]:
    """The schedules of a file, or of a folder or hub repository with a ``schedules.json``.

    Raises:
        ValueError: none there, or a repository that cannot be fetched.
    """
    if Path(name).is_file():
        return load_schedules(name)
    return ScheduleSet.from_pretrained(name)


def note_other_weights(name: str, schedule: Schedule, model: LoadedModel) -> None:
    """Say on standard error that a schedule was found for other weights than the model's."""
    known = schedule.provenance
    if known.model_hash and known.model_hash != model.digest:
        print(
            f"note: {name} was optimised for {known.model!r}, not for these weights",
            file=sys.stderr,
        )


def schedule_named(
    name: str,
    nfe: int,
    model: LoadedModel,
    given: Given | None,
    *,
    sampler: Sampler | None,
    order: str | None,
) -> Schedule:
    """A fixed schedule, or one of the model's own, of a file, a folder or a hub repository.

    A schedule that was optimised for other weights, or of counts of another number of free sites,
    is used, with a note on standard error.

    Raises:
        ValueError: no such schedule, one for another kernel, one that does not end at t = 0, an
            order beside a file's own, or a sampler that does not follow that or does not serve the
            model's kernel.
    """
    check_schedule_name(name)
    if name in FIXED:
        fixed = FIXED[name]
        sampler = sampler or (Tweedie() if fixed.times else KGillespie())
        sampler.check(model.reverse.forward)
        steps = sampler.steps(nfe)
        if sampler.takes is CountSchedule:
            reveal_order = fixed.order if order is None else order_named(order)
            return fixed.counts(steps, free_sites(model, given)[1], reveal_order)
        if fixed.times is None:
            raise ValueError(
                f"the schedule {name} has counts, and sampler {sampler.name} follows times; use "
                "k-gillespie, or --schedule uniform"
            )
        return fixed.times(steps)
    schedule = stored_schedule(name, nfe, model)
    schedule.check_kernel(model.reverse.forward, f"the model {model.name!r}")
    if order is not None and not holds(schedule, order):
        raise ValueError(f"{name} holds its own order; leave out --order")
    check_whole(name, nfe, schedule, sampler)
    note_other_weights(name, schedule, model)
    if isinstance(schedule, CountSchedule):
        note_rescaled(name, schedule, free_sites(model, given))
    return schedule


def holds(schedule: Schedule, order: str) -> bool:
    """Whether the schedule holds this order of the user's, which was named so that it is known."""
    if not is_own(order) or not isinstance(schedule, CountSchedule):
        return False
    return schedule.order == order_named(order)


def check_whole(name: str, nfe: int, schedule: Schedule, sampler: Sampler | None) -> None:
    """Raises ValueError for times that end above 0, and an order that the sampler ignores."""
    if isinstance(schedule, TimeSchedule):
        end = schedule.times[-1]
        if end != 0:
            raise ValueError(
                f"the schedule for NFE {nfe} of {name} ends at t = {end:g}, which leaves noise in "
                "the samples; end it at 0"
            )
    elif isinstance(sampler, MaskGIT) and schedule.order != Random():
        raise ValueError(
            f"{name} reveals tokens in {schedule.order.name} order, and sampler {sampler.name} "
            "chooses its own; use k-gillespie"
        )
