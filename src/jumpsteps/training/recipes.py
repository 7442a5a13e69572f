"""Training recipes of the shipped models: data, network, loss and settings by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from jumpsteps.core.distributed import Workers, workers_of_launcher
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.networks.unet import UNet, UNetConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant, LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.tasks import countdown, images, piano
from jumpsteps.tasks.image_files import read_images
from jumpsteps.tasks.music import dataset
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.cross_entropy import CrossEntropy
from jumpsteps.training.folders import check_folder, forget_run
from jumpsteps.training.gradients import Say
from jumpsteps.training.loop import Data, train
from jumpsteps.training.losses import Loss, MaskedCrossEntropy, ScoreEntropy
from jumpsteps.training.pieces import Start, read_start, training_record
from jumpsteps.training.recipe import Corpus, FromFiles, Recipe
from jumpsteps.training.text_recipe import text_recipe

__all__ = ["RECIPES", "Corpus", "FromFiles", "Recipe", "train_recipe"]


COUNTDOWN_SMOOTHING = 1e-3
"""Probability that a symbol of the training data is replaced by a fresh start.

A network trained on flawless sequences extrapolates after a mistake of its own. With this
probability, which equals ``MarkovChain.smoothing``, it does not. In exchange the violation rate
cannot fall below 0.1%.
"""


def read_piano(path: Path, device: torch.device) -> Corpus:
    return dataset.read_songs(path).to(device)


def read_pictures(path: Path, device: torch.device) -> Corpus:
    return read_images(path).to(device)


def piano_network(vocab_size: int) -> DiTConfig:
    """A DiT of 5.5 million parameters.

    It has absolute position embeddings, because the first two bars are observed and bars begin at
    fixed sites.
    """
    return DiTConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        n_blocks=6,
        n_heads=8,
        cond_dim=64,
        dropout=0.1,
        length=piano.LENGTH,
        level_scale=250.0,
    )


PIANO_DATA = FromFiles(
    read_piano,
    "a folder or zip of MIDI files such as POP909, or a folder with train.npy and test.npy",
)
PIANO_CONFIG = TrainConfig(
    steps=24_000,
    batch=256,
    learning_rate=1e-3,
    warmup=1000,
    weight_decay=0.05,
    ema=0.9995,
)

IMAGE_DATA = FromFiles(
    read_pictures,
    "a folder of CIFAR-10's python batches, a folder of .png files, or a file NAME_train.npz of "
    "JPEGs",
)

RECIPES: dict[str, Recipe] = {
    "countdown": Recipe(
        task="countdown",
        length=countdown.LENGTH,
        forward=Absorbing(vocab_size=countdown.SYMBOLS + 1, noise=LogLinear()),
        network=DiTConfig(
            vocab_size=countdown.SYMBOLS + 1, hidden_size=128, n_blocks=6, n_heads=8, cond_dim=16
        ),
        output="posterior",
        loss=MaskedCrossEntropy(),
        data=lambda n, generator: countdown.sample_data(
            n, generator=generator, smoothing=COUNTDOWN_SMOOTHING
        ),
        config=TrainConfig(steps=30_000, batch=512, learning_rate=2e-3, warmup=1000, ema=0.9998),
    ),
    "piano-uniform": Recipe(
        task="piano",
        length=piano.LENGTH,
        forward=Uniform(vocab_size=piano.SYMBOLS, noise=Constant(0.03 * piano.SYMBOLS)),
        network=piano_network(piano.SYMBOLS),
        output="posterior",
        loss=ScoreEntropy(given=piano.GIVEN, cross_entropy=1e-3),
        data=PIANO_DATA,
        config=PIANO_CONFIG,
    ),
    "piano-absorbing": Recipe(
        task="piano",
        length=piano.LENGTH,
        forward=Absorbing(vocab_size=piano.SYMBOLS + 1, noise=LogLinear()),
        network=piano_network(piano.SYMBOLS + 1),
        output="posterior",
        loss=MaskedCrossEntropy(given=piano.GIVEN),
        data=PIANO_DATA,
        # The held-out loss rises from there on; that of the uniform kernel after 17,000 steps.
        config=replace(PIANO_CONFIG, steps=7000),
    ),
    "cifar10-gaussian": Recipe(
        task="images",
        length=images.LENGTH,
        forward=Gaussian(),
        network=UNetConfig(channels=96, symmetric=True, dropout=0.05),
        output="posterior",
        loss=CrossEntropy(times=4096),
        data=IMAGE_DATA,
        config=TrainConfig(
            steps=9_100,
            batch=512,
            learning_rate=7e-4,
            warmup=500,
            decay_from=0.64,
            weight_decay=0.01,
            ema=0.9995,
        ),
    ),
    "text": text_recipe(),
}

HELD_OUT = {"cpu": 64, "cuda": 1024}
"""Minimal number of sequences in a held-out evaluation, by type of device; a smaller test set is
repeated."""


def train_recipe(
    recipe: Recipe,
    out: Path,
    device: torch.device,
    *,
    data: Path | None = None,
    steps: int | None = None,
    batch: int | None = None,
    warmup: int | None = None,
    max_minutes: float | None = None,
    finish: bool = False,
    start_from: Path | None = None,
    from_step: int | None = None,
    resume: bool = False,
    cuda_graph: bool = False,
    bf16_reduce: bool = False,
    save_every: int | None = None,
    from_scratch: bool = False,
    progress: bool = True,
    say: Say = print,
) -> bool:
    """Train, or continue training, and write a checkpoint folder; whether the training is done.

    The checkpoint holds averaged weights in bfloat16, and how many steps and sequences they saw.

    Args:
        data: path of the data, for a recipe that reads files.
        steps, batch, warmup, save_every: replace those of the recipe.
        finish, cuda_graph, bf16_reduce: see ``TrainConfig``.
        start_from, from_step: a checkpoint folder in place of random weights, and its steps.
        resume: only continue. from_scratch: begin again, and overwrite what is in ``out``.
        say: takes the line that says where the training starts, and those about CUDA graphs.

    Raises:
        ValueError: ``data`` is missing, or the recipe generates its own; ``out`` holds a run with
            other settings, none although ``resume``, or another model; so does ``start_from``.
        KeyboardInterrupt: Ctrl-C, after a save.
    """
    start = start_of(recipe, out, start_from, from_step)
    where = beginning(recipe, out, start, resume, from_scratch)
    config = replace(
        recipe.config,
        steps=steps or recipe.config.steps,
        batch=batch or recipe.config.batch,
        warmup=recipe.config.warmup if warmup is None else warmup,
        save_every=save_every or recipe.config.save_every,
        bf16=device.type == "cuda",
        compile=device.type == "cuda",
        cuda_graph=cuda_graph,
        bf16_reduce=bf16_reduce,
        max_seconds=None if max_minutes is None else 60 * max_minutes,
        finish=finish,
        first_step=0 if start is None else start.first_step,
    )
    recipe = replace(recipe, config=config)
    with workers_of_launcher() as workers, tensor_float32(device):
        said, own = say if workers.is_first else silent, workers.device(device)
        source = open_data(recipe, data, own)
        said(where)
        return train_with(workers, recipe, out, own, source, start, from_scratch, progress, said)


@contextmanager
def tensor_float32(device: torch.device) -> Iterator[None]:
    """Products of float32 matrices in TF32 on a GPU: what is not in bfloat16, as the held-out
    loss.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def silent(line: str) -> None:
    """Say nothing."""


def start_of(recipe: Recipe, out: Path, folder: Path | None, from_step: int | None) -> Start | None:
    """The checkpoint from which the training in ``out`` starts, if one is named."""
    if folder is None:
        if from_step is not None:
            raise ValueError("--from-step needs the weights of that step; pass --start-from FOLDER")
        return None
    if folder.resolve() == out.resolve():
        raise ValueError(
            f"--start-from and --out are both {out}; pass a new folder to --out, or leave out "
            "--start-from to continue"
        )
    return read_start(folder, recipe.network, recipe.forward, recipe.output, from_step=from_step)


def beginning(
    recipe: Recipe, out: Path, start: Start | None, resume: bool, from_scratch: bool
) -> str:
    """A line that says where the training starts."""
    if not from_scratch:
        check_folder(out, recipe.task, recipe.output, recipe.network, recipe.forward)
    if (out / "training.pt").exists() and not from_scratch:
        return f"continuing the training in {out}"
    if resume:
        raise ValueError(
            f"there is no training to resume in {out}: training.pt is missing; check the folder, "
            "or leave out --resume to start"
        )
    if start is None:
        return "starting from random weights"
    return f"starting from the weights in {start.folder}, step {start.first_step}"


def train_with(
    workers: Workers,
    recipe: Recipe,
    out: Path,
    device: torch.device,
    source: tuple[Data, Corpus | None],
    start: Start | None,
    from_scratch: bool,
    progress: bool,
    say: Say,
) -> bool:
    """``train_recipe`` in one of several processes."""
    config, (draw, corpus) = recipe.config, source
    if from_scratch:
        forget_run(out, workers)
    torch.manual_seed(config.seed)
    network, reverse = build(recipe.network, recipe.forward, recipe.output)
    if start is not None:
        start.load_into(network)
    network.to(device)
    if isinstance(network, UNet):
        for kernel in network.parameters():
            if kernel.ndim == 4:  # Convolutions in bfloat16 are fastest in this layout.
                kernel.data = kernel.data.to(memory_format=torch.channels_last)
    evaluate, shown = None, progress and workers.is_first
    if corpus is not None:
        test, share = corpus.test.to(device), workers.share(config.batch)
        evaluate = held_out(reverse, bound_of(recipe.loss), test, share, progress=shown)
    done, average, step = train(
        reverse,
        network,
        recipe.loss,
        draw,
        config,
        out,
        evaluate=evaluate,
        progress=shown,
        workers=workers,
        say=say,
    )
    if not workers.is_first:
        return done
    network.load_state_dict(network.state_dict() | average)
    name = None if corpus is None else corpus.name
    save_native(
        out,
        network,
        recipe.forward,
        output=recipe.output,
        task=recipe.task,
        length=recipe.length,
        data=name,
        training=training_record(start, config.first_step, step, config.batch),
    )
    return done


def open_data(
    recipe: Recipe, path: Path | None, device: torch.device
) -> tuple[Data, Corpus | None]:
    """The function that draws training batches, and the data set if it is read from files."""
    if not isinstance(recipe.data, FromFiles):
        if path is not None:
            raise ValueError(
                f"the recipe for {recipe.task} makes its own data; leave out --data {path}"
            )
        return recipe.data, None
    if path is None:
        raise ValueError(
            f"the recipe for {recipe.task} needs data; pass --data PATH: {recipe.data.what}"
        )
    corpus = recipe.data.read(path, device)
    return corpus.sample_data, corpus


def bound_of(loss: Loss) -> Loss:
    """The loss with times that make it a bound."""
    return replace(loss, bell=False) if isinstance(loss, MaskedCrossEntropy) else loss


def held_out(
    reverse: ReverseProcess, loss: Loss, test: Tensor, batch: int, *, progress: bool = False
) -> Callable[[], float]:
    """A function that returns the mean loss of test sequences, in nats per sequence.

    Every call uses the same noise. Batches have the training size, so that a compiled network is
    compiled for one shape only. ``test`` is int64 [N, L].
    """
    least = max(len(test), HELD_OUT.get(test.device.type, HELD_OUT["cpu"]))
    rows = torch.arange(-(-least // batch) * batch, device=test.device) % len(test)

    def evaluate() -> float:
        generator = torch.Generator(test.device).manual_seed(0)
        parts = tqdm(rows.split(batch), "held-out loss", leave=False, disable=not progress)
        values = [loss(reverse, test[part], generator=generator) for part in parts]
        return float(torch.cat(values).to(torch.float64).mean())

    return evaluate
