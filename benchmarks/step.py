"""What a sampling step costs at the size of SEDD-small, random weights in bfloat16.

    python benchmarks/step.py OUT.json --device cuda

The network has 12 blocks, width 768, 50,258 symbols and L = 1024. For batches of 8 and 32 and NFE
16, 64, 256 it measures milliseconds for each step of ``simulate`` with Tweedie's sampler (SEDD's
analytic step) and a compiled trunk (the network without its head), and peak memory with weights.
They are compared with

* a plain step of the same distribution, written here, that is not compiled and runs the head at all
  sites;
* the official step of SEDD (``OFFICIAL``);
* lower bounds: the compiled trunk alone, and the rate of large matrix products.

On a CPU the sizes are small, to check that the script runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.files import write_json
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.models.formats.native import build
from jumpsteps.models.loaded import LoadedModel, cast_and_compile
from jumpsteps.models.networks.dit import DiT, DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform

Size = dict[str, Any]
SIZES: dict[str, Size] = {
    "cuda": {
        "symbols": 50_258,
        "length": 1024,
        "width": 768,
        "blocks": 12,
        "batches": [8, 32],
        "matmul": 8192,
    },
    "cpu": {"symbols": 300, "length": 32, "width": 48, "blocks": 2, "batches": [2], "matmul": 256},
}
NFE = (16, 64, 256)
PLAIN_STEPS = 16
"""The plain step costs the same at every NFE, so that a few steps of a run are enough."""
OFFICIAL = {8: (34.9, 8.0), 32: (105.9, 30.0)}
"""By batch, milliseconds and peak GB of the published SEDD code's analytic step on one H200."""


def model(size: Size, device: torch.device, *, compiled: bool) -> tuple[DiT, ReverseProcess]:
    """A network with random weights, also where they start from zero, and its reverse process."""
    torch.manual_seed(0)
    forward = Absorbing(vocab_size=size["symbols"], noise=LogLinear())
    network, reverse = build(
        DiTConfig(size["symbols"], size["width"], size["blocks"], 12), forward, "log-score"
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    network.to(device).eval()
    cast_and_compile(
        LoadedModel("random", reverse, size["length"], "", None),
        dtype=torch.bfloat16,
        compile=compiled,
    )
    return network, reverse


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(device: torch.device, action: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` runs, after a warm-up run."""
    taken = []
    for _ in range(repeats + 1):
        wait(device)
        start = time.perf_counter()
        action()
        wait(device)
        taken.append(time.perf_counter() - start)
    return taken[1:]


@torch.no_grad()
def plain_steps(network: DiT, forward: Absorbing, x: Tensor, nfe: int, steps: int) -> Tensor:
    """The first steps of a run that draws all symbols at all sites. x: int64 [B, L]."""
    for i in range(steps):
        t, s = 1 - i / nfe, 1 - (i + 1) / nfe
        sigma = forward.noise.total(t).to(x.device, torch.float32).expand(len(x))
        score = network(x, sigma).float()
        score = (score - (torch.expm1(sigma).log()[:, None, None])).exp()
        score[..., forward.mask_id] = 0
        posterior = score / score.sum(-1, keepdim=True)
        reveal = float(forward.reveal_probability(t, s))
        probs = torch.cat(
            [reveal * posterior[..., :-1], torch.full_like(posterior[..., :1], 1 - reveal)], -1
        )
        drawn = (probs / torch.empty_like(probs).exponential_()).argmax(-1)
        x = torch.where(x == forward.mask_id, drawn, x)
    return x


def peak_gb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure_ours(
    reverse: ReverseProcess, shape: tuple[int, int], nfe: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds for each step of whole runs of this library, and their peak memory."""
    generator = torch.Generator(device).manual_seed(0)
    forget_peak(device)
    taken = seconds(
        device, lambda: simulate(reverse, Tweedie(), uniform(nfe), shape, generator=generator), 3
    )
    each = [1e3 * run / nfe for run in taken]
    return {
        "ms": statistics.median(each),
        "ms_least": min(each),
        "ms_most": max(each),
        "peak_GB": peak_gb(device),
    }


def measure_plain(
    network: DiT, forward: Absorbing, shape: tuple[int, int], nfe: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds for each plain step, and its peak memory."""
    x = torch.full(shape, forward.mask_id, device=device)
    forget_peak(device)
    taken = seconds(device, lambda: plain_steps(network, forward, x, nfe, PLAIN_STEPS), 2)
    return {"ms": 1e3 * statistics.median(taken) / PLAIN_STEPS, "peak_GB": peak_gb(device)}


def trunk_flop(size: Size, batch: int) -> float:
    """Floating-point operations of the matrix products in the blocks, attention included."""
    tokens, width = batch * size["length"], size["width"]
    return size["blocks"] * tokens * (24 * width**2 + 4 * size["length"] * width)


@torch.no_grad()
def bounds(network: DiT, size: Size, batch: int, device: torch.device) -> dict[str, float]:
    """The compiled trunk alone, and the rate of large matrix products on random data."""
    x = torch.randint(size["symbols"], (batch, size["length"]), device=device)
    sigma = torch.tensor([0.5], device=device)
    trunk = (
        statistics.median(seconds(device, lambda: [network.trunk(x, sigma) for _ in range(20)], 3))
        / 20
    )
    n = size["matmul"]
    a, b = torch.randn(2, n, n, device=device, dtype=torch.bfloat16)
    product = statistics.median(seconds(device, lambda: [a @ b for _ in range(20)], 3)) / 20
    rates = {
        "trunk_TFLOPs": trunk_flop(size, batch) / trunk / 1e12,
        "matmul_TFLOPs": 2 * n**3 / product / 1e12,
    }
    return {
        "trunk_ms": 1e3 * trunk,
        **rates,
        "share_of_matmul_rate": rates["trunk_TFLOPs"] / rates["matmul_TFLOPs"],
    }


def measure(size: Size, device: torch.device) -> tuple[dict[int, Any], list[dict[str, Any]]]:
    """The bounds by batch, and a row for each batch and NFE."""
    limits, rows = {}, []
    network, reverse = model(size, device, compiled=True)
    for batch in size["batches"]:
        limits[batch] = bounds(network, size, batch, device)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in limits[batch].items())
        print(f"batch {batch}: {shown}", flush=True)
        for nfe in NFE:
            ours = measure_ours(reverse, (batch, size["length"]), nfe, device)
            rows.append({"batch": batch, "nfe": nfe, "ours": ours})
    del network, reverse
    network, reverse = model(size, device, compiled=False)
    for row in rows:
        shape = (row["batch"], size["length"])
        row["plain"] = measure_plain(network, reverse.forward, shape, row["nfe"], device)
        row["plain_over_ours"] = row["plain"]["ms"] / row["ours"]["ms"]
        if device.type == "cuda":
            ms, gb = OFFICIAL[row["batch"]]
            row["official_over_ours"] = ms / row["ours"]["ms"]
            row["official_memory_over_ours"] = gb / row["ours"]["peak_GB"]
        print(row, flush=True)
    return limits, rows


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    size = SIZES[device.type]
    limits, rows = measure(size, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    content = {"device": name, "torch": torch.__version__, "size": size}
    write_json(args.out, content | {"bounds": limits, "rows": rows})


if __name__ == "__main__":
    run()
