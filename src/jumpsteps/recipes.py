"""How the shipped models were trained: data, network, loss and settings, by name."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from jumpsteps.forward import Absorbing, ForwardProcess
from jumpsteps.losses import Loss, MaskedCrossEntropy
from jumpsteps.models.dit import DiTConfig
from jumpsteps.models.native import build, save_native
from jumpsteps.noise import LogLinear
from jumpsteps.tasks import countdown
from jumpsteps.train import Data, TrainConfig, train

__all__ = ["RECIPES", "Recipe", "train_recipe"]


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a trained model.

    Attributes:
        task: name of the task.
        length: L.
        output: what the network gives, "posterior" or "log-score".
    """

    task: str
    length: int
    forward: ForwardProcess
    network: DiTConfig
    output: str
    loss: Loss
    data: Data
    config: TrainConfig


COUNTDOWN_SMOOTHING = 1e-3
"""Share of fresh starts in the training data. A network that has only seen sequences without a mistake does not know what to do
after one of its own; with this share, that of ``MarkovChain.smoothing``, it does, at the price of a floor of 0.1% violations."""

RECIPES: dict[str, Recipe] = {
    "countdown": Recipe(
        task="countdown",
        length=countdown.LENGTH,
        forward=Absorbing(vocab_size=countdown.SYMBOLS + 1, noise=LogLinear()),
        network=DiTConfig(vocab_size=countdown.SYMBOLS + 1, hidden_size=128, n_blocks=6, n_heads=8, cond_dim=16),
        output="posterior",
        loss=MaskedCrossEntropy(),
        data=lambda n, generator: countdown.sample_data(n, generator=generator, smoothing=COUNTDOWN_SMOOTHING),
        config=TrainConfig(steps=30_000, batch=512, learning_rate=2e-3, warmup=1000, ema=0.9998),
    )
}


def train_recipe(
    recipe: Recipe,
    out: Path,
    device: torch.device,
    *,
    steps: int | None = None,
    batch: int | None = None,
    max_minutes: float | None = None,
    progress: bool = True,
) -> bool:
    """Train, or go on training, and write a checkpoint folder with the averaged weights in bfloat16.

    Returns:
        Whether the last step was reached.
    """
    on_gpu = device.type == "cuda"
    config = replace(
        recipe.config,
        steps=steps or recipe.config.steps,
        batch=batch or recipe.config.batch,
        bf16=on_gpu,
        compile=on_gpu,
        max_seconds=None if max_minutes is None else 60 * max_minutes,
    )
    torch.manual_seed(config.seed)
    network, reverse = build(recipe.network, recipe.forward, recipe.output)
    network.to(device)
    done, average = train(reverse, network, recipe.loss, recipe.data, config, out, progress=progress)
    network.load_state_dict(network.state_dict() | average)
    save_native(out, network, recipe.forward, output=recipe.output, task=recipe.task, length=recipe.length)
    return done
