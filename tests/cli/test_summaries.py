"""What is printed of schedules that a search found."""

from dataclasses import replace

import pytest

from jumpsteps import CountSchedule, Golden, Redraw, TimeSchedule
from jumpsteps.cli.summaries import certificate_note, print_schedule, search_effort
from jumpsteps.schedules.provenance import Provenance

MEASURED = Provenance(
    sampler="k-gillespie",
    sequences=20,
    model_calls=7,
    few_step_nll=12.345,
    few_step_nll_stderr=0.5,
    bits_per_token=1.2345,
    excess=0.75,
    excess_stderr=0.25,
)
CERTIFIED = replace(MEASURED, excess_limit=1.125, held_out=16)


def printed(capsys, function, *arguments):
    function(*arguments)
    return capsys.readouterr().out


def test_times_counts_and_corrections(capsys):
    times = TimeSchedule((1.0, 0.25, 0.0))
    assert printed(capsys, print_schedule, 2, times) == "NFE 2: t = 1.0000 0.2500 0.0000\n"
    counts = CountSchedule([1, 3], order=Golden(), redraws=(Redraw(2, 0.5),))
    assert printed(capsys, print_schedule, 4, counts) == (
        "NFE 4: 1 3 tokens, in golden order\n"
        "  then 2 corrections of 0.5 of the sites, golden sets\n"
    )


@pytest.mark.parametrize(
    ("known", "lines"),
    [
        (Provenance(), []),
        (
            MEASURED,
            [
                "few-step NLL 12.35 ±0.50 nats per sequence (1.234 bits per token), excess 0.75 "
                "±0.25, on the sequences of the search: no certificate"
            ],
        ),
        (
            CERTIFIED,
            [
                "few-step NLL 12.35 ±0.50 nats per sequence (1.234 bits per token), excess 0.75 "
                "±0.25, at most 1.12 (95%, 16 held-out sequences)"
            ],
        ),
        (
            Provenance(predicted_cost=2.5, predicted_cost_stderr=0.125),
            ["estimated error 2.50 ±0.12 nats per sequence, not a bound"],
        ),
        (
            Provenance(
                order="golden",
                runner_up="spread",
                runner_up_difference=1.5,
                runner_up_half_width=0.25,
            ),
            ["order golden; next best spread, +1.50 ±0.25 nats at NFE 2"],
        ),
    ],
)
def test_what_is_known_of_a_schedule(capsys, known, lines):
    schedule = CountSchedule([1, 3], known, Golden())
    first, *others = printed(capsys, print_schedule, 2, schedule).splitlines()
    assert first.startswith("NFE 2: 1 3 tokens, in ")
    assert others == [f"  {line}" for line in lines]


@pytest.mark.parametrize(
    ("known", "note"),
    [
        ((CERTIFIED, CERTIFIED), ""),
        ((Provenance(), Provenance()), ""),
        (
            (MEASURED, MEASURED),
            "no certificate: it takes 16 sequences that did not choose the schedules; pass more",
        ),
        ((CERTIFIED, MEASURED), "no certificate at NFE 3: it takes more than 16 model calls;"),
        (
            tuple(replace(MEASURED, sampler=name) for name in ("euler", "euler")),
            "no certificate for this sampler: measure few_step_nll on other sequences",
        ),
        (
            tuple(replace(MEASURED, sampler=name) for name in ("of-mine", "of-mine")),
            "no certificate for this sampler",
        ),
        (
            tuple(replace(MEASURED, sampler=name) for name in ("tweedie", "tweedie")),
            "no certificate: it takes 16 sequences",
        ),
    ],
)
def test_what_it_takes_to_certify(capsys, known, note):
    found = {n: CountSchedule([1] * n, one) for n, one in enumerate(known, 2)}
    said = printed(capsys, certificate_note, found)
    assert said.startswith(note)
    assert said.count("\n") == bool(note)


def test_what_a_search_took():
    assert search_effort({2: CountSchedule([4], CERTIFIED)}) == "7 model calls on 20 sequences"
