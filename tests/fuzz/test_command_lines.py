"""Commands with flags and values at random, on a toy model and a network of a few weights.

Neither ``--compile``, which takes a minute, nor metrics that raise errors, whose traceback is for
their author.
"""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.checkpoints import random_network
from builders.fuzzing import fuzzed, writing_only_in
from jumpsteps.cli.main import main
from jumpsteps.models.formats.native import save_native
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.schedule import TimeSchedule
from jumpsteps.training.recipes import RECIPES

COUNTS = ["1", "2", "3", "4"]
ODD = ["0", "-1", "nan", "inf", "1e9", "x", "", "é", "1.5", "--", "-", "9" * 25, "9" * 5000]
MODELS = ["toy-absorbing", "toy-absorbing", "toy-uniform", "toy-gaussian", "none", ".", "../model"]
FIXED = ["uniform", "cosine", "fitted", "none", "../good.json", "../bad.json", "../empty"]
SEARCHES = ["shortest-path", "jys", "auto", "klub", "none", *FIXED]
OUTS = ["x.npz", "x.json", "a/b/x.npz", "x.fasta", "x", ".", "a", "x.png", "x.wav", "/dev/null"]
FILES = ["../given.npz", "../tokens.npy", "../bad.json", "../empty", "none.npz", "."]
ORDERS = ["random", "spread", "golden", "sequential", "learned", "auto", "blocks", "none"]
SAMPLERS = ["tweedie", "euler", "k-gillespie", "first-hitting", "klass", "none"]
TEXTS = ["one", "??", "[MASK 2]", ""]
OF_MODEL = {
    "--sampler": SAMPLERS,
    "--order": ORDERS,
    "--seed": ["0", "-5", str(2**63)],
    "--device": ["cpu", "none", "meta"],
    "--dtype": ["float32", "bfloat16", "none"],
    "--length": COUNTS,
    "--mask-id": COUNTS,
    "--tokenizer": ["none", "."],
    "--prompt": TEXTS,
    "--suffix": TEXTS,
    "--template": TEXTS,
    "--given": FILES,
    "-o": OUTS,
}
OF_SEARCH = {
    "--data": ["toy", "countdown", *FILES],
    "--text": FILES,
    "--sequences": ["4", "8", "24"],
    "--measure": ["data", "model", "none"],
}
OF_SAMPLES = {"-n": COUNTS, "--batch": COUNTS}
FLAGS = {
    "sample": OF_MODEL
    | OF_SAMPLES
    | {
        "--schedule": FIXED,
        "--nfe": COUNTS,
        "--corrections": COUNTS,
        "--redraw-share": ["0.25", "1"],
        "--colour": None,
    },
    "optimize": OF_MODEL
    | OF_SEARCH
    | {
        "--method": SEARCHES,
        "--tolerance": ["0.5", "2"],
        "--curve": ["curve.png", "x.json", "curve"],
        "--race": COUNTS,
        "--race-with": SEARCHES,
        "--race-calls": ["20"],
        "--block-size": COUNTS,
        "--corrector": ["auto"],
    },
    "compare": OF_MODEL
    | OF_SEARCH
    | OF_SAMPLES
    | {"--metric": ["torch:numel", "none:f", "x"], "--evaluator": ["none", "."], "--picture": OUTS},
    "train": {
        "--data": FILES,
        "--batch": COUNTS,
        "--warmup": COUNTS,
        "--finish": None,
        "--start-from": ["../model", "x", "none", "../empty"],
        "--from-step": COUNTS,
        "--resume": None,
        "--cuda-graph": None,
        "--bf16-reduce": None,
        "--save-every": COUNTS,
        "--from-scratch": None,
    },
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command that is right but for up to four flags."""
    command = draw(st.sampled_from(sorted(FLAGS)))
    if command == "train":
        recipe = draw(st.sampled_from(["countdown"] * 4 + ["piano-uniform", "none"]))
        out = draw(st.sampled_from(["x", "y/z", ".", "x.npz", "/dev/null"]))
        words = [command, recipe, "--out", out, "--steps", "1", "--max-minutes", "0.01"]
    else:
        words = [command, draw(st.sampled_from(MODELS)), "--nfe", draw(st.sampled_from(COUNTS))]
        words += {"sample": ["-n", "2"], "optimize": ["--sequences", "8"], "compare": []}[command]
    if command == "compare":
        names = draw(st.lists(st.sampled_from(SEARCHES), max_size=2))
        words += ["-n", "2", "--sequences", "8", "--schedules", "uniform", *names]
    flags = FLAGS[command]
    for flag in draw(st.lists(st.sampled_from(sorted(flags)), max_size=4)):
        values = flags[flag]
        words += [flag]
        if values is not None or draw(st.integers(0, 9)) == 0:
            words += [draw(st.sampled_from([*(values or []) * 5, *ODD]))]
    if draw(st.integers(0, 19)) == 0:
        words += [draw(st.sampled_from(["--none", "--", "-o", "--help", "--nfe"]))]
    return words


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder that commands run in, with files to read beside it."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "bad.json").write_text('{"format": "jumpsteps-schedules", "schedules": 5}')
    (folder / "empty").touch()
    tokens = np.array([[3, 2, 1, 0]])
    np.savez(folder / "given.npz", tokens=tokens, mask=tokens > 1)
    np.save(folder / "tokens.npy", np.tile(tokens, (40, 1)))
    network = DiTConfig(vocab_size=33, hidden_size=8, n_blocks=1, n_heads=2, cond_dim=4)
    recipe = replace(RECIPES["countdown"], network=network)
    forward, model = recipe.forward, random_network(network)
    save_native(folder / "model", model, forward, output="posterior", task="countdown", length=256)
    save_schedules(folder / "good.json", {2: TimeSchedule([1, 0.5, 0])})
    inside = folder / "out"
    inside.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inside)
        patch.setitem(RECIPES, "countdown", recipe)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield inside


@given(words=command_lines())
@fuzzed(10)
def test_commands_end_with_a_file_or_one_line(out, words):
    for old in out.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    said, wrong = out / "said", out / "wrong"
    with (
        open(said, "w") as standard,
        open(wrong, "w") as error,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdout", standard)
        patch.setattr("sys.stderr", error)
        with writing_only_in(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = main(words)
            except SystemExit as stopped:
                code = stopped.code
    text = wrong.read_text()
    assert code in (0, 1, 2, None)
    assert "Traceback" not in text
    if code == 1:
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert text.rstrip("\n").splitlines()[-1] == lines[0], text
    assert Path("/dev/null").is_char_device()
    assert os.getcwd() == str(out)
