"""The schedules that came with the model, for ``sample`` without ``--schedule`` and ``compare``
without ``--schedules``.
"""

from collections.abc import Iterable, Mapping

from jumpsteps.cli.free_sites import free_sites
from jumpsteps.cli.named_schedules import check_whole, note_other_weights, schedule_named
from jumpsteps.cli.names import SHIPPED
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.base import Sampler
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.search.shortest_path import ShortestPath

__all__ = ["compared_by_default", "order_of", "schedule_of_model"]

UNIFORM = "uniform"


def schedule_of_model(
    nfe: int, model: LoadedModel, given: Given | None, *, sampler: Sampler | None, order: str | None
) -> Schedule:
    """The model's own schedule for so many model calls, or a uniform one where it has none.

    It has none for another sampler or reveal order than those that its schedules were found for,
    and none between or beyond their numbers of model calls. A line on standard output says which
    schedule is used, and why, if the model has schedules at all.

    Raises:
        ValueError: schedules that were found for another kernel or end above t = 0, or a sampler
            that does not serve the model's kernel.
    """
    if sampler is not None:
        sampler.check(model.reverse.forward)
    shipped = model.schedules
    if not shipped:
        return schedule_named(UNIFORM, nfe, model, given, sampler=sampler, order=order)
    if (reason := unsuitable(shipped, nfe, sampler, order)) is not None:
        uniform = schedule_named(UNIFORM, nfe, model, given, sampler=sampler, order=order)
        print(f"schedule: {UNIFORM}, because those of {model.name} are {reason}")
        return uniform
    schedule = shipped[nfe]
    schedule.check_kernel(model.reverse.forward, f"the model {model.name!r}")
    check_whole(str(model.schedules_file), nfe, schedule, sampler)
    print(
        f"schedule: optimised for {model.name}, {described(schedule, free_sites(model, given))}, "
        f"sampler {sampler.name if sampler else schedule.provenance.sampler}; "
        "for another pass --schedule"
    )
    note_other_weights(f"the schedule of {model.name}", schedule, model)
    return schedule


def compared_by_default(
    model: LoadedModel, nfes: Iterable[int], sampler: Sampler | None, order: str | None
) -> tuple[str, ...]:
    """Uniform times, and the model's own schedules where they serve all of this, else a search."""
    shipped = model.schedules
    own = bool(shipped) and order is None
    own = own and all(unsuitable(shipped, nfe, sampler, order) is None for nfe in nfes)
    return UNIFORM, SHIPPED if own else ShortestPath().name


def unsuitable(
    shipped: Mapping[int, Schedule], nfe: int, sampler: Sampler | None, order: str | None
) -> str | None:
    """Why none of these schedules is used, as the end of a sentence; None if one is."""
    if nfe not in shipped:
        known = sorted(shipped)
        every = known == list(range(known[0], known[-1] + 1))
        listed = f"{known[0]} to {known[-1]}" if every else ", ".join(map(str, known))
        return f"for {listed} model calls; for {nfe} run 'jumpsteps optimize'"
    schedule = shipped[nfe]
    own = schedule.provenance.sampler
    if sampler is not None and own not in (sampler.name, sampler.schedules_of.name):
        return f"for the sampler {own}; for {sampler.name} run 'jumpsteps optimize'"
    if order is None:
        return None
    if not isinstance(schedule, CountSchedule):
        return "times, without an order"
    if order != schedule.order.name:
        return f"in {order_of(schedule)} order; for {order} order run 'jumpsteps optimize'"
    return None


def described(schedule: Schedule, free: tuple[int, int]) -> str:
    """How many steps of what, for so many free sites at least and at most."""
    if not isinstance(schedule, CountSchedule):
        return f"{calls(schedule.steps)}, times"
    least, most = free
    steps, total = schedule.rescaled(most).steps, schedule.total
    counts = f"{calls(steps)}, counts in {order_of(schedule)} order"
    if least == most == total:
        return counts
    sites = f"{most}" if least == most else f"{least} to {most}"
    return f"{counts}, rescaled from {total} to {sites} free sites"


def calls(number: int) -> str:
    return f"{number} model call" + "s" * (number != 1)


def order_of(schedule: CountSchedule) -> str:
    """The order's name; that of its choice, where it was chosen among several (learned)."""
    return schedule.provenance.order or schedule.order.name
