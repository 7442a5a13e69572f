"""Memory and time of cost estimates at the size of a small language model.

    python benchmarks/memory.py OUT.json [--device cuda]

A transformer with SEDD-small's layout (12 blocks, 768 wide, V = 50,258, L = 1024), random weights
in bfloat16; 16 sequences, 64 evaluations. Prints, for each estimate, its peak memory beyond the
model, its seconds, the seconds of its model calls alone (trunk and head at the same sites, in
chunks), and the ratio of the rest to these. On a CPU the sizes are small: a check that it runs.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from jumpsteps.core.files import write_json
from jumpsteps.denoiser.chunks import site_chunks
from jumpsteps.denoiser.model import Evaluation, Model, evaluate
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import LogLinear, Time
from jumpsteps.process.uniform import Uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.by_path import path_costs
from jumpsteps.search.costs.information_profile import InformationProfile, information_profile
from jumpsteps.search.costs.table import StepCosts
from jumpsteps.search.paths import Paths

SIZES = {
    "cuda": {"symbols": 50_257, "sequences": 16, "length": 1024, "evaluations": 64, "blocks": 12},
    "cpu": {"symbols": 500, "sequences": 2, "length": 64, "evaluations": 16, "blocks": 1},
}
Estimate = Callable[[ReverseProcess, Paths, int, torch.Generator], StepCosts | InformationProfile]
CASES: dict[str, tuple[str, Estimate]] = {
    "profile (absorbing, Tweedie)": (
        "absorbing",
        lambda r, p, k, g: information_profile(r, p, evaluations=k),
    ),
    "count costs (absorbing, spread order)": (
        "absorbing",
        lambda r, p, k, g: count_costs(r, p, Spread(), evaluations=k, generator=g),
    ),
    "path costs (absorbing, tau-leaping)": (
        "absorbing",
        lambda r, p, k, g: path_costs(
            r, p, evaluations=k, hold_time=True, max_steps=None, generator=g
        ),
    ),
    "path costs (uniform, Tweedie)": (
        "uniform",
        lambda r, p, k, g: path_costs(r, p, evaluations=k, max_steps=None, generator=g),
    ),
}


def model(kernel: str, size: dict[str, int], device: torch.device) -> ReverseProcess:
    """Random weights, the output layer's too, so that its distributions differ between sites."""
    symbols = size["symbols"] + (kernel == "absorbing")
    forward: ForwardProcess = (Absorbing if kernel == "absorbing" else Uniform)(
        vocab_size=symbols, noise=LogLinear()
    )
    torch.manual_seed(0)
    network, reverse = build(DiTConfig(symbols, 768, size["blocks"], 12), forward, "posterior")
    torch.nn.init.normal_(network.output_layer.linear.weight, std=0.05)
    network.to(device, torch.bfloat16).eval()
    return reverse


def seconds(device: torch.device, action: Callable[..., object], *arguments: object) -> float:
    """Of one run; earlier work of the device is not counted."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def calls_alone(
    reverse: ReverseProcess, calls: list[tuple[torch.Tensor, float, torch.Tensor]]
) -> None:
    """Repeat the model calls of an estimate, trunk and head, chunk by chunk."""
    for x, t, where in calls:
        evaluation = evaluate(reverse.model, x, t, where)
        for chunk in site_chunks(where, reverse.forward.vocab_size):
            evaluation(x, t, chunk)


class Recorder:
    """A model that records the calls of an estimate."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def __call__(self, x: torch.Tensor, t: Time, where: torch.Tensor | None = None) -> torch.Tensor:
        raise AssertionError("estimates use evaluate()")

    def evaluate(self, x: torch.Tensor, t: float, where: torch.Tensor) -> Evaluation:
        self.calls.append((x, t, where))
        return evaluate(self.model, x, t, where)


def measure(
    kernel: str, estimate: Estimate, size: dict[str, int], device: torch.device
) -> dict[str, float]:
    reverse, generator = model(kernel, size, device), torch.Generator(device).manual_seed(0)
    recorder = Recorder(reverse.model)
    recorded = replace(reverse, model=recorder)
    data = torch.randint(
        size["symbols"], (size["sequences"], size["length"]), generator=generator, device=device
    )
    paths = Paths.draw(reverse.forward, data, generator=generator)
    estimate(
        recorded, paths, size["evaluations"], generator
    )  # The first run also waits for memory to be allocated.
    recorder.calls.clear()
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    total = seconds(device, estimate, recorded, paths, size["evaluations"], generator)
    peak = (
        (torch.cuda.max_memory_allocated() - before) / 2**30
        if device.type == "cuda"
        else float("nan")
    )
    alone = seconds(device, calls_alone, reverse, recorder.calls)
    found = {
        "calls": len(recorder.calls),
        "peak_GiB": peak,
        "seconds": total,
        "calls_alone_seconds": alone,
    }
    return found | {"estimator_over_calls": (total - alone) / alone}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device, results = torch.device(args.device), {}
    for name, (kernel, estimate) in CASES.items():
        results[name] = measure(kernel, estimate, SIZES[device.type], device)
        print(name, results[name], flush=True)
    write_json(args.out, {"device": device.type, "size": SIZES[device.type], "estimates": results})


if __name__ == "__main__":
    run()
