"""The training loop of all tasks: EMA, bfloat16, warm-up, clipping, resumable runs.

All randomness of optimiser step k, dropout included, is seeded by (seed, k). On one device a run
that is stopped and resumed therefore gives the same weights, to the bit, as an uninterrupted one.
"""

import errno
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.files import replacing
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.tokenizer import first_line
from jumpsteps.training.config import TrainConfig, learning_rate
from jumpsteps.training.folders import forget_log_after
from jumpsteps.training.gradients import Backward, Say, backward_of, fastest, flat_gradient
from jumpsteps.training.interrupts import Interrupt, deferred_interrupt
from jumpsteps.training.losses import Loss

__all__ = ["Result", "train"]

Data = Callable[[int, torch.Generator], Tensor]
"""(batch, generator) -> int64 [batch, L] on the generator's device."""


class Result(NamedTuple):
    """What training returns.

    Attributes:
        done: whether the last step, or the time at which to finish, was reached.
        average: the averaged parameters.
        step: steps of the plan that were taken, those before ``first_step`` included.
    """

    done: bool
    average: dict[str, Tensor]
    step: int


@dataclass
class State:
    """State of a run between optimiser steps.

    ``finished`` says that the learning rate has decayed to zero.
    """

    step: int
    seconds: float
    optimizer: torch.optim.Optimizer
    network: nn.Module
    average: dict[str, Tensor]
    finished: bool = False

    def save(self, path: Path, config: TrainConfig) -> None:
        content = {
            "step": self.step,
            "seconds": self.seconds,
            "config": asdict(config),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "finished": self.finished,
        }
        with replacing(path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # Of torch's own writer, where the disk is full.
                raise OSError(
                    f"{path} cannot be written ({first_line(error)}); make room on the disk"
                ) from None

    def load(self, path: Path, config: TrainConfig) -> None:
        content = read_state(path)
        saved = {"first_step": 0} | content["config"]
        for key in ("steps", "batch", "learning_rate", "warmup", "ema", "seed", "first_step"):
            if saved[key] != getattr(config, key):
                raise ValueError(
                    f"{path} was trained with {key}={saved[key]}, "
                    f"this run has {getattr(config, key)}; "
                    "use the same settings to resume, or another folder to start again"
                )
        try:
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError):
            raise ValueError(
                f"{path} is the run of another network; name another folder for this one"
            ) from None
        self.step, self.seconds = content["step"], content["seconds"]
        self.finished = content.get("finished", False)
        for name, value in content["average"].items():
            self.average[name].copy_(value)


def read_state(path: Path) -> dict[str, Any]:
    """The content of a file of ``State.save``.

    Raises:
        ValueError: an empty or damaged file, or one of something else.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        if error.errno != errno.EINVAL:  # Torch's reader has it of a zip file that was cut off.
            raise
        content = None
    except Exception:  # A damaged file makes torch raise exceptions of many types.
        content = None
    parts = {"step", "seconds", "config", "network", "optimizer", "average"}
    if not isinstance(content, dict) or not parts <= content.keys():
        raise ValueError(
            f"{path} is damaged, or not the state of a run; put a copy in its place, or remove it "
            "and start again"
        )
    return content


def generator_of_step(
    config: TrainConfig, step: int, device: torch.device, workers: Workers = ALONE
) -> torch.Generator:
    seed = (config.seed * 1_000_003 + step) * workers.count + workers.rank
    return torch.Generator(device).manual_seed(seed)


DROPOUT = 2**31
"""Offset of a step's dropout seed from the seed of its data and noise.

Dropout draws from torch's global generator. CPU generators keep 32 bits of a seed.
"""


def train(
    reverse: ReverseProcess,
    network: nn.Module,
    loss: Loss,
    data: Data,
    config: TrainConfig,
    out: Path | str,
    *,
    evaluate: Callable[[], float] | None = None,
    progress: bool = True,
    workers: Workers = ALONE,
    say: Say = print,
) -> Result:
    """Train a network, or continue its training.

    Writes two files. ``out/training.pt`` holds the state, from which a later call with the same
    ``out`` continues. ``out/metrics.jsonl`` holds one JSON object every ``log_every`` steps: step,
    loss in nats per sequence, gradient norm, learning rate, seconds.

    Args:
        network: the network inside ``reverse.model``.
        data: (batch, generator) -> int64 [batch, L].
        evaluate: held-out loss, called every ``evaluate_every`` steps while the network has its
            averaged parameters. Its values are lines of their own: step, held_out_loss, seconds.
        workers: the processes that train together. They must begin with the same weights.
        say: takes what there is to say of ``cuda_graph``.

    Raises:
        ValueError: ``out`` holds a run with other settings, or the batch cannot be divided among
            the processes.
        FloatingPointError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C; the state is saved after the step.
    """
    workers.share(config.batch)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
    )
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    state = State(config.first_step, 0.0, optimizer, network, average)
    resume(state, out, config, workers)
    network.train()
    devices = [device_of(network)] if device_of(network).type == "cuda" else []
    with deferred_interrupt() as interrupt:
        with torch.random.fork_rng(devices):
            gradient = gradient_of(network, reverse, loss, data, config, workers, say)
            run(state, gradient, data, config, out, evaluate, progress, workers, interrupt)
        if workers.is_first:
            state.save(out / "training.pt", config)
        workers.wait()
    network.eval()
    result = Result(state.finished or state.step == config.steps, average, state.step)
    if not result.done:
        interrupt.stop(state.step, config.steps)
    return result


def resume(state: State, out: Path, config: TrainConfig, workers: Workers) -> None:
    """Continue the folder's run if there is one; its log ends where it continues."""
    if (out / "training.pt").exists():
        state.load(out / "training.pt", config)
        workers.wait()
    if workers.is_first:
        forget_log_after(out / "metrics.jsonl", state.step)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@dataclass(frozen=True)
class Gradient:
    """A pass that fills the flat gradient ``flat``."""

    backward: Backward
    flat: Tensor


def gradient_of(
    network: nn.Module,
    reverse: ReverseProcess,
    loss: Loss,
    data: Data,
    config: TrainConfig,
    workers: Workers,
    say: Say,
) -> Gradient:
    """The gradient of the network, in the fastest of the ways that the settings allow."""
    flat = flat_gradient([p for p in network.parameters() if p.requires_grad])
    backward = backward_of(reverse, loss, flat, bf16=config.bf16)
    if config.cuda_graph:
        generator = generator_of_step(config, 0, flat.device, workers)
        x0 = data(workers.share(config.batch), generator)
        compile = network.compile if config.compile else None
        backward = fastest(backward, x0, flat, compile, say)
    elif config.compile:
        network.compile()
    return Gradient(backward, flat)


CLOCK_EVERY = 5
"""Steps between two looks at the clock and for Ctrl-C in several processes, which then wait for
each other.
"""


def run(
    state: State,
    gradient: Gradient,
    data: Data,
    config: TrainConfig,
    out: Path,
    evaluate: Callable[[], float] | None,
    progress: bool,
    workers: Workers,
    interrupt: Interrupt,
) -> None:
    """Optimiser steps until the last one, the time limit or Ctrl-C."""
    if state.finished:
        return
    began, before, first, share = time.monotonic(), state.seconds, state.step, 0.0
    losses: list[Tensor] = []
    bar = tqdm(
        range(state.step, config.steps),
        "training",
        initial=state.step,
        total=config.steps,
        disable=not progress,
    )
    for step in bar:
        value, norm = optimise(
            state, gradient, data, config, workers, learning_rate(config, step, share)
        )
        if workers.is_first:
            losses.append(value)
        state.step, state.seconds = step + 1, before + time.monotonic() - began
        stop, every = False, 1 if workers.count == 1 else CLOCK_EVERY
        asked = (step - first) % every == 0
        if asked and config.max_seconds is not None:
            elapsed = workers.of_first(time.monotonic() - began, norm.device)
            share = min(1.0, elapsed / max(config.max_seconds, 1e-9))
            stop = elapsed > config.max_seconds
            state.finished = stop and config.finish
        if workers.is_first:
            record(state, config, out, evaluate, losses, norm, bar)
        if asked and workers.of_first(float(interrupt.pressed), norm.device) > 0:
            stop = True
        if stop:
            return


def record(
    state: State,
    config: TrainConfig,
    out: Path,
    evaluate: Callable[[], float] | None,
    losses: list[Tensor],
    norm: Tensor,
    bar: "tqdm[int]",
) -> None:
    """Log, evaluate and save after a step, where they are due; what is logged leaves ``losses``."""
    if state.step % config.log_every == 0:
        rate = state.optimizer.param_groups[0]["lr"]
        mean = float(torch.stack(losses).mean())
        log(out, state, mean, float(norm), rate)
        bar.set_postfix(loss=f"{mean:.2f}")
        losses.clear()
    last = state.finished or state.step == config.steps
    if evaluate is not None and (last or state.step % config.evaluate_every == 0):
        bar.set_description("held-out loss")
        write(out, state, {"held_out_loss": evaluated(state, evaluate)})
        bar.set_description("training")
    if state.step % config.save_every == 0:
        state.save(out / "training.pt", config)


def optimise(
    state: State,
    gradient: Gradient,
    data: Data,
    config: TrainConfig,
    workers: Workers,
    rate: float,
) -> tuple[Tensor, Tensor]:
    """One optimiser step on the loss per site; returns loss per sequence and gradient norm."""
    device = device_of(state.network)
    generator = generator_of_step(config, state.step, device, workers)
    torch.manual_seed(generator.initial_seed() + DROPOUT)
    x0 = data(workers.share(config.batch), generator)
    value = gradient.backward(x0, generator)
    workers.average(gradient.flat, bf16=config.bf16_reduce)
    norm = gradient.flat.norm()
    gradient.flat.mul_((config.clip / (norm + 1e-6)).clamp_max(1.0))
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.step()
    average_weights(
        state.average, state.network, min(config.ema, (1 + state.step) / (10 + state.step))
    )
    workers.average(value)
    return value, norm


def average_weights(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) weights."""
    weights = dict(network.named_parameters())
    torch._foreach_lerp_(
        list(average.values()), [weights[name].detach() for name in average], 1 - decay
    )


def evaluated(state: State, evaluate: Callable[[], float]) -> float:
    """The value of ``evaluate`` with the averaged parameters in the network."""
    swap_average(state)
    state.network.eval()
    try:
        with torch.no_grad():
            return evaluate()
    finally:
        state.network.train()
        swap_average(state)


def swap_average(state: State) -> None:
    """Exchange the network's parameters and the averaged ones."""
    for name, parameter in state.network.named_parameters():
        parameter.data, state.average[name] = state.average[name], parameter.data


def log(out: Path, state: State, loss: float, norm: float, rate: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at step {state.step}; "
            "lower the learning rate, or train with bf16=False"
        )
    write(out, state, {"loss": loss, "gradient_norm": norm, "learning_rate": rate})


def write(out: Path, state: State, values: dict[str, float]) -> None:
    """Add a line to the log."""
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": state.step, **values, "seconds": state.seconds}) + "\n")
