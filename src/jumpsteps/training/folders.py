"""What a checkpoint folder holds before a run writes to it."""

import json
import math
from pathlib import Path
from typing import Any

from jumpsteps.core.distributed import Workers
from jumpsteps.core.files import read_json, replacing
from jumpsteps.models.formats.native import NetworkConfig, network_config
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.serialise import forward_from_json, forward_to_json

__all__ = ["check_folder", "forget_log_after", "forget_run", "is_model_of"]


def check_folder(
    out: Path, task: str, output: str, network: NetworkConfig, forward: ForwardProcess
) -> None:
    """Raises ValueError for a folder with a model that a run of this model would overwrite."""
    instead = "name another folder, or pass --from-scratch to overwrite it"
    found = [name for name in ("config.json", "model.safetensors") if (out / name).exists()]
    if found and not (out / "training.pt").exists():
        raise ValueError(
            f"{out} holds a model ({found[0]}) without the state of its run; {instead}"
        )
    if "config.json" in found and not is_model_of(
        read_json(out / "config.json"), task, output, network, forward
    ):
        raise ValueError(f"{out} holds a model of another recipe; {instead}")


def is_model_of(
    config: dict[str, Any], task: str, output: str, network: NetworkConfig, forward: ForwardProcess
) -> bool:
    """Whether the ``config.json`` of a checkpoint is that of this model."""
    try:
        kernel = forward_to_json(forward_from_json(config["kernel"], config["noise"]))
        parts = config["task"], config["output"], network_config(config["network"]), kernel
    except (KeyError, TypeError, AttributeError, ValueError):
        return False
    return parts == (task, output, network, forward_to_json(forward))


def forget_run(out: Path, workers: Workers) -> None:
    """Remove the state and the log of a folder's run, before any process reads them."""
    if workers.is_first:
        for name in ("training.pt", "metrics.jsonl"):
            (out / name).unlink(missing_ok=True)
    workers.wait()


def forget_log_after(path: Path, step: int) -> None:
    """Remove log lines of later steps, which will be run again, and lines cut off by a kill."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if step_of(line) <= step]
        with replacing(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines))


def step_of(line: str) -> float:
    """The step of a log line; infinity for a line that is not whole."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
