"""Mistakes of users: one line on standard error, exit code 1, and nothing left on disk."""

import json
import sys
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from builders.command_line import EXACT, run
from jumpsteps.cli.flags import parse
from jumpsteps.cli.main import main
from jumpsteps.core.distributed import Stopped
from jumpsteps.search.doubts import DoubtfulInput

NO_SCHEDULES = {"format": "jumpsteps-schedules", "schema_version": 2, "schedules": []}


def test_files_that_are_none_are_named_with_advice(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "training.pt").touch()
    (tmp_path / "empty.json").touch()
    (tmp_path / "open.json").write_text("[1, 2")
    (tmp_path / "s.json").write_text(json.dumps(NO_SCHEDULES))
    for arguments, message in (
        ("sample folder --nfe 2", "folder is no checkpoint, because it has no config.json; pass"),
        ("sample stopped --nfe 2", "no config.json; its training was stopped: continue it with"),
        ("sample folder/model.safetensors --nfe 2", "is a file; pass the folder of a checkpoint"),
        ("report empty.json", "empty.json is not a JSON file (it is empty); name another file, or"),
        ("report open.json", "char 5)); name another file, or write it again"),
        (
            "sample toy-uniform --nfe 4 --schedule s.json",
            "for NFE [], not 4; choose one of these, or run 'jumpsteps optimize MODEL --nfe 4 -o F",
        ),
        (
            "compare toy-uniform --nfe 4 --sampler gillespie --schedules uniform",
            "no number of steps; use another, such as tweedie",
        ),
    ):
        code, _, err = run(capsys, arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err


def test_a_word_in_place_of_a_number(capsys):
    with pytest.raises(SystemExit):
        main(["sample", "toy-uniform", "--nfe", "four"])
    assert "argument --nfe: must be a whole number, got 'four'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample nothing --nfe 2", "there is no model 'nothing': not built in"),
        (
            "sample countdwon --nfe 2",
            "there is no model 'countdwon': did you mean countdown? It is",
        ),
        (f"compare {EXACT} --nfe 2 -o r.npz", "results are JSON, and r.npz would not be; end it"),
        (
            "sample countdown --nfe 2 --dtype int8",
            "there is no number format 'int8'; choose float32 or bfloat16",
        ),
        (
            f"sample {EXACT} --nfe 2 --dtype bfloat16",
            "is an exact distribution, not a network; leave out dtype",
        ),
        (
            f"sample {EXACT} --nfe 2 --compile",
            "is an exact distribution, not a network; leave out dtype and compile",
        ),
        (f"sample {EXACT} --nfe 2 --sampler magic", "there is no sampler 'magic'; choose "),
        (f"sample {EXACT} --nfe 2 --schedule none.json", "there is no schedule 'none.json'"),
        (f"sample {EXACT} --nfe 2 --schedule .", "there is no schedule '.'"),
        (f"sample {EXACT} --nfe 2 --device abacus", "no device 'abacus'"),
        (f"sample {EXACT} --nfe 2 --device meta", "no device 'meta'"),
        (f"sample {EXACT} --nfe 2 --seed {2**64}", "--seed must fit in 64 bits"),
        (f"optimize {EXACT} --nfe 3 --method jys", "powers of two only"),
        (f"optimize {EXACT} --nfe 3 --method magic", "choose shortest-path or "),
        (f"optimize {EXACT} --nfe 3 --data none.npz", "there is no file none.npz"),
        (
            f"optimize {EXACT} --nfe 2 -o x.npz",
            "schedules are JSON, and x.npz would not be; end it",
        ),
        (
            "optimize toy-uniform --nfe 99999 --sequences 8",
            "at most 1024 steps of times, got 99999",
        ),
        ("optimize toy-absorbing --nfe 99999 --sequences 8", "got [99999]; ask for at most 4"),
        ("sample toy-uniform --nfe 2 --schedule fitted", "k-gillespie serves the absorbing kernel"),
        (
            "sample toy-absorbing --nfe 2 --schedule fitted --sampler tweedie",
            "the schedule fitted has counts, and sampler tweedie follows times; use k-gillespie",
        ),
        (f"optimize {EXACT}", "pass --nfe (numbers of model calls) or --tolerance"),
        (f"optimize {EXACT} --nfe 2 --tolerance 2", "--nfe and --tolerance exclude each other"),
        (f"optimize {EXACT} --tolerance nan", "--tolerance must be zero or more, got nan"),
        (f"optimize {EXACT} --nfe 2 --data x --text y", "--data and --text exclude each other"),
        (f"compare {EXACT} --nfe 3 --schedules magic", "there is no schedule 'magic'"),
        ("train poetry --out x", "choose countdown or piano-uniform or piano-absorbing"),
        ("train piano-uniform --out x", "the recipe for piano needs data; pass --data PATH"),
        ("train countdown --out x --max-minutes -1", "--max-minutes must be zero or more, got -1"),
        (f"optimize {EXACT} --nfe 1 -o .", ". is a folder; name a file"),
        (f"compare {EXACT} --nfe 1 --schedules uniform -n 1", "at least two samples, got -n 1"),
        ("sample countdown --nfe 1 --prompt 5", "'countdown' has no tokenizer; pass token ids"),
        (f"sample {EXACT} --nfe 1 --prompt 5 --given x", "--prompt and --given exclude each other"),
        (
            f"optimize {EXACT} --nfe 2 --text x.txt",
            "--text is text, and 'countdown-exact' has no tokenizer; pass token ids with --data",
        ),
        (f"sample {EXACT} --nfe 1 --tokenizer .", "countdown-exact is not a model of text"),
        (f"sample {EXACT} --nfe 1 --given none.npz", "there is no file none.npz; pass --given"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"optimize {EXACT} --nfe 2 -o file/s.json", "because file is a file"),
        (f"optimize {EXACT} --nfe 2 -o new/", "new/ is a folder; name a file to write to"),
        (f"optimize {EXACT} --nfe 2 -o /dev/null", "/dev/null is no regular file"),
        (f"sample {EXACT} --nfe 2 -o /dev/null", "/dev/null is no regular file"),
        (f"optimize {EXACT} --nfe 2 --curve c", "c is not the name of a picture; end it in .png"),
        (f"optimize {EXACT} --nfe 2 --curve c.txt", "c.txt is not the name of a picture"),
        (f"sample {EXACT} --nfe 2 -o file/x.npz", "because file is a file"),
        (f"compare {EXACT} --nfe 2 --schedules jys -o file/r", "because file is a file"),
        (f"compare {EXACT} --nfe 2 --schedules jys --picture p", "end it in .png"),
        (f"compare {EXACT} --nfe 2 --schedules jys -o p.png --picture p.png", "results are JSON"),
        (f"compare {EXACT} --nfe 2 --schedules jys none.json", "no schedule 'none.json'"),
        (f"explain {EXACT} --nfe 2 --schedules jys none.json", "no schedule 'none.json'"),
        ("train countdown --out file", "file is a file; name a folder to write to"),
        ("demo --out file", "file is a file; name a folder to write to"),
    ],
)
def test_outputs_are_checked_before_any_work(tmp_path, capsys, monkeypatch, arguments, message):
    def no_work(*args, **kwargs):
        raise AssertionError("a search or a run was started")

    for name in ("comparing.compare", "commands.run_demo", "commands.train_recipe"):
        monkeypatch.setattr(f"jumpsteps.cli.{name}", no_work)
    monkeypatch.setattr("jumpsteps.cli.searches.optimize_schedule", no_work)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, _, err = run(capsys, arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_empty_output_name_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (f"sample {EXACT} --nfe 1", "train countdown", "demo"):
        code, _, err = run(capsys, f"{command} --out=")
        assert code == 1
        assert "the name of an output is empty" in err
    assert not any(tmp_path.iterdir())


def test_pictures_need_matplotlib_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for command in ("demo", f"optimize {EXACT} --nfe 2 --curve c.png"):
        code, out, err = run(capsys, command)
        assert (code, out) == (1, "")
        assert "pip install 'jumpsteps[plots]'" in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("you tried to allocate 9 bytes"),
        RuntimeError("alloc_cpu.cpp:127] DefaultCPUAllocator: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch, capsys, error):
    def find(*args, **kwargs):
        raise error

    monkeypatch.setattr("jumpsteps.cli.searches.optimize_schedule", find)
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 100000")
    assert code == 1
    assert err == (
        "error: not enough memory (you tried to allocate 9 bytes); "
        "lower --batch, --sequences or --nfe\n"
    )


def test_a_fault_of_the_library_keeps_its_traceback(monkeypatch, capsys):
    def find(*args, **kwargs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("jumpsteps.cli.searches.optimize_schedule", find)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(capsys, f"optimize {EXACT} --nfe 2")


def test_an_interrupt_is_not_a_traceback(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("jumpsteps.cli.searches.optimize_schedule", interrupted)
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 2")
    assert (code, err) == (130, "interrupted\n")


def test_of_several_processes_the_first_one_speaks(monkeypatch, capsys):
    """Another one says nothing but an error of its own; one process is the first."""
    first, error = [True], [None]

    def runs(options, workers):
        print("done")
        print("a note", file=sys.stderr)
        if error[0] is not None:
            raise error[0]

    @contextmanager
    def workers():
        yield SimpleNamespace(is_first=first[0], count=2)

    module = sys.modules[main.__module__]
    monkeypatch.setattr(module, "workers_of_launcher", workers)
    with pytest.raises(
        ValueError, match=r"^this command runs in one process; start it without a l"
    ):
        module.run_command(parse(["demo"]), SimpleNamespace(count=2))
    monkeypatch.setattr(module, "run_command", runs)
    assert run(capsys, "demo") == (0, "done\n", "a note\n")
    error[0] = KeyboardInterrupt("kept")
    assert run(capsys, "demo") == (130, "done\n", "a note\ninterrupted: kept\n")
    first[0] = False
    assert run(capsys, "demo") == (130, "", "")
    error[0] = ValueError("mine")
    code, out, err = run(capsys, "demo")
    assert (code, out) == (1, "")
    assert err.startswith("error: mine (")
    error[0] = Stopped()
    assert run(capsys, "demo") == (1, "", "")


def test_a_warning_is_one_line(monkeypatch, capsys):
    def warns(options, workers):
        for _ in range(2):
            warnings.warn("doubtful input", DoubtfulInput, stacklevel=1)

    monkeypatch.setattr(sys.modules[main.__module__], "run_command", warns)
    assert run(capsys, "demo") == (0, "", "warning: doubtful input\n" * 2)


@pytest.mark.parametrize("arguments", ["", "juggle", "sample", f"sample {EXACT} --nfe 0"])
def test_arguments_that_cannot_be_parsed_exit_with_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        parse(arguments.split())
    assert exit_.value.code == 2


def test_options_are_frozen_and_keep_the_order_of_flags():
    options = parse(f"compare {EXACT} --nfe 4 2 --schedules b a --seed 3".split())
    assert (options.search.nfe, options.schedules, options.seed) == ((4, 2), ("b", "a"), 3)
    assert (options.model.name, options.observed.given, options.n) == (EXACT, None, None)
    with pytest.raises(AttributeError):
        options.seed = 4


@pytest.mark.parametrize(
    "command", ["", "demo", "optimize", "sample", "compare", "explain", "train"]
)
def test_help_is_printed(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        parse([*command.split(), "--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "%" not in printed
    assert "default: None" not in printed
