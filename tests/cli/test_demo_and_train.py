"""``jumpsteps demo`` with small sizes, ``jumpsteps train``, and the module as a command."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import jumpsteps
from builders.command_line import EXACT, run
from jumpsteps import CountSchedule, Golden, Random, Redraw, Spread, load
from jumpsteps.cli.closed_pipe import OutputUntilClosed
from jumpsteps.cli.demo import (
    DemoConfig,
    correction,
    in_other_orders,
    introduction,
    marked,
    middle,
    run_demo,
    with_corrections,
)
from jumpsteps.cli.main import main
from jumpsteps.core import interrupts
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.results import Row


@pytest.mark.slow
def test_the_demo_writes_everything_it_names(tmp_path):
    said = []
    config = DemoConfig(model=EXACT, nfe=(2, 4), samples=4, sequences=4, jys_sequences=2)
    run_demo(tmp_path, torch.device("cpu"), config=config, say=said.append, progress=False)
    schedules = {"schedules.json", "schedules-times.json", "schedules-jys.json"}
    assert {p.name for p in tmp_path.iterdir()} == schedules | {
        "results.json",
        "results.html",
        "comparison.png",
    }
    for word in ("CountDown is a made-up language: 256 numbers", "a violation", "NFE is"):
        assert word in said[0]
    (conclusion,) = (line for line in said if line.startswith("Optimised counts in a spread-out"))
    assert "(shortest-path-spread) cut" in conclusion
    assert "at NFE 4" in conclusion
    assert "of 4 calls, 2 for steps and 2 that each draw 25% of the sites again" in said[-2]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    (plan,) = (row for row in rows if row["schedule"] == "corrected")
    assert plan["nfe"] == 4
    assert f"leave {100 * plan['metric']['mean']:.2f}% of violations" in said[-2]
    following, report, picture = said[-1].splitlines()
    assert f"jumpsteps sample {EXACT}" in following
    assert report.endswith(str(tmp_path / "results.html"))
    assert picture == f"The picture: {tmp_path / 'comparison.png'}"
    (begin,) = (line for line in said if line.startswith("How the first samples of 2 calls begin:"))
    assert ">" in begin.splitlines()[1]
    assert DemoConfig().nfe == (4, 8, 16)
    assert DemoConfig().model == "countdown"


@pytest.mark.parametrize(
    ("program", "command"), [("/usr/bin/jumpsteps", "/usr/bin/jumpsteps"), ("-m", "jumpsteps")]
)
def test_the_demo_names_the_command_that_was_typed(tmp_path, monkeypatch, program, command):
    asked = []
    monkeypatch.setattr(
        "jumpsteps.cli.commands.run_demo", lambda *args, **options: asked.append((args, options))
    )
    monkeypatch.setattr(sys, "argv", [program, "demo"])
    assert main(["demo", "--device", "cpu", "--out", str(tmp_path)]) == 0
    expected = {"command": command, "progress": True}
    assert asked == [((tmp_path, torch.device("cpu")), expected)]


def test_the_demo_is_of_a_model_with_a_metric(tmp_path, monkeypatch):
    model = replace(load(EXACT), task=None)
    monkeypatch.setattr("jumpsteps.cli.demo.load", lambda name, **options: model)
    with pytest.raises(ValueError, match="'countdown' has no metric; the demo needs a CountDown"):
        run_demo(tmp_path, torch.device("cpu"))


def test_corrections_take_half_of_the_most_calls_that_are_twice_others():
    found = {n: CountSchedule([8 // n] * n) for n in (1, 2, 4)}
    (plan,) = with_corrections(found).items()
    assert plan == (4, replace(found[2], redraws=(Redraw(2),)))
    assert with_corrections({n: found[n] for n in (1, 4)}) == {}


def test_the_rule_is_shown_by_a_sequence_that_keeps_it_and_one_that_breaks_it():
    model = load(EXACT)
    lines = introduction(model, model.task).splitlines()
    assert lines[2].split(":")[1].strip() == "7 6 5 4 3 2 1 0 31 30 29 28 27"
    assert lines[3].split(":")[1].strip() == "7 6 5 4>6 5 4 3>31 30 29 28 27"


def test_eight_calls_are_shown_or_the_fewest():
    assert [middle(budgets) for budgets in ((4, 8, 16), (16, 4), {8: 0})] == [8, 4, 8]
    spread = CountSchedule([1, 7], order=Spread())
    assert in_other_orders({8: spread, 4: CountSchedule([8])}) == {
        "random order": CountSchedule([1, 7], order=Random()),
        "spread order, the optimised one": spread,
        "golden order": CountSchedule([1, 7], order=Golden()),
    }


def test_corrections_are_compared_with_as_many_calls():
    plan = CountSchedule([8], redraws=(Redraw(2),))
    rows = [
        Row(nfe, name, (1.0, 0.0), Interval(share, 0, 1, 0.95, 4))
        for nfe, factor in ((4, 1), (8, 3))
        for name, share in (("corrected", factor / 100), ("shortest-path-spread", factor / 50))
    ]
    assert correction(rows, 4, plan) == (
        "A corrector: of 4 calls, 2 for steps and 2 that each draw 25% of the sites again leave "
        "1.00% of violations; 4 steps leave 2.00%."
    )


def test_broken_neighbours_are_marked():
    assert marked([2, 1, 0, 5, 4]) == "2 1 0 5 4"
    assert marked([2, 0, 7, 7, 6]) == "2>0 7>7 6"


def test_flags_of_train_reach_the_training(tmp_path, monkeypatch, capsys):
    asked = {}

    def trained(recipe, out, device, **options):
        asked.update(options, recipe=recipe.task, out=out, device=device)
        return False

    monkeypatch.setattr("jumpsteps.cli.commands.train_recipe", trained)
    command = f"train countdown --device cpu --out {tmp_path}"
    code, out, _ = run(capsys, command, "--from-scratch")
    assert (code, out) == (
        0,
        f"stopped early; run the same command to continue; checkpoint in {tmp_path}\n",
    )
    always = {"recipe": "countdown", "out": tmp_path, "device": torch.device("cpu")}
    always |= {"progress": True}
    words = ("data", "steps", "batch", "warmup", "max_minutes", "start_from", "from_step")
    switches = ("finish", "resume", "cuda_graph", "bf16_reduce")
    nothing = {"save_every": None, **dict.fromkeys(words), **dict.fromkeys(switches, False)}
    assert asked == {**always, **nothing, "from_scratch": True}
    flags = "--data d --steps 7 --batch 3 --warmup 2 --max-minutes 1.5 --start-from f --from-step 5"
    flags += " --finish --resume --cuda-graph --bf16-reduce --save-every 4"
    assert run(capsys, command, flags)[0] == 0
    values = (Path("d"), 7, 3, 2, 1.5, Path("f"), 5)
    given = dict(zip(words, values, strict=True)) | dict.fromkeys(switches, True)
    assert asked == {**always, **given, "save_every": 4, "from_scratch": False}


def test_a_recipe_without_text_has_no_tokenizer(tmp_path, capsys):
    code, _, err = run(capsys, "train countdown --tokenizer t --out", tmp_path / "x")
    assert (code, err) == (1, "error: the recipe countdown has no text; leave out --tokenizer\n")
    assert not any(tmp_path.iterdir())


def test_train_writes_a_model_that_loads(tmp_path, capsys):
    folder = tmp_path / "model"
    code, out, _ = run(capsys, "train countdown --steps 2 --batch 2 --out", folder)
    assert code == 0
    assert "finished" in out
    assert run(capsys, "sample", folder, "--nfe 1 -n 1 -o", tmp_path / "x.npz")[0] == 0


def test_train_does_not_overwrite_a_finished_model_unless_asked(tmp_path, capsys):
    folder = tmp_path / "model"
    asked = "train countdown --steps 2 --batch 2 --save-every 1 --out", folder
    assert run(capsys, *asked)[0] == 0
    before = (folder / "model.safetensors").read_bytes()
    (folder / "training.pt").unlink()
    code, _, err = run(capsys, *asked)
    assert (code, err.count("\n")) == (1, 1)
    assert "pass --from-scratch to overwrite it" in err
    assert (folder / "model.safetensors").read_bytes() == before
    assert run(capsys, *asked, "--from-scratch")[0] == 0


def test_an_interrupted_command_says_what_it_saved(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt("saved at step 3 of 5")

    monkeypatch.setattr("jumpsteps.cli.commands.train_recipe", interrupted)
    code, _, err = run(capsys, "train countdown --out x")
    assert (code, err) == (130, "interrupted: saved at step 3 of 5\n")


@pytest.mark.slow
def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "jumpsteps", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == jumpsteps.__version__


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_traceback(tmp_path, unbuffered):
    """As in ``jumpsteps sample ... | head -0``: the samples are written all the same."""
    command = [sys.executable, "-m", "jumpsteps", "sample", "toy-absorbing", "--nfe", "2"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")
    assert (tmp_path / "samples.npz").exists()


class Pipe(io.StringIO):
    """A stream whose reader goes away after the first text; it stands on a file."""

    def __init__(self, file):
        super().__init__()
        self.file, self.gone = file, False

    def write(self, text):
        if self.gone:
            raise BrokenPipeError
        return super().write(text)

    def flush(self):
        if self.gone:
            raise BrokenPipeError

    def fileno(self):
        return self.file.fileno()


def test_what_nobody_reads_is_thrown_away(tmp_path):
    with open(tmp_path / "file", "w") as file:
        stream = Pipe(file)
        out = OutputUntilClosed(stream)
        assert out.write("read") == 4
        out.flush()
        assert stream.getvalue() == "read"
        stream.gone = True
        assert out.write("lost") == 4
        out.flush()
        assert os.fstat(file.fileno()).st_rdev == os.stat(os.devnull).st_rdev
        assert out.getvalue() == "read"


TORCH = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
raise KeyboardInterrupt
"""


@pytest.mark.parametrize("command", ["-m jumpsteps --version", "jumpsteps --version"])
def test_ctrl_c_while_torch_is_imported_is_not_a_traceback(tmp_path, command):
    """A file torch.py that interrupts its own program stands for torch."""
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "jumpsteps").write_text("from jumpsteps.__main__ import run\nrun()\n")
    path = os.pathsep.join([str(tmp_path), *(part for part in sys.path if part)])
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C, and its programs inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("argv", "program", "is_command"),
    [
        (["/usr/bin/jumpsteps", "demo"], ["python", "/usr/bin/jumpsteps", "demo"], True),
        (["-m", "demo"], ["python", "-m", "jumpsteps", "demo"], True),
        (["-m", "x"], ["python", "-m", "jumpsteps_of_mine", "x"], False),
        (["/x/pytest.py", "-m", "jumpsteps"], ["python", "-m", "pytest", "-m", "jumpsteps"], False),
        (["program.py", "jumpsteps"], ["python", "program.py", "jumpsteps"], False),
        ([""], ["python"], False),
    ],
)
def test_other_programs_keep_their_handler_of_ctrl_c(monkeypatch, argv, program, is_command):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", program)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts.await_command()
        awaited = signal.getsignal(signal.SIGINT) is interrupts.leave
        interrupts.command_is_ready()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert awaited == is_command
