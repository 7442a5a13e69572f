"""``jumpsteps demo`` with small sizes, ``jumpsteps train``, and the module as a command."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch

import jumpsteps
from builders.command_line import EXACT, run
from jumpsteps.cli.demo import DemoConfig, marked, run_demo
from jumpsteps.core import interrupts


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


def test_broken_neighbours_are_marked():
    assert marked([2, 1, 0, 5, 4]) == "2 1 0 5 4"
    assert marked([2, 0, 7, 7, 6]) == "2>0 7>7 6"


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
