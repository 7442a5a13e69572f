"""What is printed of schedules that a search found."""

from collections.abc import Mapping

from jumpsteps.cli.built_in_schedules import order_of
from jumpsteps.sampling.base import Held
from jumpsteps.sampling.registry import SAMPLERS
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.certificate import CERTIFICATE_CALLS
from jumpsteps.search.optimize import CERTIFIES

__all__ = ["certificate_note", "print_schedule", "search_effort"]


def print_schedule(nfe: int, schedule: Schedule) -> None:
    if isinstance(schedule, TimeSchedule):
        print(f"NFE {nfe}: t = " + " ".join(f"{t:.4f}" for t in schedule.times))
    else:
        counts = " ".join(map(str, schedule.counts))
        print(f"NFE {nfe}: {counts} tokens, in {order_of(schedule)} order")
    for redraw in schedule.redraws:
        print(
            f"  then {redraw.calls} corrections of {redraw.share:g} of the sites, "
            f"{redraw.sets.name} sets"
        )
    known = schedule.provenance
    if known.runner_up_difference is not None:
        difference = f"{known.runner_up_difference:+.2f} ±{known.runner_up_half_width:.2f}"
        print(f"  order {known.order}; next best {known.runner_up}, {difference} nats at NFE {nfe}")
    if known.excess is not None:
        print(
            f"  few-step NLL {known.few_step_nll:.2f} ±{known.few_step_nll_stderr:.2f} nats per "
            f"sequence ({known.bits_per_token:.3f} bits per token), excess {known.excess:.2f} "
            f"±{known.excess_stderr:.2f}, {certificate(known)}"
        )
    elif known.predicted_cost is not None:
        error = f"{known.predicted_cost:.2f} ±{known.predicted_cost_stderr:.2f}"
        print(f"  estimated error {error} nats per sequence, not a bound")


def certificate(known: Provenance) -> str:
    """What is known of the excess's limit."""
    if known.excess_limit is not None:
        return f"at most {known.excess_limit:.2f} (95%, {known.held_out} held-out sequences)"
    return "on the sequences of the search: no certificate"


def certificate_note(found: Mapping[int, Schedule]) -> None:
    """Say what it takes to certify the schedules that data measured and did not certify."""
    known = {nfe: schedule.provenance for nfe, schedule in found.items()}
    without = [n for n, one in known.items() if one.excess is not None and one.held_out is None]
    sampler = SAMPLERS.get(next(iter(known.values())).sampler)
    if without and (sampler is None or sampler.holds not in (Held.CONTEXT, Held.COUNT)):
        print("no certificate for this sampler: measure few_step_nll on other sequences")
    elif len(without) == len(found):
        print(
            f"no certificate: it takes {CERTIFIES} sequences that did not choose the schedules; "
            "pass more --sequences, or more data"
        )
    elif without:
        print(
            f"no certificate at NFE {' '.join(map(str, without))}: it takes more than "
            f"{CERTIFICATE_CALLS} model calls; search for fewer NFEs at a time"
        )


def search_effort(found: Mapping[int, Schedule]) -> str:
    known = next(iter(found.values())).provenance
    return f"{known.model_calls} model calls on {known.sequences} sequences"
