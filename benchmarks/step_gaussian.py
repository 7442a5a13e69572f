"""What a sampling step adds to the network's own time on images: Gaussian and uniform kernels.

    python benchmarks/step_gaussian.py OUT.json --device cuda --compile

The network is tauLDR's U-Net for CIFAR-10 (35.7M parameters, random weights, bfloat16 autocast),
with 256 intensities and L = 3072, at a batch of 64. Measured are, in milliseconds,

* network: location and scale of every site, from tokens;
* model: the network and its head, log p(x_0 | x_t) at all sites;
* step: whole runs of ``simulate`` with uniform times over their number of steps, the model's calls
  included; ``ms`` of batches after the first of a schedule, ``ms_first`` of first ones, in which
  the tables of every time are made.

``ratio`` is a step's time over the network's, ``ratio_first`` that of a first batch. With
``--compile`` network and head are compiled. ``--profile`` prints what a first batch of 8 steps
spends its time on. On a CPU the sizes are small, to check that the script runs.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.files import write_json
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.networks.time_features import time_tensor
from jumpsteps.models.networks.unet import UNet, UNetConfig, UNetPosterior
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Time
from jumpsteps.process.rate_matrix import time_tables
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform

SIZES: dict[str, dict[str, Any]] = {
    "cuda": {"batch": 64, "channels": 128, "multipliers": (1, 2, 2, 2), "nfe": 32, "repeats": 3},
    "cpu": {"batch": 2, "channels": 32, "multipliers": (1, 2), "nfe": 8, "repeats": 2},
}
KERNELS: dict[str, ForwardProcess] = {
    "gaussian": Gaussian(),
    "uniform": Uniform(vocab_size=256, noise=Constant(7.0)),
}
SAMPLERS: tuple[Sampler, ...] = (Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True))
SHAPE = (3, 32, 32)


class Autocast(torch.nn.Module):
    """The U-Net in bfloat16, its head in float32."""

    reads_site_mask = True

    def __init__(self, model: UNetPosterior, device: torch.device) -> None:
        super().__init__()
        self.model, self.kind = model, device.type

    def network(self, x: Tensor, t: Time) -> Tensor:
        with torch.autocast(self.kind, torch.bfloat16):
            rows: Tensor = self.model.network(x, time_tensor(t, x.device))
            return rows

    def forward(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        return self.model.read(selected(self.network(x, t), where))

    def evaluate(self, x: Tensor, t: float, where: SiteMask) -> Evaluation:
        rows = selected(self.network(x, t), where)
        return Evaluation(rows, where, self.model.reader)


def build(size: dict[str, Any], device: torch.device, *, compiled: bool) -> Autocast:
    torch.manual_seed(0)
    config = UNetConfig(
        shape=SHAPE, channels=size["channels"], multipliers=size["multipliers"], symmetric=True
    )
    model = UNetPosterior(UNet(config)).to(device).eval()
    model.network.to(memory_format=torch.channels_last)
    if compiled:
        model.compile_trunk()
    return Autocast(model, device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def milliseconds(device: torch.device, action: Callable[[], object], repeats: int) -> list[float]:
    """Of each of ``repeats`` runs, after a warm-up run."""
    taken = []
    for _ in range(repeats + 1):
        wait(device)
        start = time.perf_counter()
        action()
        wait(device)
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[1:]


def peak_gb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")


@torch.inference_mode()
def baseline(model: Autocast, size: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Milliseconds of the network and of the model, the median of runs of some calls."""
    x = torch.randint(256, (size["batch"], math.prod(SHAPE)), device=device)
    calls: dict[str, Callable[[], object]] = {
        "network": lambda: [model.network(x, 0.5) for _ in range(size["nfe"])],
        "model": lambda: [model(x, 0.5) for _ in range(size["nfe"])],
    }
    return {
        name: statistics.median(milliseconds(device, call, size["repeats"])) / size["nfe"]
        for name, call in calls.items()
    }


@torch.inference_mode()
def measure(model: Autocast, size: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """A row for each kernel and sampler: milliseconds of a step, and peak memory."""
    generator, rows = torch.Generator(device).manual_seed(0), []
    shape = (size["batch"], math.prod(SHAPE))
    for (kernel, forward), sampler in product(KERNELS.items(), SAMPLERS):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = partial(
            simulate,
            PosteriorReverse(forward, model),
            sampler,
            uniform(size["nfe"]),
            shape,
            generator=generator,
        )

        def first(run: Callable[[], object] = run) -> None:
            time_tables.cache_clear()
            run()

        new, taken = (
            [ms / size["nfe"] for ms in milliseconds(device, each, size["repeats"])]
            for each in (first, run)
        )
        row = {"kernel": kernel, "sampler": sampler.name, "ms": statistics.median(taken)}
        row |= {"ms_least": min(taken), "ms_most": max(taken), "peak_GB": peak_gb(device)}
        row["ms_first"] = statistics.median(new)
        rows.append(row)
        print(row, flush=True)
    return rows


def profile(model: Autocast, size: dict[str, Any], device: torch.device) -> None:
    """Print what first batches of short runs of both kernels spend their time on."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    by = "self_cpu_time_total"
    if device.type == "cuda":
        kinds, by = [*kinds, torch.profiler.ProfilerActivity.CUDA], "self_cuda_time_total"
    generator = torch.Generator(device).manual_seed(0)
    for (kernel, forward), sampler in product(KERNELS.items(), SAMPLERS):
        reverse = PosteriorReverse(forward, model)
        time_tables.cache_clear()
        with torch.inference_mode(), torch.profiler.profile(activities=kinds) as seen:
            shape = (size["batch"], math.prod(SHAPE))
            simulate(reverse, sampler, uniform(8), shape, generator=generator)
        print(f"{kernel}, {sampler.name}, 8 steps")
        for order in dict.fromkeys([by, "self_cpu_time_total"]):
            print(seen.key_averages().table(sort_by=order, row_limit=16, max_name_column_width=60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    size = SIZES[device.type]
    model = build(size, device, compiled=args.compile)
    base = baseline(model, size, device)
    print(", ".join(f"{name} {ms:.2f} ms" for name, ms in base.items()), flush=True)
    rows = measure(model, size, device)
    for row in rows:
        row["ratio"] = row["ms"] / base["network"]
        row["ratio_first"] = row["ms_first"] / base["network"]
        print(
            f"{row['kernel']:9} {row['sampler']:20} {row['ms']:8.2f} ms ({row['ms_least']:.2f} to "
            f"{row['ms_most']:.2f}), ratio {row['ratio']:.2f}, first batch "
            f"{row['ms_first']:.2f} ms, ratio {row['ratio_first']:.2f}, peak "
            f"{row['peak_GB']:.2f} GB"
        )
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    about = {"device": name, "torch": torch.__version__, "size": size, "compiled": args.compile}
    write_json(args.out, about | {"base": base, "rows": rows})
    if args.profile:
        profile(model, size, device)


if __name__ == "__main__":
    main()
