"""The shipped piano networks: sizes, given bars, and their NLL bounds on a known melody."""

import math
import tomllib
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps import CountSchedule, KGillespie, Spread, TauLeaping, TimeSchedule, Tweedie
from jumpsteps.cli.main import main
from jumpsteps.models import BUILT_IN
from jumpsteps.tasks.music.midi import read_steps, write_steps
from jumpsteps.training.losses import MaskedCrossEntropy, ScoreEntropy
from jumpsteps.training.recipes import RECIPES

pytestmark = pytest.mark.slow

CHECKPOINTS = Path(jumpsteps.__file__).parents[2] / "checkpoints"
NAMES = ("piano-uniform", "piano-absorbing")
GIVEN, MADE, SYMBOLS = 32, 224, 129
C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def ode_to_joy():
    """Beethoven's theme, int64 [256]: 16 bars of 4/4 in C major, in sixteenths."""
    quarter, dotted, eighth, half = 4, 6, 2, 8
    line = [(pitch, quarter) for pitch in (64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64)]
    open_end, end = (
        [(64, dotted), (62, eighth), (62, half)],
        [(62, dotted), (60, eighth), (60, half)],
    )
    turn = [(62, quarter), (64, eighth), (65, eighth), (64, quarter)]
    middle = [(pitch, quarter) for pitch in (62, 62, 64, 60)]
    middle += [*turn, (60, quarter), *turn, (62, quarter), (60, quarter), (62, quarter), (55, half)]
    notes = [*line, *open_end, *line, *end, *middle, *line, *end]
    return torch.tensor([pitch for pitch, length in notes for _ in range(length)])


MELODY = ode_to_joy()


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return jumpsteps.load(request.param)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "ode.mid"
    write_steps(path, MELODY)
    return path


def test_every_checkpoint_is_whole_and_small_and_the_wheel_holds_the_built_in_ones():
    project = tomllib.loads((CHECKPOINTS.parent / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {Path(path).name for path in wheel} == {"countdown", *NAMES} <= BUILT_IN.keys()
    folders = {folder.name: folder for folder in CHECKPOINTS.iterdir()}
    source_only = {"text-small", "text-evaluator", "cifar10-gaussian", "cifar10-features"}
    assert folders.keys() == {"countdown", *NAMES, *source_only}
    sizes = {}
    for name, folder in folders.items():
        files = {file.name: file.stat().st_size for file in folder.iterdir()}
        assert files.keys() >= {"config.json", "model.safetensors", "README.md"}
        sizes[name] = sum(files.values())
    assert max(sizes.values()) <= 45e6
    assert sum(sizes.values()) <= 125e6
    assert sum(sizes[Path(path).name] for path in wheel) <= 60e6


@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_recipes_networks(name):
    model, recipe = jumpsteps.load(name), RECIPES[name]
    assert model.name == name
    assert model.reverse.forward == recipe.forward
    assert model.reverse.model.network.config == recipe.network
    assert (model.length, model.task.name) == (recipe.length, recipe.task) == (256, "piano")
    assert not any(part.training for part in model.reverse.model.network.modules())  # no dropout


@torch.no_grad()
def test_the_posterior_is_a_distribution_of_129_symbols(model):
    forward = model.reverse.forward
    times = torch.tensor([1.0, 0.5, 0.01], dtype=torch.float64)
    x = forward.sample_path(MELODY.expand(3, -1), generator=seeded(0))(times[:, None])
    p = model.reverse.posterior(x, times)
    assert p.shape == (3, 256, forward.vocab_size)
    assert forward.vocab_size == SYMBOLS + (model.name == "piano-absorbing")
    assert float(p.min()) >= 0
    torch.testing.assert_close(p[..., :SYMBOLS].sum(-1), torch.ones(3, 256, dtype=p.dtype))


@torch.no_grad()
def test_they_know_a_melody_from_its_notes_in_another_order(model):
    """NELBO of 14 bars given two, mean over 16 times: below 250 nats, of 1,089 by guessing."""
    loss = (MaskedCrossEntropy if model.name == "piano-absorbing" else ScoreEntropy)(given=GIVEN)
    order = torch.randperm(MADE, generator=seeded(0))
    shuffled = torch.cat([MELODY[:GIVEN], MELODY[GIVEN:][order]])
    theme, disorder = (
        float(loss(model.reverse, x.expand(16, -1), generator=seeded(1)).mean())
        for x in (MELODY, shuffled)
    )
    assert theme < 250 < MADE * math.log(SYMBOLS)
    assert 2 * theme < disorder


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 6])
def test_they_go_on_in_the_key_of_the_given_bars(model, shift):
    """At t = 1, most of the expected notes of the 14 bars are in the key of the two given."""
    x = model.reverse.forward.sample_prior((4, 256), generator=seeded(2), device="cpu")
    x[:, :GIVEN] = MELODY[:GIVEN] + shift
    expected = model.reverse.posterior(x, 1.0)[:, GIVEN:, : SYMBOLS - 1].sum((0, 1))
    in_key = sum(float(expected[(shift + note) % 12 :: 12].sum()) for note in C_MAJOR)
    assert in_key > 0.8 * float(expected.sum())


TIMES, JUMPS = TimeSchedule([1.0, 0.5, 0.2, 0.0]), CountSchedule((24, 80, 120), order=Spread())
RUNS = [
    *((name, sampler) for name in NAMES for sampler in (TauLeaping(), Tweedie())),
    ("piano-absorbing", KGillespie()),
]


@pytest.mark.parametrize(("name", "sampler"), RUNS, ids=lambda part: getattr(part, "name", part))
def test_given_bars_stay_as_they_are(name, sampler):
    schedule = JUMPS if isinstance(sampler, KGillespie) else TIMES
    reverse = jumpsteps.load(name).reverse
    given = jumpsteps.Given(MELODY, torch.arange(256) < GIVEN)
    states = []
    run = jumpsteps.simulate(
        reverse,
        sampler,
        schedule,
        (2, 256),
        generator=seeded(3),
        given=given,
        callback=lambda t, x: states.append(x),
    )
    assert len(states) == 4
    assert all(torch.equal(x[:, :GIVEN], MELODY[:GIVEN].expand(2, -1)) for x in states)
    assert run.samples[:, GIVEN:].max() < SYMBOLS
    assert not torch.equal(run.samples[0], run.samples[1])


def command(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_song_is_continued_to_see_to_edit_and_to_hear(tmp_path, song, capsys):
    out = tmp_path / "out"
    assert (
        command(
            "sample",
            "piano-uniform",
            "--given",
            song,
            "--nfe",
            4,
            "-n",
            1,
            "--device",
            "cpu",
            "-o",
            f"{out}/",
        )
        == 0
    )
    assert {path.name for path in out.iterdir()} == {
        "samples.npz",
        "sample-1.png",
        "sample-1.mid",
        "sample-1.wav",
    }
    (sample,) = torch.from_numpy(np.load(out / "samples.npz")["samples"])
    assert torch.equal(sample[:GIVEN], MELODY[:GIVEN])
    assert torch.equal(read_steps(out / "sample-1.mid").tokens, sample)
    assert (out / "sample-1.png").read_bytes().startswith(b"\x89PNG")
    with wave.open(str(out / "sample-1.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() >= 32  # 16 bars at 120 beats per minute
    said = capsys.readouterr().out
    assert said.startswith("E4  .   .   .   .   .   .   .   F4  .   .   .   G4  .   .   .\n")
    assert "1 samples, 4 model calls each; written to" in said


def test_times_are_optimised_for_the_bars_that_are_made(tmp_path, song, capsys):
    """With given bars the schedule is for the 224 free sites, and fits no run without them."""
    np.save(tmp_path / "songs.npy", MELODY.expand(2, -1).numpy())
    search = [
        "--data",
        tmp_path / "songs.npy",
        "--given",
        song,
        "--sequences",
        2,
        "--nfe",
        2,
        "-o",
        tmp_path / "jumps.json",
    ]
    assert (
        command("optimize", "piano-absorbing", "--order", "spread", *search, "--device", "cpu") == 0
    )
    (schedule,) = jumpsteps.load_schedules(tmp_path / "jumps.json").values()
    assert schedule.total == MADE
    assert schedule.provenance.data.endswith(", 32 of 256 sites given")
    options = [
        "--schedule",
        tmp_path / "jumps.json",
        "--nfe",
        2,
        "-n",
        1,
        "--device",
        "cpu",
        "-o",
        tmp_path / "x.npz",
    ]
    assert command("sample", "piano-absorbing", "--given", song, *options) == 0
    assert "rescaled" not in capsys.readouterr().err
    assert command("sample", "piano-absorbing", *options) == 0
    assert (
        "holds counts of 224 tokens; they are rescaled to the 256 that are free"
        in capsys.readouterr().err
    )
