"""The recipes for data from files, on networks so small that they train on a CPU in a second."""

import json
import math
import resource
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import jumpsteps
from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models.formats.native import build, network_to_json, save_native
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.serialise import forward_to_json
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.tasks.image_files import ImageData
from jumpsteps.training import recipes as recipes
from jumpsteps.training.cross_entropy import CrossEntropy
from jumpsteps.training.folders import is_model_of
from jumpsteps.training.loop import State
from jumpsteps.training.recipes import RECIPES, FromFiles, tensor_float32, train_recipe

PIANO = ["piano-uniform", "piano-absorbing"]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Melodies:
    """Random walks on seven pitches, each note held for four steps."""

    name: str = "walks sha256:0123"

    @property
    def test(self):
        return self.sample_data(5, seeded(99))

    def sample_data(self, n, generator):
        steps = torch.randint(-1, 2, (n, 64), generator=generator, device=generator.device)
        return 60 + (steps.cumsum(-1) % 7).repeat_interleave(4, -1)


@pytest.fixture(autouse=True)
def few_test_sequences(monkeypatch):
    monkeypatch.setattr(recipes, "HELD_OUT", {"cpu": 16})


def tiny(name, **config):
    recipe = RECIPES[name]
    settings = {
        "learning_rate": 1e-2,
        "warmup": 5,
        "ema": 0.8,
        "log_every": 10,
        "evaluate_every": 10,
        **config,
    }
    return replace(
        recipe,
        network=replace(recipe.network, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8),
        data=FromFiles(lambda path, device: Melodies(), "walks"),
        config=replace(recipe.config, **settings),
    )


def log(folder, key):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def averaged(name, folder):
    """The network with the weights that were not rounded."""
    recipe = tiny(name)
    network, reverse = build(recipe.network, recipe.forward, recipe.output)
    network.load_state_dict(
        network.state_dict() | torch.load(folder / "training.pt", weights_only=True)["average"]
    )
    return network.eval(), reverse


@pytest.mark.slow
@pytest.mark.parametrize("name", PIANO)
def test_a_recipe_trains_and_what_it_saves_samples(tmp_path, name):
    """30 steps lower the bound of 224 free sites on training and held-out data.

    For the absorbing kernel it falls from 224 log 129 = 1089 nats to near 224 log 7 = 436. The
    folder holds the averaged weights in bfloat16, and samples keep the given sites.
    """
    assert train_recipe(
        tiny(name), tmp_path, CPU, data=Path("x"), steps=30, batch=8, progress=False
    )
    loss, held_out = log(tmp_path, "loss"), log(tmp_path, "held_out_loss")
    assert len(loss) == len(held_out) == 3
    if name == "piano-absorbing":
        assert 300 < loss[-1] < 600
        assert 300 < held_out[-1] < 600
    else:  # A uniform-kernel posterior must first learn to copy most sites at small t.
        assert 300 < loss[-1] < 0.6 * loss[0]
        assert held_out[-1] < 0.95 * held_out[0]
    assert json.loads((tmp_path / "config.json").read_text())["data"] == "walks sha256:0123"

    model, (network, reverse) = jumpsteps.load(tmp_path), averaged(name, tmp_path)
    data = Melodies().test
    x = model.reverse.forward.sample_path(data, generator=seeded(0))(0.6)
    before, after = (r.leave_one_out(x, 0.6)[:, 32:] for r in (reverse, model.reverse))
    moved = model.reverse.forward.movable(x)[:, 32:]
    torch.testing.assert_close(after[moved], before[moved], atol=2e-3, rtol=0.1)
    for p in network.parameters():
        p.data = p.data.bfloat16().float()
    assert torch.equal(model.reverse.leave_one_out(x, 0.6), reverse.leave_one_out(x, 0.6))

    given = Given(data, (torch.arange(256) < 32).expand_as(data))
    for sampler in (TauLeaping(), Tweedie()):
        run = simulate(
            model.reverse, sampler, uniform(3), (5, 256), generator=seeded(1), given=given
        )
        assert torch.equal(run.samples[:, :32], data[:, :32])
        assert run.samples.max() <= 128


@pytest.mark.parametrize("name", PIANO)
def test_a_recipe_resumes_to_the_bit(tmp_path, name):
    """Dropout included; the first call stops after one step."""
    arguments = {"data": Path("x"), "steps": 4, "batch": 2, "progress": False}
    assert RECIPES[name].network.dropout > 0
    assert train_recipe(tiny(name), tmp_path / "whole", CPU, **arguments)
    assert not train_recipe(tiny(name), tmp_path / "cut", CPU, max_minutes=0.0, **arguments)
    assert train_recipe(tiny(name), tmp_path / "cut", CPU, **arguments)
    whole, cut = (
        (tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "cut")
    )
    assert whole == cut


@pytest.mark.parametrize("name", PIANO)
def test_the_held_out_loss_is_that_of_the_test_sequences(name):
    """Each as often as any other, up to one, with the same noise every time."""
    recipe = tiny(name)
    _, reverse = build(recipe.network, recipe.forward, recipe.output)
    seen = []

    def loss(reverse, x0, *, generator):
        seen.append(x0)
        return recipe.loss(reverse, x0, generator=generator)

    test = Melodies().test
    evaluate = recipes.held_out(reverse, loss, test, 6)
    with torch.no_grad():
        assert evaluate() == evaluate()
    assert [len(part) for part in seen] == [6] * 6
    counts = (torch.cat(seen[:3])[:, None] == test).all(-1).sum(0)
    assert counts.tolist() == [4, 4, 4, 3, 3]


@pytest.mark.parametrize("name", PIANO)
def test_checkpoints_take_at_most_12_megabytes(name):
    network, _ = build(RECIPES[name].network, RECIPES[name].forward, RECIPES[name].output)
    assert 10e6 < 2 * sum(p.numel() for p in network.parameters()) < 11.9e6
    assert RECIPES[name].length == RECIPES[name].network.length == 256
    assert RECIPES[name].loss.given == 32


def test_data_is_asked_for_where_it_is_needed(tmp_path):
    said: list[str] = []
    with pytest.raises(
        ValueError,
        match=r"the recipe for piano needs data; pass --data PATH: a folder or zip of MIDI files",
    ):
        train_recipe(RECIPES["piano-uniform"], tmp_path / "x", CPU, say=said.append)
    with pytest.raises(
        ValueError, match=r"the recipe for countdown makes its own data; leave out --data here"
    ):
        train_recipe(RECIPES["countdown"], tmp_path / "x", CPU, data=Path("here"), say=said.append)
    assert said == []  # Nothing has started.
    assert not (tmp_path / "x").exists()


def colours(path, device):
    """Images of one colour each."""
    levels = torch.arange(0, 240, 20, dtype=torch.uint8)[:, None].expand(-1, 3072)
    return ImageData("colours sha256:0123", levels, levels[:4]).to(device)


@pytest.mark.slow
def test_the_image_recipe_trains(tmp_path):
    """20 steps lower the loss, which starts near that of uniform symbols, 3072 log 256."""
    recipe = replace(
        RECIPES["cifar10-gaussian"],
        network=UNetConfig(channels=8, multipliers=(1,), n_blocks=1, symmetric=True),
        loss=CrossEntropy(times=8),
        data=FromFiles(colours, "colours"),
        config=replace(
            RECIPES["cifar10-gaussian"].config,
            learning_rate=2e-2,
            warmup=5,
            ema=0.8,
            log_every=10,
            evaluate_every=20,
        ),
    )
    assert train_recipe(recipe, tmp_path, CPU, data=Path("x"), steps=20, batch=4, progress=False)
    loss = log(tmp_path, "loss")
    assert len(log(tmp_path, "held_out_loss")) == 1
    assert loss[-1] < 0.97 * loss[0]
    assert loss[0] < 3072 * math.log(256) < 1.1 * loss[0]
    model = jumpsteps.load(tmp_path)
    assert model.task.name == "images"
    assert model.length == 3072


def test_the_image_checkpoint_takes_at_most_45_megabytes():
    recipe = RECIPES["cifar10-gaussian"]
    network, _ = build(recipe.network, recipe.forward, recipe.output)
    assert 40e6 < 2 * sum(p.numel() for p in network.parameters()) < 45e6


ARGUMENTS = {"data": Path("x"), "steps": 2, "batch": 2, "progress": False}


def test_a_finished_model_is_not_overwritten(tmp_path):
    """Without the state of its run, unless asked to."""
    recipe = tiny("piano-absorbing")
    assert train_recipe(recipe, tmp_path, CPU, **ARGUMENTS)
    (tmp_path / "training.pt").unlink()
    before = (tmp_path / "model.safetensors").read_bytes()
    for missing in ("nothing", "config.json"):
        (tmp_path / missing).unlink(missing_ok=True)
        with pytest.raises(ValueError, match="without the state of its run; name another folder"):
            train_recipe(recipe, tmp_path, CPU, **ARGUMENTS)
        assert (tmp_path / "model.safetensors").read_bytes() == before
    arguments = ARGUMENTS | {"steps": 3}
    assert train_recipe(recipe, tmp_path, CPU, from_scratch=True, **arguments)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert train_recipe(recipe, tmp_path, CPU, from_scratch=True, **ARGUMENTS)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_the_folder_of_another_recipe_is_refused(tmp_path):
    """The same network with another noise schedule, too; the same recipe continues."""
    recipe = tiny("piano-uniform")
    assert train_recipe(recipe, tmp_path, CPU, **ARGUMENTS)
    other = replace(recipe, forward=replace(recipe.forward, noise=LogLinear()))
    for one in (tiny("piano-absorbing"), other):
        with pytest.raises(ValueError, match="holds a model of another recipe; name another"):
            train_recipe(one, tmp_path, CPU, **ARGUMENTS)
    assert train_recipe(recipe, tmp_path, CPU, **ARGUMENTS)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_model_is_of_its_recipe_alone(name):
    def parts(name):
        return (getattr(RECIPES[name], part) for part in ("task", "output", "network", "forward"))

    task, output, network, forward = parts(name)
    kernel, noise = forward_to_json(forward)
    written = {"task": task, "output": output, "kernel": kernel, "noise": noise}
    config = json.loads(json.dumps(written | {"network": network_to_json(network)}))
    assert [other for other in RECIPES if is_model_of(config, *parts(other))] == [name]


def test_the_state_is_saved_as_often_as_asked(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(State, "save", lambda state, path, config: saved.append(state.step))
    arguments = ARGUMENTS | {"steps": 5}
    assert train_recipe(tiny("piano-absorbing"), tmp_path, CPU, save_every=2, **arguments)
    assert saved == [2, 4, 5]


def test_a_full_disk_leaves_the_old_model(tmp_path):
    """The system's limit of the size of a file stands for the full disk."""
    recipe = tiny("piano-absorbing")
    network, _ = build(recipe.network, recipe.forward, recipe.output)
    settings = {"output": "posterior", "task": "piano", "length": 256}
    save_native(tmp_path, network, recipe.forward, **settings)
    before = (tmp_path / "model.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written to .*; make room on the disk"):
            save_native(tmp_path, network, recipe.forward, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_products_in_tf32_while_training_on_a_gpu():
    before = torch.get_float32_matmul_precision()
    for device, precision in (("cuda", "high"), ("cpu", before)):
        with tensor_float32(torch.device(device)):
            assert torch.get_float32_matmul_precision() == precision
        assert torch.get_float32_matmul_precision() == before
