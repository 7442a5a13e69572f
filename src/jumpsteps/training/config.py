"""Settings of a training run, and its plan of learning rates."""

import math
from dataclasses import dataclass

__all__ = ["TrainConfig", "learning_rate"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run, apart from network, data and loss.

    Attributes:
        steps: optimiser steps. The learning rate warms up linearly, is constant, and then decays to
            zero as a cosine.
        batch: sequences per step, of all processes together.
        decay_from: share of the steps after which the learning rate decays.
        ema: decay of the exponential moving average of the weights, which is what is kept.
        bf16: run the network under bfloat16 autocast.
        compile: compile the network with ``torch.compile``.
        cuda_graph: record forward and backward pass as a CUDA graph, if that is possible and
            faster; with ``compile`` before and after, and the faster one is kept.
        bf16_reduce: several processes exchange their gradients in bfloat16.
        log_every, save_every, evaluate_every: intervals in steps. The last step also saves and
            evaluates.
        max_seconds: stop after this time, counted from the first step of a call; the run can be
            resumed.
        finish: the learning rate also decays to zero, as a cosine, from the start of the call to
            ``max_seconds``. Then the run is finished.
        first_step: the step of the plan with which the run begins. Steps, learning rate and seeds
            count on from there, and the warm-up begins there.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 500
    decay_from: float = 0.0
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.9999
    seed: int = 0
    bf16: bool = True
    compile: bool = False
    cuda_graph: bool = False
    bf16_reduce: bool = False
    log_every: int = 100
    save_every: int = 2000
    evaluate_every: int = 1000
    max_seconds: float | None = None
    finish: bool = False
    first_step: int = 0

    def __post_init__(self) -> None:
        if self.finish and self.max_seconds is None:
            raise ValueError("--finish needs the time at which to finish; pass --max-minutes")
        if not 0 <= self.first_step < self.steps:
            raise ValueError(
                f"{self.first_step} steps are behind the start, and the plan has {self.steps}; "
                "pass --steps with those of all pieces together"
            )


def learning_rate(config: TrainConfig, step: int, time_share: float = 0.0) -> float:
    """The learning rate of a step.

    It is eta w (1 + cos(pi d)) / 2. The warm-up w rises linearly to 1 over the first ``warmup``
    steps of this run. The decay d is the share of the falling part of the plan that is over; with
    ``finish`` at least the share ``time_share`` of the time that is over, in [0, 1].
    """
    warm = min(1.0, (step - config.first_step + 1) / max(1, config.warmup))
    start = max(config.warmup, round(config.decay_from * config.steps))
    decay = max(0, step - start) / max(1, config.steps - start)
    if config.finish:
        decay = max(decay, time_share)
    return 0.5 * config.learning_rate * warm * (1 + math.cos(math.pi * decay))
