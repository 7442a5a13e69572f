"""What flags are by default and mean together; no command is run."""

from dataclasses import asdict

import pytest

from jumpsteps.cli.flags import parse

MODEL = {
    "name": "m",
    "device": None,
    "dtype": None,
    "compile": False,
    "trust_remote_code": False,
    "mask_id": None,
    "length": None,
    "tokenizer": None,
}
OBSERVED = {"prompt": None, "suffix": None, "given": None, "template": None}
SEARCH = {
    "nfe": (4,),
    "data": None,
    "text": None,
    "column": "text",
    "sequences": 64,
    "measure": None,
}
COMMON = {"model": MODEL, "observed": OBSERVED, "sampler": None, "order": None, "seed": 0}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("demo", {"out": "demo", "device": None}),
        (
            "optimize m --nfe 4",
            {
                **COMMON,
                "search": SEARCH,
                "racing": {"race": None, "race_with": (), "race_calls": None},
                "method": None,
                "tolerance": None,
                "corrector": None,
                "block_size": None,
                "out": "schedules.json",
                "curve": None,
            },
        ),
        (
            "sample m",
            {
                **COMMON,
                "schedule": None,
                "nfe": None,
                "corrector": {"corrections": None, "redraw_share": None},
                "temperature": 1.0,
                "n": 8,
                "batch": None,
                "shard_model": False,
                "colour": False,
                "out": None,
            },
        ),
        (
            "compare m --nfe 4",
            {
                **COMMON,
                "search": SEARCH,
                "schedules": (),
                "n": None,
                "batch": None,
                "metric": None,
                "evaluator": None,
                "out": "results.json",
                "picture": None,
                "command_line": "jumpsteps compare m --nfe 4",
            },
        ),
        (
            "explain m --nfe 4",
            {**COMMON, "search": SEARCH, "schedules": ("uniform", "shortest-path")},
        ),
        ("report a b", {"results": ("a", "b"), "out": "report.html"}),
        ("play", {"model": {**MODEL, "name": "countdown"}, "port": 7860, "no_browser": False}),
        (
            "train r --out o",
            {
                "recipe": "r",
                "device": None,
                "data": None,
                "tokenizer": None,
                "column": "text",
                "out": "o",
                "steps": None,
                "batch": None,
                "warmup": None,
                "max_minutes": None,
                "finish": False,
                "start_from": None,
                "from_step": None,
                "resume": False,
                "cuda_graph": False,
                "bf16_reduce": False,
                "save_every": None,
                "from_scratch": False,
            },
        ),
    ],
)
def test_options_by_default(arguments, expected):
    assert asdict(parse(arguments.split())) == expected


def test_every_flag_of_a_model_reaches_its_option():
    flags = "--dtype a --compile --trust-remote-code --mask-id 1 --length 2 --tokenizer b"
    flags += " --device c --prompt d --suffix e --sampler f --order g --seed 3"
    for command in ("optimize m --nfe 4", "sample m", "compare m --nfe 4", "explain m --nfe 4"):
        options = parse(f"{command} {flags}".split())
        assert asdict(options.model) == {
            "name": "m",
            "device": "c",
            "dtype": "a",
            "compile": True,
            "trust_remote_code": True,
            "mask_id": 1,
            "length": 2,
            "tokenizer": "b",
        }
        assert asdict(options.observed) == OBSERVED | {"prompt": "d", "suffix": "e"}
        assert (options.sampler, options.order, options.seed) == ("f", "g", 3)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("optimize m --corrector auto --tolerance 1", "corrector tolerance"),
        ("optimize m --nfe 4 --corrector auto --method jys", "corrector method"),
        ("optimize m --nfe 4 --corrector auto --sampler tweedie", "corrector sampler"),
        ("optimize m --nfe 4 --corrector auto --curve c.png", "corrector curve"),
        ("optimize m --nfe 4 --corrector auto --measure data", "corrector measure"),
        ("optimize m --nfe 4 --corrector auto --block-size 2", "block-size corrector"),
        ("optimize m --nfe 4 --race 32 --block-size 2", "block-size race"),
        ("optimize m --nfe 4 --corrector auto --race 32 --race-with a", "corrector race-with"),
        ("optimize m --race 32 --tolerance 1", "race tolerance"),
        ("optimize m --nfe 4 --race 32 --curve c.png", "race curve"),
        ("optimize m --nfe 4 --race 32 --order golden", "race order"),
        ("optimize m --nfe 4 --race 32 --measure data", "race measure"),
        ("sample m --prompt a --template b", "prompt template"),
        ("sample m --suffix a --given b", "suffix given"),
        ("train r --out o --resume --from-scratch", "resume from-scratch"),
    ],
)
def test_flags_that_exclude_each_other(arguments, flags):
    first, second = flags.split()
    with pytest.raises(ValueError, match=f"^--{first} and --{second} exclude each other; pass one"):
        parse(arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample m --shard-model --compile", "a divided network is not compiled; leave out --com"),
        (f"sample m --seed {2**63 - 1}", "--seed must fit in 64 bits, got 9223372036854775807"),
        (f"sample m --seed {-(2**63) - 1}", "--seed must fit in 64 bits"),
        (f"explain m --nfe 1 --seed {2**63}", "--seed must fit in 64 bits"),
        (f"optimize m --nfe 1 --seed {2**63}", "--seed must fit in 64 bits"),
        (f"compare m --nfe 1 --seed {2**63}", "--seed must fit in 64 bits"),
        ("train r --out o --warmup -1", "--warmup must be zero or more, got -1"),
        ("train r --out o --from-step -1", "--from-step must be zero or more, got -1"),
        ("train r --out o --max-minutes inf", "--max-minutes must be zero or more, got inf"),
        ("optimize m --tolerance -0.1", "--tolerance must be zero or more, got -0.1"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse(arguments.split())


@pytest.mark.parametrize(
    "arguments",
    [
        f"sample m --seed {2**63 - 2}",
        f"sample m --seed {-(2**63)}",
        "sample m --shard-model",
        "train r --out o --warmup 0 --from-step 0 --max-minutes 0",
        "optimize m --tolerance 0",
        "optimize m --nfe 4 --corrector auto --race 32 --race-calls 9 --order golden",
        "optimize m --nfe 4 --race 32 --race-with a --sampler tweedie",
        "compare m --nfe 1 -n 2",
        "sample m --prompt a --suffix b",
        "sample m --nfe 2147483647",
    ],
)
def test_what_is_just_allowed(arguments):
    parse(arguments.split())


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_counts_lie_between_one_and_the_largest(capsys, number):
    with pytest.raises(SystemExit) as left:
        parse(f"sample m --nfe {number}".split())
    assert left.value.code == 2
    limit = f"must be at least 1, got {number}" if number < 1 else f"must be at most {2**31 - 1}"
    assert limit in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("optimize m --nfe 2", "nfe race race-calls block-size sequences length"),
        ("sample m", "nfe corrections n batch length"),
        ("compare m --nfe 2", "nfe n batch sequences length"),
        ("explain m --nfe 2", "nfe sequences length"),
        ("train r --out o", "steps batch save-every"),
        ("play", "port length"),
    ],
)
def test_counts_are_whole_numbers_above_zero(capsys, command, flags):
    for flag in flags.split():
        for number in ("0", "half"):
            dashes = "-" if len(flag) == 1 else "--"
            with pytest.raises(SystemExit) as left:
                parse([*command.split(), f"{dashes}{flag}", number])
            assert left.value.code == 2
            assert f"argument {dashes}{flag}" in capsys.readouterr().err


def test_what_a_command_cannot_do_without(capsys):
    for command, name in (
        ("train r", "--out"),
        ("train --out o", "RECIPE"),
        ("sample", "MODEL"),
        ("compare m", "--nfe"),
        ("explain m", "--nfe"),
        ("report", "RESULTS"),
        ("", "COMMAND"),
    ):
        with pytest.raises(SystemExit) as left:
            parse(command.split())
        assert left.value.code == 2
        err = capsys.readouterr().err
        assert f"the following arguments are required: {name}" in err
        assert err.startswith("usage: jumpsteps ")


def test_help_ends_in_defaults_that_are_numbers_or_names(capsys):
    printed = {}
    for command in ("demo", "optimize", "sample", "play", "report"):
        with pytest.raises(SystemExit):
            parse([command, "--help"])
        printed[command] = " ".join(capsys.readouterr().out.split())
    assert "Optimise schedules for the trained CountDown network" in printed["demo"]
    assert "(default: demo)" in printed["demo"]
    assert "(default: schedules.json)" in printed["optimize"]
    assert "(default: 64)" in printed["optimize"]
    assert "seed of all random numbers (default: 0)" in printed["sample"]
    assert "(default: 7860)" in printed["play"]
    assert "(default: report.html)" in printed["report"]
    for text in printed.values():
        assert not any(f"(default: {none})" in text for none in (None, False, [], ()))
